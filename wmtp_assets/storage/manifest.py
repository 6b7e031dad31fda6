"""The manifest: which files an artifact consists of, and their hashes.

One JSON document per artifact (``metadata.json``, or ``raw.metadata.json`` beside a ``raw/``
folder). Whatever else it says about the artifact, it holds

- ``manifest.files``: path (relative to the manifest's folder) → ``size`` in bytes and ``sha256``;
- ``manifest.content_sha256``: SHA-256 over the lines ``<sha256>  <path>\\n`` in path order, that is
  over what ``sha256sum`` prints for the files: the artifact's version;
- ``made_with``: version of the builder that made it, and the settings that decided about the
  content; a manifest without it, as the version before wrote them, does not say;
- ``created_at``: when this content was first made, UTC;
- ``self_sha256``: SHA-256 of the document's own canonical form (keys sorted, no white space)
  without this key. The file's bytes must also be exactly what :func:`render` makes of the document,
  so that every single bit of a manifest is covered.

Hashes of the pieces of large files are not in the manifest but in a file that it lists: see
:mod:`wmtp_assets.storage.pieces`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from wmtp_assets.base.errors import CorruptArtifact
from wmtp_assets.base.model import RelativePath, Sha256, StrictModel, check_distinct, first_problem
from wmtp_assets.base.strict_json import parse_object

Document = dict[str, Any]

MAX_SIZE = 8 << 20
"""Bytes of a manifest; the largest has 50 kB."""

MAX_VALUES = 50_000
"""Values in it: it is written anew as often as it is read, to be compared."""


class FileRecord(StrictModel):
    """Size in bytes and SHA-256 of one file."""

    size: int = Field(ge=0, strict=True)
    sha256: Sha256


class MadeWith(StrictModel):
    """What made an artifact, apart from its spec and its upstream.

    Attributes:
        builder: version of the builder; changes only when its output does.
        settings: the settings that decided about the content.
    """

    builder: int = Field(ge=1, strict=True)
    settings: dict[str, JsonValue] = Field(default_factory=dict)


_FILES = TypeAdapter(dict[RelativePath, FileRecord])

_sealed: set[bytes] = set()
"""SHA-256 of the bytes of manifests that :func:`parse` found to be as they were written: it need
not write them anew, as a run would do a thousand times."""


@dataclass(frozen=True)
class Manifest:
    """A parsed manifest."""

    document: Document
    files: Mapping[str, FileRecord]
    content_sha256: str

    @property
    def made_with(self) -> MadeWith | None:
        """What made it; None: the manifest does not say, or not as this version does."""
        try:
            return MadeWith.model_validate(self.document.get("made_with"))
        except ValidationError:
            return None

    @property
    def description(self) -> Document:
        """What it says apart from its files, its time and its own hash."""
        sealed = ("created_at", "manifest", "self_sha256")
        return {key: value for key, value in self.document.items() if key not in sealed}

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(record.size for record in self.files.values())


def content_sha256(files: Mapping[str, FileRecord]) -> str:
    """The hash over all file hashes; see the module's text for its exact form."""
    lines = "".join(f"{files[path].sha256}  {path}\n" for path in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def _self_sha256(document: Document) -> str:
    body = {key: value for key, value in document.items() if key != "self_sha256"}
    canonical = json.dumps(
        body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def sha256sums(files: Mapping[str, FileRecord], prefix: str = "") -> bytes:
    """What ``sha256sum`` prints for the files below a folder, so that ``sha256sum -c`` works there.

    A checkpoint comes first, then the others by name: there are programs that take the first hash
    for the checkpoint's.

    Args:
        prefix: the folder with its slash; empty: all files.
    """
    names = sorted(name for name in files if name.startswith(prefix))
    names.sort(key=lambda name: not name.endswith(".safetensors"))
    return "".join(
        f"{files[name].sha256}  {name.removeprefix(prefix)}\n" for name in names
    ).encode()


def render(document: Mapping[str, Any]) -> bytes:
    """The bytes of a JSON document on disk: UTF-8, two spaces of indent, final newline.

    Raises:
        ValueError: for NaN, infinity or a lone surrogate, which neither JSON nor UTF-8 has.
    """
    return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def seal(
    description: Document,
    files: Mapping[str, FileRecord],
    created_at: str,
    previous: Manifest | None,
) -> bytes:
    """The bytes of a manifest over ``files``.

    ``created_at`` is taken from ``previous`` when everything else is equal.
    """
    document: Document = {
        **description,
        "created_at": created_at,
        "manifest": {
            "files": {path: files[path].model_dump() for path in sorted(files)},
            "content_sha256": content_sha256(files),
        },
    }
    if previous is not None:
        same = {**document, "created_at": previous.document["created_at"]}
        if _self_sha256(same) == previous.document["self_sha256"]:
            document = same
    return _signed(document)


def amend(manifest: Manifest, changes: Document) -> bytes:
    """The bytes of a manifest over the same files that says something else about them."""
    return _signed({**manifest.document, **changes})


def _signed(document: Document) -> bytes:
    return render({**document, "self_sha256": _self_sha256(document)})


def parse(data: bytes, where: str) -> Manifest:
    """Read a manifest and check it against itself.

    Raises:
        CorruptArtifact: if it is not what :func:`seal` wrote; ``where`` names the file.
    """
    try:
        document = parse_object(data, MAX_SIZE, MAX_VALUES)
        stated = document["self_sha256"]
        files = _FILES.validate_python(document["manifest"]["files"])
        check_distinct(files)
        content = document["manifest"]["content_sha256"]
        if not isinstance(document["created_at"], str):
            raise TypeError("created_at is not a string")
    except ValidationError as error:
        raise CorruptArtifact(f"{where}: not a manifest: {first_problem(error)}") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CorruptArtifact(f"{where}: not a manifest: {error!r}") from error
    digest = hashlib.sha256(data).digest()
    if digest in _sealed:
        return Manifest(document, files, content)
    found = _self_sha256(document)
    if found != stated or content != content_sha256(files) or render(document) != data:
        raise CorruptArtifact(
            f"{where}: the manifest was changed after it was written: "
            f"its own SHA-256 should be {stated}, but is {found}"
        )
    _sealed.add(digest)
    return Manifest(document, files, content)
