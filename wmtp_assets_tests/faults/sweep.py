"""Faults at every system call of a commit: it is killed there, or the call fails.

Run as a program, in a process that has no threads and imports no torch, and so forks fast::

    python -m wmtp_assets_tests.faults.sweep PATH FOLDER STRIDE BY

For each point the committed state is made anew, and a forked child does the commit with one fault.
``BY`` says who injects it: ``strace``, which sees what the program cannot, let alone mock; or
``python``, where Python calls the system, which is quick and needs no strace. It prints what
happened as JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import traceback
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from wmtp_assets.base.errors import StoreError, WmtpError
from wmtp_assets.catalogue.artifact import INTERNAL, VALUE_HEAD
from wmtp_assets.checkpoints.beside import record_value_head
from wmtp_assets.kinds.registry import all_rules
from wmtp_assets.operations.gc import collect
from wmtp_assets.operations.migrate import migrate
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.storage import files, record
from wmtp_assets.storage import store as stores
from wmtp_assets.storage.files import HashedFile
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.faults.calls import Calls
from wmtp_assets_tests.storage.test_store import (
    NEW,
    OLD,
    RAW,
    SAFETENSORS,
    TOKENIZER,
    VARIANT,
    Tree,
    bytes_of,
    commit,
    contents,
    open_store,
    quick_commits,
    staging,
)
from wmtp_assets_tests.trees import as_the_version_before, damage

SHA256 = next(rule for rule in all_rules() if rule.name == "sha256")
KILL = "SIGKILL"
ASIDE = ".wmtp-old"
CHANGED = (KILL, "ENOSPC", "EIO")
READ = ("EIO",)

CHANGING = frozenset(
    [
        "write",
        "pwrite64",
        "writev",
        "fallocate",
        "ftruncate",
        "truncate",
        "fsync",
        "fdatasync",
        "sync_file_range",
        "flock",
        "mkdir",
        "mkdirat",
        "link",
        "linkat",
        "symlink",
        "symlinkat",
        "rename",
        "renameat",
        "renameat2",
        "unlink",
        "unlinkat",
        "rmdir",
        "chmod",
        "fchmod",
        "fchmodat",
        "utimensat",
    ]
)
READING = frozenset(
    [
        "open",
        "openat",
        "read",
        "pread64",
        "getdents64",
        "stat",
        "lstat",
        "newfstatat",
        "statx",
        "close",
    ]
)
SWAPPING = frozenset(("rename", "renameat", "renameat2"))
REMOVING = frozenset(("unlink", "unlinkat", "rmdir"))

_TRACED = "trace=" + ",".join(f"?{name}" for name in sorted(CHANGING | READING))
_WRITABLE = re.compile(r"O_(?:CREAT|WRONLY|RDWR)\b")
_LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*)", re.DOTALL)
_TEMPORARY = re.compile(r"\.PROCESS\.[0-9a-f]{8}\b")
_VARYING = re.compile(r"0x[0-9a-f]+|\d+<")


# -- what is swept ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class CommitPath:
    """One way in which the store changes what is committed.

    Attributes:
        key: the artifact that it changes.
        prepare: makes the state before.
        work: the change.
        is_native: False: the system has no exchange of folders, so that renames are what there is.
        is_stepwise: each file becomes another by itself, and the state before is a damaged one.
    """

    key: str
    prepare: Callable[[Store], object]
    work: Callable[[Store], object]
    is_native: bool = True
    is_stepwise: bool = False


def safetensors_file(name: str, shape: Sequence[int], data: bytes) -> bytes:
    """A file of one float32 tensor."""
    entry = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, len(data)]}
    header = json.dumps({name: entry}).encode()
    return len(header).to_bytes(8, "little") + header + data


HEAD = safetensors_file("weight", (2, 1), bytes(range(8)))


def furnish(store: Store) -> None:
    """A model's folder with four artifacts, two generations of one, and what nobody owns."""
    commit(store, RAW, {"raw/7B/weights": b"first weights", "raw/first": b"1"})
    commit(store, RAW, OLD)
    commit(store, TOKENIZER, {"tokenizer.model": b"pieces", "SHA": b"pieces too"})
    commit(store, VARIANT, {"model.safetensors": b"bf16"})
    commit(
        store, SAFETENSORS, {"safetensors/model.safetensors": b"1", "configs/params.json": b"{}"}
    )
    unit = store.root / "models_v2/tiny"
    (unit / VALUE_HEAD).write_bytes(HEAD)
    (unit / "notes.txt").write_bytes(b"mine")
    (unit / "deep/er").mkdir(parents=True)
    (unit / "deep/er/notes.txt").write_bytes(b"mine, too")
    (unit / "link").symlink_to("raw/7B/weights")
    (unit / "folder-link").symlink_to("raw", target_is_directory=True)
    (unit / "dangling").symlink_to("nowhere")


def commit_new(store: Store) -> None:
    commit(store, RAW, NEW, version=2)


def commit_nested(store: Store) -> None:
    commit(store, TOKENIZER, {"tokenizer.model": b"more pieces", "added": b"x"})


def cut_off_first(store: Store) -> None:
    """A swap of three renames that ended after the first one: the artifact is aside."""
    furnish(store)
    unit = store.root / "models_v2/tiny"
    unit.rename(unit.with_name("tiny.wmtp-old"))


def cut_off_second(store: Store) -> None:
    """One that ended after the second: the new artifact is there, and the old one is aside."""
    furnish(store)
    unit = store.root / "models_v2/tiny"
    shutil.copytree(unit, unit.with_name("tiny.wmtp-old"), symlinks=True)
    commit_files_in_place(store)


def commit_files_in_place(store: Store) -> None:
    """Commit anew while another folder lies aside, as a cut-off swap leaves the two."""
    aside = store.root / "models_v2/tiny.wmtp-old"
    hidden = store.root / "aside"
    aside.rename(hidden)
    commit_new(store)
    hidden.rename(aside)


def damage_some(store: Store) -> None:
    """A committed artifact with two files that are damaged and one that is missing."""
    furnish(store)
    for name in ("raw/7B/weights", "raw/swaps"):
        damage(store.path(store.catalogue[RAW], name), lambda data: b"damaged")
    store.path(store.catalogue[RAW], "raw/only-old").unlink()


def repair(store: Store) -> None:
    """Put files in the place of those that are not as they were committed."""
    artifact = store.catalogue[RAW]
    with store.stage(artifact) as staged:
        for name, data in OLD.items():
            path = store.path(artifact, name)
            if not path.exists() or path.read_bytes() != data:
                staged.write(name, data)
        store.replace_files(artifact, staged, staged.files)


def recover(store: Store) -> None:
    store.recover(store.catalogue[RAW])


def furnish_before(store: Store) -> None:
    """An artifact in parts, as the version before committed it."""
    files.PART = stores.PART = 4
    furnish(store)
    as_the_version_before(store, store.catalogue[RAW])


def migrate_raw(store: Store) -> None:
    """Migrate; where it is done, clear what a killed run left, as ``wmtp gc`` does."""
    for item in migrate(store, [store.catalogue[RAW]]):
        if item.problem:
            raise StoreError(item.problem)
        if item.state == "nothing to migrate":
            list(collect(store, ("staging",)))


PATHS = {
    "first": CommitPath(RAW, lambda store: store.claim(), lambda store: commit(store, RAW, OLD)),
    "replacing": CommitPath(RAW, furnish, commit_new),
    "replacing, three renames": CommitPath(RAW, furnish, commit_new, is_native=False),
    "equal": CommitPath(RAW, furnish, lambda store: commit(store, RAW, OLD)),
    "nested": CommitPath(TOKENIZER, furnish, commit_nested),
    "nested, three renames": CommitPath(TOKENIZER, furnish, commit_nested, is_native=False),
    "amend": CommitPath(
        SAFETENSORS,
        furnish,
        lambda store: record_value_head(store, store.catalogue[SAFETENSORS], 2, "run-1"),
    ),
    "migrate": CommitPath(RAW, furnish_before, migrate_raw),
    "repair": CommitPath(RAW, damage_some, repair, is_stepwise=True),
    "recover the old": CommitPath(RAW, cut_off_first, recover, is_native=False),
    "recover the new": CommitPath(RAW, cut_off_second, recover, is_native=False),
}


# -- one traced run --------------------------------------------------------------------------------


class NotTraceableError(Exception):
    """strace may not attach here."""


@dataclass(frozen=True)
class Call:
    """A system call of a commit below the storage root.

    Attributes:
        name, number: it is the ``number``-th of that name that the process does.
        line: as strace prints it, without what differs from run to run.
        is_changing: it changes what is on disk, or asks for a lock.
    """

    name: str
    number: int
    line: str
    is_changing: bool

    @property
    def is_cleaning(self) -> bool:
        """Whether it may be one of those that remove a staging folder, which then stays until the
        next commit."""
        is_in_it = not self.is_changing or self.name in REMOVING
        return is_in_it and f"{INTERNAL}/staging" in self.line

    @property
    def is_move(self) -> bool:
        """Whether it may be what makes the artifact another one."""
        return self.name in SWAPPING and "/locks/" not in self.line


@dataclass(frozen=True)
class Traced:
    """What became of one run: exit code or minus the signal, the error's class and text, log."""

    status: int
    error: str
    message: str
    log: list[str]


_PR_SET_PTRACER = 0x59616D61  # linux/prctl.h


def _allow_tracing() -> None:
    """Let any process of this user attach; where Yama does not ask for it, nothing happens."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)


def run_traced(work: Callable[[], object], log: Path, injected: Sequence[str]) -> Traced:
    """Do ``work`` in a forked child under strace, with faults.

    strace counts calls from where it attaches on, so that the numbers are those of ``work`` alone.

    Raises:
        NotTraceableError: saying why.
    """
    ready, tell_ready = os.pipe()
    go, tell_go = os.pipe()
    result, tell_result = os.pipe()
    child = os.fork()
    if child == 0:
        _allow_tracing()
        os.write(tell_ready, b"x")
        select.select([go], [], [])  # strace does not count it, be it seen from the start or not
        _do_and_exit(work, tell_result)
    for descriptor in (tell_ready, go, tell_result):
        os.close(descriptor)
    os.read(ready, 1)
    faults = [argument for fault in injected for argument in ("-e", f"inject={fault}")]
    command = ["strace", "-f", "-y", "-o", str(log), "-e", _TRACED, *faults, "-p", str(child)]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert strace.stderr is not None
    said = strace.stderr.readline()
    is_attached = "attached" in said
    if is_attached:
        os.write(tell_go, b"x")
    else:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    strace.communicate()
    os.close(ready)
    os.close(tell_go)
    if not is_attached:
        os.close(result)
        raise NotTraceableError(said.strip())
    return _traced(status, result, log)


def run_called(work: Callable[[], object], log: Path, injected: Sequence[str]) -> Traced:
    """Do ``work`` in a forked child, with faults where Python calls the system."""
    result, tell_result = os.pipe()
    child = os.fork()
    if child == 0:
        with log.open("w") as file, pytest.MonkeyPatch.context() as monkeypatch:
            Calls(file, injected).install(monkeypatch)
            _do_and_exit(work, tell_result)
    os.close(tell_result)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return _traced(status, result, log)


def _traced(status: int, result: int, log: Path) -> Traced:
    with open(result, "rb") as file:
        error, _, message = file.read().decode().partition("\n")
    return Traced(status, error, message, log.read_text(errors="replace").splitlines())


RUNS = {"strace": run_traced, "python": run_called}
"""Who injects the faults → how it is done."""


@contextmanager
def halved_writes() -> Iterator[None]:
    """Every file is written in two halves, so that a fault at the second leaves half a file."""
    real_write = HashedFile.write

    def write(file: HashedFile, data: bytes | memoryview) -> int:
        half = len(data) // 2
        return real_write(file, data[:half]) + real_write(file, data[half:])

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(HashedFile, "write", write)
        yield


def _do_and_exit(work: Callable[[], object], tell: int) -> None:
    code = 1
    try:
        with halved_writes():
            work()
        code = 0
    except (OSError, WmtpError) as error:
        os.write(tell, f"{type(error).__name__}\n{error}".encode())
    except BaseException:
        os.write(tell, f"unexpected\n{traceback.format_exc()}".encode())
    finally:
        os._exit(code)


def calls_below(root: Path, log: Sequence[str]) -> list[Call]:
    """The calls that name a path below ``root``, or a file opened there."""
    counts: Counter[str] = Counter()
    calls = []
    for line in log:
        match = _LINE.match(line)
        if match is None:
            continue
        name, rest = match.groups()
        counts[name] += 1
        if str(root) in rest:
            is_changing = name in CHANGING or (name == "openat" and bool(_WRITABLE.search(rest)))
            calls.append(Call(name, counts[name], _normal(line), is_changing))
    return calls


def _normal(line: str) -> str:
    """A line of strace's without process ids, descriptors, addresses, names of temporary files and
    what was returned."""
    process, _, call = line.partition(" ")
    call = re.sub(rf"\b{process}\b", "PROCESS", call.strip())
    call = _TEMPORARY.sub(".TEMPORARY", _VARYING.sub("", call))
    return call.rpartition(") = ")[0] or call


# -- the sweep -------------------------------------------------------------------------------------


@dataclass
class Swept:
    """What a sweep did, and what was wrong.

    Attributes:
        calls, changing: system calls of one commit below the root, and those that change something.
        possible: faults that make sense at these.
        points: faults that were injected, and seen by strace, by name of call and of fault.
        states: how many of them left the old state, and the new.
    """

    calls: int = 0
    changing: int = 0
    possible: int = 0
    points: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


class Sweep(ABC):
    """Faults at the system calls of :meth:`work`, each in a fresh copy of a tree.

    Args:
        original: the tree before.
        root: where its copies are made.
        log: of the system calls.
        is_native: False: the system has no exchange of folders.

    Attributes:
        by: who injects the faults, of :data:`RUNS`.
    """

    by = "strace"

    def __init__(self, original: Path, root: Path, log: Path, *, is_native: bool) -> None:
        self.original, self.root, self.log = original, root, log
        self.is_native = is_native
        self.swept = Swept()
        self.turned: list[bool] = []
        self.new: Tree = {}

    @abstractmethod
    def work(self) -> object:
        """The change."""

    @abstractmethod
    def state(self) -> Tree:
        """Everything below the root that is somebody's."""

    @abstractmethod
    def examine(self, call: Call, fault: str, traced: Traced) -> Iterator[str]:
        """What does not hold after the fault, and after the next try."""

    def copy(self) -> None:
        """Make the state before anew."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.original, self.root, symlinks=True)

    def _run(self, *injected: str) -> Traced:
        """The change in a fresh copy, traced. No power is cut, and what is flushed costs time."""
        self.copy()
        always = ["fsync:retval=0"]
        if not self.is_native:
            always.append("renameat2:error=ENOSYS")
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(record, "TICK", 0)  # nothing waits: each run makes the same calls
            return RUNS[self.by](self.work, self.log, [*always, *injected])

    def run(self, stride: int) -> Swept:
        """Inject every fault, or of those away from the exchange each ``stride``-th."""
        good = self._run()
        assert good.status == 0, good.message
        assert self.state() == self.new
        calls = calls_below(self.root, good.log)
        self.swept.calls = len(calls)
        self.swept.changing = sum(call.is_changing for call in calls)
        points = list(self._points(calls))
        self.swept.possible = len(points)
        for call, fault in chosen(points, stride):
            self._inject(call, fault)
        if self.turned != sorted(self.turned):
            self.swept.problems.append("it has more than one turning point")
        return self.swept

    def _points(self, calls: Sequence[Call]) -> Iterator[tuple[Call, str]]:
        for call in calls:
            if call.name != "renameat2" or self.is_native:
                for fault in CHANGED if call.is_changing else READ:
                    yield call, fault

    def _inject(self, call: Call, fault: str) -> None:
        what = f"signal={fault}" if fault == KILL else f"error={fault}"
        traced = self._run(f"{call.name}:{what}:when={call.number}")
        new = self.swept.states["new"]
        problems = [*self._missed(call, fault, traced), *self.examine(call, fault, traced)]
        if fault == KILL:
            self.turned.append(self.swept.states["new"] > new)
        self.swept.problems += [f"{fault} at {call.line}: {problem}" for problem in problems]
        self.swept.points[f"{call.name} {fault}"] += 1

    def _missed(self, call: Call, fault: str, traced: Traced) -> Iterator[str]:
        """Whether strace faulted another call than was meant, or none."""
        if fault == KILL:
            if (
                traced.status != -signal.SIGKILL
                or "+++ killed by SIGKILL +++" not in traced.log[-1]
            ):
                yield f"not killed, but ended with {traced.status}"
            hit = [line for line in traced.log if _LINE.match(line)][-1:]
        else:
            hit = [line for line in traced.log if line.endswith("(INJECTED)") and fault in line]
        if len(hit) != 1 or not _same_call(call, hit[0]):
            yield f"another call was hit: {hit}"


class CommitSweep(Sweep):
    """Faults in one :class:`CommitPath`, each in a fresh copy below ``folder``."""

    def __init__(self, path: CommitPath, folder: Path) -> None:
        before, self.store = open_store(folder / "original"), open_store(folder / "storage")
        log = folder / "strace.log"
        super().__init__(before.root, self.store.root, log, is_native=path.is_native)
        self.path, self.artifact = path, self.store.catalogue[path.key]
        with quick_commits():
            path.prepare(before)
            self.copy()
            self.before = self.state()
            if not path.is_native:
                self.store.recover(self.store.catalogue[RAW])
            self.old = self.state()
            self.kept = self._owned()
            path.work(self.store)
            self.new = self.state()
            self.kept |= self._owned()

    def copy(self) -> None:
        """And remember which files there are, whatever is in them."""
        super().copy()
        self.inodes = self._inodes()

    def _inodes(self) -> dict[str, int]:
        found = contents(self.root)
        return {name: inode for name, (inode, _) in found.items() if not name.startswith(".")}

    def _owned(self) -> set[str]:
        """The artifact's files, and those of its generation before."""
        previous = {*bytes_of(self.store.internal / "previous" / self.path.key)}
        if not self.store.manifest_path(self.artifact).exists():
            return previous
        return previous | {*self.store.manifest(self.artifact).files, self.artifact.manifest}

    def work(self) -> object:
        return self.path.work(self.store)

    def run(self, stride: int) -> Swept:
        swept = super().run(stride)
        if stride == 1 and self.old != self.new and not swept.states["old"]:
            swept.problems.append("no fault came before the new one was there")
        return swept

    def state(self) -> Tree:
        """Everything below the root that is somebody's, be it aside for a moment."""
        found = bytes_of(self.store.root)
        leftover = tuple(f"{path.relative_to(self.store.root)}/" for path in self._superseded())
        hidden = (f"{INTERNAL}/", *leftover)
        return {name: data for name, data in found.items() if not name.startswith(hidden)}

    def _superseded(self) -> list[Path]:
        """Folders that a cut-off swap left aside, and that the new one is in the place of."""
        asides = self.store.root.rglob(f"*{ASIDE}")
        return [path for path in asides if path.with_name(path.name.removesuffix(ASIDE)).is_dir()]

    def examine(self, call: Call, fault: str, traced: Traced) -> Iterator[str]:
        is_killed = fault == KILL
        with quick_commits():
            if is_killed and not self.path.is_native:
                for artifact in self.store.catalogue:
                    self.store.recover(artifact)
            found = self.state()
            states = {"new": self.new, "old": self.old, "before": self.before}
            state = next((name for name, tree in states.items() if tree == found), "neither")
            if state == "neither" and self.path.is_stepwise and self._is_between(found):
                state = "between"
            self.swept.states[state] += 1
            if state == "neither" or (state == "before" and is_killed):
                yield f"neither old nor new: {_difference(found, self.old, self.new)}"
            if traced.status == 0 and state != "new":
                yield "nothing was raised, but it is not the new one"
            if traced.error == "unexpected":
                yield traced.message
            is_kept = state == "old" and self.old == self.before and not is_killed
            if is_kept and self._inodes() != self.inodes:
                yield "it is the old one, but files were written anew"
            if state == "new" or (state == "old" and not self.path.is_stepwise):
                yield from self._findings()
            if not is_killed and traced.status:
                yield from self._error(call, fault, traced)
            try:
                self.path.work(self.store)
            except Exception:
                yield f"the next try: {traceback.format_exc()}"
                return
            if self.state() != self.new:
                yield f"the next try made {_difference(self.state(), self.old, self.new)}"
            units = [path for path in (self.root / "models_v2").iterdir() if path.name != "tiny"]
            if left := [*staging(self.store), *self._superseded(), *units]:
                yield f"the next try left {left}"
            kept = bytes_of(self.store.internal / "previous" / self.path.key).keys()
            if not kept <= self.kept:
                yield f"the generation before has files of others: {kept - self.kept}"
            yield from self._findings()

    def _is_between(self, found: Tree) -> bool:
        """Whether each file is as it was or as it will be."""
        names = {*found, *self.old, *self.new}
        return all(found.get(n) in (self.old.get(n), self.new.get(n)) for n in names)

    def _findings(self) -> Iterator[str]:
        for artifact in self.store.catalogue:
            if self.store.manifest_path(artifact).exists():
                for finding in apply_rule(SHA256, self.store, artifact).findings:
                    yield str(finding)

    def _error(self, call: Call, fault: str, traced: Traced) -> Iterator[str]:
        """A full disk is said in words, and the staging folder makes room for others."""
        is_staged = self.path.key != SAFETENSORS and self.path.work is not recover
        if fault == "ENOSPC" and is_staged:
            words = ("no space left", str(self.store.root), " free. What is committed is whole")
            if traced.error != "StoreError" or not all(word in traced.message for word in words):
                yield f"said {traced.error}: {traced.message}"
        if not call.is_cleaning and staging(self.store):
            yield f"left {staging(self.store)}"


def chosen(points: Sequence[tuple[Call, str]], stride: int) -> list[tuple[Call, str]]:
    """Every ``stride``-th point, and all those in or beside a call that moves what is committed."""
    moves = {n for n, (call, _) in enumerate(points) if call.is_move}
    near = {n + step for n in moves for step in (-1, 0, 1)} if stride > 1 else set()
    return [point for n, point in enumerate(points) if n % stride == 0 or n in near]


def _same_call(call: Call, line: str) -> bool:
    """Whether ``line`` is the call that was meant: what it was given before its first result."""
    return _inputs(_normal(line)) == _inputs(call.line)


def _inputs(line: str) -> str:
    """The paths of a call, which are what it is given; results may follow them."""
    return line.split("(", 1)[0] + " ".join(re.findall(r'<[^>]*>|"/[^"]*"', line))


def _difference(found: Tree, old: Tree, new: Tree) -> str:
    """Names that are in neither state as they are, or missing from both."""
    odd = [name for name in found if found[name] not in (old.get(name), new.get(name))]
    return f"odd {odd}, lacking {sorted({*old, *new} - {*found})}"


def main(sweep: Callable[[str, Path], Sweep]) -> None:
    """Sweep what the first argument names, and print what happened, or why it could not be."""
    name, folder, stride, Sweep.by = sys.argv[1:]
    os.environ["SOURCE_DATE_EPOCH"] = "1000"
    try:
        print(json.dumps(vars(sweep(name, Path(folder)).run(int(stride)))))
    except NotTraceableError as error:
        print(json.dumps({"skipped": str(error)}))


if __name__ == "__main__":
    main(lambda name, folder: CommitSweep(PATHS[name], folder))
