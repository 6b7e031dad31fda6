"""``wmtp clean``: a fresh start removes what the graph can make again, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from wmtp_assets.base.progress import silent
from wmtp_assets.catalogue.artifact import INTERNAL, TOP_FOLDERS
from wmtp_assets.operations.approve import approve
from wmtp_assets.operations.clean import Item, clean
from wmtp_assets.operations.init import init
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.operations.test_gc import held_by_another_process
from wmtp_assets_tests.trees import damage, flip, tree


def run(store: Store, *names: str, dry_run: bool = False) -> list[Item]:
    wanted = {item.key for name in names for item in store.catalogue.select(name)}
    chosen = [item for item in store.catalogue if not names or item.key in wanted]
    return list(clean(store, chosen, dry_run=dry_run))


def kept(items: list[Item]) -> dict[str, str]:
    """What stays, and why."""
    return {item.name: item.kept for item in items if item.kept}


def write(path: Path) -> Path:
    """A file of somebody."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"somebody's")
    return path


RELEASED = {"storage_release": "it says what was released; remove it by hand to forget that"}


def test_everything(store: Store) -> None:
    """Of a full tree nothing is left but the release, the root's mark and the sample's own
    files."""
    items = run(store)
    assert {item.name for item in items} == {item.key for item in store.catalogue}
    assert kept(items) == RELEASED
    assert {path.name for path in store.root.iterdir()} == {INTERNAL, "docs", "RELEASE.json"}
    assert (store.internal / "source").is_file()
    assert (store.internal / "hub").is_dir()
    assert kept(run(store)) == RELEASED


def test_release_is_not_forgotten(store: Store) -> None:
    """Made again it would say that whatever lies there now was released."""
    before = tree(store.root / "docs")
    run(store, "storage_release")
    assert tree(store.root / "docs") == before


def test_what_people_recorded_stays(store: Store) -> None:
    """Nobody can make a signature again."""
    approve(store, "Ada", "reviewer", note="seen")
    (item,) = run(store, "completion_report")
    assert (item.kept, item.is_left) == ("approvals recorded in it", False)
    assert (
        "Ada"
        in store.read(store.catalogue["completion_report"], "phase1_completion_report.md").decode()
    )


def test_summaries_of_earlier_days_stay(store: Store) -> None:
    """Statistics of a day can be made on that day only."""
    stats = store.catalogue["humaneval_stats"]
    manifest = store.manifest(stats)
    with store.stage(stats, silent) as staged:
        for name in manifest.files:
            staged.write(name, store.read(stats, name))
        staged.write("2024-01-01_summary.json", b"{}")
        store.commit(stats, staged, manifest.description)
    (item,) = run(store, "humaneval_stats")
    assert item.kept == "summaries of earlier days, which cannot be made again"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda path: damage(path, lambda data: data + b"\n"), "bytes, not"),
        (lambda path: (path.unlink(), path.mkdir()), "bytes, not"),
    ],
    ids=["edited", "a folder in its place"],
)
def test_file_that_was_changed_keeps_its_artifact(
    store: Store, change: Callable[[Path], object], problem: str
) -> None:
    """What somebody wrote into it is nowhere else; the others go."""
    path = store.path(store.catalogue["parameter_snapshot"], "defaults.yaml")
    change(path)
    items = {item.name: item for item in run(store, "parameter_snapshot", "humaneval_small")}
    assert problem in items["parameter_snapshot"].kept
    assert items["parameter_snapshot"].is_left
    assert path.exists()
    assert not items["humaneval_small"].kept


def test_quarantine_stays(store: Store) -> None:
    """What a repair replaced may be somebody's work: only ``wmtp gc --quarantine`` removes it."""
    path = write(store.internal / "quarantine/humaneval_pairs/x/test.jsonl")
    run(store, "humaneval_pairs")
    assert path.read_bytes() == b"somebody's"


def test_dry_run_says_the_same_and_removes_nothing(store: Store) -> None:
    """What is announced is what is done."""
    write(store.internal / "previous/humaneval_small/x")
    before = tree(store.root / "datasets_local_small")
    announced = run(store, "humaneval_small", "mbpp_small", dry_run=True)
    assert tree(store.root / "datasets_local_small") == before
    assert run(store, "humaneval_small", "mbpp_small") == announced


def test_fresh_start_ends_where_it_began(store: Store) -> None:
    """Cleaned, laid out and made again, it is the same bytes, with no generation before."""
    folder = store.root / "datasets_v2/humaneval"
    names = ("humaneval_raw", "humaneval_processed")
    before = {name: store.manifest(store.catalogue[name]).content_sha256 for name in names}
    run(store, "humaneval")
    assert not folder.exists()
    for _ in init(store, store.catalogue):
        pass
    for name in names:
        assert materialize(store, store.catalogue[name]).content_sha256 == before[name]
        assert not store.previous(store.catalogue[name]).exists()


def test_only_what_is_named(store: Store) -> None:
    """Neighbours in the same folder stay."""
    folder = store.root / "datasets_v2/humaneval"
    before = tree(folder)
    manifest = store.manifest(store.catalogue["humaneval_pairs"])
    assert [item.name for item in run(store, "humaneval_pairs")] == ["humaneval_pairs"]
    names = (*manifest.files, "metadata.json")
    assert before.keys() - tree(folder).keys() == {f"pairs/{name}" for name in names}


def test_what_stays(store: Store) -> None:
    """Downloads in progress, ours or those of the hub's own client; what training wrote; files of
    nobody, wherever they lie; version 1."""
    raw = store.catalogue["starling_rm_raw"]
    for name in (*store.manifest(raw).files, raw.manifest):
        store.path(raw, name).unlink()
    why = {
        ".wmtp/scratch/meta_llama_mtp_raw": "a download in progress",
        f"{raw.base}/raw/.cache/x.incomplete": "a download in progress",
        "models_v2/micro-mtp/safetensors/value_head.safetensors": "written by training or a tool",
        "models_v2/micro-mtp/notes.txt": "a file of no artifact",
        "docs/notes.txt": "a file of no artifact",
        "models_v2/other/model.bin": "a file of no artifact",
        "datasets_v2/mbpp/raw/notes.txt": (
            "in no readable manifest of mbpp_raw; remove it by hand if you do not want it"
        ),
        "models": "an original of version 1",
        "datasets": "an original of version 1",
    }
    inside = {"models": "llama/x", "datasets": "x.jsonl", ".wmtp/scratch/meta_llama_mtp_raw": "p/x"}
    paths = [write(store.root / name / inside.get(name, "")) for name in why]
    own = write(store.root / "notes.txt")
    assert kept(run(store, dry_run=True)) == why | RELEASED
    assert kept(run(store)) == why | RELEASED
    assert all(path.read_bytes() == b"somebody's" for path in (*paths, own))
    tops = [name for name in TOP_FOLDERS if (store.root / name).exists()]
    left = {path for top in (*tops, "models", "datasets") for path in (store.root / top).rglob("*")}
    release = store.catalogue["storage_release"]
    of_release = {store.path(release, name) for name in ("RELEASE.json", release.manifest)}
    assert {path for path in left if path.is_file()} - of_release == {
        path for path in paths if INTERNAL not in path.relative_to(store.root).parts
    }


def test_copy_at_the_root_that_somebody_changed(store: Store) -> None:
    """It is not a copy any more."""
    damage(store.root / "README.md", lambda data: b"mine")
    run(store)
    assert (store.root / "README.md").read_bytes() == b"mine"
    assert (store.root / "RELEASE.json").exists()


def test_damaged_manifest(store: Store) -> None:
    """It does not say what is its own; the generation before may be the last good copy."""
    artifact = store.catalogue["humaneval_small"]
    previous = write(store.previous(artifact) / "x")
    damage(store.manifest_path(artifact), flip(20))
    whole, *items = run(store, "humaneval_small")
    assert whole.is_left
    assert whole.kept == "its manifest cannot be read; see: wmtp verify humaneval_small"
    assert {item.name for item in items} == {
        f"{artifact.base}/{name}" for name in ("metadata.json", "schema.json", "test_small.jsonl")
    }
    assert all("in no readable manifest of humaneval_small" in item.kept for item in items)
    assert previous.exists()
    assert store.path(artifact, "test_small.jsonl").exists()


@pytest.mark.parametrize(
    "name", ["datasets_v2", "datasets_v2/humaneval", "datasets_v2/humaneval/raw"]
)
def test_behind_a_link(store: Store, name: str) -> None:
    """Version 1 may be behind it, or another disk: the artifact is left alone, as a whole."""
    elsewhere = store.root / "datasets"
    (store.root / name).rename(elsewhere)
    (store.root / name).symlink_to(elsewhere)
    before = tree(store.root)
    item = run(store, "humaneval_raw")[0]
    assert (item.name, item.is_left) == ("humaneval_raw", True)
    assert item.kept == "a folder that it lies in is a link; remove it where the link leads"
    assert tree(store.root) == before
    assert store.find_manifest(store.catalogue["humaneval_raw"]) is not None


def test_what_is_being_worked_on_stays(store: Store) -> None:
    """A download that runs now is not pulled away from under it."""
    with held_by_another_process(store, "humaneval_raw"):
        items = run(store, "humaneval_raw", "humaneval_small")
    state = {item.name: (item.is_left, bool(item.kept)) for item in items}
    assert state["humaneval_raw"] == (True, True)
    assert state["humaneval_small"] == (False, False)
    assert store.find_manifest(store.catalogue["humaneval_raw"]) is not None


def test_cut_off_in_between(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest goes last, so that a second try knows what is left."""
    real, count = Path.unlink, 0

    def unlink(self: Path, missing_ok: bool = False) -> None:
        nonlocal count
        count += "stats" in self.parts
        if count == 2:
            raise KeyboardInterrupt
        real(self, missing_ok)

    artifact = store.catalogue["codecontests_stats"]
    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(KeyboardInterrupt):
        run(store, artifact.key)
    monkeypatch.undo()
    assert store.find_manifest(artifact) is not None
    run(store, artifact.key)
    assert not store.folder(artifact).exists()


def test_empty_root(empty_store: Store) -> None:
    """Nothing there, nothing said, nothing made."""
    assert run(empty_store) == []
    assert not empty_store.root.exists()
