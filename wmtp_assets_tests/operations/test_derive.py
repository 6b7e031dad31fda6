"""Processed rows are what their raw files give, and nobody else's."""

from __future__ import annotations

import re
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wmtp_assets.operations.derive import MOST, derive, derive_all, is_derived
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.operations.verify import exit_code, verify
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.poison import POISON, poison
from wmtp_assets_tests.trees import damage, reseal, tree

MBPP = "mbpp_processed"
ROWS = "processed/train.jsonl"
TWIN = "index/train.parquet"


@pytest.mark.parametrize("key", ["mbpp_processed", "humaneval_processed", "gsm8k_processed"])
def test_rows_that_are_derived(store: Store, key: str) -> None:
    """Nothing is found, and nothing is written but what is gone again."""
    artifact = store.catalogue[key]
    before = tree(store.root)
    outcome = derive(store, artifact)
    assert not outcome.findings
    assert outcome.evidence["rows"] == store.manifest(artifact).document["rows"]
    left = tree(store.root).keys() - before.keys()
    assert all(re.fullmatch(rf"\.wmtp/locks/{key}(_again--[\w-]+)?\.lock", name) for name in left)


def test_row_that_was_poisoned_in_every_view(store: Store) -> None:
    """Every rule holds: views, hashes and manifest agree. Only upstream's bytes do not."""
    artifact = store.catalogue[MBPP]
    text = poison(store, "mbpp", "code")
    assert exit_code(verify(store, [artifact])) == 0

    findings = derive(store, artifact).findings

    first = findings[0]
    assert first.file == f"{artifact.base}/{ROWS}"
    assert first.place == "line 1, output"
    assert first.found.startswith(POISON.split("\n")[0])
    assert first.expected[:20] == text[:20].replace("\r\n", "\\n").replace("\n", "\\n")
    assert first.remedy.endswith(f"make materialize SELECT={MBPP} FORCE=1")
    places = {
        (finding.file.removeprefix(f"{artifact.base}/"), finding.place) for finding in findings
    }
    assert (TWIN, "row 1, output") in places


def test_what_was_poisoned_is_right_when_it_is_made_again(store: Store) -> None:
    """The remedy repairs it."""
    artifact = store.catalogue[MBPP]
    poison(store, "mbpp", "code")
    materialize(store, artifact)
    assert not derive(store, artifact).findings


def test_row_that_was_added(store: Store) -> None:
    """Also one that follows the others; of many that differ ten are named."""
    artifact = store.catalogue[MBPP]
    damage(store.path(artifact, ROWS), lambda data: data + data.splitlines(True)[0])
    reseal(store, artifact)
    first, *_ = derive(store, artifact).findings
    rows = store.manifest(artifact).document["splits"]["train"]["rows"]
    assert (first.place, first.expected) == (f"line {rows + 1}", "the end of the file")
    damage(store.path(artifact, ROWS), lambda data: b"".join(data.splitlines(True)[1:]))
    reseal(store, artifact)
    named = [it for it in derive(store, artifact).findings if it.file.endswith(ROWS)]
    assert len(named) == MOST


def test_twin_of_another_version_of_pyarrow(store: Store) -> None:
    """Other bytes for the same rows are not poison: the library writes them."""
    artifact = store.catalogue[MBPP]
    path = store.path(artifact, TWIN)
    table = pq.read_table(path)
    path.unlink()
    pq.write_table(table, path, compression="snappy", data_page_version="2.0")
    reseal(store, artifact)
    assert not derive(store, artifact).findings
    changed = table.set_column(
        table.schema.get_field_index("tokens_output"),
        "tokens_output",
        pa.array([0] * len(table), pa.int32()),
    )
    pq.write_table(changed, path)
    reseal(store, artifact)
    first = derive(store, artifact).findings[0]
    assert (first.file, first.place) == (f"{artifact.base}/{TWIN}", "row 1, tokens_output")


@pytest.mark.parametrize(
    "content", [b"", b"no parquet", b"PAR1" + b"\xff" * 64 + b"PAR1"], ids=["empty", "text", "junk"]
)
def test_twin_that_is_none(store: Store, content: bytes) -> None:
    """What cannot be read is a finding about this file."""
    artifact = store.catalogue[MBPP]
    damage(store.path(artifact, TWIN), lambda data: content)
    reseal(store, artifact)
    assert derive(store, artifact).findings[0].file == f"{artifact.base}/{TWIN}"


def test_files_that_are_missing_or_that_nothing_makes(store: Store) -> None:
    """A file that the manifest lists, and raw files do not give."""
    artifact = store.catalogue[MBPP]
    store.path(artifact, ROWS).unlink()
    (finding, *_) = derive(store, artifact).findings
    assert (finding.problem, finding.file) == ("missing", f"{artifact.base}/{ROWS}")


def test_what_the_manifest_counts(store: Store) -> None:
    """A number that somebody changed in the manifest alone."""
    artifact = store.catalogue[MBPP]
    reseal(store, artifact, rows=1)
    (finding,) = derive(store, artifact).findings
    assert (finding.place, finding.found) == ("rows", "1")


def test_parts_of_an_interrupted_conversion_are_not_used(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever changes rows can put parts there too; they stay for the conversion that made them."""
    artifact = store.catalogue[MBPP]
    scratch = store.scratch(artifact)
    scratch.mkdir(parents=True)
    (scratch / "part").write_text("of an interrupted conversion")
    assert not derive(store, artifact).findings
    assert (scratch / "part").is_file()
    shutil.rmtree(scratch)


def test_what_is_stale_is_not_compared(store: Store) -> None:
    """Another builder gives other rows, which is not damage; a warning says that it is unknown."""
    artifact = store.catalogue[MBPP]
    made_with = store.manifest(artifact).document["made_with"]
    reseal(store, artifact, made_with={**made_with, "builder": 1})
    (finding,) = derive(store, artifact).findings
    assert finding.problem == "warning"
    assert "builder changed" in finding.found


def test_raw_that_is_damaged(store: Store) -> None:
    """Nothing is concluded from raw files that are not the committed ones."""
    artifact, raw = store.catalogue[MBPP], store.catalogue["mbpp_raw"]
    (file,) = (it for it in store.manifest(raw).files if "train" in it)
    damage(store.path(raw, file), lambda data: data[:-1] + b"x")
    (finding,) = derive(store, artifact).findings
    assert file in finding.found


def test_every_dataset_is_compared(store: Store) -> None:
    """The kind decides, so that a dataset that is added is compared too."""
    keys = {artifact.key for artifact in store.catalogue if artifact.kind == "processed"}
    assert keys == {artifact.key for artifact in store.catalogue if is_derived(artifact)}
    assert len(keys) > 2


def test_optional_one_that_is_absent(empty_store: Store) -> None:
    """It is skipped; a required one that was never made is missing."""
    optional = [it for it in empty_store.catalogue if is_derived(it) and it.optional]
    for artifact in optional:
        assert derive(empty_store, artifact).skipped
    (verdict, *_) = derive_all(empty_store, [empty_store.catalogue[MBPP]])
    assert [finding.problem for finding in verdict.outcome.findings] == ["missing"]
