"""The tests of every problem of a split, for running what a model wrote.

``{split}_tests.json``: ``{problem_id: {"task_name", "public_tests", "private_tests",
"generated_tests"}}``, each kind ``{"input": […], "output": […]}``; a problem a line, so that the
file can be written and compared without holding it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.progress import Progress
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.datasets.format import format_of
from wmtp_assets.datasets.process import Shard, problem_ids, raw_shards
from wmtp_assets.datasets.records import TEST_KINDS
from wmtp_assets.datasets.shard import MAX_EVALUATION
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.manifest import Document
from wmtp_assets.storage.store import Store

FORMAT = "json"


def tests_file(split: str) -> str:
    """Name of a split's file in the tests artifact."""
    return f"{split}_tests.json"


class RawProblems:
    """The problems of a raw dataset, verified, by split.

    Attributes:
        renamed: problem_ids that are not upstream's name: another problem has it.

    Raises:
        MissingArtifact, CorruptArtifact, InvalidInput: as :func:`raw_shards`.
    """

    def __init__(self, store: Store, raw: Artifact[DatasetSpec], progress: Progress) -> None:
        spec = raw.spec
        self._shards = raw_shards(store, raw, progress.advance)
        self._ids, self.renamed = problem_ids(spec, self._shards)

    def of(self, split: str) -> list[tuple[Shard, Sequence[str]]]:
        """The shards of a split, and the problem_id of each of their rows."""
        pairs = zip(self._shards, self._ids, strict=True)
        return [(shard, ids) for shard, ids in pairs if shard.split == split]


def tests_lines(
    spec: DatasetSpec, problems: Sequence[tuple[Shard, Sequence[str]]]
) -> Iterator[bytes]:
    """The lines of a tests file: a brace, a problem each, a brace.

    Raises:
        InvalidInput: naming file and row of a problem that is none.
    """
    yield b"{\n"
    before = b""
    for shard, ids in problems:
        for problem in format_of(spec).evaluations(shard.path, 0, ids):
            if before:
                yield before + b",\n"
            metadata = problem.metadata.model_dump()
            entry = {"task_name": problem.task_id, **{kind: metadata[kind] for kind in TEST_KINDS}}
            key = json.dumps(problem.task_id, ensure_ascii=False)
            before = f"{key}: {json.dumps(entry, ensure_ascii=False)}".encode()
            if len(before) > MAX_EVALUATION:
                raise InvalidInput(
                    f"{shard.path}: {problem.task_id} has {len(before)} bytes of tests; at most "
                    f"{MAX_EVALUATION} can be read again"
                )
    if before:
        yield before + b"\n"
    yield b"}\n"


def build_tests(build: Build[DatasetSpec]) -> Document:
    """Write the tests of every processed split.

    Raises:
        InvalidInput: naming file and row of a problem that is none.
        CorruptArtifact: if a raw file is not the one that was committed.
    """
    spec, store = build.artifact.spec, build.store
    raw = build.upstream("raw")
    progress = Progress(f"verifying {raw.key}", store.manifest(raw).size, build.say)
    problems = RawProblems(store, raw, progress)
    splits: Document = {}
    for split in spec.processed_splits:
        count = -2  # the braces
        with build.staged.create(tests_file(split)) as file:
            for line in tests_lines(spec, problems.of(split)):
                file.write(line)
                count += 1
        splits[split] = {"problems": count}
        build.say(f"{build.artifact.key}: {split}: {count} problems")
    return {
        "dataset": spec.folder,
        "version": spec.version,
        "format": FORMAT,
        "rows": sum(split["problems"] for split in splits.values()),
        "splits": splits,
        "source": store.manifest(raw).document["source"],
    }
