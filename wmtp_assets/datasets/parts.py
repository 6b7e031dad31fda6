"""The parts of a conversion, and the steps that make them: in any number, on any hosts.

A step takes shards that nobody has, each under a lock of its own, until every part is made. What is
not done when a process dies is free again, and another one takes it. Each step verifies the shards
it takes. Where a format names problems across shards, the first step verifies them all, and notes
the names for the others, in ``plan.json`` beside the parts.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from wmtp_assets.base.errors import InvalidInput, LockHeld, StoreError
from wmtp_assets.base.progress import Progress, Say, human_bytes, pace, silent
from wmtp_assets.base.settings import WORKERS_VARIABLE, read_workers
from wmtp_assets.base.strict_json import read_small
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.datasets.records import format_of
from wmtp_assets.datasets.shard import (
    LAYOUT,
    Job,
    Shard,
    Summary,
    convert_shard,
    lock_of,
    read_summary,
)
from wmtp_assets.storage.build import InStore
from wmtp_assets.storage.files import replace_file
from wmtp_assets.storage.record import Sign, sign
from wmtp_assets.storage.scratch import holder_of
from wmtp_assets.storage.store import Store, materialize_command

VERSION = 3
"""Of the conversion, apart from formats: raised when the same raw bytes become other files."""

SIDE_BY_SIDE = 64 << 20
"""Bytes of raw shards from which several processes are worth their start."""

PLAN = "plan.json"
FAILED = ".failed"
"""Ends the name of the note that a part could not be made."""

Became = Literal["converted", "done", "held", "failed"]
"""What a step found out about a shard: ``done`` and ``failed`` by another one."""


def raw_files(store: Store, raw: Artifact[DatasetSpec], split: str) -> list[str]:
    """Names in the raw artifact of the shards of a split, in order.

    Raises:
        MissingArtifact, CorruptArtifact: as :meth:`Store.manifest`.
        InvalidInput: if the raw artifact lacks a shard.
    """
    names = (name.removeprefix("raw/") for name in store.manifest(raw).files)
    try:
        return [f"raw/{name}" for name in raw.spec.splits[split].select(names)]
    except ValueError as error:
        raise InvalidInput(f"{store.folder(raw) / 'raw'} {error}") from error


def raw_shards(
    store: Store, raw: Artifact[DatasetSpec], advance: Callable[[int], None]
) -> tuple[list[Shard], list[str]]:
    """The shards of every processed split in order, hashed against the manifest, and the
    problem_ids that are not upstream's name: another problem has it.

    Raises:
        MissingArtifact, CorruptArtifact: as :meth:`Store.verify_file`.
        InvalidInput: if the raw artifact lacks a shard.
    """
    shards = _listed(store, raw)
    for shard in shards:
        _verify(store, raw, shard, advance)
    return _named(raw.spec, shards)


def _listed(store: Store, raw: Artifact[DatasetSpec]) -> list[Shard]:
    """The shards of every processed split in order; nothing of them is read."""
    spec, records = raw.spec, store.manifest(raw).files
    return [
        Shard(split, name, store.path(raw, name), records[name].size, records[name].sha256)
        for split in spec.processed_splits
        for name in raw_files(store, raw, split)
    ]


def _verify(
    store: Store,
    raw: Artifact[DatasetSpec],
    shard: Shard,
    advance: Callable[[int], None] = lambda size: None,
) -> None:
    """Hash a shard.

    Raises:
        MissingArtifact, CorruptArtifact: as :meth:`Store.verify_file`.
        StoreError: if another one was committed in its place.
    """
    store.verify_file(raw, shard.name, advance)
    if store.manifest(raw).files[shard.name].sha256 != shard.sha256:
        raise StoreError(
            f"{raw.key} was committed again while it was read. Run again: "
            + materialize_command(f"{raw.spec.name}_processed")
        )


def _named(spec: DatasetSpec, shards: Sequence[Shard]) -> tuple[list[Shard], list[str]]:
    """Shards that were verified, with the names of their problems, and those that were renamed."""
    assign = format_of(spec).problem_ids
    if assign is None:
        return [*shards], []
    ids, renamed = assign((shard.split, shard.path) for shard in shards)
    return _with_ids(shards, ids), renamed


def _with_ids(shards: Sequence[Shard], ids: Sequence[Sequence[str]]) -> list[Shard]:
    return [
        replace(shard, problem_ids=tuple(of_rows))
        for shard, of_rows in zip(shards, ids, strict=True)
    ]


# -- what is to be done ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What a conversion does.

    Attributes:
        jobs: of the shards of every processed split, in order.
        renamed: problem_ids that are not upstream's name.
        tokenizer, tokenizer_sha256: asset key, and hash of its file.
        is_verified: whether the raw shards were hashed to make the plan.
    """

    jobs: Sequence[Job]
    renamed: Sequence[str]
    tokenizer: str
    tokenizer_sha256: str
    is_verified: bool


def make_plan(it: InStore[DatasetSpec], say: Say = silent) -> Plan:
    """The plan of a conversion, from what a step has noted where one has.

    Raises:
        MissingArtifact, CorruptArtifact: as :meth:`Store.verify_file`, of tokenizer or shards.
        InvalidInput: if the raw artifact lacks a shard.
    """
    spec, store, scratch = it.spec, it.store, it.scratch
    raw, tokenizer = it.upstream("raw"), it.upstream("tokenizer")
    name = store.catalogue.tokenizer_name(tokenizer.spec)
    path, sha256 = store.verify_file(tokenizer, name), store.manifest(tokenizer).files[name].sha256
    shards = _listed(store, raw)
    renamed: list[str] = []
    noted, is_verified = _read_plan(scratch, _key(spec, shards, sha256)), False
    if noted is not None:
        shards, renamed = _with_ids(shards, noted["ids"]), noted["renamed"]
    elif format_of(spec).problem_ids is not None:
        total = sum(shard.size for shard in shards)
        progress, is_verified = Progress(f"verifying {raw.key}", total, say), True
        shards, renamed = raw_shards(store, raw, progress.advance)
    numbers: Counter[str] = Counter()
    jobs = []
    for shard in shards:
        part = f"{shard.split}-{numbers[shard.split]:05}.{_fingerprint(spec, shard, sha256)}"
        numbers[shard.split] += 1
        jobs.append(Job(shard, spec, path, sha256, scratch / part))
    return Plan(jobs, renamed, tokenizer.key, sha256, is_verified)


def verify_shards(it: InStore[DatasetSpec], jobs: Sequence[Job], say: Say) -> None:
    """Hash the shards of jobs.

    Raises:
        MissingArtifact, CorruptArtifact: as :meth:`Store.verify_file`.
        StoreError: if another shard was committed in the place of one.
    """
    raw = it.upstream("raw")
    total = sum(job.shard.size for job in jobs)
    progress = Progress(f"verifying {raw.key}", total, say)
    for job in jobs:
        _verify(it.store, raw, job.shard, progress.advance)


def _decides(spec: DatasetSpec, tokenizer_sha256: str) -> tuple[object, ...]:
    """What decides about the content of every part: settings, and versions of code."""
    return (
        tokenizer_sha256,
        (VERSION, LAYOUT, spec.converter, format_of(spec).version),
        spec.max_tokens,
        spec.public_tests,
        [version(library) for library in ("pyarrow", "sentencepiece")],
    )


def _fingerprint(spec: DatasetSpec, shard: Shard, tokenizer_sha256: str) -> str:
    """What decides about the content of a part: the bytes read, the settings, versions of code."""
    known = (
        shard.split,
        shard.path.name,
        shard.sha256,
        shard.split in spec.evaluation,
        shard.problem_ids,
        _decides(spec, tokenizer_sha256),
    )
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _key(spec: DatasetSpec, shards: Sequence[Shard], tokenizer_sha256: str) -> str:
    """What decides about a plan."""
    files = [(shard.split, shard.name, shard.sha256) for shard in shards]
    known = files, [*spec.evaluation], _decides(spec, tokenizer_sha256)
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _note_plan(it: InStore[DatasetSpec], plan: Plan) -> None:
    """Write down names and parts, for the other steps, for ``wmtp status``, and for the join."""
    scratch = it.scratch
    scratch.mkdir(parents=True, exist_ok=True)
    shards = [job.shard for job in plan.jobs]
    document = {
        "key": _key(it.spec, shards, plan.tokenizer_sha256),
        "parts": [job.folder.name for job in plan.jobs],
        "ids": [shard.problem_ids for shard in shards],
        "renamed": plan.renamed,
    }
    replace_file(scratch / PLAN, json.dumps(document).encode())


def _read_plan(scratch: Path, key: str | None = None) -> dict[str, Any] | None:
    """What a step noted; None: nothing, or of another conversion than ``key``."""
    try:
        noted = json.loads(read_small(scratch / PLAN))
        return noted if key in (None, noted["key"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


# -- converting ------------------------------------------------------------------------------------


def convert_part(store: Store, job: Job) -> Summary:
    """Convert a shard that was verified, unless that is done; waits where another process does it.

    Raises:
        InvalidInput, OSError: as :func:`convert_shard`.
    """
    done = read_summary(job.folder)
    if done is not None:
        return done
    with store.lock(job.lock):
        return convert_shard(job)


@contextmanager
def processes(jobs: Sequence[Job], say: Say) -> Iterator[Executor | None]:
    """As many processes as jobs are worth, which end behind it; None: this one is enough."""
    size = sum(job.shard.size for job in jobs)
    workers = min(len(jobs), read_workers())
    if size < SIDE_BY_SIDE or workers <= 1:
        yield None
        return
    say(f"converting {len(jobs)} shards in {workers} processes")
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_end_with_parent
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """In a worker: end when the process that started it is killed."""
    threading.Thread(target=_watch, args=[parent_process()], daemon=True).start()


def _watch(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def killed(where: str) -> StoreError:
    """What is said when a process of a conversion is gone.

    Args:
        where: the shard, or which ones.
    """
    return StoreError(
        f"a process that converted {where} was killed (out of memory?). Run again: it resumes with "
        f"the shards that are not done; {WORKERS_VARIABLE}=1 needs less memory"
    )


# -- a step of several -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Step(InStore[DatasetSpec]):
    """What the processes of a step know.

    Attributes:
        run: that the step is of: a shard that fails is reported once in it.
        committed: the artifact's manifest when the step began; once it is another, nobody needs
            parts.
        is_verified: whether the step has verified the shards.
    """

    run: str
    committed: Sign | None
    is_verified: bool

    def take(self, job: Job, *, wait: bool) -> Became:
        """Verify and convert a shard, unless another process does it or has done it.

        Args:
            wait: until who has the shard is done with it, or dead.

        Raises:
            WmtpError, OSError: what is wrong with the shard; it is noted for the other steps.
        """
        if found := self._found(job):
            return found
        try:
            with self.store.lock(job.lock, wait=wait):
                if found := self._found(job):
                    return found
                try:
                    if not self.is_verified:
                        _verify(self.store, self.upstream("raw"), job.shard)
                    convert_shard(job)
                except Exception as error:
                    note = json.dumps({"run": self.run, "error": str(error)}).encode()
                    with suppress(OSError):  # the disk may be what failed
                        replace_file(_failure(job), note)
                    raise
        except LockHeld:
            return "held"
        return "converted"

    def _found(self, job: Job) -> Became | None:
        """What became of a shard without this process; None: it is to be converted."""
        if read_summary(job.folder) is not None:
            return "done"
        if sign(self.store.manifest_path(self.artifact)) != self.committed:
            return "done"
        with suppress(OSError, ValueError, KeyError, TypeError):
            if json.loads(read_small(_failure(job)))["run"] == self.run:
                return "failed"
        return None


def _failure(job: Job) -> Path:
    """Where it is noted that a part could not be made."""
    return job.folder.with_name(f"{job.folder.name}{FAILED}")


def convert_some(it: InStore[DatasetSpec], say: Say, run: str) -> None:
    """Make parts that nobody has, until all are made, or failed in another step of the run.

    Raises:
        InvalidInput: naming file and row.
        CorruptArtifact: if a raw file or the tokenizer is not the one that was committed.
        StoreError: if a process of the conversion was killed.
    """
    store, key = it.store, it.artifact.key
    committed = sign(store.manifest_path(it.artifact))
    with store.lock(f"{key}/plan", say):
        plan = make_plan(it, say)
        _note_plan(it, plan)
    step = _Step(store, it.artifact, run, committed, plan.is_verified)
    told = _Told(key, plan.jobs, say)
    left = told.left
    with processes(left, say) as pool:
        found = [*_taken(step, left, pool, told, wait=False)]
        held = [job for job, became in found if became == "held"]
        if held:
            hosts = _counted(_hosts(store, (job.lock for job in held)))
            say(f"{key}: waiting for {len(held)} shards that others convert ({hosts})")
        found += _taken(step, held, pool, told, wait=True)
    failed = sum(became == "failed" for _, became in found)
    if failed:
        say(f"{key}: {failed} shards are left: another step of this run failed at them")


def _taken(
    step: _Step, jobs: Sequence[Job], pool: Executor | None, told: _Told, *, wait: bool
) -> Iterator[tuple[Job, Became]]:
    """What became of each job; the rest is left when one of them fails.

    Raises:
        StoreError: if a process was killed.
    """
    take = partial(step.take, wait=wait)
    if pool is None:
        for job in jobs:
            yield job, told(job, take(job))
        return
    futures: dict[Future[Became], Job] = {pool.submit(take, job): job for job in jobs}
    try:
        for future in as_completed(futures):
            yield futures[future], told(futures[future], future.result())
    except BrokenProcessPool as error:
        names = ", ".join(job.name for future, job in futures.items() if not future.done())
        raise killed(names or "a shard") from error


class _Told:
    """Says how far a conversion is on all hosts, whenever a shard was converted here."""

    def __init__(self, key: str, jobs: Sequence[Job], say: Say) -> None:
        self._key, self._count, self._say = key, len(jobs), say
        self.left = [job for job in jobs if read_summary(job.folder) is None]
        self._not_done = list(self.left)
        self._total = sum(job.shard.size for job in self.left)
        self._started = time.monotonic()
        done = self._count - len(self.left)
        say(f"{key}: {done} of {self._count} shards are done already")

    def __call__(self, job: Job, became: Became) -> Became:
        if became == "converted":
            self._not_done = [it for it in self._not_done if read_summary(it.folder) is None]
            new = self._total - sum(it.shard.size for it in self._not_done)
            rate = pace(new, new / self._total, time.monotonic() - self._started, human_bytes)
            done = self._count - len(self._not_done)
            self._say(
                f"{self._key}: {job.name} is converted: {done} of {self._count} shards are done "
                f"on all hosts, {rate}"
            )
        return became


# -- how far it is ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Converting:
    """How far a conversion is that was not joined yet.

    Attributes:
        done: parts that are made.
        of: parts in all.
        taken: host → shards that it took and did not finish; a process that was killed there too.
    """

    done: int
    of: int
    taken: Mapping[str, int]

    def __str__(self) -> str:
        by = f" (taken: {_counted(self.taken)})" if self.taken else ""
        return f"{self.done} of {self.of} shards converted{by}"


def converting(store: Store, artifact: Artifact[DatasetSpec]) -> Converting | None:
    """How far the steps of a conversion are, on all hosts; None: there are none."""
    scratch = store.scratch(artifact)
    noted = _read_plan(scratch) if (scratch / PLAN).is_file() else None
    if noted is None:
        return None
    left = [scratch / part for part in noted["parts"] if read_summary(scratch / part) is None]
    count = len(noted["parts"])
    return Converting(count - len(left), count, _hosts(store, map(lock_of, left)))


def _hosts(store: Store, locks: Iterable[str]) -> Mapping[str, int]:
    hosts = Counter(holder_of(store, lock) for lock in locks)
    return {host: hosts[host] for host in sorted(hosts) if host}


def _counted(hosts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} by {host}" for host, count in hosts.items()) or "nobody says where"
