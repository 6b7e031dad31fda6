"""Damage to a good artifact, and the finding it must lead to.

Each rule has its cases in the test module of its room; ``test_rules.py`` requires that no pair of
rule and kind is without one.
"""

from __future__ import annotations

import io
import json
import os
import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from wmtp_assets.catalogue.artifact import TOP_FOLDERS, Artifact
from wmtp_assets.checkpoints.beside import files_of
from wmtp_assets.checkpoints.safetensors_file import describe_tensors, read_header
from wmtp_assets.datasets.jsonl import offsets_file
from wmtp_assets.datasets.problem_index import ProblemIndex, problem_index_file
from wmtp_assets.datasets.process import split_file
from wmtp_assets.datasets.records import is_labelled, load_format, problem_of, render_row
from wmtp_assets.datasets.tokens import TokenCounter
from wmtp_assets.datasets.twin import TEXTS, twin_file, twin_rows, twin_schema
from wmtp_assets.kinds.registry import all_rules, kinds_of, rules_of
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.rules.findings import Finding, Outcome, Problem, Rule
from wmtp_assets.storage import manifest
from wmtp_assets.storage.store import Store, materialize_command, repair_command
from wmtp_assets_tests.trees import damage, hash_once, rewrite_pieces

KEY: dict[str, str] = {
    "raw": "humaneval_raw",
    "tokenizer": "meta_llama_mtp_tokenizer",
    "safetensors": "meta_llama_mtp_safetensors",
    "micro": "micro_mtp",
    "processed": "humaneval_processed",
    "pairs": "humaneval_pairs",
    "small": "humaneval_small",
    "stats": "humaneval_stats",
    "tests": "codecontests_tests",
    "parameters": "parameter_snapshot",
    "card": "micro_mtp_card",
    "croissant": "mbpp_croissant",
    "document": "completion_report",
    "release": "storage_release",
}
"""One artifact of each kind."""

KEY_OF_RULE = {
    ("splits", "processed"): "mbpp_processed",
    ("text_twins", "processed"): "mbpp_processed",
    ("contamination", "processed"): "mbpp_processed",
    ("upstream_counts", "processed"): "codecontests_processed",
    ("problems", "processed"): "codecontests_processed",
    ("evaluation", "processed"): "codecontests_processed",
    ("model_folder", "safetensors"): "ref_sheared_llama_safetensors",
}
"""Where a rule does not apply to that artifact of the kind: one that it applies to."""


def key_of(rule: str, kind: str) -> str:
    """An artifact of ``kind`` on which the rule has something to compare."""
    return KEY_OF_RULE.get((rule, kind), KEY[kind])


Damage = Callable[[Store, Artifact], Store | None]
"""Damages an artifact; may return a store with other specs, to which the damage is relative."""


@dataclass(frozen=True)
class Case:
    """A damage, and the finding that must follow.

    Attributes:
        name: what is damaged, for the test's id.
        damage: does it.
        file: the finding's, relative to the artifact's base; may be a glob.
        place: the finding's.
        expected, found: regular expressions that match all of the finding's texts.
        findings: how many there are in all; -1: more than one.
        remedy: key of the artifact that must be made again; empty: the damaged one.
        advice: the remedy where it is another step.
        key: of the artifact; empty: that of :func:`key_of`.
        is_sealed: the damaged files have right hashes, so that only this rule can find them.
    """

    name: str
    rule: str
    kind: str
    damage: Damage
    file: str
    place: str
    expected: str
    found: str
    problem: Problem = "corrupt"
    findings: int = 1
    remedy: str = ""
    advice: str = ""
    key: str = ""
    is_sealed: bool = True

    def __str__(self) -> str:
        return f"{self.rule}, {self.key or self.kind}: {self.name}"

    def check(self, store: Store) -> None:
        """Damage a copy, apply the rule, and compare what it found."""
        artifact = store.catalogue[self.key or key_of(self.rule, self.kind)]
        assert artifact.kind == self.kind
        file = self._file(store, artifact)
        store = self.damage(store, artifact) or store
        artifact = store.catalogue[artifact.key]
        if self.is_sealed:
            assert not [
                finding
                for finding in apply(store, artifact, "sha256").findings
                if finding.file
                not in (  # its tensors have hashes, too
                    file_of_checkpoint(artifact),
                    f"{artifact.base}/{artifact.pieces}",
                )
            ]
        before = untouched(store)
        outcome = apply(store, artifact, self.rule)
        assert untouched(store) == before
        assert outcome.skipped == ""
        findings = outcome.findings
        here = [item for item in findings if (item.file, item.place) == (file, self.place)]
        assert len(here) == 1, [str(item) for item in findings]
        texts = [str(item) for item in findings]
        assert len(findings) > 1 if self.findings < 0 else len(findings) == self.findings, texts
        finding, key = here[0], self.remedy or artifact.key
        remedies = [self.advice or materialize_command(key), repair_command(key)]
        assert finding.remedy in remedies
        assert finding == Finding(
            rule=self.rule,
            artifact=artifact.key,
            problem=self.problem,
            file=file,
            place=self.place,
            expected=finding.expected,
            found=finding.found,
            remedy=finding.remedy,
        )
        assert re.fullmatch(self.expected, finding.expected), finding.expected
        assert re.fullmatch(self.found, finding.found), finding.found

    def _file(self, store: Store, artifact: Artifact) -> str:
        folder = store.folder(artifact)
        if "*" in self.file:
            return os.path.normpath(next(folder.glob(self.file)).relative_to(store.root))
        return os.path.normpath(f"{artifact.base}/{self.file}")


def file_of_checkpoint(artifact: Artifact) -> str:
    """The path of an artifact's checkpoint below the root, where it has one."""
    return os.path.normpath(f"{artifact.base}/{files_of(artifact).checkpoint}")


STATEMENT = {
    (rule.name, kind): re.escape(rule.expected) for rule in all_rules() for kind in kinds_of(rule)
}
"""What a finding expects of a file that cannot be read."""


def rule_of(artifact: Artifact, name: str) -> Rule:
    """The rule ``name`` for an artifact."""
    return next(rule for rule in rules_of(artifact) if rule.name == name)


def apply(store: Store, artifact: Artifact, name: str) -> Outcome:
    """Apply the rule ``name``."""
    return apply_rule(rule_of(artifact, name), store, artifact)


def untouched(store: Store) -> dict[str, tuple[int, ...]]:
    """What changes when any artifact file is written, made, replaced or removed."""
    found = {}
    for top in TOP_FOLDERS:
        for path in (store.root / top).rglob("*"):
            status = path.lstat()
            fields = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)
            found[str(path)] = fields if not path.is_dir() else (status.st_mtime_ns,)
    return found


# -- damaging --------------------------------------------------------------------------------------


def seal(store: Store, artifact: Artifact, **changes: Any) -> None:
    """As ``trees.reseal``, and with ``SHA256SUMS`` made right too."""
    rewrite_pieces(store, artifact)
    names = list(store.manifest(artifact).files)
    for sums in (name for name in names if Path(name).name == "SHA256SUMS"):
        folder = sums.removesuffix("SHA256SUMS")
        no_line = (sums, artifact.pieces)
        others = sorted(name for name in names if name.startswith(folder) and name not in no_line)
        others.sort(key=lambda name: not name.endswith(".safetensors"))
        text = "".join(
            f"{hash_once(store.path(artifact, name)).sha256}  {name.removeprefix(folder)}\n"
            for name in others
        )
        damage(store.path(artifact, sums), lambda data, text=text: text.encode())
    document = {**document_of(store, artifact), **changes}
    for role, name in document.get("files", {}).items():
        if name in names:
            document["sha256"][role] = hash_once(store.path(artifact, name)).sha256
    seal_as(store, artifact, document, names)


def seal_as(
    store: Store,
    artifact: Artifact,
    document: dict[str, Any],
    names: Iterable[str] | None = None,
) -> None:
    """Write a manifest that says anything at all, with right hashes.

    Args:
        names: its files; None: those it has, with the hashes it has.
    """
    if names is None:
        files = store.manifest(artifact).files
    else:
        files = {name: hash_once(store.path(artifact, name)) for name in names}
    path = store.manifest_path(artifact)
    path.unlink()
    path.write_bytes(manifest.seal(document, files, "2026-01-01T00:00:00Z", None))


def document_of(store: Store, artifact: Artifact) -> dict[str, Any]:
    """What a manifest says beside files, time and hash."""
    document = json.loads(json.dumps(store.manifest(artifact).document))
    for key in ("manifest", "created_at", "self_sha256"):
        del document[key]
    return document


def rewrite(name: str, change: Callable[[bytes], bytes], **changes: Any) -> Damage:
    """Change the bytes of a file, and seal; ``changes`` replace keys of the manifest."""

    def act(store: Store, artifact: Artifact) -> None:
        damage(store.path(artifact, name), change)
        seal(store, artifact, **changes)

    return act


def edit_json(name: str, **changes: Any) -> Damage:
    """Set keys of a JSON file (``...``: remove), and seal."""
    return rewrite(name, lambda data: render(edit(json.loads(data), changes)))


def edit_yaml(name: str, **changes: Any) -> Damage:
    """Set keys of a YAML file (``...``: remove), and seal."""
    return rewrite(name, lambda data: yaml.safe_dump(edit(yaml.safe_load(data), changes)).encode())


def edit_manifest(**changes: Any) -> Damage:
    """Set keys of the manifest, as ``a__b`` for the key ``b`` of ``a``, and seal."""

    def act(store: Store, artifact: Artifact) -> None:
        document = document_of(store, artifact)
        set_fields(document, changes)
        seal_as(store, artifact, document)

    return act


def edit_lines(name: str, change: Callable[[list[bytes]], list[bytes]]) -> Damage:
    """Change the list of lines of a file, and seal."""
    return rewrite(name, lambda data: b"".join(change(data.splitlines(keepends=True))))


def edit_row(name: str, number: int, **changes: Any) -> Damage:
    """Set fields of the row in line ``number`` (``...``: remove), and seal."""

    def change(lines: list[bytes]) -> list[bytes]:
        row = edit(json.loads(lines[number - 1]), changes)
        lines[number - 1] = (json.dumps(row) + "\n").encode()
        return lines

    return edit_lines(name, change)


def edit(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    for key, value in changes.items():
        if value is ...:
            del document[key]
        else:
            document[key] = value
    return document


def render(document: Any) -> bytes:
    return (json.dumps(document, indent=2) + "\n").encode()


def then(*steps: Damage) -> Damage:
    """Several damages, one after the other."""

    def act(store: Store, artifact: Artifact) -> Store | None:
        changed = None
        for step in steps:
            changed = step(changed or store, artifact) or changed
        return changed

    return act


def elsewhere(key: str, step: Damage) -> Damage:
    """Damage another artifact."""
    return lambda store, artifact: step(store, store.catalogue[key])


def put(name: str, data: bytes) -> Damage:
    """Write a file that was not there."""

    def act(store: Store, artifact: Artifact) -> None:
        with store.path(artifact, name).open("xb") as file:
            file.write(data)

    return act


def remove(name: str) -> Damage:
    """Remove a file."""

    def act(store: Store, artifact: Artifact) -> None:
        store.path(artifact, name).unlink()

    return act


def uncommit(name: str) -> Damage:
    """Remove a file, and seal without it."""

    def act(store: Store, artifact: Artifact) -> None:
        names = [other for other in store.manifest(artifact).files if other != name]
        seal_as(store, artifact, document_of(store, artifact), names)
        store.path(artifact, name).unlink()
        seal(store, artifact)

    return act


Lines = Callable[[list[bytes]], list[bytes]]


def insert(line: bytes) -> Lines:
    """Put a line in the third place."""
    return lambda lines: [*lines[:2], line + b"\n", *lines[2:]]


def at_third(line: bytes) -> Lines:
    """Put a line in the place of the third."""
    return lambda lines: [*lines[:2], line + b"\n", *lines[3:]]


def take_last(lines: list[bytes]) -> list[bytes]:
    """Take the last line away."""
    return lines[:-1]


BAD_LINES: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"{'a': 1}", "column 2: .*"),
    "an empty line": (b"", "column 1: Expecting value"),
    "a list": (b"[]", "a list, not an object"),
    "200,000 brackets": (b"[" * 200_000, "nested more than 32 deep"),
    "NUL": (b'{"a": "\0"}', "column 8: a NUL byte"),
    "invalid UTF-8": (b'{"a": "\xff"}', "column 8: not UTF-8: invalid start byte"),
    "a lone surrogate": (b'{"a": "\\ud800"}', "a lone surrogate, .*"),
    "a lone surrogate in UTF-8": (b'{"a": "\xed\xa0\x80"}', "column 8: not UTF-8: .*"),
    "NaN": (b'{"a": NaN}', "NaN is not JSON"),
    "a number that becomes Infinity": (b'{"a": -1e999}', "a number too large .*"),
    "a key twice": (b'{"a": 1, "a": 2}', "duplicate key 'a'"),
}
"""A line → what is said about it."""


def long_line(lines: list[bytes]) -> list[bytes]:
    """Put a line of 100 MB in the third place: sound JSON, and more than anybody can hold."""
    return insert(b'{"a": "%s"}' % (b"x" * 100_000_000))(lines)


# -- rows of a processed split, and what follows from them -----------------------------------------

Rows = list[dict[str, Any]]


def edit_split(split: str, change: Callable[[Rows], Rows]) -> Damage:
    """Change the rows of a split and all that follows from them, and seal.

    Offsets, twin, problem index and the manifest's counts are those of the new rows: what then
    finds the damage is a rule about the rows, not the one about the index.
    """

    def act(store: Store, artifact: Artifact) -> None:
        rows = change(rows_of(store, artifact, split))
        lines = [render_row(row) for row in rows]
        offsets = array("Q", accumulate(map(len, lines), initial=0))
        twin, problem_index, problems = _index_of(store, artifact, rows)
        made = {
            split_file(split): b"".join(lines),
            offsets_file(split): offsets.tobytes(),
            twin_file(split): twin,
            problem_index_file(split): problem_index,
        }
        for name, data in made.items():
            damage(store.path(artifact, name), lambda _, data=data: data)
        document = document_of(store, artifact)
        counts = document["splits"][split]
        document["rows"] += len(rows) - counts["rows"]
        counts |= {
            "rows": len(rows),
            "problems": problems,
            "crlf_rows": sum("\r\n" in row["output"] for row in rows),
        }
        seal_as(store, artifact, document, store.manifest(artifact).files)

    return act


def rows_of(store: Store, artifact: Artifact, split: str) -> Rows:
    """The rows of a processed split."""
    data = store.path(artifact, split_file(split)).read_bytes()
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


def _index_of(store: Store, artifact: Artifact, rows: Rows) -> tuple[bytes, bytes, int]:
    """Twin and problem index of rows, and how many problems they have."""
    record = load_format(artifact.spec.converter).record
    tokenizer = store.catalogue[artifact.spec.tokenizer]
    counter = _counter(store.read(tokenizer, "tokenizer.model"))
    tokens = list(zip(*(counter.count([row[text] for row in rows]) for text in TEXTS), strict=True))
    twin: Rows = []
    written: list[bytes] = []
    index = ProblemIndex(is_labelled(record))
    problems = 0
    for problem_id, numbers in groupby(range(len(rows)), key=lambda n: problem_of(rows[n])):
        first, *others = numbers
        mine = slice(first, first + 1 + len(others))
        twin += twin_rows(rows[mine], tokens[mine])
        difficulty = rows[first]["metadata"]["difficulty_number"]
        labels = [row.get("is_correct") for row in rows[mine]]
        outputs = [counts[-1] for counts in tokens[mine]]
        written.append(index.add(problem_id, difficulty, first, labels, outputs))
        problems += 1
    written += [*index.rows(), index.close()]
    return render_twin(pa.Table.from_pylist(twin, twin_schema(record))), b"".join(written), problems


@cache
def _counter(model: bytes) -> TokenCounter:
    return TokenCounter(model, "the tokenizer")


def render_twin(table: pa.Table) -> bytes:
    """A Parquet file; other bytes than those of the conversion, the same content."""
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()


def edit_split_row(split: str, number: int, **changes: Any) -> Damage:
    """Set fields of the row in line ``number`` as :func:`edit_split` does.

    ``metadata__language`` is a field of metadata.
    """

    def change(rows: Rows) -> Rows:
        set_fields(rows[number - 1], changes)
        return rows

    return edit_split(split, change)


def set_fields(document: dict[str, Any], changes: dict[str, Any]) -> None:
    """Set keys, ``a__b`` for the key ``b`` of ``a`` (``...``: remove)."""
    for name, value in changes.items():
        *parents, key = name.split("__")
        inner = document
        for parent in parents:
            inner = inner[parent]
        edit(inner, {key: value})


def edit_twin(split: str, change: Callable[[pa.Table], pa.Table]) -> Damage:
    """Change the Parquet twin alone, and seal."""
    return rewrite(
        twin_file(split), lambda data: render_twin(change(pq.read_table(io.BytesIO(data))))
    )


def edit_twin_row(split: str, number: int, **changes: Any) -> Damage:
    """Set columns of row ``number``, from 1, of the twin alone, and seal; null: None."""

    def change(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        set_fields(rows[number - 1], changes)
        return pa.Table.from_pylist(rows, pa.schema([f.with_nullable(True) for f in table.schema]))

    return edit_twin(split, change)


def edit_offsets(split: str, change: Callable[[Sequence[int]], Iterable[int]]) -> Damage:
    """Change the offsets alone, and seal."""

    def apply_to(data: bytes) -> bytes:
        return array("Q", change(memoryview(data).cast("Q"))).tobytes()

    return rewrite(offsets_file(split), apply_to)


# -- damaging checkpoints --------------------------------------------------------------------------


def edit_header(change: Callable[[dict[str, Any]], None]) -> Damage:
    """Change the header of the checkpoint; seal, with ``metadata.json`` describing the new one."""

    def act(store: Store, artifact: Artifact) -> None:
        path = store.path(artifact, files_of(artifact).checkpoint)
        damage(path, lambda data: change_header(data, change))
        redescribe(store, artifact)

    return act


def change_header(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header, separators=(",", ":")).encode().ljust(size)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def redescribe(store: Store, artifact: Artifact) -> None:
    """Seal, with a description of the checkpoint's header that is right."""
    header = read_header(store.path(artifact, files_of(artifact).checkpoint))
    checkpoint = describe_tensors(header.entries)
    seal(store, artifact, checkpoint=checkpoint, n_params=header.n_params)
