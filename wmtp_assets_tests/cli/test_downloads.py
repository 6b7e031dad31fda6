"""``wmtp plan``, ``lock`` and ``adopt`` against a loopback hub."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from wmtp_assets.base.errors import StoreError
from wmtp_assets.base.settings import Settings
from wmtp_assets.cli.main import cli
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.operations.plan import plan_raw, space_of, with_upstream
from wmtp_assets.sample.server import serve
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.command import run_wmtp
from wmtp_assets_tests.hub.conftest import write_files
from wmtp_assets_tests.hub.faults import (
    CONTENT,
    GATED,
    OPEN,
    OTHER,
    PARQUET,
    PTH,
    SIZE,
    Answer,
    FaultyHub,
    Request,
    content_changed,
    faulty_hub,
    refuse,
    write_hub,
)
from wmtp_assets_tests.trees import damage, flip, tree

Wmtp = Callable[..., subprocess.CompletedProcess[str]]

CONTESTS_PIN = "802411c3010cb00d1b05bad57ca77365a3c699d6"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KEY = "datasets/openai/openai_humaneval"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables of a hub root of its own, without anybody's token."""
    clean = {k: v for k, v in os.environ.items() if "TOKEN" not in k and k != "HF_ENDPOINT"}
    return {
        **clean,
        "HF_HOME": str(tmp_path / "nobody"),
        "WMTP_SOURCE": "hub",
        "WMTP_STORAGE_ROOT": str(tmp_path / "storage"),
        "WMTP_LOCK": str(tmp_path / "wmtp.lock"),
    }


@pytest.fixture
def front(tmp_path: Path, environment: dict[str, str]) -> Iterator[FaultyHub]:
    """A hub with HumanEval and Meta's model, behind a proxy that counts."""
    with serve(write_hub(tmp_path / "hub", CONTENT)) as url, faulty_hub(url) as front:
        environment["HF_ENDPOINT"] = front.url
        yield front


@pytest.fixture
def wmtp(environment: dict[str, str]) -> Wmtp:
    """Run ``wmtp``; keywords are variables."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return run_wmtp(arguments, environment | variables)

    return run


@pytest.fixture
def hub_store(tmp_path: Path) -> Store:
    """The store that the commands use."""
    return Store(Settings("hub", tmp_path / "storage"), load_catalogue())


def raw_file(store: Store, name: str = PARQUET) -> Path:
    """Where the large raw file of HumanEval, or another, lies."""
    key = "humaneval_raw" if name == PARQUET else "meta_llama_mtp_raw"
    return store.path(store.catalogue[key], f"raw/{name}")


# -- lock ------------------------------------------------------------------------------------------


def test_lock_records_commit_and_hashes(front: FaultyHub, wmtp: Wmtp, tmp_path: Path) -> None:
    """The first authorised resolution pins; the file is the same whoever makes it, so that a
    second run, or another person's, changes nothing. No file is downloaded."""
    done = wmtp("lock", "humaneval")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "wmtp.lock"
    first = path.read_bytes()
    document = json.loads(first)
    entry = document["repositories"][KEY]
    assert document["version"] == 1
    assert entry["files"] == {PARQUET: {"size": SIZE, "sha256": SHA256}}
    assert done.stdout == f"{KEY}: locked at {entry['revision']}\n{path}: written; commit it\n"
    again = wmtp("lock", "humaneval_raw")
    assert again.stdout == f"{KEY}: as before at {entry['revision']}\n{path}: as before\n"
    assert path.read_bytes() == first
    assert front.payload == 0


def test_lock_keeps_the_pin_until_it_is_told_to_move(
    front: FaultyHub, wmtp: Wmtp, tmp_path: Path
) -> None:
    """Upstream moves under everybody's feet; ``--update`` moves ours, and says what changes."""
    assert wmtp("lock", "humaneval", "meta-llama-mtp").returncode == 0
    before = json.loads((tmp_path / "wmtp.lock").read_text())["repositories"]
    newer = write_hub(tmp_path / "newer", OTHER)
    write_files(newer / "models" / GATED.id, {"tokenizer.model": b"pieces"})
    with serve(newer) as url:
        kept = wmtp("lock", "humaneval", HF_ENDPOINT=url)
        assert kept.returncode == 1
        assert "has no revision" in kept.stderr
        assert json.loads((tmp_path / "wmtp.lock").read_text())["repositories"] == before
        moved = wmtp("lock", "--update", "humaneval", HF_ENDPOINT=url)
    after = json.loads((tmp_path / "wmtp.lock").read_text())["repositories"]
    assert moved.stdout.splitlines()[:2] == [
        f"{KEY}: changed from {before[KEY]['revision']} at {after[KEY]['revision']}",
        f"  changed {PARQUET}",
    ]
    assert before[KEY]["revision"] != after[KEY]["revision"]
    assert after[f"models/{GATED.id}"] == before[f"models/{GATED.id}"]


def test_pin_of_the_spec_is_not_moved(wmtp: Wmtp, tmp_path: Path) -> None:
    """CodeContests' commit stands in its defs.yaml; an endpoint that has another head only must
    not be locked to it."""
    write_files(tmp_path / "h/datasets/deepmind/code_contests", {"README.md": b"x"})
    with serve(tmp_path / "h") as url:
        done = wmtp("lock", "--update", "codecontests", HF_ENDPOINT=url)
    assert done.returncode == 1
    assert CONTESTS_PIN in done.stderr
    assert not (tmp_path / "wmtp.lock").exists()


def test_update_of_what_the_spec_pins_says_why_nothing_moves(
    front: FaultyHub, wmtp: Wmtp, tmp_path: Path
) -> None:
    """Who asks for an update and gets none must learn where the pin is. The hub of this test says
    that it has upstream's commit."""
    repository = "deepmind/code_contests"
    shards = {f"data/{s}-00000-of-00001.parquet": b"x" for s in ("train", "valid", "test")}
    write_files(tmp_path / "h/datasets" / repository, shards)
    with serve(tmp_path / "h") as url:

        def change(request: Request, answer: Answer) -> None:
            main = f"{url}/api/datasets/{repository}/revision/main?blobs=true"
            with urllib.request.urlopen(main) as said:
                document = {**json.load(said), "sha": CONTESTS_PIN}
            answer.status = 200
            answer.headers = {"Content-Type": "application/json"}
            answer.replace(json.dumps(document).encode())

        front.change = change
        done = wmtp("lock", "--update", "codecontests")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == (
        f"datasets/{repository}: locked at {CONTESTS_PIN} (not moved: the revision is set in its "
        "defs.yaml)"
    )


def test_lock_refuses_a_commit_that_changed(front: FaultyHub, wmtp: Wmtp, tmp_path: Path) -> None:
    """Another content of the same commit is not an update."""
    assert wmtp("lock", "humaneval").returncode == 0
    before = (tmp_path / "wmtp.lock").read_bytes()
    front.change = content_changed()
    for arguments in (("lock",), ("lock", "--update")):
        done = wmtp(*arguments, "humaneval")
        assert done.returncode == 1
        assert "A commit never changes: do not trust this endpoint" in done.stderr
    assert (tmp_path / "wmtp.lock").read_bytes() == before


def test_lock_goes_on_behind_a_repository_that_cannot_be_asked(
    front: FaultyHub, wmtp: Wmtp, tmp_path: Path
) -> None:
    """A user without access to one gated model can lock the others."""
    done = wmtp("lock", "mbpp", "humaneval", "--json")
    assert done.returncode == 1
    rows = {row["repository"]: row for row in json.loads(done.stdout)["repositories"]}
    assert "does not exist" in rows["datasets/google-research-datasets/mbpp"]["problem"]
    assert rows[KEY]["state"] == "locked"
    locked = json.loads((tmp_path / "wmtp.lock").read_text())["repositories"]
    assert locked.keys() == {KEY}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"version": 2, "repositories": {}}',
        '{"version": 1}',
        '{"version": 1, "repositories": [], "more": 1}',
        '{"version": 1, "repositories": {"a/b": {}}}',
        '{"version": 1, "repositories": {"a/b": {"revision": "main", "files": {}}}}',
        f'{{"version": 1, "repositories": {{"a/b": {{"revision": "{"z" * 40}", "files": {{}}}}}}}}',
        f'{{"version": 1, "repositories": {{"a": {{"revision": "{"0" * 40}", '
        f'"files": {{"../x": {{"size": 1, "sha256": "{"0" * 64}"}}}}}}}}}}',
        '<<<<<<< HEAD\n{"version": 1}',
    ],
)
def test_malformed_lock_file_is_not_ignored(wmtp: Wmtp, tmp_path: Path, text: str) -> None:
    """A merge conflict in it must not make everything unpinned."""
    path = tmp_path / "wmtp.lock"
    path.write_text(text)
    for command in ("lock", "plan"):
        done = wmtp(command, "humaneval", HF_ENDPOINT="http://127.0.0.1:9")
        assert done.returncode == 64, done.stderr
        assert f"{path}: not a lock file" in done.stderr
        assert "Traceback" not in done.stderr
    assert path.read_text() == text


def test_sample_is_not_locked(wmtp: Wmtp, tmp_path: Path) -> None:
    """Its repositories are made from code, and their hashes differ from upstream's."""
    done = wmtp("lock", WMTP_SOURCE="sample")
    assert done.returncode == 64
    assert "set WMTP_SOURCE=hub" in done.stderr
    assert not (tmp_path / "wmtp.lock").exists()


# -- plan ------------------------------------------------------------------------------------------


def plan_json(wmtp: Wmtp, *arguments: str, **variables: str) -> dict[str, Any]:
    """``wmtp plan --json``."""
    done = wmtp("plan", *arguments, "--json", **variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_plan_shows_what_a_download_would_be(
    front: FaultyHub, wmtp: Wmtp, hub_store: Store
) -> None:
    """Before a night's download: how much, how long, from which commit, and that it is not pinned.
    Nothing is downloaded or committed."""
    done = wmtp("plan", "meta_llama_mtp_safetensors", "--rate", "0.5")
    assert done.returncode == 0, done.stderr
    title, row, *rest = done.stdout.splitlines()
    last = " ".join(" ".join(rest).split())
    assert " ".join(title.split()) == "name revision files size here to download time"
    assert " ".join(row.split()).startswith("meta_llama_mtp_raw ")
    wide = wmtp("plan", "meta_llama_mtp_safetensors", COLUMNS="140").stdout
    assert f" {GATED.id} " in wide
    assert " ".join(row.split()).endswith(" unpinned 3 3.0 MB 0 B 3.0 MB 6 s")
    assert last.startswith(
        "peak disk: 3.0 MB raw + 1.5 MB converted + 0 B staging = 4.5 MB; 4.5 MB"
    )
    assert "will not fit" not in last
    assert front.payload == 0
    assert not (hub_store.root / "models_v2").exists()
    assert " ? " in f"{wmtp('plan', 'meta_llama_mtp_raw').stdout.splitlines()[1]} "


def test_plan_json_is_complete(front: FaultyHub, wmtp: Wmtp, hub_store: Store) -> None:
    """Scripts read bytes, not '3.0 MB'."""
    document = plan_json(wmtp, "humaneval_raw")
    (row,) = document["raw"]
    assert (row["size"], row["here"], row["to_download"], row["files"]) == (SIZE, 0, SIZE, 1)
    assert (row["is_pinned"], row["problem"], len(row["revision"])) == (False, "", 40)
    assert document["space"]["raw"] == document["space"]["needed"] == SIZE
    assert document["bytes_per_second"] is None
    assert document["free"] > SIZE
    assert plan_json(wmtp, "humaneval_raw", "--rate", "2")["bytes_per_second"] == 2e6
    assert wmtp("lock", "humaneval").returncode == 0
    assert plan_json(wmtp, "humaneval_raw")["raw"][0]["is_pinned"] is True


def test_plan_counts_what_is_here(front: FaultyHub, wmtp: Wmtp, hub_store: Store) -> None:
    """After an interrupted download, and after a whole one, whose rate is the next estimate."""
    partial = hub_store.scratch(hub_store.catalogue["humaneval_raw"]) / "partial" / SHA256
    write_files(partial.parent, {SHA256: CONTENT[:1_000_000]})
    (row,) = plan_json(wmtp, "humaneval_raw")["raw"]
    assert (row["here"], row["to_download"]) == (1_000_000, SIZE - 1_000_000)
    assert wmtp("adopt", str(hub_store.internal), "--as", "humaneval_raw").returncode == 0
    assert front.payload == SIZE - 1_000_000
    document = plan_json(wmtp, "humaneval_raw")
    assert (document["raw"][0]["here"], document["raw"][0]["to_download"]) == (SIZE, 0)
    assert document["bytes_per_second"] > 0
    assert document["space"]["needed"] == 0, "nothing is to be made"


def test_plan_that_will_not_fit(
    front: FaultyHub, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script stops at the exit code, before the first byte."""
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=SIZE - 1))
    result = CliRunner(env=environment).invoke(cli, ["plan", "humaneval_raw"])
    assert result.exit_code == 1
    assert "3.0 MB more than is used now, 3.0 MB free: it will not fit" in " ".join(
        result.output.split()
    )


def test_plan_names_what_cannot_be_had(front: FaultyHub, wmtp: Wmtp) -> None:
    """All repositories are asked, and each problem stands in its row."""
    front.change = lambda request, answer: (
        refuse(403, "GatedRepo")(request, answer) if GATED.id in request.path else None
    )
    done = wmtp("plan", "meta_llama_mtp_raw", "mbpp_raw", "humaneval_raw", "--json")
    assert done.returncode == 1
    rows = {row["name"]: row for row in json.loads(done.stdout)["raw"]}
    assert "is gated, and no token was sent" in rows["meta_llama_mtp_raw"]["problem"]
    assert "does not exist" in rows["mbpp_raw"]["problem"]
    assert rows["humaneval_raw"]["problem"] == ""
    assert rows["mbpp_raw"]["to_download"] is None


def test_plan_offline(front: FaultyHub, wmtp: Wmtp) -> None:
    """With a lock file the plan needs no network; without, it says what keeps it from asking."""
    done = wmtp("plan", "humaneval_raw", HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert "HF_HUB_OFFLINE is set" in done.stdout
    assert wmtp("lock", "humaneval").returncode == 0
    front.requests.clear()
    (row,) = plan_json(wmtp, "humaneval_raw", HF_HUB_OFFLINE="1")["raw"]
    assert (row["to_download"], row["problem"]) == (SIZE, "")
    assert front.requests == []


def test_plan_of_the_sample_is_what_it_takes(store: Store) -> None:
    """The estimate of what was never made must be an upper bound that is not absurd: it decides
    whether a run of hours is begun."""
    artifacts = with_upstream(store, [a for a in store.catalogue if a.kind == "safetensors"])
    rows = [plan_raw(store, artifact) for artifact in artifacts if artifact.kind == "raw"]
    assert all(row.here == row.size and row.is_pinned and not row.problem for row in rows)
    there = space_of(store, artifacts, rows)
    for artifact in artifacts:
        if artifact.kind == "safetensors":
            store.manifest_path(artifact).unlink()
    absent = space_of(store, artifacts, rows)
    assert there.made * 0.9 <= absent.made <= there.made * 1.5


# -- adopt -----------------------------------------------------------------------------------------


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What ``git clone`` or ``hf download`` left: HumanEval under upstream's paths."""
    write_files(tmp_path / "clone", {PARQUET: CONTENT, "README.md": b"x", ".git/config": b"y"})
    return tmp_path / "clone"


def test_adopted_files_are_linked(
    front: FaultyHub, wmtp: Wmtp, hub_store: Store, clone: Path
) -> None:
    """60 GB that are on the disk already are neither downloaded nor copied, and stay where they
    are."""
    before = tree(clone)
    done = wmtp("adopt", str(clone))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("humaneval_raw: 1 files, 3.0 MB, verified.")
    assert raw_file(hub_store).stat().st_ino == (clone / PARQUET).stat().st_ino
    assert tree(clone) == before
    assert front.payload == 0
    assert wmtp("verify", "humaneval_raw").returncode == 0
    status = wmtp("status", "humaneval_raw").stdout
    assert " unpinned " in status
    (row,) = json.loads(wmtp("status", "humaneval_raw", "--json").stdout)["artifacts"]
    assert row["pinned"] is False


def test_adopting_as_json(front: FaultyHub, wmtp: Wmtp, hub_store: Store, clone: Path) -> None:
    """One document on standard output; progress is on standard error."""
    done = wmtp("adopt", str(clone), "--json")
    manifest = hub_store.manifest(hub_store.catalogue["humaneval_raw"])
    assert json.loads(done.stdout) == {
        "root": str(hub_store.root),
        "source": "hub",
        "artifact": "humaneval_raw",
        "files": 1,
        "size": manifest.size,
        "content_sha256": manifest.content_sha256,
    }


def test_adopting_again_never_writes_to_the_original(
    front: FaultyHub, wmtp: Wmtp, hub_store: Store, clone: Path, tmp_path: Path
) -> None:
    """The linked file is the user's, too: a later commit must replace the name, not the bytes."""
    assert wmtp("adopt", str(clone)).returncode == 0
    before = tree(clone)
    with serve(write_hub(tmp_path / "newer", OTHER)) as url:
        done = wmtp("adopt", str(tmp_path / "hub"), "--as", "humaneval_raw", HF_ENDPOINT=url)
    assert done.returncode == 0, done.stderr
    assert raw_file(hub_store).read_bytes() == OTHER
    assert tree(clone) == before


def test_snapshot_of_the_clients_cache_is_adopted(
    front: FaultyHub, wmtp: Wmtp, hub_store: Store, tmp_path: Path
) -> None:
    """Where most people's copy is: its snapshots are symbolic links to blobs. The artifact has the
    blob, and no link that breaks when the cache is cleaned."""
    blob = tmp_path / "cache/blobs" / SHA256
    write_files(blob.parent, {SHA256: CONTENT})
    link = tmp_path / "cache/snapshots/abc" / PARQUET
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    done = wmtp("adopt", str(tmp_path / "cache/snapshots/abc"))
    assert done.returncode == 0, done.stderr
    assert front.payload == 0
    path = raw_file(hub_store)
    assert not path.is_symlink()
    assert path.stat().st_ino == blob.stat().st_ino


COMMITS = ("a" * 40, "b" * 40)
CACHED = "datasets--openai--openai_humaneval"


@pytest.mark.parametrize(
    ("place", "commits", "head", "said"),
    [
        ("", COMMITS[:1], None, ""),
        (CACHED, COMMITS[:1], None, ""),
        (CACHED, COMMITS, COMMITS[1], ""),
        (CACHED, COMMITS, None, f"snapshots: {', '.join(COMMITS)}. Adopt one of them: "),
        (CACHED, (), None, "snapshots: none"),
    ],
    ids=["all of it", "a repository", "with its head", "which one", "empty"],
)
def test_cache_of_the_client_is_adopted(
    front: FaultyHub,
    wmtp: Wmtp,
    tmp_path: Path,
    place: str,
    commits: tuple[str, ...],
    head: str | None,
    said: str,
) -> None:
    """~/.cache/huggingface/hub, or a repository in it: the files lie below snapshots/COMMIT, and
    none is fetched again without a word."""
    repository = tmp_path / "hub-cache" / CACHED
    write_files(repository / "blobs", {SHA256: CONTENT})
    (repository / "snapshots").mkdir()
    for commit in commits:
        link = repository / "snapshots" / commit / PARQUET
        link.parent.mkdir(parents=True)
        link.symlink_to(repository / "blobs" / SHA256)
    if head:
        write_files(repository / "refs", {"main": head.encode()})
    done = wmtp("adopt", str(tmp_path / "hub-cache" / place), "--as", "humaneval_raw")
    assert done.returncode == (64 if said else 0), done.stderr
    assert said in done.stderr
    assert front.payload == 0


def test_pointers_of_git_lfs_are_named(
    front: FaultyHub, wmtp: Wmtp, hub_store: Store, clone: Path
) -> None:
    """A clone without git-lfs has 130 bytes in place of each large file: people must know that all
    of it is downloaded anew, and offline, why there is nothing to adopt."""
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{SHA256}\nsize {SIZE}\n"
    (clone / PARQUET).write_text(pointer)
    offline = wmtp("adopt", str(clone), HF_HUB_OFFLINE="1")
    assert offline.returncode == 1
    assert f"{PARQUET}: pointers of Git LFS, not the files themselves" in offline.stderr
    assert offline.stderr.rstrip().endswith(f"git -C {clone} lfs pull")
    assert front.payload == 0
    done = wmtp("adopt", str(clone))
    assert done.returncode == 0, done.stderr
    assert "humaneval_raw downloads them anew" in done.stderr
    assert front.payload == SIZE
    assert raw_file(hub_store).read_bytes() == CONTENT


def test_text_about_git_lfs_is_no_pointer(front: FaultyHub, wmtp: Wmtp, clone: Path) -> None:
    """A long file that begins as a pointer does is a file."""
    (clone / "README.md").write_text("version https://git-lfs.github.com/spec/v1\n" + "x" * 2000)
    done = wmtp("adopt", str(clone))
    assert (done.returncode, "pointers" in done.stderr) == (0, False)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another filesystem."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other filesystem")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def test_files_of_another_filesystem_are_copied_once(
    front: FaultyHub, wmtp: Wmtp, hub_store: Store, elsewhere: Path
) -> None:
    """From a USB disk: one copy, verified as it is written, and nothing is left of the way."""
    write_files(elsewhere, {PARQUET: CONTENT})
    done = wmtp("adopt", str(elsewhere))
    assert done.returncode == 0, done.stderr
    assert raw_file(hub_store).read_bytes() == CONTENT
    assert raw_file(hub_store).stat().st_nlink == 1
    assert front.payload == 0
    assert not hub_store.scratch(hub_store.catalogue["humaneval_raw"]).exists()
    assert (elsewhere / PARQUET).read_bytes() == CONTENT


def test_copy_that_will_not_fit_is_not_begun(
    front: FaultyHub,
    environment: dict[str, str],
    elsewhere: Path,
    hub_store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is on a USB disk needs no download, and needs room all the same."""
    write_files(elsewhere, {PARQUET: CONTENT})
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=SIZE - 1))
    result = CliRunner(env=environment).invoke(cli, ["adopt", str(elsewhere)])
    assert isinstance(result.exception, StoreError)
    assert (
        "will not fit: 0 B to download, 3.0 MB here (3.0 MB on another filesystem, to copy), "
        "3.0 MB free" in str(result.exception)
    )
    assert not raw_file(hub_store).exists()


def test_wrong_file_is_not_adopted(
    front: FaultyHub, wmtp: Wmtp, hub_store: Store, clone: Path
) -> None:
    """A flipped bit on an old disk: it is said, left alone, and the right file is downloaded."""
    damage(clone / PARQUET, flip(7))
    before = tree(clone)
    done = wmtp("adopt", str(clone))
    assert done.returncode == 0, done.stderr
    assert f"{clone / PARQUET} has the size of {PARQUET}, but other bytes" in done.stderr
    assert front.payload == SIZE
    assert raw_file(hub_store).read_bytes() == CONTENT
    assert tree(clone) == before


def test_missing_files_are_downloaded(
    front: FaultyHub, wmtp: Wmtp, hub_store: Store, tmp_path: Path
) -> None:
    """People have the weights and not the params; which asset is meant they must say."""
    write_files(tmp_path / "weights", {PTH: CONTENT})
    unnamed = wmtp("adopt", str(tmp_path / "weights"))
    assert unnamed.returncode == 64
    assert "meta_llama_mtp_raw: has no file 7B_1T_4/params.json" in unnamed.stderr
    assert "--as" in unnamed.stderr
    done = wmtp("adopt", str(tmp_path / "weights"), "--as", "meta-llama-mtp")
    assert done.returncode == 0, done.stderr
    assert front.payload == len(b"{}") + len(b"pieces")
    assert raw_file(hub_store, PTH).stat().st_ino == (tmp_path / "weights" / PTH).stat().st_ino


def test_ambiguous_path_needs_a_name(
    front: FaultyHub, wmtp: Wmtp, hub_store: Store, clone: Path
) -> None:
    """Guessing would commit one of two."""
    write_files(clone, {PTH: CONTENT, "7B_1T_4/params.json": b"{}", "tokenizer.model": b"pieces"})
    done = wmtp("adopt", str(clone))
    assert done.returncode == 64
    assert "fits meta_llama_mtp_raw, humaneval_raw; say which with --as" in done.stderr
    assert wmtp("adopt", str(clone), "--as", "humaneval").returncode == 0
    wrong = wmtp("adopt", str(clone), "--as", "micro_mtp")
    assert wrong.returncode == 64
    assert "micro_mtp has no raw files" in wrong.stderr
    assert not (hub_store.root / "models_v2").exists()


def test_adopting_offline(front: FaultyHub, wmtp: Wmtp, hub_store: Store, clone: Path) -> None:
    """On a machine without network the hashes are those of the lock file; without one, nobody
    knows what is right, and nothing is taken."""
    refused = wmtp("adopt", str(clone), HF_HUB_OFFLINE="1")
    assert refused.returncode == 1
    assert "HF_HUB_OFFLINE is set" in refused.stderr
    assert not (hub_store.root / "datasets_v2").exists()
    assert wmtp("lock", "humaneval").returncode == 0
    front.requests.clear()
    done = wmtp("adopt", str(clone), HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert front.requests == []
    (row,) = json.loads(wmtp("status", "humaneval_raw", "--json").stdout)["artifacts"]
    assert (row["pinned"], row["endpoint"]) == (True, "local")
    assert "unpinned" not in wmtp("status", "humaneval_raw").stdout


def test_adopting_into_the_sample_is_verified_too(wmtp: Wmtp, tmp_path: Path) -> None:
    """Real files have other hashes than the sample's: they are not mixed into its root."""
    write_files(tmp_path / "real", {PARQUET: CONTENT})
    root = tmp_path / "sample"
    done = wmtp("adopt", str(tmp_path / "real"), WMTP_SOURCE="sample", WMTP_STORAGE_ROOT=str(root))
    assert done.returncode == 0, done.stderr
    path = root / "datasets_v2/humaneval/raw" / PARQUET
    assert path.read_bytes() != CONTENT
    assert (tmp_path / "real" / PARQUET).read_bytes() == CONTENT


def test_materializing_after_adopting_fetches_nothing(
    front: FaultyHub, wmtp: Wmtp, hub_store: Store, clone: Path, environment: dict[str, str]
) -> None:
    """That is what the command says at its end."""
    assert wmtp("adopt", str(clone)).returncode == 0
    before = tree(clone)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_ENDPOINT", "WMTP_LOCK"):
            patch.setenv(name, environment[name])
        materialize(hub_store, hub_store.catalogue["humaneval_raw"])
    assert front.payload == 0
    assert tree(clone) == before
    assert OPEN.id in hub_store.manifest_path(hub_store.catalogue["humaneval_raw"]).read_text()
