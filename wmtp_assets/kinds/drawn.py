"""The pictures of an artifact, which are drawn once.

Drawing costs more than all else that is done for an artifact that is unchanged. So its pictures are
kept in ``<root>/.wmtp/drawn/<asset>/pictures.json``, and are drawn again when the manifest, the
program or the library that draws is another.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from wmtp_assets.base.model import StrictModel
from wmtp_assets.base.strict_json import read_small
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.kinds.registry import kind_of
from wmtp_assets.rules.memory import program
from wmtp_assets.storage.files import replace_file
from wmtp_assets.storage.manifest import Manifest
from wmtp_assets.storage.store import Store

FOLDER = "drawn"


class Drawn(StrictModel):
    """Pictures, and what they depend on.

    Attributes:
        manifest: the hash of the artifact's manifest over itself.
        program: fingerprint of the package's sources, and version of matplotlib.
        pictures: name → SVG.
    """

    manifest: str
    program: str
    pictures: dict[str, str]


def pictures_of(store: Store, artifact: Artifact[Any], manifest: Manifest) -> Mapping[str, bytes]:
    """Names and SVGs of what of an artifact is better seen than read.

    Raises:
        MissingArtifact, CorruptArtifact: as :attr:`Kind.pictures`, where they are drawn.
    """
    draw = kind_of(artifact).pictures
    if draw is None:
        return {}
    path = store.internal / FOLDER / artifact.key / "pictures.json"
    made_of = {
        "manifest": manifest.document["self_sha256"],
        "program": f"{program()} {version('matplotlib')}",
    }
    with suppress(OSError, ValueError):  # never drawn, or damaged
        kept = Drawn.model_validate_json(read_small(path))
        if made_of == kept.model_dump(include={*made_of}):
            return {name: picture.encode() for name, picture in kept.pictures.items()}
    pictures = dict(draw(store, artifact, manifest.document))
    said = {name: picture.decode() for name, picture in pictures.items()}
    with suppress(OSError):  # storage may be mounted for reading only
        replace_file(path, Drawn(**made_of, pictures=said).model_dump_json().encode())
    return pictures
