"""The rule of hashes: every byte on disk is a byte that was committed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Container
from pathlib import Path

from wmtp_assets.checkpoints.configs import CHECKPOINT
from wmtp_assets.checkpoints.safetensors_file import read_header
from wmtp_assets.errors import InvalidInput
from wmtp_assets.integrity.findings import Report, Subject
from wmtp_assets.manifest import FileRecord
from wmtp_assets.progress import Progress
from wmtp_assets.store import BLOCK, hash_file

SUMS = "SHA256SUMS"
_NOT_OURS = ("value_head.safetensors",)


def owned_files(subject: Subject) -> list[str]:
    """Files on disk that belong to the artifact, the manifest aside; relative to its base.

    Symbolic links and other special files are among them.
    """
    base = subject.store.folder(subject.artifact)
    found = []
    for folder, folders, files in os.walk(base):
        parent = Path(folder)
        links = [name for name in folders if (parent / name).is_symlink()]
        for name in (*files, *links):
            path = (parent / name).relative_to(base).as_posix()
            if path != subject.artifact.manifest and subject.artifact.is_owner(path):
                found.append(path)
    return sorted(found)


def check_sha256(subject: Subject, report: Report) -> None:
    """Every file of the manifest is there with its size and SHA-256, and no other file is.

    ``SHA256SUMS`` and the hashes that ``metadata.json`` gives by role must be the manifest's.
    """
    expected = subject.manifest.files
    progress = Progress(f"hashing {subject.artifact.key}", subject.manifest.size, subject.say)
    read: dict[str, FileRecord] = {}
    for name, record in expected.items():
        path = subject.store.path(subject.artifact, name)
        try:
            mode = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            report.add(subject.file(name), expected="a file", found="nothing", problem="missing")
            continue
        if not stat.S_ISREG(mode):
            report.add(subject.file(name), expected="a regular file", found=stat.filemode(mode))
            continue
        found = hash_file(path, progress.advance)
        read[name] = found
        if found.size != record.size:
            report.add(
                subject.file(name),
                expected=f"{record.size} bytes",
                found=f"{found.size} bytes",
                place=_damaged_place(subject, name, path),
            )
        elif found.sha256 != record.sha256:
            report.add(
                subject.file(name),
                expected=f"SHA-256 {record.sha256}",
                found=f"SHA-256 {found.sha256}",
                place=_damaged_place(subject, name, path),
            )
    for name in owned_files(subject):
        if name not in expected and Path(name).name not in _NOT_OURS:
            report.add(
                subject.file(name),
                expected="no such file: it is not in the manifest",
                found="a file",
                problem="extra",
                remedy="move it elsewhere",
            )
    _check_sums(subject, report, read)
    _check_roles(subject, report)
    report.note(
        files=len(read),
        bytes=sum(record.size for record in read.values()),
        content_sha256=subject.manifest.content_sha256,
    )


def _damaged_place(subject: Subject, name: str, path: Path) -> str:
    """Which tensors of a checkpoint are damaged; empty where that cannot be said."""
    described = subject.manifest.document.get("checkpoint")
    if name != CHECKPOINT or described is None:
        return ""
    try:
        header = read_header(path)
    except InvalidInput:
        return "the header"
    if header.sha256 != described["header_sha256"]:
        return "the header"
    damaged = []
    with path.open("rb") as file:
        for entry in header.entries:
            file.seek(header.begins[entry.name])
            digest = hashlib.sha256()
            left = entry.size
            while left:
                block = file.read(min(BLOCK, left))
                digest.update(block)
                left -= len(block)
            if digest.hexdigest() != described["tensors"][entry.name]["sha256"]:
                damaged.append(entry.name)
    more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
    return f"tensor {', '.join(damaged[:3])}{more}"


def _check_sums(subject: Subject, report: Report, read: Container[str]) -> None:
    """``SHA256SUMS`` lists the files beside it as the manifest does."""
    files = subject.manifest.files
    for sums in (name for name in files if Path(name).name == SUMS and name in read):
        folder = sums.removesuffix(SUMS)
        text = subject.store.path(subject.artifact, sums).read_text(errors="replace")
        listed = {}
        for line in text.splitlines():
            sha256, _, name = line.partition("  ")
            listed[folder + name] = sha256
        expected = {
            name: record.sha256
            for name, record in files.items()
            if name.startswith(folder) and name != sums
        }
        for name in sorted(listed.keys() | expected.keys()):
            report.require(
                subject.file(sums),
                expected=expected.get(name, "no line"),
                found=listed.get(name, "no line"),
                place=name.removeprefix(folder),
            )


def _check_roles(subject: Subject, report: Report) -> None:
    """``metadata.json``'s ``files`` and ``sha256``, by role, are the manifest's."""
    document = subject.manifest.document
    for role, sha256 in document.get("sha256", {}).items():
        name = document["files"].get(role)
        if name in subject.manifest.files:
            report.require(
                subject.file(subject.artifact.manifest),
                expected=subject.manifest.files[name].sha256,
                found=sha256,
                place=f"sha256.{role}",
            )
