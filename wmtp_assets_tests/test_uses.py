"""What a dataset may be used for: one table, read by the training repository."""

from __future__ import annotations

from typing import get_args

import pytest

import wmtp_assets
from wmtp_assets.errors import SpecError
from wmtp_assets.specs import DatasetSpec, Use, load_specs

TABLE: dict[str, tuple[str, ...]] = {
    "verifiable_critic": (),
    "baseline": ("mbpp",),
    "rho_1": ("mbpp",),
    "evaluation": ("humaneval", "mbpp"),
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
            "humaneval must not be used for baseline: it is for evaluation. Use one of: mbpp",
        ),
        (
            "rho_1",
            "humaneval",
            "humaneval must not be used for rho_1: it is for evaluation. Use one of: mbpp",
        ),
        (
            "verifiable_critic",
            "mbpp",
            "mbpp must not be used for verifiable_critic: it is for baseline, rho_1, evaluation. "
            "Use one of: none yet",
        ),
        ("baseline", "mbbp", "'mbbp' is no dataset; known: humaneval, mbpp"),
        (
            "training",
            None,
            "'training' is no use of a dataset; "
            "those are: verifiable_critic, baseline, rho_1, evaluation",
        ),
        (
            "training",
            "mbpp",
            "'training' is no use of a dataset; "
            "those are: verifiable_critic, baseline, rho_1, evaluation",
        ),
    ],
)
def test_wrong_use_is_an_error(use: str, dataset: str | None, message: str) -> None:
    """A training script that names its dataset stops here, and says what it may take instead."""
    with pytest.raises(SpecError) as error:
        wmtp_assets.usable_for(use, dataset)
    assert str(error.value) == message


def test_evaluated_split_is_the_test_split() -> None:
    """What must not stand in training rows follows from the use: nobody has to declare it too."""
    specs = {spec.name: spec for spec in load_specs() if isinstance(spec, DatasetSpec)}
    assert {name: spec.contaminates for name, spec in specs.items()} == {
        "humaneval": ("test",),
        "mbpp": ("test",),
    }
    trained_on = {**specs["mbpp"].model_dump(), "uses": ["baseline"]}
    assert DatasetSpec.model_validate(trained_on).contaminates == ()
    splits = {"train": specs["mbpp"].splits["train"].model_dump()}
    without_test = {**specs["mbpp"].model_dump(), "splits": splits}
    assert DatasetSpec.model_validate(without_test).contaminates == ()
