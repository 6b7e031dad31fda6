"""The rule of hashes: every byte on disk is a byte that was committed.

A file is verified in pieces, side by side: a checkpoint by its header and its tensors, a large file
by its parts, any other as a whole. The pieces and the size cover every byte; what is damaged has a
name.
"""

from __future__ import annotations

import stat
from collections.abc import Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import prod
from pathlib import Path

from wmtp_assets.base.progress import Progress
from wmtp_assets.base.settings import read_workers
from wmtp_assets.checkpoints.configs import files_of
from wmtp_assets.checkpoints.safetensors_file import DTYPE_CODES, ITEM_SIZE
from wmtp_assets.rules.findings import Report, Rule, Subject
from wmtp_assets.storage.files import hash_stream, names_below, open_regular
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.store import repair_command

SUMS = "SHA256SUMS"
MAX_SUMS = 1 << 20
"""Bytes that ``SHA256SUMS`` may have more than it should, and is still compared line by line."""


def check_sha256(subject: Subject, report: Report) -> None:
    """Every file of the manifest is there with its size and SHA-256, and no other file is.

    ``SHA256SUMS`` and the hashes that ``metadata.json`` gives by role must be the manifest's.
    """
    expected = subject.manifest.files
    there = [name for name, record in expected.items() if _is_there(subject, report, name, record)]
    pieces = [piece for name in there for piece in pieces_of(subject, name, expected[name])]
    progress = Progress(f"hashing {subject.artifact.key}", subject.manifest.size, subject.say)
    damaged = {*expected} - {*there}
    remedy = repair_command(subject.artifact.key)
    with ThreadPoolExecutor(read_workers()) as pool:
        largest_first = sorted(pieces, key=lambda piece: piece.begin - piece.end)
        hashes = {piece: pool.submit(_hash, subject, piece) for piece in largest_first}
        for piece in pieces:
            found = hashes[piece].result()
            progress.advance(piece.end - piece.begin)
            if found == piece.sha256 or (isinstance(found, OSError) and piece.file in damaged):
                continue
            damaged.add(piece.file)
            if isinstance(found, FileNotFoundError):
                report.add(
                    subject.file(piece.file),
                    expected="a file",
                    found="nothing",
                    problem="missing",
                    remedy=remedy,
                )
            elif isinstance(found, OSError):
                report.add(
                    subject.file(piece.file),
                    expected="readable",
                    found=found.strerror,
                    place=piece.place,
                    problem="unreadable",
                    remedy=remedy,
                )
            else:
                report.add(
                    subject.file(piece.file),
                    expected=f"SHA-256 {piece.sha256}",
                    found=f"SHA-256 {found}",
                    place=piece.place,
                    remedy=remedy,
                )
    _check_no_other(subject, report)
    _check_sums(subject, report, there)
    _check_roles(subject, report)
    report.note(
        files=len(there),
        bytes=sum(expected[name].size for name in there),
        pieces=len(pieces),
        content_sha256=subject.manifest.content_sha256,
        damaged=sorted(damaged),
    )


@dataclass(frozen=True)
class Piece:
    """Some bytes of a file, and the SHA-256 they must have.

    Attributes:
        begin, end: the first byte, and the one behind the last.
        place: what they are, for a finding; empty: the file as a whole.
    """

    file: str
    begin: int
    end: int
    sha256: str
    place: str = ""


def pieces_of(subject: Subject, name: str, record: FileRecord) -> list[Piece]:
    """The pieces of a file, as the manifest has them; together they are all of it."""
    if name == files_of(subject.artifact).checkpoint:
        pieces = list(_tensors(subject, name, record))
    else:
        pieces = list(_parts(subject, name, record))
    is_all = (
        bool(pieces)
        and (pieces[0].begin, pieces[-1].end) == (0, record.size)
        and all(piece.begin <= piece.end for piece in pieces)
        and all(one.end == other.begin for one, other in pairwise(pieces))
    )
    return pieces if is_all else [Piece(name, 0, record.size, record.sha256)]


def _tensors(subject: Subject, name: str, record: FileRecord) -> Iterator[Piece]:
    """The header of a checkpoint and its tensors, in file order; none where nothing says so."""
    tensors = subject.stated("checkpoint", "tensors")
    try:
        sizes = {
            tensor: prod(entry["shape"]) * ITEM_SIZE[DTYPE_CODES[entry["dtype"]]]
            for tensor, entry in tensors.items()
        }
        end = record.size - sum(sizes.values())
        yield Piece(name, 0, end, str(subject.stated("checkpoint", "header_sha256")), "the header")
        for tensor, size in sizes.items():
            sha256 = str(tensors[tensor]["sha256"])
            yield Piece(name, end, end + size, sha256, f"tensor {tensor}")
            end += size
    except (AttributeError, KeyError, TypeError):
        return


def _parts(subject: Subject, name: str, record: FileRecord) -> Iterator[Piece]:
    hashes, width = subject.stated("parts", "sha256", name), subject.stated("parts", "size")
    if not isinstance(hashes, list) or type(width) is not int or width < 1:
        return
    for begin, sha256 in zip(range(0, record.size, width), hashes, strict=False):
        end = min(begin + width, record.size)
        yield Piece(name, begin, end, str(sha256), f"bytes {begin} to {end}")


def _is_there(subject: Subject, report: Report, name: str, record: FileRecord) -> bool:
    """Whether a regular file of the right size is there; else a finding, and the rule goes on."""
    add = partial(report.add, subject.file(name), remedy=repair_command(subject.artifact.key))
    try:
        status = subject.store.path(subject.artifact, name).lstat()
    except (FileNotFoundError, NotADirectoryError):
        add(expected="a file", found="nothing", problem="missing")
        return False
    except OSError as error:
        add(expected="readable", found=error.strerror, problem="unreadable")
        return False
    if not stat.S_ISREG(status.st_mode):
        add(expected="a regular file", found=stat.filemode(status.st_mode))
        return False
    if status.st_size != record.size:
        add(expected=f"{record.size} bytes", found=f"{status.st_size} bytes")
        return False
    return True


def _hash(subject: Subject, piece: Piece) -> str | OSError:
    try:
        with open_regular(subject.store.path(subject.artifact, piece.file)) as file:
            file.seek(piece.begin)
            return hash_stream(file, piece.end - piece.begin).sha256
    except OSError as error:
        return error


def _check_no_other(subject: Subject, report: Report) -> None:
    """No file of the artifact is on disk that the manifest does not know."""
    artifact = subject.artifact
    base = subject.store.folder(artifact)

    def unreadable(error: OSError) -> None:
        path = Path(error.filename).relative_to(base).as_posix()
        if path == "." or artifact.is_owner(path):
            report.add(
                subject.file(path),
                expected="readable",
                found=error.strerror,
                problem="unreadable",
                remedy="make it readable",
            )

    names = sorted(path.relative_to(base).as_posix() for path in names_below(base, unreadable))
    for name in names:
        is_known = name in subject.manifest.files or name in (artifact.manifest, *artifact.guests)
        if artifact.is_owner(name) and not is_known:
            report.add(
                subject.file(name),
                expected="no such file: it is not in the manifest",
                found="a file",
                problem="extra",
                remedy="move it elsewhere",
            )


def _check_sums(subject: Subject, report: Report, there: Container[str]) -> None:
    """``SHA256SUMS`` lists the files beside it as the manifest does."""
    files = subject.manifest.files
    for sums in (name for name in files if Path(name).name == SUMS and name in there):
        folder = sums.removesuffix(SUMS)
        expected = {
            name.removeprefix(folder): record.sha256
            for name, record in files.items()
            if name.startswith(folder) and name != sums
        }
        canonical = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(expected.items()))
        path = report.reads(subject, sums)
        if files[sums].size > 2 * len(canonical) + MAX_SUMS:
            report.add(subject.file(sums), expected="a line per file", found="far more")
            continue
        data = path.read_bytes()
        if data == canonical.encode():
            continue
        lines = [line.partition("  ") for line in data.decode(errors="replace").split("\n")[:-1]]
        listed = {name: sha256 for sha256, _, name in lines}
        if listed == expected:
            report.add(
                subject.file(sums),
                expected="exactly what sha256sum prints, in the order of names",
                found="the same hashes written otherwise",
            )
        for name in sorted(listed.keys() | expected.keys()):
            report.require(
                subject.file(sums),
                expected=expected.get(name, "no line"),
                found=listed.get(name, "no line"),
                place=name,
            )


def _check_roles(subject: Subject, report: Report) -> None:
    """``metadata.json``'s ``files`` and ``sha256``, by role, are the manifest's.

    Where the tokenizer belongs to another artifact, the rule ``tokenizer`` compares it.
    """
    paths, hashes = subject.stated("files"), subject.stated("sha256")
    if not isinstance(paths, dict) or not isinstance(hashes, dict):
        return
    file = subject.file(subject.artifact.manifest)
    for role in sorted(paths.keys() | hashes.keys()):
        name = paths.get(role)
        record = subject.manifest.files.get(name) if isinstance(name, str) else None
        if record is not None:
            report.require(
                file, expected=record.sha256, found=hashes.get(role), place=f"sha256.{role}"
            )
        elif name != files_of(subject.artifact).tokenizer:
            report.add(file, expected="a file of the artifact", found=name, place=f"files.{role}")


RULES = (
    Rule(
        "sha256",
        "Every file has the size and SHA-256 it was committed with, and there is no other file.",
        (),
        check_sha256,
    ),
)
