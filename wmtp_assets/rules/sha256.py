"""The rule of hashes: every byte on disk is a byte that was committed.

Each file is read once, several side by side. It is compared with its SHA-256 in the manifest and,
where ``pieces.json`` has those of its pieces, with these too, so that what is damaged has a name,
and so that the two cannot contradict each other unseen. Once both were compared with the same
bytes, the pieces alone are hashed while the content hash is the same: they are every byte, and can
be read side by side. A manifest of the version before has hashes of pieces in itself; they are not
used.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from wmtp_assets.base.errors import CorruptArtifact, MissingArtifact
from wmtp_assets.base.progress import Progress, Told
from wmtp_assets.base.settings import read_rate, read_workers
from wmtp_assets.rules.findings import Report, Rule, Subject
from wmtp_assets.rules.turns import Pace
from wmtp_assets.storage import manifest
from wmtp_assets.storage.files import hash_file, hash_range
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.pieces import Piece
from wmtp_assets.storage.store import materialize_command, repair_command

SUMS = "SHA256SUMS"
MAX_SUMS = 1 << 20
"""Bytes that ``SHA256SUMS`` may have more than it should, and is still compared line by line."""
RUN = 64 << 20
"""Bytes, about, of the contiguous pieces that one thread hashes before it takes others."""
NO_BYTES = hashlib.sha256().hexdigest()
"""What a piece has that lies behind the end of its file, which was cut off."""


def check_sha256(subject: Subject, report: Report) -> None:
    """Every file of the manifest is there with its size and SHA-256, and no other file is.

    ``SHA256SUMS`` and the hashes that ``metadata.json`` gives by role must be the manifest's.
    """
    expected = subject.manifest.files
    signed = subject.store.sign(subject.artifact, (*expected, subject.artifact.manifest))
    there = [name for name, record in expected.items() if _is_there(subject, report, name, record)]
    damaged = {*expected} - {*there}
    known = _known_pieces(subject, report, there, damaged)
    cuts = {name: known.get(name) or [_whole(subject, name)] for name in there}
    progress = Progress(f"hashing {subject.artifact.key}", subject.manifest.size, subject.say)
    pace = Pace(read_rate())

    def advance(size: int) -> None:
        progress.advance(size)
        pace(size)

    in_pieces = subject.store.agrees(subject.artifact, subject.manifest)
    with ThreadPoolExecutor(read_workers()) as pool:
        largest_first = sorted(there, key=lambda name: -expected[name].size)
        hashes = {
            name: [pool.submit(_hash_run, subject, run, advance) for run in _runs(cuts[name])]
            if in_pieces and cuts[name][1:]
            else pool.submit(_hash, subject, cuts[name], advance)
            for name in largest_first
        }
        for name, pieces in cuts.items():
            tasks, whole = hashes[name], None
            if isinstance(tasks, list):
                found = [item for task in tasks for item in task.result()]
            else:
                found, whole = tasks.result()
            pairs = zip(pieces, found, strict=True)
            wrong = {piece: item for piece, item in pairs if item != piece.sha256}
            if wrong or whole not in (None, expected[name].sha256):
                damaged.add(_report(subject, report, name, wrong, whole))
    is_right = not damaged and len(there) == len(expected)
    subject.store.hashed(
        subject.artifact, subject.manifest, signed, subject.say, damaged, agrees=is_right
    )
    _check_no_other(subject, report)
    _check_sums(subject, report, there)
    _check_roles(subject, report)
    report.note(
        files=len(there),
        bytes=sum(expected[name].size for name in there),
        pieces=sum(map(len, cuts.values())),
        content_sha256=subject.manifest.content_sha256,
        damaged=sorted(damaged),
    )


def _known_pieces(
    subject: Subject, report: Report, there: Container[str], damaged: set[str]
) -> Mapping[str, Sequence[Piece]]:
    """The pieces of the large files; none where they are not the committed ones.

    Damage of the file that has them is found like that of any file. One that was committed and
    contradicts the manifest is a finding here, and ``damaged`` gets its name.
    """
    name = subject.artifact.pieces
    try:
        return subject.store.pieces(subject.artifact)
    except (MissingArtifact, CorruptArtifact, OSError) as error:
        if name in there and _is_whole(subject, name):
            damaged.add(name)
            report.add(
                subject.file(name),
                expected="the pieces of the artifact's files",
                found=error,
                remedy=materialize_command(subject.artifact.key),
            )
    return {}


def _whole(subject: Subject, name: str) -> Piece:
    record = subject.manifest.files[name]
    return Piece(name, 0, record.size, record.sha256)


def _is_whole(subject: Subject, name: str) -> bool:
    """Whether a file is the committed one, read as a whole."""
    whole = _whole(subject, name)
    return _hash(subject, [whole])[1] == whole.sha256


def _report(
    subject: Subject,
    report: Report,
    name: str,
    wrong: Mapping[Piece, str | OSError],
    whole: str | None,
) -> str:
    """Add a finding for each wrong piece of a file; return which file is damaged.

    That is the one with the hashes of the pieces where the file as a whole is the committed one.

    Args:
        whole: the SHA-256 that the file has; None: not all of it could be read.
    """
    expected = subject.manifest.files[name].sha256
    is_of_pieces = whole == expected
    owner = subject.artifact.pieces if is_of_pieces else name
    contradicts = is_of_pieces or not wrong
    command = materialize_command if contradicts else repair_command
    add = partial(report.add, subject.file(owner), remedy=command(subject.artifact.key))
    if not wrong:  # every piece is as committed, and the file is not
        add(
            expected=f"SHA-256 {expected}",
            found=f"SHA-256 {whole}, although each piece is as {subject.artifact.pieces} has it",
        )
    for number, (piece, found) in enumerate(wrong.items()):
        if owner != name:
            add(
                expected=f"SHA-256 {found}",
                found=f"SHA-256 {piece.sha256}",
                place=f"{name}, {piece.place}",
            )
        elif not isinstance(found, OSError):
            add(expected=f"SHA-256 {piece.sha256}", found=f"SHA-256 {found}", place=piece.place)
        elif number == 0 and isinstance(found, FileNotFoundError):
            add(expected="a file", found="nothing", problem="missing")
        elif number == 0:
            add(
                expected="readable",
                found=found.strerror,
                place=piece.place,
                problem="unreadable",
            )
    return owner


def _is_there(subject: Subject, report: Report, name: str, record: FileRecord) -> bool:
    """Whether a regular file of the right size is there; else a finding, and the rule continues."""
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


def _hash(
    subject: Subject, pieces: Sequence[Piece], advance: Callable[[int], None] = lambda size: None
) -> tuple[list[str | OSError], str | None]:
    """The SHA-256 of each piece of a file, or why it cannot be read, and that of the whole file.

    Args:
        pieces: contiguous, all of the file.

    Returns:
        None as the second, where not all could be read.
    """
    path = subject.store.path(subject.artifact, pieces[0].file)
    hashes: list[str] = []
    told = Told(advance)
    try:
        record = hash_file(path, told, hashes if pieces[1:] else None, map(_size, pieces))
    except OSError:
        told.take_back()
        return _hash_run(subject, pieces, advance), None
    cut_off = [NO_BYTES] * (len(pieces) - len(hashes))
    return [*hashes, *cut_off] if pieces[1:] else [record.sha256], record.sha256


def _hash_run(
    subject: Subject, pieces: Sequence[Piece], advance: Callable[[int], None]
) -> list[str | OSError]:
    """The SHA-256 of some contiguous pieces of a file, or why one cannot be read; the others are
    then read one by one."""
    path = subject.store.path(subject.artifact, pieces[0].file)
    told = Told(advance)
    try:
        return [*hash_range(path, pieces[0].begin, map(_size, pieces), told)]
    except OSError as error:
        told.take_back()
        if not pieces[1:]:
            return [error]
        return [item for piece in pieces for item in _hash_run(subject, [piece], advance)]


def _size(piece: Piece) -> int:
    return piece.end - piece.begin


def _runs(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Pieces cut into runs of about :data:`RUN` bytes, of which each is one thread's work."""
    run: list[Piece] = []
    for piece in pieces:
        run.append(piece)
        if piece.end - run[0].begin >= RUN:
            yield run
            run = []
    if run:
        yield run


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

    for name in subject.store.strays(artifact, subject.manifest, unreadable):
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
        beside = {
            name: record
            for name, record in files.items()
            if name.startswith(folder) and name not in (sums, subject.artifact.pieces)
        }
        expected = {name.removeprefix(folder): record.sha256 for name, record in beside.items()}
        canonical = manifest.sha256sums(beside, folder)
        path = report.reads(subject, sums)
        if files[sums].size > 2 * len(canonical) + MAX_SUMS:
            report.add(subject.file(sums), expected="a line per file", found="far more")
            continue
        data = path.read_bytes()
        by_name = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(expected.items()))
        if data in (canonical, by_name.encode()):  # that of builder version 1
            continue
        lines = [line.partition("  ") for line in data.decode(errors="replace").split("\n")[:-1]]
        listed = {name: sha256 for sha256, _, name in lines}
        if listed == expected:
            report.add(
                subject.file(sums),
                expected="exactly what sha256sum prints, the checkpoint first, then by name",
                found="the same hashes written otherwise",
            )
        report.require(
            subject.file(sums),
            expected={**dict.fromkeys(listed, "no line"), **expected},
            found={**dict.fromkeys(expected, "no line"), **listed},
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
        elif not isinstance(name, str) or not _is_tokenizer_beside(subject, name):
            report.add(file, expected="a file of the artifact", found=name, place=f"files.{role}")


def _is_tokenizer_beside(subject: Subject, name: str) -> bool:
    """Whether ``name`` is the tokenizer of the same model, which is another artifact's file."""
    upstream = (subject.store.catalogue[key] for key in subject.artifact.upstream)
    beside = (other for other in upstream if other.unit == subject.artifact.unit)
    file = subject.store.catalogue.tokenizer_name(subject.spec)
    return subject.file(name) in {f"{other.base}/{file}" for other in beside}


RULES = (
    Rule(
        "sha256",
        "Every file has the size and SHA-256 it was committed with, and there is no other file.",
        (),
        check_sha256,
    ),
)
