"""Whether processed rows are what their raw files give: they are converted again, and compared.

Rules compare an artifact with its manifest and its views with each other. Whoever changes a row in
all of them at once, and the hashes after it, is found here only: by what is made now, shard by
shard, from the verified raw files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice, zip_longest
from pathlib import Path
from typing import IO, Any

from wmtp_assets.base.child import ChildDied, Run, call, reading
from wmtp_assets.base.errors import CorruptArtifact, WmtpError
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.datasets.shard import MAX_EVALUATION
from wmtp_assets.kinds.registry import kind_of
from wmtp_assets.kinds.staleness import reasons
from wmtp_assets.operations.materialize import check_upstream
from wmtp_assets.operations.verify import Verdict
from wmtp_assets.rules.apply import ABSENT, is_committed
from wmtp_assets.rules.findings import Outcome, Report, differences, require_regular
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.files import hash_file
from wmtp_assets.storage.pieces import payload
from wmtp_assets.storage.store import Staged, Store, materialize_command

NAME = "derived"
STATEMENT = "The rows are, file by file, what the conversion of the verified raw files gives now."

MOST = 10
"""Rows that differ of which each is named."""


def is_derived(artifact: Artifact[Any]) -> bool:
    """Whether an artifact is of the kind that is compared: rows of a dataset."""
    return artifact.kind == "processed"


def derive(store: Store, artifact: Artifact[Any], say: Say = silent, run: Run = call) -> Outcome:
    """Make an artifact again in a staging folder, from nothing but verified upstream, and compare.

    Nothing is committed, and nothing of an interrupted conversion is used. The artifact's lock is
    held. What was made with other settings or another builder than there are now is not compared,
    and that is a warning.

    Raises:
        StoreError: if the disk is full or refuses.
    """
    report = Report(
        NAME,
        artifact.key,
        f"find out who changed it, then: make materialize SELECT={artifact.key} FORCE=1",
    )
    if artifact.optional and not is_committed(store, artifact):
        report.skip(ABSENT)
        return report.outcome
    file = f"{artifact.base}/{artifact.manifest}"
    found = [it for it in reasons(store, artifact, say, reads=False) if it.why != "damaged"]
    if found:
        report.add(
            file,
            expected="what would be made now",
            found="; ".join(map(str, found)),
            problem="missing" if found[0].why == "never made" else "warning",
            remedy=materialize_command(artifact.key),
        )
        return report.outcome
    with store.stage(artifact, say) as staged:
        try:
            check_upstream(store, artifact, say)
            return run(_make_again, store, artifact, staged.folder, report, say=say)
        except ChildDied as error:
            report.add(file, expected="files that can be read", found=error)
        except WmtpError as error:
            report.add(file, expected="a conversion like the one that made it", found=error)
    return report.outcome


def derive_all(
    store: Store,
    artifacts: Iterable[Artifact[Any]],
    told: Callable[[Verdict], None] = lambda verdict: None,
    say: Say = silent,
) -> list[Verdict]:
    """:func:`derive` for those of some artifacts that are compared."""
    verdicts = []
    for artifact in filter(is_derived, artifacts):
        verdicts.append(Verdict(artifact.key, NAME, derive(store, artifact, say)))
        told(verdicts[-1])
    return verdicts


@dataclass(frozen=True)
class _Again(Build[Any]):
    """A materialization that starts with nothing: parts of an earlier one are not trusted."""

    @property
    def scratch(self) -> Path:
        # its name is that of the locks of its parts
        return self.staged.folder.parent / f"{self.artifact.key}_again"


def _make_again(
    store: Store, artifact: Artifact[Any], folder: Path, report: Report, say: Say
) -> Outcome:
    """Make it below ``folder``, and report where it is another one than lies in the store."""
    staged = Staged(folder)
    document = kind_of(artifact).build(_Again(store, artifact, staged, say))
    manifest = store.manifest(artifact)
    names = sorted(payload(staged.files, artifact.pieces), key=_rows_first)
    for name in names:
        say(f"comparing {artifact.base}/{name}")
        path, file = store.path(artifact, name), f"{artifact.base}/{name}"
        try:
            require_regular(path, staged.files[name])
            if hash_file(path) != staged.files[name]:
                _compare(report, file, staged.folder / name, path)
        except OSError as error:
            report.add(file, expected="a file", found=error.strerror, problem="missing")
        except CorruptArtifact as error:
            report.add(file, expected="what is made now", found=error)
    for name in sorted(payload(manifest.files, artifact.pieces).keys() - staged.files.keys()):
        report.add(f"{artifact.base}/{name}", expected="nothing", found="a file", problem="extra")
    for key, value in document.items():
        report.require(
            f"{artifact.base}/{artifact.manifest}",
            expected=value,
            found=manifest.document.get(key),
            place=key,
        )
    report.note(files=len(names), rows=document.get("rows"), content=manifest.content_sha256)
    return report.outcome


def _rows_first(name: str) -> tuple[bool, str]:
    """What differs in rows is what people look for."""
    return not name.endswith(".jsonl"), name


def _compare(report: Report, file: str, made: Path, lies: Path) -> None:
    """Report where a file is another one than was made now."""
    reading(file)
    if made.suffix == ".jsonl":
        for place, expected, found in islice(_rows(made, lies), MOST):
            report.add(file, place=place, expected=expected, found=found)
    elif made.suffix == ".parquet":
        from pyarrow import ArrowException

        try:
            for place, expected, found in islice(_table_rows(made, lies), MOST):
                report.add(file, place=place, expected=expected, found=found)
        except (ArrowException, OSError) as error:
            report.add(file, expected="a Parquet file", found=error)
    else:
        report.add(
            file,
            place=f"byte {_first_byte(made, lies)}",
            expected="what is made now",
            found="another byte",
        )


def _rows(made: Path, lies: Path) -> Iterator[tuple[str, Any, Any]]:
    """Line and field, expected, found."""
    with made.open("rb") as expected, lies.open("rb") as found:
        for number, (wanted, line) in enumerate(zip_longest(*map(_lines, (expected, found))), 1):
            if wanted == line:
                continue
            place = f"line {number}"
            if wanted is None or line is None:
                yield place, wanted or "the end of the file", line or "the end of the file"
                return
            try:
                values = json.loads(wanted), json.loads(line)
            except (ValueError, RecursionError):
                yield place, wanted, line
                continue
            fields = list(differences(*values))
            for field, one, other in fields:
                yield f"{place}, {field}" if field else place, one, other
            if not fields:
                yield place, "the same values in the bytes that are made now", "other bytes"


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines; of one that is longer than any can be, pieces."""
    return iter(partial(file.readline, MAX_EVALUATION + 1), b"")


def _table_rows(made: Path, lies: Path) -> Iterator[tuple[str, Any, Any]]:
    """Row and column, expected, found; nothing where only the encoding differs, as it does between
    versions of pyarrow."""
    rows = zip_longest(_rows_of(made), _rows_of(lies), fillvalue="the end of the file")
    for number, (expected, found) in enumerate(rows, 1):
        for column, one, other in differences(expected, found):
            yield f"row {number}, {column}" if column else f"row {number}", one, other


def _rows_of(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with path.open("rb") as source, pq.ParquetFile(source) as file:
        for batch in file.iter_batches(1024):
            yield from batch.to_pylist()


def _first_byte(made: Path, lies: Path) -> int:
    """Offset of the first byte that differs."""
    offset = 0
    with made.open("rb") as one, lies.open("rb") as other:
        while True:
            left, right = one.read(1 << 20), other.read(1 << 20)
            if left != right or not left:
                pairs = enumerate(zip_longest(left, right))
                return offset + next((n for n, (a, b) in pairs if a != b), 0)
            offset += len(left)
