"""The rule of hashes: every byte on disk is a byte that was committed."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Container
from pathlib import Path

from wmtp_assets.checkpoints.configs import files_of
from wmtp_assets.checkpoints.safetensors_file import read_header
from wmtp_assets.errors import InvalidInput
from wmtp_assets.files import BLOCK, hash_file, names_below
from wmtp_assets.integrity.findings import Report, Subject, stated
from wmtp_assets.manifest import FileRecord
from wmtp_assets.progress import Progress

SUMS = "SHA256SUMS"


def check_sha256(subject: Subject, report: Report) -> None:
    """Every file of the manifest is there with its size and SHA-256, and no other file is.

    ``SHA256SUMS`` and the hashes that ``metadata.json`` gives by role must be the manifest's.
    """
    expected = subject.manifest.files
    progress = Progress(f"hashing {subject.artifact.key}", subject.manifest.size, subject.say)
    read: dict[str, FileRecord] = {}
    for name, record in expected.items():
        found = _hash(subject, report, name, progress)
        if found is None:
            continue
        read[name] = found
        if found.size != record.size:
            report.add(
                subject.file(name),
                expected=f"{record.size} bytes",
                found=f"{found.size} bytes",
            )
        elif found.sha256 != record.sha256:
            report.add(
                subject.file(name),
                expected=f"SHA-256 {record.sha256}",
                found=f"SHA-256 {found.sha256}",
                place=_damaged_place(subject, report, name),
            )
    _check_no_other(subject, report)
    _check_sums(subject, report, read)
    _check_roles(subject, report)
    report.note(
        files=len(read),
        bytes=sum(record.size for record in read.values()),
        content_sha256=subject.manifest.content_sha256,
    )


def _hash(subject: Subject, report: Report, name: str, progress: Progress) -> FileRecord | None:
    """Size and hash of a file; None and a finding where it has none, so that the rule goes on."""
    path = subject.store.path(subject.artifact, name)
    file = subject.file(name)
    try:
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            return hash_file(path, progress.advance)
    except (FileNotFoundError, NotADirectoryError):
        report.add(file, expected="a file", found="nothing", problem="missing")
    except OSError as error:
        report.add(file, expected="readable", found=error.strerror, problem="unreadable")
    else:
        report.add(file, expected="a regular file", found=stat.filemode(mode))
    return None


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


def _damaged_place(subject: Subject, report: Report, name: str) -> str:
    """Which tensors of a checkpoint are damaged; empty where that cannot be said."""
    hashes = subject.stated("checkpoint", "tensors")
    if name != files_of(subject.artifact).checkpoint or not isinstance(hashes, dict):
        return ""
    path = report.reads(subject, name)
    try:
        header = read_header(path)
    except InvalidInput:
        return "the header"
    if header.sha256 != subject.stated("checkpoint", "header_sha256"):
        return "the header"
    damaged = []
    with path.open("rb") as file:
        for entry in header.entries:
            file.seek(header.begins[entry.name])
            digest = hashlib.sha256()
            left = entry.size
            while left and (block := file.read(min(BLOCK, left))):
                digest.update(block)
                left -= len(block)
            if digest.hexdigest() != stated(hashes, entry.name, "sha256"):
                damaged.append(entry.name)
    more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
    return f"tensor {', '.join(damaged[:3])}{more}"


def _check_sums(subject: Subject, report: Report, read: Container[str]) -> None:
    """``SHA256SUMS`` lists the files beside it as the manifest does."""
    files = subject.manifest.files
    for sums in (name for name in files if Path(name).name == SUMS and name in read):
        folder = sums.removesuffix(SUMS)
        expected = {
            name.removeprefix(folder): record.sha256
            for name, record in files.items()
            if name.startswith(folder) and name != sums
        }
        canonical = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(expected.items()))
        data = report.reads(subject, sums).read_bytes()
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
