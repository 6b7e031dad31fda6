"""How a rule is applied to an artifact, here or in the child process, and what is remembered.

The same rules serve Dagster's asset checks, ``wmtp verify`` and the tests.

Of each rule its last result is remembered, and how the artifact's files were then: one small file
per rule under ``<root>/.wmtp/verified/<asset>/``. A result can be recalled as long as everything
that the rule read is unchanged: see :mod:`wmtp_assets.rules.memory`. Recalling is not proof; a
proof is applying the rule again.
"""

from __future__ import annotations

import os
import queue
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from wmtp_assets.base.child import ChildDied, Other, Run, allowance, call, stop
from wmtp_assets.base.errors import (
    BadLine,
    CorruptArtifact,
    InvalidInput,
    MissingArtifact,
    SpecError,
    is_of_environment,
)
from wmtp_assets.base.model import StrictModel
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.base.settings import read_workers, require_numbers, timestamp
from wmtp_assets.base.strict_json import read_small
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.rules.findings import NEEDS, Outcome, Report, Rule, Subject, is_there, is_warning
from wmtp_assets.rules.memory import Memory, NotingStore
from wmtp_assets.rules.turns import turn
from wmtp_assets.storage.files import replace_file
from wmtp_assets.storage.manifest import Manifest
from wmtp_assets.storage.store import Store, materialize_command, repair_command

ABSENT = "optional, not materialized"

DEFECT = "this is a defect of the rule"
DEFECT_REMEDY = (
    "the other rules were applied. Report it, with this line and the output of wmtp doctor, to the "
    "maintainers named in CITATION.cff"
)
"""What is to be done about a rule that raised what it should not."""

FIRST = "sha256"
"""The rule that hashes every byte."""

LARGE = 256 << 20
"""Bytes of an artifact, and of what it is made from, whose rules are applied side by side."""

AT_ONCE = 4
"""Child processes that apply rules at the same time, at most: each may have 4 GiB."""

LISTENS = 0.1
"""Seconds between two looks at whether a rule is done that says nothing."""

_HERE = "wmtp_assets/"

Signature = dict[str, list[int]]
"""File → size in bytes, mtime in ns, inode."""


def apply_rule(rule: Rule, store: Store, artifact: Artifact, say: Say = silent) -> Outcome:
    """Apply one rule and remember the result. What cannot be read is a finding too.

    An artifact that was committed anew while the rule read it is read again, three times at most.
    An optional one that is absent is skipped.

    Raises:
        SpecError: if a setting is malformed: nothing is wrong with the artifact then.
    """
    require_numbers()
    if artifact.optional and not is_committed(store, artifact):
        return Outcome(skipped=ABSENT)
    for _ in range(3):
        first = store.find_manifest(artifact)
        before = signature(store, artifact, first) if first else {}
        noting = NotingStore(store)
        with turn(f"{artifact.key} {rule.name}", say):
            outcome, manifest = _apply_once(rule, noting, artifact, say)
        if manifest is None and not before:
            return outcome
        if before.get(artifact.manifest, []) == sign(store.manifest_path(artifact)):
            if manifest is not None and (outcome.findings or not outcome.skipped):
                memory = noting.memory(outcome)
                remember(store, artifact, manifest, rule.name, outcome, before, say, memory)
            return outcome
    report = Report(rule.name, artifact.key, "run again when nobody writes")
    report.add(
        f"{artifact.base}/{artifact.manifest}",
        expected="an artifact at rest",
        found="it was committed anew during each of three readings",
        problem="changing",
    )
    return report.outcome


def apply_each(
    rules: Iterable[Rule],
    store: Store,
    artifact: Artifact,
    say: Say = silent,
    recalled: Callable[[Rule], Outcome | None] = lambda rule: None,
) -> Iterator[tuple[Rule, Outcome]]:
    """:func:`apply_in_child` of rules, in order, where nothing is recalled.

    Those of a large artifact are applied side by side, in at most :data:`AT_ONCE` child processes,
    behind the one that hashes every byte: what others found out can be recalled only when all
    bytes are known to be the committed ones.
    """
    left = [*rules]
    while left and (left[0].name == FIRST or not _are_worth_it(left, store, artifact)):
        rule = left.pop(0)
        yield rule, recalled(rule) or apply_in_child(rule, store, artifact, say)
    known = {rule.name: recalled(rule) for rule in left}
    fresh = _side_by_side([it for it in left if not known[it.name]], store, artifact, say)
    with closing(fresh):
        for rule in left:
            yield rule, known[rule.name] or next(fresh)


def _are_worth_it(rules: Sequence[Rule], store: Store, artifact: Artifact) -> bool:
    """Whether rules are worth child processes of their own. Two are not: one is ``made_with``,
    which reads next to nothing."""
    is_large = store.size_with_upstream(artifact) >= LARGE
    return is_large and len(rules) > 2 and read_workers() > 1


def _side_by_side(
    rules: Sequence[Rule], store: Store, artifact: Artifact, say: Say
) -> Generator[Outcome, None, None]:
    """The outcomes of rules; what they say is said by the thread that asks for these."""
    count = min(len(rules), read_workers(), AT_ONCE)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    free: queue.SimpleQueue[Run] = queue.SimpleQueue()
    interrupted = threading.Event()

    def apply(rule: Rule) -> Outcome:
        run = free.get()

        def run_on(*args: Any, **named: Any) -> Any:
            try:
                return run(*args, **named)
            except ChildDied as error:
                if interrupted.is_set():  # it was ended here: no finding
                    raise CancelledError from error
                raise

        try:
            told = say if hasattr(say, "bar") else lines.put
            return apply_in_child(rule, store, artifact, told, run_on)
        finally:
            free.put(run)

    with ExitStack() as stack:
        others = [stack.enter_context(Other()) for _ in range(count - 1)]
        pool = stack.enter_context(ThreadPoolExecutor(count))
        for run in (call, *(other.call for other in others)):
            free.put(run)
        tasks = [pool.submit(apply, rule) for rule in rules]
        try:
            for task in tasks:
                while not task.done() or not lines.empty():
                    with suppress(queue.Empty):
                        say(lines.get(timeout=LISTENS))
                yield task.result()
        except BaseException:  # interrupted: nobody waits for what is under way
            interrupted.set()
            pool.shutdown(wait=False, cancel_futures=True)
            stop()
            for other in others:
                other.stop()
            raise


def apply_in_child(
    rule: Rule, store: Store, artifact: Artifact, say: Say = silent, run: Run = call
) -> Outcome:
    """:func:`apply_rule` in the child process: a file that ends it is a finding.

    The rule is pickled, and so its check is a function of a module; to which artifacts it applies
    was asked before.

    Args:
        run: calls a function in a child process.
    """
    try:
        cpu = allowance(store.size_with_upstream(artifact))
        return run(apply_rule, replace(rule, applies=None), store, artifact, say=say, cpu=cpu)
    except ChildDied as error:
        file = error.reading.removeprefix(f"{store.root}/")
        report = Report(rule.name, artifact.key, repair_command(_owner(store, file, artifact).key))
        report.add(
            file or f"{artifact.base}/{artifact.manifest}",
            expected="a file that can be read",
            found=f"reading it ended with {error.cause}",
        )
        manifest = store.find_manifest(artifact)
        if manifest is not None:
            remember(store, artifact, manifest, rule.name, report.outcome, {}, say)
        return report.outcome


def _owner(store: Store, file: str, artifact: Artifact) -> Artifact:
    """Whose file lies at a path below the root; ``artifact`` where that is nobody's."""
    above = (it for it in (artifact, *store.catalogue) if file.startswith(f"{it.base}/"))
    return next((it for it in above if it.is_owner(file.removeprefix(f"{it.base}/"))), artifact)


def is_committed(store: Store, artifact: Artifact) -> bool:
    """Whether there is a manifest; where that cannot be seen, the rules say why."""
    try:
        return is_there(store.manifest_path(artifact))
    except OSError:
        return True


def _apply_once(
    rule: Rule, store: Store, artifact: Artifact, say: Say
) -> tuple[Outcome, Manifest | None]:
    """The outcome, and the manifest it is about; None: it could not be read."""
    remedy = materialize_command(artifact.key)
    report = Report(rule.name, artifact.key, remedy, f"{artifact.base}/{artifact.manifest}")
    manifest = None
    try:
        manifest = store.manifest(artifact)
        missing = [NEEDS[name] for name in rule.needs if find_spec(name) is None]
        if missing:
            report.skip(missing[0])
        else:
            rule.check(Subject(store, artifact, manifest, say), report)
    except MissingArtifact as error:
        report.interrupted(expected="a committed artifact", found=error, problem="missing")
    except BadLine as error:
        report.interrupted(place=f"line {error.line}", expected=rule.expected, found=error.problem)
    except CorruptArtifact as error:
        report.interrupted(expected=rule.expected, found=error, is_committed=False)
    except (InvalidInput, SpecError) as error:
        report.interrupted(expected=rule.expected, found=error)
    except (FileNotFoundError, NotADirectoryError):
        report.interrupted(
            expected="a file", found="nothing", problem="missing", is_committed=False
        )
    except OSError as error:
        report.interrupted(
            expected="readable", found=error.strerror, problem="unreadable", is_committed=False
        )
    except MemoryError:  # of the file that is read, as ChildDied says
        raise
    except Exception as error:
        report.outcome.skipped = ""
        if is_of_environment(error):
            report.interrupted(
                expected="the libraries that read it",
                found=f"one that cannot be loaded: {error}",
                problem="unreadable",
                remedy="see what is installed, and whether memory is limited: wmtp doctor",
            )
        else:
            report.interrupted(expected=rule.expected, found=defect(error), remedy=DEFECT_REMEDY)
    # the first finding is the one that is remembered, and the first ten are shown
    report.outcome.findings.sort(key=lambda finding: finding.problem == "warning")
    return report.outcome, manifest


def defect(error: Exception) -> str:
    """What a finding says of an error that a rule did not expect: its type, text and place."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if _HERE in frame.filename]
    place = ours[-1] if ours else place
    where = f"{place.filename.rpartition(_HERE)[2]}:{place.lineno}"
    return f"{DEFECT}: {type(error).__name__} at {where}: {error}"


class PutRight(StrictModel):
    """A failure of a rule after which it held again.

    Attributes:
        found_at: UTC time when it was last seen.
        right_at: UTC time when the rule held again.
        problem: the first finding.
        is_same_content: whether the committed content is the same since: its bytes were restored.
    """

    found_at: str
    right_at: str
    problem: str
    is_same_content: bool


class LastResult(StrictModel):
    """The last result of one rule.

    Attributes:
        at: UTC time.
        content_sha256: the artifact's content it was applied to.
        problem: the first finding; empty: none, or warnings only.
        warning: the first finding, where all are warnings; empty: none.
        files: the files as they were then.
        memory: what it takes to recall it; None: it cannot be recalled.
        damaged: those whose bytes were not the committed ones, for the rule that reads all bytes.
        put_right: failures before it, the oldest first.
    """

    rule: str
    at: str
    content_sha256: str
    problem: str
    files: Signature
    damaged: tuple[str, ...] = ()
    put_right: tuple[PutRight, ...] = ()
    memory: Memory | None = None
    warning: str = ""


def recall(rule: Rule, store: Store, artifact: Artifact, say: Say = silent) -> Outcome | None:
    """The last result of a rule that held, where nothing that it read changed since; else None.

    A failure is never recalled: the rule is applied again.
    """
    path = _folder(store, artifact) / f"{rule.name}.json"
    last = _read_result(path)
    if last is None or last.problem or last.memory is None or not last.memory.holds(store):
        return None
    outcome = last.memory.outcome()
    outcome.remembered = last.at
    manifest = store.find_manifest(artifact)
    now = signature(store, artifact, manifest) if manifest else {}
    if now != last.files:  # read again since, such as in a copy of the root
        _write_result(path, last.model_copy(update={"files": now}), artifact, say)
    return outcome


def sign(path: Path) -> list[int] | None:
    """What changes when a file is written: size, mtime, inode; None: it cannot be seen."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def signature(store: Store, artifact: Artifact, manifest: Manifest) -> Signature:
    """The files of an artifact as they are now; those that cannot be seen are left out."""
    names = (*manifest.files, artifact.manifest)
    signed = {name: sign(store.path(artifact, name)) for name in names}
    return {name: found for name, found in signed.items() if found is not None}


def _folder(store: Store, artifact: Artifact) -> Path:
    return store.internal / "verified" / artifact.key


def remember(
    store: Store,
    artifact: Artifact,
    manifest: Manifest,
    rule: str,
    outcome: Outcome,
    before: Signature,
    say: Say = silent,
    memory: Memory | None = None,
) -> None:
    """Keep the result of a rule; say why where it cannot be written.

    Args:
        before: the files' signature taken before they were read.
        memory: what it takes to recall it.
    """
    path = _folder(store, artifact) / f"{rule}.json"
    first, is_harmless = next(map(str, outcome.findings), ""), is_warning(outcome)
    result = LastResult(
        rule=rule,
        at=timestamp(),
        content_sha256=manifest.content_sha256,
        problem="" if is_harmless else first,
        warning=first if is_harmless else "",
        files=before,
        damaged=tuple(outcome.evidence.get("damaged", ())),
        memory=memory,
    )
    if last := _read_result(path):
        result = result.model_copy(update={"put_right": _put_right(last, result)})
    _write_result(path, result, artifact, say)


def _write_result(path: Path, result: LastResult, artifact: Artifact, say: Say) -> None:
    try:
        replace_file(path, result.model_dump_json().encode())
    except OSError as error:  # storage may be mounted for reading only
        say(f"{artifact.key} {result.rule}: the result is not remembered: {error}")


def last_results(store: Store, artifact: Artifact) -> list[LastResult]:
    """What is remembered about the rules of an artifact; damaged records are left out."""
    results = map(_read_result, sorted(_folder(store, artifact).glob("*.json")))
    return [result for result in results if result is not None]


def _read_result(path: Path) -> LastResult | None:
    """What is remembered in a file; None: nothing, or it is damaged."""
    try:
        return LastResult.model_validate_json(read_small(path))
    except (OSError, ValueError):
        return None


def _put_right(last: LastResult, now: LastResult) -> tuple[PutRight, ...]:
    """The failures of a rule that are over, with that of its last result if it holds now."""
    if not last.problem or now.problem:
        return last.put_right
    return (
        *last.put_right,
        PutRight(
            found_at=last.at,
            right_at=now.at,
            problem=last.problem,
            is_same_content=last.content_sha256 == now.content_sha256,
        ),
    )
