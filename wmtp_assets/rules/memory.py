"""What a rule read, so that its result can be recalled while all of that is unchanged.

A result is remembered where the rule read committed artifacts only, all of them with the bytes that
were committed. It holds as long as their manifests are the same, no file of them was written since
its bytes were last hashed (:mod:`wmtp_assets.storage.record`), none was added, what training put
beside them is as it was, and neither what is declared nor the program or its parsers changed.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import Field, TypeAdapter

from wmtp_assets.base.model import StrictModel
from wmtp_assets.catalogue.artifact import INTERNAL, Artifact, Catalogue
from wmtp_assets.catalogue.specs import DocumentSpec
from wmtp_assets.rules.findings import NEEDS, Outcome
from wmtp_assets.storage.manifest import Document, Manifest
from wmtp_assets.storage.record import Sign
from wmtp_assets.storage.store import Store

PACKAGE = Path(__file__).parents[1]
SOURCES = (".py", ".jinja")

ABSENT = ""
"""Instead of the hash of a manifest: there is none."""

_OUTCOME = TypeAdapter(Outcome)


class Memory(StrictModel):
    """A result, and what it depends on.

    Attributes:
        program: fingerprint of the package's sources, and of the libraries that parse for it.
        declared: fingerprint of all specs, and of the YAML files beside documents.
        source: ``sample`` or ``hub``.
        manifests: asset that was read → the hash of its manifest over itself.
        guests: what training put among their files → what it was like before it was read.
        said: the outcome.
    """

    program: str
    declared: str
    source: str
    manifests: dict[str, str]
    said: Document
    guests: dict[str, Sign] = Field(default_factory=dict)

    def outcome(self) -> Outcome:
        """The outcome."""
        return _OUTCOME.validate_python(self.said)

    def holds(self, store: Store) -> bool:
        """Whether the rule would read the same again."""
        return (
            self.program == program()
            and self.source == store.settings.source
            and self.declared == declared(store.catalogue)
            and all(
                key in store.catalogue and _state(store, store.catalogue[key]) == sha256
                for key, sha256 in self.manifests.items()
            )
            and self.guests == _guests(store, (store.catalogue[key] for key in self.manifests))
        )


class NotingStore(Store):
    """A store that notes which artifacts are read through it, and whether anything else is."""

    def __init__(self, store: Store) -> None:
        self._elsewhere = False
        self._seen: dict[str, str | None] = {}
        self._guests: dict[str, Sign] = {}
        super().__init__(store.settings, store.catalogue)
        self._plain = store

    @property
    def root(self) -> Path:
        """The root, below which whoever asks may read anything."""
        self._elsewhere = True
        return self.settings.root

    @root.setter
    def root(self, path: Path) -> None: ...

    @property
    def internal(self) -> Path:
        """As :attr:`root`."""
        self._elsewhere = True
        return self.settings.root / INTERNAL

    @internal.setter
    def internal(self, path: Path) -> None: ...

    def folder(self, artifact: Artifact) -> Path:
        """The folder of an artifact, which is noted."""
        if artifact.key not in self._seen:
            self._seen[artifact.key] = None
            self._guests |= _guests(self._plain, [artifact])
        return self.settings.root / artifact.base

    def manifest(self, artifact: Artifact) -> Manifest:
        """The manifest of an artifact, whose hash is noted; another one than before is no good."""
        found = super().manifest(artifact)
        sha256 = found.document["self_sha256"]
        if self._seen.get(artifact.key) not in (None, sha256):
            self._elsewhere = True
        self._seen[artifact.key] = sha256
        return found

    def memory(self, outcome: Outcome) -> Memory | None:
        """What it takes to recall an outcome; None: it must not be."""
        if self._elsewhere or outcome.skipped:  # warnings may have been found before
            return None
        manifests: dict[str, str] = {}
        for key, noted in self._seen.items():
            now = _state(self._plain, self.catalogue[key])
            if now is None or (noted is not None and now != noted):
                return None
            manifests[key] = now
        return Memory(
            program=program(),
            declared=declared(self.catalogue),
            source=self.settings.source,
            manifests=manifests,
            said=_OUTCOME.dump_python(outcome, mode="json"),
            guests=self._guests,
        )


def _state(store: Store, artifact: Artifact) -> str | None:
    """The hash of a manifest over itself, where its files are the committed ones and no other is
    among them, as far as is known without reading them; None where that is not so."""
    manifest = store.find_manifest(artifact)
    if manifest is None:
        return None if store.manifest_path(artifact).exists() else ABSENT
    try:
        is_whole = not store.unread(artifact, manifest) and not store.strays(artifact, manifest)
    except OSError:
        return None
    return manifest.document["self_sha256"] if is_whole else None


def _guests(store: Store, artifacts: Iterable[Artifact]) -> dict[str, Sign]:
    """What training put among the files of artifacts, by path below the root; no manifest lists it,
    so that the file itself says whether it was written."""
    return {
        f"{artifact.base}/{name}": signed
        for artifact in artifacts
        for name, signed in store.sign(artifact, artifact.guests).items()
    }


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


@cache
def program() -> str:
    """Fingerprint of the package's sources, and of the libraries that parse for it."""
    versions = {name: _version(name) for name in NEEDS}
    digest = hashlib.sha256(f"{platform.python_version()} {versions}\n".encode())
    for path in sorted(path for path in PACKAGE.rglob("*") if path.suffix in SOURCES):
        digest.update(f"{path.relative_to(PACKAGE)}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def declared(catalogue: Catalogue) -> str:
    """Fingerprint of all specs, and of the YAML files that documents are made from too."""
    digest = hashlib.sha256(_specs(catalogue))
    for spec in catalogue.specs:
        if isinstance(spec, DocumentSpec):
            for path in sorted(spec.beside("defs.yaml").parent.glob("*.yaml")):
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _specs(catalogue: Catalogue) -> bytes:
    """All specs of a catalogue, which never changes, as JSON."""
    said = [[type(spec).__name__, spec.model_dump(mode="json")] for spec in catalogue.specs]
    return json.dumps(said, sort_keys=True).encode()


program()  # of the sources that this process runs, not of those that are edited while it does
