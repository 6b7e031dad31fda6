"""Folders that cannot be read, and files that vanish while they are looked for: each a finding, or
one message, in every command that looks. No defect of a rule, no exit code 70.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from wmtp_assets.base.errors import StoreError
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.cli import common
from wmtp_assets.cli import main as entry
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.rules import apply
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.rules.findings import Outcome, Rule
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.quick import quick, thinned

KEY = "humaneval_stats"
UNIT = "datasets_v2/humaneval"

FEW = (("status", "humaneval"), ("verify", KEY), ("gc", "--dry-run"), ("show", KEY))
"""Those that are quick."""

COMMANDS = (
    *FEW,
    ("status", "--files", "humaneval"),
    ("status", "--stale", "humaneval"),
    ("verify",),
    ("gc",),
    ("plan", "humaneval_raw"),
    ("repair", KEY, "--dry-run"),
    ("clean", KEY),
    ("rollback", KEY),
)

RUN = """
import io, json, sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from wmtp_assets.cli import main as entry
ends = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["wmtp", *arguments]
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        try:
            code = entry._run()
        except SystemExit as error:
            code = error.code
    ends.append([arguments, code, said.getvalue()])
print(json.dumps(ends))
"""


def _as_anybody() -> None:
    """The superuser, too, is refused what the mode of a folder refuses (capabilities(7))."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def ends(store: Store, *commands: tuple[str, ...]) -> list[tuple[tuple[str, ...], int, str]]:
    """Each command, its exit code and what it says, in a process that may not read everything."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(commands)],
        env={**os.environ, "WMTP_STORAGE_ROOT": str(store.root), "WMTP_SOURCE": "sample"},
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=_as_anybody,
        timeout=200,
    )
    return [(tuple(arguments), code, said) for arguments, code, said in json.loads(done.stdout)]


FOLDERS = (
    ".",
    "datasets_v2",
    UNIT,
    f"{UNIT}/raw",
    f"{UNIT}/processed",
    f"{UNIT}/stats",
    "docs",
    "models_v2",
    "models_v2/micro-mtp/safetensors",
    "signatures",
    ".wmtp",
    ".wmtp/verified",
    f".wmtp/verified/{KEY}",
    ".wmtp/locks",
    ".wmtp/previous",
    ".wmtp/staging",
    ".wmtp/scratch",
    ".wmtp/trash",
    ".wmtp/published",
)
KEPT = (".wmtp/locks",)
"""Those that are tried without ``make test-full``."""


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
@pytest.mark.parametrize(
    ("folder", "commands"),
    [
        (f"{UNIT}/stats", FEW),
        *(pytest.param(it, COMMANDS, marks=pytest.mark.long) for it in KEPT),
        *thinned([(it, COMMANDS) for it in FOLDERS if it not in KEPT], ()),
    ],
)
def test_folder_that_cannot_be_read(
    store: Store, folder: str, commands: tuple[tuple[str, ...], ...]
) -> None:
    """Nor be entered. Its owner is told which it is; nobody is told to make it anew."""
    path = store.root / folder
    path.mkdir(parents=True, exist_ok=True)
    if folder.startswith(".wmtp/"):
        (path / "x").mkdir(exist_ok=True)
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        found = ends(store, *commands)
    finally:
        path.chmod(mode)
    for arguments, code, said in found:
        assert code not in (None, 70), (arguments, code, said)
        assert "defect" not in said, (arguments, said)
    if folder == f"{UNIT}/stats":
        codes = {arguments: code for arguments, code, _ in found}
        assert codes["verify", KEY] == codes["status", "humaneval"] == 4, found


REMEMBERED = (
    f".wmtp/verified/{KEY}/sha256.json",
    f".wmtp/verified/{KEY}/files.json",
    ".wmtp/published/x.json",
    f".wmtp/pulled/{KEY}.json",
    f".wmtp/locks/{KEY}.json",
    ".wmtp/drawn/humaneval_card/pictures.json",
    ".wmtp/rate.json",
    ".wmtp/publish/id",
    f"signatures/{KEY}.sig",
)
FILES = (
    f"{UNIT}/raw.metadata.json",
    f"{UNIT}/stats/metadata.json",
    f"{UNIT}/metadata.json",
    f"{UNIT}/processed/schema.json",
    f"{UNIT}/README.md",
    "docs/RELEASE.json",
    "RELEASE.json",
)


@pytest.mark.parametrize(
    ("kind", "files"),
    quick(
        thinned(
            [*product(("a pipe", "endless"), (REMEMBERED, FILES))],
            [("a pipe", REMEMBERED), ("endless", REMEMBERED)],
        ),
        [("a pipe", REMEMBERED)],
    ),
)
def test_what_is_no_file_is_waited_for_by_nobody(
    store: Store, files: tuple[str, ...], kind: str
) -> None:
    """A named pipe has no bytes before somebody writes, and a device has no end of them."""
    for name in files:
        path = store.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if kind == "a pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero")
    commands = FEW if files == REMEMBERED and kind == "a pipe" else COMMANDS
    for arguments, code, said in ends(store, *commands):
        assert code not in (None, 70), (arguments, code, said)
        assert "defect" not in said, (arguments, said)


@pytest.mark.parametrize("leads_to", ["", "/dev/zero"], ids=["a pipe", "endless"])
def test_mark_of_the_source_that_is_no_file(empty_store: Store, leads_to: str) -> None:
    """It is read first, by every command: one that waits, or fills memory, would stop all."""
    mark = empty_store.internal / "source"
    mark.parent.mkdir(parents=True)
    mark.symlink_to(leads_to) if leads_to else os.mkfifo(mark)
    with pytest.raises(StoreError, match="cannot be read"):
        empty_store.check_source()
    mark.unlink()
    mark.touch()
    os.truncate(mark, 1 << 40)
    with pytest.raises(StoreError, match="longer than 256 bytes"):
        empty_store.check_source()


def test_sparse_file_is_not_hashed(store: Store) -> None:
    """It costs nothing to make, and hashing a terabyte of nothing takes hours: what says how large
    a file may be is asked first, by every rule."""
    path = store.root / "models_v2/micro-mtp/tokenizer/tokenizer.model"
    path.unlink()
    path.touch()
    os.truncate(path, 1 << 40)
    artifact = store.catalogue["micro_mtp"]
    for rule in rules_of(artifact):
        if rule.name in ("sha256", "tokenizer", "fast_tokenizer", "model_folder"):
            assert apply_rule(rule, store, artifact).findings, rule.name


class Scanned(Iterator[os.DirEntry[str]]):
    """What ``os.scandir`` gives."""

    def __init__(self, entries: Iterable[os.DirEntry[str]]) -> None:
        self._entries = iter(entries)

    def __next__(self) -> os.DirEntry[str]:
        return next(self._entries)

    def __enter__(self) -> Scanned:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is open."""


def vanishing(monkeypatch: pytest.MonkeyPatch, below: Path) -> list[str]:
    """Make somebody remove what a folder of this tree holds whenever it is listed, before what is
    listed is looked at.

    Returns:
        The names of what was removed; it grows.
    """
    gone: list[str] = []
    scandir, listdir = os.scandir, os.listdir

    def remove(parent: Any, names: Iterable[str]) -> None:
        if isinstance(parent, int) or not Path(parent).is_relative_to(below):
            return  # by its descriptor a folder is listed to be removed
        for name in names:
            path = Path(parent, name)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            gone.append(name)

    def scan(top: Any = ".") -> Any:
        with scandir(top) as found:
            entries = [*found]
        remove(top, [entry.name for entry in entries])
        return Scanned(entries)

    def listed(top: Any = ".") -> list[str]:
        names = listdir(top)
        remove(top, names)
        return names

    monkeypatch.setattr(os, "scandir", scan)  # so do os.walk and Path.glob list
    monkeypatch.setattr(os, "listdir", listed)  # and Path.iterdir
    return gone


VANISHING = {
    ("status --files humaneval", ".wmtp"): 0,
    ("status --stale humaneval", ".wmtp"): 0,
    ("verify", f"{UNIT}/stats"): 3,
    ("verify", ".wmtp"): 0,
    ("verify", "docs"): 2,
    ("verify", "signatures"): 0,
    ("gc", ".wmtp"): 0,
    (f"repair {KEY} --dry-run", f"{UNIT}/stats"): 1,
    (f"clean {KEY} --yes", ".wmtp"): 0,
    (f"clean {KEY} --yes", "docs"): 0,
}
"""Command, and a folder in which it lists something → how it ends where that is gone: what it was
asked about is missing, or it makes no difference."""


def apply_here(
    rule: Rule, store: Store, artifact: Artifact, say: Say = silent, run: object = None
) -> Outcome:
    """What a rule is applied with in place of a child process, in which nothing would vanish."""
    return apply_rule(rule, store, artifact, say)


@pytest.mark.parametrize(
    ("line", "below"),
    thinned(VANISHING, [("gc", ".wmtp"), ("status --files humaneval", ".wmtp")]),
)
def test_what_vanishes_during_a_scan(
    store: Store, below: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the name and the file, whoever looks: he says what he found, and ends in order."""
    for name in ("trash/x/y", "previous/x/y", "staging/x/y", "locks/y"):
        (store.internal / name).mkdir(parents=True, exist_ok=True)
    (store.root / "signatures/x").mkdir(parents=True)
    monkeypatch.setattr(common, "load_catalogue", lambda: store.catalogue)
    monkeypatch.setattr(apply, "apply_in_child", apply_here)
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(store.root))
    monkeypatch.setenv("WMTP_SOURCE", "sample")
    monkeypatch.setattr(sys, "argv", ["wmtp", *line.split()])
    said = StringIO()
    with monkeypatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
        gone = vanishing(patch, store.root / below)
        code = entry._run()
    assert gone
    assert code == VANISHING[line, below], said.getvalue()
    assert "defect" not in said.getvalue()


def test_what_vanishes_while_rules_read_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is missing, whatever the rule was about to do with it."""
    artifact = store.catalogue[KEY]
    gone = vanishing(monkeypatch, store.folder(artifact))
    for rule in rules_of(artifact):
        outcome = apply_rule(rule, store, artifact)
        assert {item.problem for item in outcome.findings} <= {"missing", "corrupt", "unreadable"}
    assert gone
