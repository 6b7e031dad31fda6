"""``pieces.json``: the hashes of the pieces that large files consist of.

A file of its own beside the manifest (``raw.pieces.json`` beside ``raw.metadata.json``), written
where some file of the artifact has more than one piece. The manifest lists it like any other file,
so the artifact's content hash covers it. For each such file it holds either

- ``part_size`` and ``sha256``: the SHA-256 of each ``part_size`` bytes, the last part may be
  shorter; or
- ``header`` and ``tensors``: the SHA-256 of the bytes before the first tensor of a checkpoint, then
  ``[name, size in bytes, SHA-256]`` of each tensor, in file order.

The pieces of a file are contiguous and cover all of it. The bytes of ``pieces.json`` are exactly
what :func:`render` makes: JSON without white space, files in path order, a final newline.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from wmtp_assets.base.errors import CorruptArtifact
from wmtp_assets.base.model import RelativePath, Sha256, StrictModel, first_problem
from wmtp_assets.base.strict_json import MAX_SIZE, parse_object
from wmtp_assets.storage.manifest import FileRecord, Manifest, content_sha256

HEADER = "the header"
MAX_NAME = 512
"""Characters of a tensor's name."""
MAX_REASON = 300
"""Characters of a reason, which may quote the file."""

Size = Annotated[int, Field(ge=0, strict=True)]


@dataclass(frozen=True)
class Piece:
    """Some bytes of a file, and the SHA-256 they must have.

    Attributes:
        begin, end: the first byte, and the one behind the last.
        place: what they are, for people; empty: the file as a whole.
    """

    file: str
    begin: int
    end: int
    sha256: str
    place: str = ""


class Parts(StrictModel):
    """A file cut into parts of equal size."""

    part_size: Annotated[int, Field(gt=0, strict=True)]
    sha256: list[Sha256] = Field(min_length=2)

    def sizes(self, size: int) -> list[tuple[str, int, str]]:
        """Place, bytes and SHA-256 of each part of a file of ``size`` bytes."""
        if len(self.sha256) != -(-size // self.part_size):
            raise ValueError(
                f"{len(self.sha256)} parts of {self.part_size} bytes for a file of {size}"
            )
        begins = [*range(0, size, self.part_size), size]
        return [
            (f"bytes {begin} to {end}", end - begin, sha256)
            for (begin, end), sha256 in zip(pairwise(begins), self.sha256, strict=True)
        ]


class Tensors(StrictModel):
    """A checkpoint cut into its header and its tensors."""

    header: Sha256
    tensors: list[tuple[Annotated[str, Field(max_length=MAX_NAME)], Size, Sha256]] = Field(
        min_length=1
    )

    def sizes(self, size: int) -> list[tuple[str, int, str]]:
        """Place, bytes and SHA-256 of the header and of each tensor in a file of ``size`` bytes."""
        names = [name for name, _, _ in self.tensors]
        if len({*names}) != len(names) or not all(map(str.isprintable, names)):
            raise ValueError("a tensor's name is repeated or not printable")
        header = size - sum(count for _, count, _ in self.tensors)
        if header <= 0:
            raise ValueError(f"{size - header} bytes of tensors in a file of {size}")
        return [
            (HEADER, header, self.header),
            *((tensor_place(name), count, sha256) for name, count, sha256 in self.tensors),
        ]


Cut = Parts | Tensors
"""How one file is cut into pieces."""


class _Document(StrictModel):
    format: Literal["wmtp-pieces/1"]
    files: dict[RelativePath, Cut] = Field(min_length=1)


def tensor_place(name: str) -> str:
    """What a finding calls the piece that is a tensor."""
    return f"tensor {name}"


def render(cuts: Mapping[str, Cut]) -> bytes:
    """The bytes of ``pieces.json``."""
    document = {
        "format": "wmtp-pieces/1",
        "files": {path: cuts[path].model_dump() for path in sorted(cuts)},
    }
    return (json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def parse(data: bytes, files: Mapping[str, FileRecord], where: str) -> dict[str, list[Piece]]:
    """The pieces of each file that has several.

    Args:
        files: the manifest's files.

    Raises:
        CorruptArtifact: naming the file (``where``), if it is not what :func:`render` made of
            contiguous pieces of exactly these files.
    """
    try:
        document = _Document.model_validate(parse_object(data))
        if render(document.files) != data:
            raise ValueError("written in another form than this project writes")
        return {path: _pieces(path, files[path].size, cut) for path, cut in document.files.items()}
    except ValidationError as error:
        reason = first_problem(error)
    except KeyError as error:
        reason = f"{error.args[0]} is not a file of the manifest"
    except ValueError as error:
        reason = str(error)
    reason = "".join(c if c.isprintable() else "?" for c in reason)[:MAX_REASON]
    raise CorruptArtifact(f"{where}: not the pieces of the artifact's files: {reason}")


def _pieces(path: str, size: int, cut: Cut) -> list[Piece]:
    try:
        sizes = cut.sizes(size)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    ends = accumulate(count for _, count, _ in sizes)
    return [
        Piece(path, end - count, end, sha256, place)
        for (place, count, sha256), end in zip(sizes, ends, strict=True)
    ]


def require_small(record: FileRecord, where: str) -> None:
    """Require a size that :func:`parse` accepts, before the file is read.

    Raises:
        CorruptArtifact: if it is larger.
    """
    if record.size > MAX_SIZE:
        raise CorruptArtifact(
            f"{where}: not the pieces of the artifact's files: longer than {MAX_SIZE} bytes"
        )


def cut_parts(width: int, hashes: Mapping[str, Sequence[str]]) -> dict[str, Cut]:
    """The files of more than one part, given the hashes of each ``width`` bytes."""
    large = {path: [*parts] for path, parts in hashes.items() if len(parts) > 1}
    return {path: Parts(part_size=width, sha256=parts) for path, parts in large.items()}


def parts_of(found: Sequence[Piece], width: int) -> tuple[str, ...]:
    """The SHA-256 of each ``width`` bytes of a file; none where it has other pieces."""
    is_in_parts = [piece.begin for piece in found] == [*range(0, found[-1].end, width)]
    return tuple(piece.sha256 for piece in found) if is_in_parts else ()


def payload(files: Mapping[str, FileRecord], name: str) -> dict[str, FileRecord]:
    """The files apart from the one with the pieces, whose name is ``name``."""
    return {path: record for path, record in files.items() if path != name}


def content_before(manifest: Manifest, name: str) -> str:
    """The content hash that the same files had when the manifest itself held the piece hashes."""
    return content_sha256(payload(manifest.files, name))


def described_before(document: Mapping[str, Any]) -> bool:
    """Whether a manifest has piece hashes in itself, as the version before wrote them."""
    checkpoint = document.get("checkpoint")
    return "parts" in document or (isinstance(checkpoint, dict) and "header_sha256" in checkpoint)
