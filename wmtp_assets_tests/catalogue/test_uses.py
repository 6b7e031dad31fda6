"""What a dataset may be used for: one table, read by the training repository."""

from __future__ import annotations

from typing import get_args

import pytest

import wmtp_assets
from wmtp_assets.base.errors import SpecError
from wmtp_assets.catalogue.specs import DatasetSpec, Use, load_specs
from wmtp_assets.datasets.records import load_format

TABLE: dict[str, tuple[str, ...]] = {
    "verifiable_critic": ("codecontests",),
    "baseline": ("codecontests", "gsm8k", "mbpp"),
    "rho_1": ("codecontests", "gsm8k", "mbpp"),
    "evaluation": ("codecontests", "gsm8k", "humaneval", "mbpp"),
}


@pytest.mark.parametrize("use", TABLE)
def test_table_of_uses(use: str) -> None:
    """A dataset in the wrong row is trained on, and nobody sees it in the numbers."""
    assert wmtp_assets.usable_for(use) == TABLE[use]
    for dataset in TABLE[use]:
        assert wmtp_assets.usable_for(use, dataset) == TABLE[use]


def test_table_is_complete() -> None:
    """A new use or dataset is decided about above."""
    assert TABLE.keys() == set(get_args(Use))
    datasets = {spec.name for spec in load_specs() if isinstance(spec, DatasetSpec)}
    assert {name for names in TABLE.values() for name in names} == datasets


@pytest.mark.parametrize(
    ("use", "dataset", "message"),
    [
        (
            "baseline",
            "humaneval",
            "humaneval must not be used for baseline: it is for evaluation. "
            "Use one of: codecontests, gsm8k, mbpp",
        ),
        (
            "rho_1",
            "humaneval",
            "humaneval must not be used for rho_1: it is for evaluation. "
            "Use one of: codecontests, gsm8k, mbpp",
        ),
        (
            "verifiable_critic",
            "humaneval",
            "humaneval must not be used for verifiable_critic: it is for evaluation. "
            "Use one of: codecontests",
        ),
        (
            "verifiable_critic",
            "mbpp",
            "mbpp must not be used for verifiable_critic: it is for baseline, rho_1, evaluation. "
            "Use one of: codecontests",
        ),
        (
            "baseline",
            "mbbp",
            "'mbbp' is not a dataset; known: codecontests, gsm8k, humaneval, mbpp",
        ),
        (
            "training",
            None,
            "'training' is not a use of a dataset; "
            "those are: verifiable_critic, baseline, rho_1, evaluation",
        ),
        (
            "training",
            "mbpp",
            "'training' is not a use of a dataset; "
            "those are: verifiable_critic, baseline, rho_1, evaluation",
        ),
    ],
)
def test_wrong_use_is_an_error(use: str, dataset: str | None, message: str) -> None:
    """A training script that names its dataset stops here, and says what it may take instead."""
    with pytest.raises(SpecError) as error:
        wmtp_assets.usable_for(use, dataset)
    assert str(error.value) == message


DATASETS = {spec.name: spec for spec in load_specs() if isinstance(spec, DatasetSpec)}


def test_only_labelled_rows_are_for_the_verifiable_critic() -> None:
    """It learns from right and wrong solutions: rows that do not say which would teach it noise."""
    for name, spec in DATASETS.items():
        is_labelled = "is_correct" in load_format(spec.converter).record.model_fields
        assert ("verifiable_critic" in spec.uses) == is_labelled, name


def test_benchmarks_are_held_out() -> None:
    """Models are compared on these: rows of any training split that share words with them are
    looked for. CodeContests' own test split is compared by problem, not by words."""
    assert {name: spec.held_out for name, spec in DATASETS.items()} == {
        "codecontests": (),
        "gsm8k": ("test",),
        "humaneval": ("test",),
        "mbpp": ("test",),
    }


def test_what_is_held_out_is_for_evaluation() -> None:
    """A benchmark that nobody may evaluate on would warn about nothing; one that is all there is
    of a dataset must not be trained on."""
    for name, spec in DATASETS.items():
        assert not spec.held_out or "evaluation" in spec.uses, name
        if spec.processed_splits.keys() == {*spec.held_out}:
            assert spec.uses == ("evaluation",), name
