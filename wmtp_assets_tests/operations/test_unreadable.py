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
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from wmtp_assets.base.errors import StoreError, WmtpError
from wmtp_assets.cli import common
from wmtp_assets.cli.main import cli
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.rules import apply
from wmtp_assets.rules.apply import apply_rule
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
from contextlib import redirect_stderr, redirect_stdout
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


def vanishing(real: Callable[..., Any], below: Path) -> Callable[..., Any]:
    """``os.walk`` of a tree in which somebody removes what was listed before it is looked at."""

    def walk(top: Any, *arguments: Any, **options: Any) -> Iterator[Any]:
        for parent, folders, files in real(top, *arguments, **options):
            if Path(parent).is_relative_to(below):
                for name in files:
                    Path(parent, name).unlink(missing_ok=True)
                for name in folders:
                    shutil.rmtree(Path(parent, name), ignore_errors=True)
            yield parent, folders, files

    return walk


VANISHING = (
    "status --files humaneval",
    "status --stale humaneval",
    "verify",
    "gc",
    f"repair {KEY} --dry-run",
    f"clean {KEY}",
)


@pytest.mark.parametrize("below", [f"{UNIT}/stats", ".wmtp", "docs", "signatures"])
@pytest.mark.parametrize("line", thinned(VANISHING, ["gc", "status --files humaneval"]))
def test_what_vanishes_during_a_scan(
    store: Store, below: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the name and the file, whoever looks."""
    for name in ("trash/x/y", "previous/x/y", "staging/x/y", "locks/y"):
        (store.internal / name).mkdir(parents=True, exist_ok=True)
    (store.root / "signatures").mkdir(exist_ok=True)
    monkeypatch.setattr(common, "load_catalogue", lambda: store.catalogue)
    monkeypatch.setattr(apply, "apply_in_child", apply_rule)
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(store.root))
    monkeypatch.setenv("WMTP_SOURCE", "sample")
    monkeypatch.setattr(os, "walk", vanishing(os.walk, store.root / below))
    with (
        redirect_stdout(StringIO()),
        redirect_stderr(StringIO()),
        suppress(WmtpError, OSError, SystemExit),
    ):
        cli.main(line.split(), standalone_mode=False)


def test_what_vanishes_while_rules_read_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is missing, whatever the rule was about to do with it."""
    artifact = store.catalogue[KEY]
    monkeypatch.setattr(os, "walk", vanishing(os.walk, store.folder(artifact)))
    for rule in rules_of(artifact):
        outcome = apply_rule(rule, store, artifact)
        assert {item.problem for item in outcome.findings} <= {"missing", "corrupt", "unreadable"}
