"""From upstream parquet to everything the training code reads: one pass, shard by shard.

Shards are converted side by side (:mod:`wmtp_assets.datasets.shard`) and joined in their order.
What is done stays on disk, so that an interrupted conversion resumes with the shards it lacks.
"""

from __future__ import annotations

import shutil
import time
from array import array
from collections.abc import Generator, Iterable, Iterator, Sequence, Set
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import accumulate
from pathlib import Path

from wmtp_assets.base.errors import InvalidInput, LockHeld
from wmtp_assets.base.progress import Say, human_rows, pace
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.datasets.features import (
    EVALUATION_SCHEMA_NAME,
    EVALUATION_SUFFIX,
    SCHEMA_NAME,
)
from wmtp_assets.datasets.jsonl import offsets_file, pack_offsets
from wmtp_assets.datasets.parts import (
    convert_part,
    killed,
    make_plan,
    processes,
    verify_shards,
)
from wmtp_assets.datasets.problem_index import ProblemIndex, problem_index_file
from wmtp_assets.datasets.records import (
    EvaluationRecord,
    format_of,
    is_labelled,
    schema_document,
)
from wmtp_assets.datasets.shard import (
    EVALUATION,
    LENGTHS,
    ROWS,
    TWIN,
    Job,
    Summary,
    read_problems,
    read_summary,
)
from wmtp_assets.datasets.twin import TwinWriter, twin_file, twin_schema
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.files import BLOCK, HashedFile
from wmtp_assets.storage.manifest import Document, render
from wmtp_assets.storage.scratch import at_rest
from wmtp_assets.storage.store import Store

FORMAT = "alpaca"
SCHEMA = f"processed/{SCHEMA_NAME}"
EVALUATION_SCHEMA = f"processed/{EVALUATION_SCHEMA_NAME}"


def split_file(split: str) -> str:
    """Name of a split's rows in the processed artifact."""
    return f"processed/{split}.jsonl"


def evaluation_file(split: str) -> str:
    """Name of a split's evaluation rows in the processed artifact."""
    return f"processed/{split}{EVALUATION_SUFFIX}.jsonl"


def split_files(artifact: Artifact[DatasetSpec]) -> Document:
    """Which upstream files each processed split has, as the spec names them."""
    splits = artifact.spec.processed_splits
    return {"splits": {name: [*split.files] for name, split in splits.items()}}


def build_processed(build: Build[DatasetSpec]) -> Document:
    """Convert every split: JSONL, evaluation rows, problem index, offsets, twin, schemas.

    Raises:
        InvalidInput: naming file and row; also when upstream has another number of rows than the
            spec pins, or none, or two rows share a task_id.
        CorruptArtifact: if a raw file or the tokenizer is not the one that was committed.
        StoreError: if a process of the conversion was killed.
    """
    spec, store = build.artifact.spec, build.store
    raw = store.manifest(build.upstream("raw"))
    plan = make_plan(build, build.say)
    if plan.renamed:
        build.say(
            f"{spec.name}: {len(plan.renamed)} problems have the name of another: they are called "
            + ", ".join(plan.renamed[:10])
            + (", …" if len(plan.renamed) > 10 else "")
        )
    jobs, source = plan.jobs, raw.document["source"]
    _remove_others(build, {job.folder for job in jobs})
    done = {job.folder for job in jobs if read_summary(job.folder) is not None}
    if done:
        build.say(f"{build.artifact.key}: {len(done)} of {len(jobs)} shards are done already")
    if not plan.is_verified:
        verify_shards(build, [job for job in jobs if job.folder not in done], build.say)
    splits: Document = {}
    with closing(_converted(store, jobs, build.say)) as summaries:
        parts = _told(build, jobs, done, summaries)
        for split in spec.processed_splits:
            with ExitStack() as stack:
                joined = _Joined(build, split, stack)
                mine = [job for job in jobs if job.shard.split == split]
                for job in mine:
                    joined.add(job, next(parts))
                splits[split] = joined.finish(mine)
    _write_schemas(build, source)
    return {
        "dataset": spec.folder,
        "version": spec.version,
        "format": FORMAT,
        "rows": sum(split["rows"] for split in splits.values()),
        "splits": splits,
        "max_tokens": spec.max_tokens,
        **({"public_tests": spec.public_tests} if format_of(spec).read_evaluations else {}),
        "renamed_problems": [*plan.renamed],
        "tokenizer": {"asset": plan.tokenizer, "sha256": plan.tokenizer_sha256},
        "source": source,
    }


def _remove_others(build: Build[DatasetSpec], wanted: set[Path]) -> None:
    """Remove parts that were made from other bytes or with other settings, unless steps of another
    conversion make such."""
    with suppress(LockHeld), at_rest(build.store, build.artifact.key):
        for path in list(build.scratch.glob("*")):
            if not path.is_dir():
                path.unlink()
            elif path not in wanted:
                build.store.discard(path)


def _write_schemas(build: Build[DatasetSpec], source: Document) -> None:
    schema = schema_document(format_of(build.spec).record, FORMAT, source)
    build.staged.write(SCHEMA, render(schema))
    if build.spec.evaluation:
        schema = schema_document(EvaluationRecord, "evaluation", source)
        build.staged.write(EVALUATION_SCHEMA, render(schema))


# -- converting shards -----------------------------------------------------------------------------


def _converted(store: Store, jobs: Sequence[Job], say: Say) -> Generator[Summary]:
    """The summaries of shards, in order, that are converted in several processes where that is
    worth it; these end when the generator is closed.

    Raises:
        StoreError: saying what to do, if a process was killed.
    """
    convert = partial(convert_part, store)
    done = 0
    with processes([job for job in jobs if read_summary(job.folder) is None], say) as pool:
        try:
            for summary in pool.map(convert, jobs) if pool else map(convert, jobs):
                yield summary
                done += 1
        except BrokenProcessPool as error:
            raise killed(f"{jobs[done].shard.path} or a later shard") from error


def _told(
    build: Build[DatasetSpec], jobs: Sequence[Job], done: Set[Path], summaries: Iterable[Summary]
) -> Iterator[Summary]:
    """The summaries; says at each how far the conversion is, in rows a second and time left.

    Args:
        done: folders of the shards that an earlier run converted: they say nothing about the rate.
    """
    started = time.monotonic()
    rows = new_rows = new_bytes = 0
    total = sum(job.shard.size for job in jobs if job.folder not in done)
    for number, (job, summary) in enumerate(zip(jobs, summaries, strict=True), 1):
        rows += summary.counts["rows"]
        said = (
            f"{build.artifact.key}: shard {number} of {len(jobs)} ({job.shard.split}): "
            f"{human_rows(rows)}"
        )
        if job.folder not in done:
            new_rows += summary.counts["rows"]
            new_bytes += job.shard.size
        if new_bytes:
            share, seconds = new_bytes / total, time.monotonic() - started
            said += f", {pace(new_rows, share, seconds, human_rows)}"
        build.say(said)
        yield summary


# -- joining parts ---------------------------------------------------------------------------------


class _Joined:
    """The files of one split, to which the parts of its shards are added in order.

    Args:
        stack: closes the files.
    """

    def __init__(self, build: Build[DatasetSpec], split: str, stack: ExitStack) -> None:
        def create(name: str) -> HashedFile:
            return stack.enter_context(build.staged.create(name))

        record = format_of(build.spec).record
        self._build, self._split = build, split
        self._total = Summary()
        self._size = 0
        self._seen: set[str] = set()
        self._copies = {ROWS: create(split_file(split))}
        self._offsets = create(offsets_file(split))
        self._twin = TwinWriter(create(twin_file(split)), twin_schema(record))
        stack.callback(self._twin.abandon)
        self._index = ProblemIndex(is_labelled(record))
        self._index_file = create(problem_index_file(split))
        if split in build.spec.evaluation:
            self._copies[EVALUATION] = create(evaluation_file(split))

    def add(self, job: Job, summary: Summary) -> None:
        """Append the part of a shard.

        Raises:
            InvalidInput: if a problem of it was there before.
        """
        import pyarrow as pa

        for problem in read_problems(job.folder):
            if problem.problem_id in self._seen:
                raise InvalidInput(
                    f"{job.shard.path}: row {problem.row}: duplicate task_id "
                    f"{problem.problem_id!r} in split {self._split}"
                )
            self._seen.add(problem.problem_id)
            if problem.labels:
                entry = self._index.add(
                    problem.problem_id,
                    problem.difficulty,
                    self._total.counts["rows"] + problem.first,
                    problem.labels,
                    problem.tokens,
                )
                self._index_file.write(entry)
        lengths = array("Q", (job.folder / LENGTHS).read_bytes())
        *begins, self._size = accumulate(lengths, initial=self._size)
        self._offsets.write(pack_offsets(begins))
        for name, copy in self._copies.items():
            with (job.folder / name).open("rb") as file:
                shutil.copyfileobj(file, copy, BLOCK)
        with (job.folder / TWIN).open("rb") as source, pa.ipc.open_stream(source) as batches:
            for batch in batches:
                self._twin.write(batch)
        self._total.counts.update(summary.counts)
        self._total.dropped.update(summary.dropped)

    def finish(self, jobs: Sequence[Job]) -> Document:
        """Write the ends of the files; return what the manifest says about the split.

        Args:
            jobs: of its shards.

        Raises:
            InvalidInput: if upstream has another number of rows than the spec pins, or none.
        """
        counts = self._total.counts
        pinned, found = self._build.spec.splits[self._split].rows, counts["upstream_rows"]
        where = f"split {self._split} in {', '.join(str(job.shard.path) for job in jobs)}"
        if pinned is not None and found != pinned:
            raise InvalidInput(f"{where}: {found} rows, but the spec pins {pinned}")
        if pinned is None and not found:
            raise InvalidInput(f"{where}: no rows")
        self._offsets.write(pack_offsets([self._size]))
        self._twin.close()
        for piece in self._index.rows():
            self._index_file.write(piece)
        self._index_file.write(self._index.close())
        return {
            **{name: counts[name] for name in ("upstream_rows", "samples", "rows", "problems")},
            "dropped": dict(sorted(self._total.dropped.items())),
            "crlf_rows": counts["crlf_rows"],
        }
