"""How the rules for datasets read rows, JSONL as bytes and the Parquet twin as columns, and what
they compare: lines, the same text written otherwise, and runs of words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from wmtp_assets.base.errors import BadLine
from wmtp_assets.base.progress import Progress, silent
from wmtp_assets.base.strict_json import MAX_SIZE, parse_object, short
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec, Spec
from wmtp_assets.datasets.jsonl import offsets_file, read_lines
from wmtp_assets.datasets.parts import raw_shards
from wmtp_assets.datasets.records import Record, format_of, schema_document
from wmtp_assets.datasets.shard import MAX_EVALUATION, Shard
from wmtp_assets.datasets.twin import read_twin, twin_file
from wmtp_assets.rules.findings import Report, Subject, read_document

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

DatasetSubject = Subject[DatasetSpec]

LONG = 64 << 20
"""Bytes whose reading is worth lines of progress."""

NGRAM = 13
"""Words in a row that two texts do not share by chance."""

_PROBE = (NGRAM + 1) // 2
"""Words of which every run of :data:`NGRAM` has one that begins at a multiple of this number."""

_WORD = re.compile(r"\w+")
_ASCII = {n: chr(n).lower() if _WORD.match(chr(n)) else " " for n in range(128)}
"""The same for a text of ASCII, which most are, several times as fast."""

_BYTES = bytes(ord(_ASCII.get(n, " ")) for n in range(256))
_BETWEEN = bytes(n for n, byte in enumerate(_BYTES) if byte == ord(" "))
"""The same for the bytes of such texts, and the bytes that are in no word."""

_FACTORS = [pow(0x9E3779B97F4A7C15, n, 1 << 64) for n in range(1, _PROBE + 1)]
"""The hash of a run of words is the sum of their numbers times these, modulo 2**64."""


def columns_of(
    subject: DatasetSubject,
    report: Report,
    split: str,
    columns: Sequence[str],
    of: Artifact[DatasetSpec] | None = None,
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Line number of the first row, and columns of some rows, of a processed split's twin."""
    artifact = of or subject.artifact
    record = format_of(artifact.spec).record
    total = max(count_rows(subject, report, split, of), 1)
    path = report.reads(subject, twin_file(split), of)
    size = path.stat().st_size
    progress = progress_of(subject, f"reading {artifact.key} {split}", size)
    line = 1
    for batch in read_twin(path, record, columns):
        yield line, batch
        progress.advance(size * batch.num_rows // total)
        line += batch.num_rows


def rows_of_split(
    subject: DatasetSubject,
    report: Report,
    split: str,
    columns: Sequence[str],
    of: Artifact[DatasetSpec] | None = None,
) -> Iterator[tuple[Any, ...]]:
    """Line number and values of each row of a processed split, from its twin."""
    for line, batch in columns_of(subject, report, split, columns, of):
        values = [batch.column(name).to_pylist() for name in columns]
        yield from zip(range(line, line + batch.num_rows), *values, strict=True)


def progress_of(subject: Subject[Spec], doing: str, size: int) -> Progress:
    """Says how far the reading of ``size`` bytes is, where that takes long enough to be asked."""
    return Progress(doing, size, subject.say if size >= LONG else silent)


def shards_of(subject: DatasetSubject, report: Report) -> tuple[list[Shard], list[str]]:
    """The shards of the raw dataset that the subject is made from, as :func:`raw_shards` has them.

    Raises:
        MissingArtifact, CorruptArtifact, InvalidInput: if they are not as they were committed.
    """
    store = subject.store
    raw = subject.upstream("raw")
    report.goes_on_with(subject, raw.manifest, raw)
    progress = progress_of(subject, f"reading {raw.key}", store.manifest(raw).size)
    return raw_shards(store, raw, progress.advance)


def count_rows(
    subject: DatasetSubject,
    report: Report,
    split: str,
    of: Artifact[DatasetSpec] | None = None,
) -> int:
    """The rows of a split, from the size of its offsets."""
    return report.reads(subject, offsets_file(split), of).stat().st_size // 8 - 1


def check_schema_file(
    subject: DatasetSubject, report: Report, name: str, record: type[Record], format_name: str
) -> None:
    """A schema file is the one that the record gives."""
    source = {key: subject.stated("source", key) for key in ("repo", "revision")}
    expected = schema_document(record, format_name, source)
    found = read_document(subject, report, name)
    report.require(subject.file(name), expected=expected, found=found)


def compare_lines(
    subject: DatasetSubject,
    report: Report,
    name: str,
    expected: Iterable[bytes],
    source: tuple[Artifact[Spec], str],
    origin: str,
    max_size: int = MAX_SIZE,
) -> int:
    """Compare the lines of a file with those that another file gives; return how many there are.

    Args:
        name: of the file.
        expected: its lines, with their newlines.
        source: artifact and file that ``expected`` reads, for what goes wrong there.
        origin: what gives a line, for people.
        max_size: bytes of a line, at most.
    """
    file = subject.file(name)
    lines = iter(expected)
    found = lines_of(subject, report, name, max_size)
    report.goes_on_with(subject, source[1], source[0])
    count = 0
    while True:
        wanted = next(lines, None)
        line = next(found, None)
        if wanted is None or line is None:
            if wanted is not line:
                report.add(
                    file,
                    place=f"line {count + 1}",
                    expected=f"a line per {origin}",
                    found="no line" if line is None else "a line more",
                )
            return count
        count += 1
        if line + b"\n" != wanted:
            _tell_difference(report, file, f"line {count}", wanted[:-1], line)


def lines_of(
    subject: DatasetSubject, report: Report, name: str, max_size: int = MAX_SIZE
) -> Iterator[bytes]:
    """The lines of a file that is read in turn with another one, as :func:`read_lines`.

    A problem in these lines is reported for this file, and all others for the other one.
    """
    path = report.reads(subject, name)
    return _said_of(partial(report.goes_on_with, subject, name), read_lines(path, max_size))


def _said_of(blame: Callable[[], None], lines: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    try:
        for _, line in lines:
            yield line
    except (BadLine, OSError):
        blame()
        raise


def compare_with_raw(
    subject: DatasetSubject,
    report: Report,
    splits: Iterable[str],
    file_of: Callable[[str], str],
    lines_of: Callable[[DatasetSpec, Sequence[Shard]], Iterable[bytes]],
) -> dict[str, int]:
    """Compare the files of splits with what their raw shards give; return the lines of each.

    Args:
        file_of: split → name of its file.
        lines_of: spec and shards of a split → the lines of its file.
    """
    raw = subject.upstream("raw")
    shards, _ = shards_of(subject, report)
    counts = {}
    for split in splits:
        lines = lines_of(subject.spec, [shard for shard in shards if shard.split == split])
        counts[split] = compare_lines(
            subject,
            report,
            file_of(split),
            lines,
            (raw, raw.manifest),
            "upstream problem",
            MAX_EVALUATION,
        )
    return counts


def column_of_difference(one: bytes, other: bytes) -> int:
    """Where two lines that are not the same differ first, from 1."""
    return next(n for n, (a, b) in enumerate(zip_longest(one, other), 1) if a != b)


def _tell_difference(report: Report, file: str, place: str, wanted: bytes, line: bytes) -> None:
    try:
        expected, found = parse_object(wanted), parse_object(line)
    except ValueError:
        column = column_of_difference(wanted, line)
        around = slice(max(column - 21, 0), column + 39)
        place += f", column {column}"
        expected, found = (short(text[around].decode(errors="replace")) for text in (wanted, line))
    if found == expected:
        report.add(file, place=place, expected="the line as it is made", found="other spelling")
    report.require(file, expected=expected, found=found, place=place)


# -- texts -----------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """The words of a text, in lower case; punctuation and white space only separate them."""
    if text.isascii():
        return text.translate(_ASCII).split()
    return _WORD.findall(text.lower())


def normalized(text: str) -> str:
    """A text without what does not change its meaning: case, punctuation, white space."""
    return " ".join(words(text))


def ngrams(text: str, size: int = NGRAM) -> Iterator[str]:
    """Every run of ``size`` words of a text."""
    found = words(text)
    for begin in range(len(found) - size + 1):
        yield " ".join(found[begin : begin + size])


def ngram_index(texts: Iterable[tuple[str, str]]) -> Mapping[str, list[str]]:
    """Run of words → the tasks whose texts have it.

    Args:
        texts: task and text.
    """
    index: dict[str, list[str]] = {}
    for task, text in texts:
        for ngram in set(ngrams(text)):
            index.setdefault(ngram, []).append(task)
    return index


class Overlap:
    """Finds the runs of :data:`NGRAM` words that a text has in common with others.

    A shorter run is looked up at every :data:`_PROBE`-th word; the long runs around one that the
    others have too are looked up themselves. So none is missed, and none is a guess. Of many texts,
    those are ruled out first none of whose shorter runs has the hash of one that is looked for.

    Args:
        texts: task and text.

    Attributes:
        tasks: run of words → the tasks whose texts have it.
    """

    def __init__(self, texts: Iterable[tuple[str, str]]) -> None:
        self.tasks = ngram_index(texts)
        self._probes = {probe for ngram in self.tasks for probe in ngrams(ngram, _PROBE)}
        found = sorted({word for probe in self._probes for word in probe.split(" ")})
        self._numbers = {word.encode(): number for number, word in enumerate(found, 1)}

    def find(self, text: str) -> list[str]:
        """The runs that ``text`` shares, in order, each as often as it occurs."""
        found, probes, shared = words(text), self._probes, list[str]()
        for at in range(0, len(found) - _PROBE + 1, _PROBE):
            if " ".join(found[at : at + _PROBE]) in probes:
                for begin in range(max(at - _PROBE + 1, 0), min(at, len(found) - NGRAM) + 1):
                    ngram = " ".join(found[begin : begin + NGRAM])
                    if ngram in self.tasks:
                        shared.append(ngram)
        return shared

    def find_each(self, texts: Sequence[str]) -> Iterator[list[str]]:
        """What :meth:`find` finds in each text; memory grows with all of them."""
        for text, may_share in zip(texts, self._may_share(texts), strict=True):
            yield self.find(text) if may_share else []

    def _may_share(self, texts: Sequence[str]) -> list[bool]:
        """Whether a shorter run at every :data:`_PROBE`-th word of each text has the hash of one
        that is looked for; that of a text that is not ASCII is not known."""
        import numpy as np

        numbers, counts = self._numbered([text if text.isascii() else "" for text in texts])
        of_text = np.repeat(np.arange(len(texts)), counts)
        place = np.arange(len(numbers)) - np.repeat(np.cumsum(counts) - counts, counts)
        begins = np.flatnonzero((place % _PROBE == 0) & (place + _PROBE <= counts[of_text]))
        hashes = self._hash(numbers[begins[:, None] + np.arange(_PROBE)])
        may_share = np.array([not text.isascii() for text in texts], bool)
        may_share[of_text[begins[np.isin(hashes, self._hashes)]]] = True
        return may_share.tolist()

    @cached_property
    def _hashes(self) -> np.ndarray[Any, Any]:
        """Those of the shorter runs that are looked for."""
        import numpy as np

        split = [probe.encode().split(b" ") for probe in self._probes]
        numbers = [[self._numbers[word] for word in probe] for probe in split]
        return np.unique(self._hash(np.array(numbers, np.uint64).reshape(-1, _PROBE)))

    @staticmethod
    def _hash(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Hashes of runs of words.

        Args:
            numbers: uint64, [runs, :data:`_PROBE`].
        """
        import numpy as np

        return (numbers * np.array(_FACTORS, np.uint64)).sum(axis=1, dtype=np.uint64)

    def _numbered(self, texts: Sequence[str]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The words of texts of ASCII as numbers, uint64, 0 for one that is in no run that is
        looked for; and how many words each text has."""
        import numpy as np
        import pyarrow as pa

        data = " ".join([*texts, ""]).encode()
        in_word = np.frombuffer(b" " + data.translate(_BYTES), np.uint8) != ord(" ")
        begins = np.flatnonzero(in_word[1:] & ~in_word[:-1])
        lengths = np.flatnonzero(in_word[:-1] & ~in_word[1:]) - begins
        offsets = np.append(0, np.cumsum(lengths))
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data.translate(_BYTES, _BETWEEN))]
        found = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(begins), buffers)
        distinct = found.dictionary_encode()
        numbers = [self._numbers.get(word, 0) for word in distinct.dictionary.to_pylist()]
        ends = np.cumsum([len(text) + 1 for text in texts])
        counts = np.diff(np.searchsorted(begins, ends), prepend=0)
        return np.array(numbers, np.uint64)[distinct.indices.to_numpy()], counts
