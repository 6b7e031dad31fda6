"""Rules for processed rows, and for the index and the Parquet twin beside them.

``schema`` reads every byte of the JSONL, and ``index`` proves that the twin holds the same rows;
the other rules read columns of the twin.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import accumulate, chain, groupby
from operator import itemgetter
from struct import unpack_from
from typing import IO, Any

from pydantic import ValidationError
from pydantic_core import from_json

from wmtp_assets.base.model import first_error
from wmtp_assets.base.strict_json import MAX_SIZE, check_values, parse_object
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.datasets.comparing import (
    NGRAM,
    DatasetSubject,
    Overlap,
    check_schema_file,
    column_of_difference,
    columns_of,
    compare_with_raw,
    count_rows,
    lines_of,
    normalized,
    progress_of,
    rows_of_split,
    shards_of,
    words,
)
from wmtp_assets.datasets.features import SCHEMA_NAME
from wmtp_assets.datasets.jsonl import count_lines, offsets_file, read_lines
from wmtp_assets.datasets.parquet import count_parquet_rows
from wmtp_assets.datasets.parts import raw_files
from wmtp_assets.datasets.problem_index import ProblemIndex, problem_index_file
from wmtp_assets.datasets.process import (
    EVALUATION_SCHEMA,
    FORMAT,
    SCHEMA,
    evaluation_file,
    split_file,
)
from wmtp_assets.datasets.records import (
    EvaluationRecord,
    Record,
    RowRenderer,
    format_of,
    is_labelled,
    problem_of,
    render_line,
)
from wmtp_assets.datasets.shard import MAX_EVALUATION, Shard
from wmtp_assets.datasets.tokens import TextCounter, counter_of
from wmtp_assets.datasets.twin import DERIVED, TEXTS, TOKENS, derive, twin_file, twin_schema
from wmtp_assets.datasets.views import small_file
from wmtp_assets.rules.findings import Report, Rule, has_library, is_there
from wmtp_assets.storage.files import BLOCK

TRAIN = "train"


def _split_files(subject: DatasetSubject) -> dict[str, str]:
    """Split → file name in the artifact."""
    name = small_file if "processed" in subject.artifact.roles else split_file
    return {split: name(split) for split in subject.spec.processed_splits}


# -- schema ----------------------------------------------------------------------------------------


def check_schema(subject: DatasetSubject, report: Report) -> None:
    """Every row is a record of the dataset's schema, and no task_id is repeated."""
    record = format_of(subject.spec).record
    rows = Counter[str]()
    for name in _split_files(subject).values():
        _tell_repeated(report, subject.file(name), _valid_rows(subject, report, name, record, rows))
    report.note(rows=rows.total())
    is_small = subject.artifact.kind == "small"
    check_schema_file(subject, report, SCHEMA_NAME if is_small else SCHEMA, record, FORMAT)
    if not is_small:
        for split in subject.spec.evaluation:
            name = evaluation_file(split)
            for number, line in read_lines(report.reads(subject, name), MAX_EVALUATION):
                _validated(subject, report, name, number, line, EvaluationRecord, MAX_EVALUATION)
        if subject.spec.evaluation:
            check_schema_file(subject, report, EVALUATION_SCHEMA, EvaluationRecord, "evaluation")


def _valid_rows(
    subject: DatasetSubject, report: Report, name: str, record: type[Record], rows: Counter[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and row of each line that is a record; counts all lines in ``rows``."""
    canonical = _Canonical(record)
    path = report.reads(subject, name)
    progress = progress_of(subject, f"reading {name}", path.stat().st_size)
    waiting = 0
    for number, line in read_lines(path):
        waiting += len(line) + 1
        if waiting >= BLOCK:
            progress.advance(waiting)
            waiting = 0
        rows[name] += 1
        row = canonical.row(line) or _validated(subject, report, name, number, line, record)
        if row is not None:
            yield number, row
    progress.advance(waiting)


SHARED = ("instruction", "input")
"""The first fields of a record, which all rows of a problem have in common."""


class _Canonical:
    """Reads lines that are records, written as records are: nothing else can be wrong with one.

    A line that begins with the bytes of the texts that its problem's rows share, as the last one
    did, has those texts.
    """

    def __init__(self, record: type[Record]) -> None:
        self._record, self._render = record, RowRenderer()
        self._begin = b""
        self._shared: dict[str, str] = {}

    def row(self, line: bytes) -> dict[str, Any] | None:
        """The row of a line; None: to be looked at closely."""
        try:
            check_values(line)
            is_new = not self._begin or not line.startswith(self._begin)
            if is_new:
                row = from_json(line, allow_inf_nan=False)
            else:
                rest = b"{" + line[len(self._begin) :]
                row = {**self._shared, **from_json(rest, allow_inf_nan=False)}
            self._record.model_validate(row)
            if self._render(row) != line + b"\n":
                return None
        except ValueError:
            return None
        if is_new:
            self._shared = {name: row[name] for name in SHARED}
            self._begin = self._render(self._shared)[:-2] + b", "
        return row


def _validated(
    subject: DatasetSubject,
    report: Report,
    name: str,
    number: int,
    line: bytes,
    record: type[Record],
    max_size: int = MAX_SIZE,
) -> dict[str, Any] | None:
    """The row of a line, if it is a record; else a finding."""
    place = f"line {number}"
    try:
        row = parse_object(line, max_size)
        record.model_validate(row)
        return row
    except ValidationError as error:
        field, found = first_error(error)
        place += f", field {field}"
    except ValueError as error:
        found = str(error)
    expected = f"the schema of {record.__name__}"
    report.add(subject.file(name), place=place, expected=expected, found=found)
    return None


def _tell_repeated(report: Report, file: str, rows: Iterable[tuple[int, dict[str, Any]]]) -> None:
    """Find a repeated task_id; the rows of a problem must be together."""
    problems: set[str] = set()
    for problem, group in groupby(rows, key=lambda item: problem_of(item[1])):
        together = "the rows of a problem together, and " if problem in problems else ""
        problems.add(problem)
        task_ids: set[str] = set()
        for number, row in group:
            if together or row["task_id"] in task_ids:
                report.add(
                    file,
                    place=f"line {number}, field task_id",
                    expected=f"{together}a task_id that is not repeated",
                    found=row["task_id"],
                )
            task_ids.add(row["task_id"])
            together = ""


# -- row counts ------------------------------------------------------------------------------------


def check_row_count(subject: DatasetSubject, report: Report) -> None:
    """Each split has the rows of upstream that were not dropped; upstream has those pinned."""
    file = subject.file(subject.artifact.manifest)
    counts: dict[str, int] = {}
    for split, name in _split_files(subject).items():
        found = counts[split] = count_lines(report.reads(subject, name))
        dropped = _dropped(subject, report, split)
        rows, samples, others = _upstream(subject, report, split)
        if samples is None:
            samples = found + dropped.total()
        report.require(
            subject.file(name),
            expected=f"{samples - dropped.total()} rows",
            found=f"{found} rows",
        )
        stated = {
            "rows": (found, subject.stated("splits", split, "rows")),
            "upstream_rows": (rows, subject.stated("splits", split, "upstream_rows")),
            "samples": (samples, subject.stated("splits", split, "samples")),
            "dropped.other_language": (others, dropped["other_language"]),
        }
        for key, (number, said) in stated.items():
            if number is not None:
                report.require(file, expected=number, found=said, place=f"splits.{split}.{key}")
    report.require(file, expected=sum(counts.values()), found=subject.stated("rows"), place="rows")
    report.note(rows=counts)


def _dropped(subject: DatasetSubject, report: Report, split: str) -> Counter[str]:
    """How many samples the manifest says were left out, by reason."""
    reasons = subject.stated("splits", split, "dropped")
    numbers: list[Any] = list(reasons.values()) if isinstance(reasons, dict) else [None]
    if all(type(number) is int and number > 0 for number in numbers):
        return Counter(reasons)
    report.add(
        subject.file(subject.artifact.manifest),
        expected="reason and number of rows",
        found=reasons,
        place=f"splits.{split}.dropped",
    )
    return Counter()


def _upstream(
    subject: DatasetSubject, report: Report, split: str
) -> tuple[int | None, int | None, int | None]:
    """Rows, samples, and samples in other languages: as pinned, or as the raw files have them.

    None: not known here.
    """
    store, spec = subject.store, subject.spec
    count_samples = format_of(spec).count_samples
    pinned = spec.splits[split].rows
    if pinned is not None and count_samples is None:
        return pinned, pinned, None
    raw = subject.upstream("raw")
    if find_spec("pyarrow") is None or not is_there(store.manifest_path(raw)):
        report.note(upstream="not counted again: needs pyarrow and the raw files")
        return pinned, None, None
    report.goes_on_with(subject, raw.manifest, raw)
    paths = [report.reads(subject, name, raw) for name in raw_files(store, raw, split)]
    rows = sum(count_parquet_rows(path) for path in paths)
    if count_samples is None:
        return rows, rows, None
    counts = [count_samples(path) for path in paths]
    return pinned or rows, sum(c[0] for c in counts), sum(c[1] for c in counts)


def check_upstream_counts(subject: DatasetSubject, report: Report) -> None:
    """Problems, and correct and incorrect rows, are those that upstream had when it was counted."""
    spec = subject.spec
    if subject.stated("source", "endpoint") == "sample":
        report.note(not_compared="the counts are those of the real hub; this is the sample")
        return
    if not has_library(report, "pyarrow"):
        return
    with_tests = spec.public_tests > 0
    if with_tests:
        report.note(not_compared=f"rows: {spec.public_tests} public tests are in input")
    for split, split_spec in spec.processed_splits.items():
        if split_spec.expected is None:
            continue
        found = {"problems": subject.stated("splits", split, "upstream_rows")}
        if not with_tests:
            batches = columns_of(subject, report, split, ["is_correct"])
            labels = Counter(
                chain.from_iterable(batch.column("is_correct").to_pylist() for _, batch in batches)
            )
            found |= {"correct": labels[True], "incorrect": labels[False]}
        report.note(**{split: found})
        expected = split_spec.expected.model_dump()
        for key, number in found.items():
            if number != expected[key]:
                report.add(
                    subject.file(split_file(split)),
                    expected=f"{expected[key]} {key}, as upstream had when it was counted",
                    found=number,
                    problem="warning",
                    remedy="find out what changed upstream, and correct expected in the defs.yaml",
                )


# -- tokens ----------------------------------------------------------------------------------------


def check_token_length(subject: DatasetSubject, report: Report) -> None:
    """instruction + input + output of every row, counted again, are within ``max_tokens``, and the
    twin has the same counts."""
    limit = subject.spec.max_tokens
    tokenizer = subject.store.catalogue[subject.spec.tokenizer]
    name = subject.store.catalogue.tokenizer_name(tokenizer.spec)
    path = report.reads(subject, name, tokenizer)
    counter = counter_of(subject.store.read(tokenizer, name), str(path))
    longest = 0
    for split, name in _split_files(subject).items():
        for line, batch in columns_of(subject, report, split, ["task_id", *TEXTS, *TOKENS]):
            counts = [_count_column(counter, batch.column(text)) for text in TEXTS]
            stated = [batch.column(tokens).to_pylist() for tokens in TOKENS]
            totals = list(map(sum, zip(*counts, strict=True)))
            longest = max(longest, *totals, 0)
            if counts == stated and longest <= limit:
                continue
            for row, task_id in enumerate(batch.column("task_id").to_pylist()):
                place = f"line {line + row} ({task_id})"
                if totals[row] > limit:
                    report.add(
                        subject.file(name),
                        place=place,
                        expected=f"at most {limit} tokens",
                        found=f"{totals[row]} tokens",
                    )
                for tokens, actual, column in zip(TOKENS, counts, stated, strict=True):
                    report.require(
                        subject.file(twin_file(split)),
                        expected=actual[row],
                        found=column[row],
                        place=f"{place}, column {tokens}",
                    )
    report.note(longest=longest, max_tokens=limit)


def _count_column(counter: TextCounter, column: Any) -> list[int]:
    """Tokens of each text of a pyarrow array; one that is in many rows is counted once."""
    encoded = column.dictionary_encode()
    counts = counter.count(encoded.dictionary.to_pylist())
    return [counts[index] for index in encoded.indices.to_pylist()]


# -- between splits --------------------------------------------------------------------------------


def has_several_splits(artifact: Artifact[DatasetSpec]) -> bool:
    """Whether there is anything to compare between splits."""
    return len(artifact.spec.processed_splits) > 1


def check_splits(subject: DatasetSubject, report: Report) -> None:
    """No task_id and no problem is in two splits, evaluation rows included."""
    names = _split_files(subject)
    largest_last = sorted(names, key=lambda split: count_rows(subject, report, split))
    owner: dict[tuple[str, str], str] = {}
    counts = Counter[str]()
    for split in largest_last:
        told: set[tuple[str, str]] = set()
        for line, task_id, problem_id in rows_of_split(
            subject, report, split, ["task_id", "problem_id"]
        ):
            counts[split] += 1
            for claim in (("task_id", task_id), ("problem", problem_id)):
                other = owner.get(claim, split)
                if other != split and claim not in told:
                    told.add(claim)
                    _tell_shared(report, subject.file(names[split]), line, *claim, other)
                    break
            if split != largest_last[-1]:  # nothing is compared with those of the last
                owner.setdefault(("task_id", task_id), split)
            owner.setdefault(("problem", problem_id), split)
    for split in subject.spec.evaluation:
        for line, problem_id, _ in _evaluated(subject, report, split):
            claim = "problem", problem_id
            other = owner.setdefault(claim, split)
            if other != split:
                _tell_shared(report, subject.file(evaluation_file(split)), line, *claim, other)
    report.note(rows=dict(counts))


def _evaluated(
    subject: DatasetSubject, report: Report, split: str
) -> Iterator[tuple[int, str, str]]:
    """Line number, problem_id and instruction of each evaluation row; what is none is skipped, the
    rule ``schema`` finds it."""
    path = report.reads(subject, evaluation_file(split))
    for line, data in read_lines(path, MAX_EVALUATION):
        try:
            record = EvaluationRecord.model_validate(parse_object(data, MAX_EVALUATION))
        except ValueError:
            continue
        yield line, record.task_id, record.instruction


def _tell_shared(report: Report, file: str, line: int, what: str, found: str, other: str) -> None:
    report.add(
        file,
        place=f"line {line}",
        expected=f"a {what} that is not in {other}",
        found=found,
        remedy="if upstream has it in both, leave one of the two out of the raw files or the spec",
    )


def check_text_twins(subject: DatasetSubject, report: Report) -> None:
    """No instruction is in two splits, white space, case and punctuation aside; evaluation rows
    included."""
    first: dict[bytes, tuple[str, str]] = {}
    for split, name in _split_files(subject).items():
        for file, line, task_id, instruction in _texts(subject, report, split, name):
            key = hashlib.sha256(normalized(instruction).encode()).digest()
            other, task = first.setdefault(key, (split, task_id))
            if other != split:
                report.add(
                    subject.file(file),
                    place=f"line {line} ({task_id})",
                    expected=f"a text that is not in {other}",
                    found=f"that of {task}",
                    problem="warning",
                    remedy="leave one of them out where the splits must be disjoint by text",
                )
    report.note(texts=len(first))


def _texts(
    subject: DatasetSubject, report: Report, split: str, name: str
) -> Iterator[tuple[str, int, str, str]]:
    """File, line number, task_id and instruction of each problem: of its first row, or where it
    has none of its evaluation row."""
    seen: set[str] = set()
    columns = ["problem_id", "task_id", "instruction"]
    for line, batch in columns_of(subject, report, split, columns):
        for row, problem_id in enumerate(batch.column("problem_id").to_pylist()):
            if problem_id not in seen:
                seen.add(problem_id)
                task_id, instruction = (batch.column(name)[row].as_py() for name in columns[1:])
                yield name, line + row, task_id, instruction
    if split in subject.spec.evaluation:
        for line, problem_id, instruction in _evaluated(subject, report, split):
            if problem_id not in seen:
                yield evaluation_file(split), line, problem_id, instruction


def check_contamination(subject: DatasetSubject, report: Report) -> None:
    """No row of ``train`` shares :data:`NGRAM` words in a row with an evaluation problem."""
    texts: list[tuple[str, str]] = []
    compared = []
    processed = subject.store.catalogue.of_kind("processed")
    for artifact, split in ((one, split) for one in processed for split in one.spec.held_out):
        if not is_there(subject.store.path(artifact, twin_file(split))):
            report.note(**{artifact.key: "is not here: not compared"})
            continue
        compared.append(f"{artifact.key} {split}")
        columns = ["task_id", "instruction", "output"]
        texts += [
            (f"{artifact.spec.name} {split} {task_id}", f"{instruction}\n{output}")
            for _, task_id, instruction, output in rows_of_split(
                subject, report, split, columns, artifact
            )
        ]
    overlap = Overlap(texts)
    tasks: dict[str, str] = {}
    rows = _words_of_train(subject, report)
    for line, task_id, shared in _shared(overlap, rows):
        for ngram in shared:
            for task in overlap.tasks[ngram]:
                tasks.setdefault(task, ngram)
        if shared:
            report.add(
                subject.file(split_file(TRAIN)),
                place=f"line {line} ({task_id})",
                expected=f"no {NGRAM} words in a row of {', '.join(overlap.tasks[shared[0]])}",
                found=shared[0],
                problem="warning",
                remedy="leave the row out where it matters",
            )
    report.note(compared_with=compared, tasks=dict(sorted(tasks.items())))


def _shared(
    overlap: Overlap, rows: Iterable[tuple[int, str, str]]
) -> Iterator[tuple[int, str, list[str]]]:
    """Line number, task_id, and what :meth:`Overlap.find` finds in the text of each row."""
    for some in _in_blocks(rows):
        found = overlap.find_each([text for *_, text in some])
        for (line, task_id, _), shared in zip(some, found, strict=True):
            yield line, task_id, shared


def _in_blocks(rows: Iterable[tuple[int, str, str]]) -> Iterator[list[tuple[int, str, str]]]:
    """As many rows at a time as have :data:`BLOCK` characters of text, about."""
    some: list[tuple[int, str, str]] = []
    size = 0
    for row in rows:
        some.append(row)
        size += len(row[-1])
        if size >= BLOCK:
            yield some
            some, size = [], 0
    if some:
        yield some


def _words_of_train(subject: DatasetSubject, report: Report) -> Iterator[tuple[int, str, str]]:
    """Line number, task_id and the words of instruction and output of each row of ``train``.

    Of an instruction that is in many rows, all but the first have only the last words: what
    they share up to there was said.
    """
    last, tail = "", ""
    columns = ["task_id", "instruction", "output"]
    for line, task_id, instruction, output in rows_of_split(subject, report, TRAIN, columns):
        if instruction != last:
            last, tail = instruction, " ".join(words(instruction)[1 - NGRAM :])
            yield line, task_id, f"{instruction}\n{output}"
        else:
            yield line, task_id, f"{tail}\n{output}"


# -- index and twin --------------------------------------------------------------------------------


def check_index(subject: DatasetSubject, report: Report) -> None:
    """Offsets, Parquet twin and problem index say what the JSONL says."""
    counts = {}
    for split in subject.spec.processed_splits:
        _check_offsets(subject, report, split)
        counts[split] = _check_twin(subject, report, split)
    report.note(problems=counts)


def _check_offsets(subject: DatasetSubject, report: Report, split: str) -> None:
    name = offsets_file(split)
    with report.reads(subject, name).open("rb") as file:
        path = report.reads(subject, split_file(split))
        size = path.stat().st_size
        lengths = (len(line) + 1 for _, line in read_lines(path))
        stored = _numbers(file)
        for number, position in enumerate(accumulate(lengths, initial=0)):
            is_end = position == size
            if next(stored, None) != position or (is_end and next(stored, None) is not None):
                report.add(
                    subject.file(name),
                    place="the end" if is_end else f"offset {number}",
                    expected=f"{position}, the size of the file" if is_end else position,
                    found=f"another number, or {'more' if is_end else 'none'}",
                )
                return


def _numbers(file: IO[bytes]) -> Iterator[int]:
    """The offsets in a file; -1 for bytes at its end that are none."""
    while block := file.read(BLOCK):
        count = len(block) // 8
        yield from unpack_from(f"<{count}Q", block)
        if 8 * count < len(block):
            yield -1


def _check_twin(subject: DatasetSubject, report: Report, split: str) -> int:
    """Compare every row of the twin with its line; return the number of problems."""
    import pyarrow.parquet as pq

    record = format_of(subject.spec).record
    columns, fields = twin_schema(record).names, [*record.model_fields]
    tokens_begin, derived_begin = len(fields), len(columns) - len(DERIVED)
    render = RowRenderer()
    file = subject.file(twin_file(split))
    lines = lines_of(subject, report, split_file(split))
    report.goes_on_with(subject, problem_index_file(split))
    with report.reads(subject, problem_index_file(split)).open("rb") as index_file:
        index = ProblemIndex(is_labelled(record))
        difference: tuple[str, str, str] | None = None
        problems = crlf_rows = 0
        rows_of_twin = rows_of_split(subject, report, split, columns)
        for problem_id, group in groupby(rows_of_twin, key=itemgetter(1 + derived_begin)):
            problems += 1
            numbers, rows = [], []
            for line, *values in group:
                numbers.append(line)
                rows.append(values)
            base = [dict(zip(fields, row[:tokens_begin], strict=True)) for row in rows]
            tokens = [row[tokens_begin:derived_begin] for row in rows]
            for line, row, plain, derived in zip(numbers, rows, base, derive(base), strict=True):
                data = next(lines, None)
                crlf_rows += "\r\n" in plain["output"]
                wanted = render(plain)
                if data is None or data + b"\n" != wanted:
                    column = column_of_difference(data or b"", wanted)
                    report.add(
                        file,
                        place=f"row {line}",
                        expected=f"line {line} of {split_file(split)}",
                        found="no such line"
                        if data is None
                        else f"another: they differ from column {column}",
                    )
                    if data is None:
                        return problems
                found = row[derived_begin:]
                if found != [*derived]:
                    report.require(
                        file,
                        expected=dict(zip(DERIVED, derived, strict=True)),
                        found=dict(zip(DERIVED, found, strict=True)),
                        place=f"row {line}",
                    )
            entry = index.add(
                problem_id,
                base[0]["metadata"]["difficulty_number"],
                numbers[0] - 1,
                [row.get("is_correct") for row in base],
                [counts[-1] for counts in tokens],
            )
            if difference is None and index_file.read(len(entry)) != entry:
                difference = (f"problem {problem_id}", "the entry that its rows give", "another")
        for piece in index.rows():
            if difference is None and index_file.read(len(piece)) != piece:
                difference = ("metadata", "an entry per row, as it says", "another, or none")
        end = index.close()
        if difference is None and index_file.read(len(end) + 1) != end:
            difference = ("stats", "those of the rows, and the end of the file", "others, or more")
    if difference is not None:
        place, expected, found = difference
        report.add(
            subject.file(problem_index_file(split)), place=place, expected=expected, found=found
        )
    report.goes_on_with(subject, split_file(split))
    if next(lines, None) is not None:
        report.add(file, expected="a row per line of the JSONL", found="more lines")
    with report.reads(subject, twin_file(split)).open("rb") as source:
        schema = pq.read_schema(source)
    report.require(file, expected=columns, found=schema.names, place="columns")
    report.require(
        subject.file(subject.artifact.manifest),
        expected={"problems": problems, "crlf_rows": crlf_rows},
        found={key: subject.stated("splits", split, key) for key in ("problems", "crlf_rows")},
        place=f"splits.{split}",
    )
    return problems


# -- names ---------------------------------------------------------------------------------------


def check_problems(subject: DatasetSubject, report: Report) -> None:
    """Every problem is one of the raw split; a name that several have is a warning."""
    shards, renamed = shards_of(subject, report)
    for split, name in _split_files(subject).items():
        known = {
            problem_id
            for shard in shards
            if shard.split == split
            for problem_id in shard.problem_ids
        }
        for line, problem_id in rows_of_split(subject, report, split, ["problem_id"]):
            if problem_id not in known:
                report.add(
                    subject.file(name),
                    place=f"line {line}",
                    expected="a problem of the raw split",
                    found=problem_id,
                )
    file = subject.file(subject.artifact.manifest)
    place = "renamed_problems"
    report.require(file, expected=renamed, found=subject.stated(place), place=place)
    for problem_id in renamed:
        report.add(
            file,
            place=f"renamed_problems: {problem_id}",
            expected="a name that no other problem has",
            found="that of another",
            problem="warning",
            remedy="tell problems apart by problem_id, not by upstream's name",
        )
    report.note(renamed=renamed)


# -- evaluation rows -------------------------------------------------------------------------------


def check_evaluation(subject: DatasetSubject, report: Report) -> None:
    """The evaluation rows are what the raw problems give, one per problem."""
    splits = subject.spec.evaluation
    counts = compare_with_raw(subject, report, splits, evaluation_file, _evaluation_lines)
    report.note(problems=counts)


def _evaluation_lines(spec: DatasetSpec, shards: Iterable[Shard]) -> Iterator[bytes]:
    for shard in shards:
        yield from map(
            render_line,
            format_of(spec).evaluations(shard.path, spec.public_tests, shard.problem_ids),
        )


_PROCESSED = ("processed",)

RULES = (
    Rule(
        "schema",
        "Every row is a record of the dataset's schema, its task_id agrees with problem and label, "
        "and no task_id appears twice.",
        ("processed", "small"),
        check_schema,
    ),
    Rule(
        "row_count",
        "Upstream has the pinned number of rows, and each split those that were not dropped.",
        _PROCESSED,
        check_row_count,
    ),
    Rule(
        "upstream_counts",
        "Problems, and correct and incorrect rows, are as many as upstream had when it was counted "
        "(with no public tests in input).",
        _PROCESSED,
        check_upstream_counts,
        blocking=False,
        applies=lambda artifact: any(split.expected for split in artifact.spec.splits.values()),
    ),
    Rule(
        "index",
        "Offsets, Parquet twin and problem index say what the JSONL says, row by row.",
        _PROCESSED,
        check_index,
        needs=("pyarrow",),
    ),
    Rule(
        "token_length",
        "No row is longer than max_tokens, counted again, and the twin has the same counts.",
        _PROCESSED,
        check_token_length,
        needs=("sentencepiece", "pyarrow"),
    ),
    Rule(
        "splits",
        "No task_id and no problem is in two splits.",
        _PROCESSED,
        check_splits,
        needs=("pyarrow",),
        applies=has_several_splits,
    ),
    Rule(
        "text_twins",
        "No text is in two splits, ignoring upper and lower case and punctuation.",
        _PROCESSED,
        check_text_twins,
        needs=("pyarrow",),
        blocking=False,
        applies=has_several_splits,
    ),
    Rule(
        "contamination",
        "No row of train shares 13 words in a row with a problem that is held out.",
        _PROCESSED,
        check_contamination,
        needs=("pyarrow",),
        blocking=False,
        applies=lambda artifact: TRAIN in artifact.spec.processed_splits,
    ),
    Rule(
        "problems",
        "Every problem is one of the raw split; two with the same name upstream are a warning.",
        _PROCESSED,
        check_problems,
        needs=("pyarrow",),
        applies=lambda artifact: format_of(artifact.spec).problem_ids is not None,
    ),
    Rule(
        "evaluation",
        "The evaluation rows are what the raw problems give, one per problem.",
        _PROCESSED,
        check_evaluation,
        needs=("pyarrow",),
        applies=lambda artifact: bool(artifact.spec.evaluation),
    ),
)
