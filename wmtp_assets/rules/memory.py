"""What a rule read, so that its result can be recalled while all of that is unchanged.

A result is remembered where the rule read committed artifacts only, all of them with the bytes that
were committed. It holds as long as their manifests are the same, no file of them was written since
its bytes were last hashed (:mod:`wmtp_assets.storage.record`), none was added, what training may
put beside them is as it was, and neither what is declared nor the program changed.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from wmtp_assets.base.model import StrictModel
from wmtp_assets.catalogue.artifact import INTERNAL, Artifact, Catalogue
from wmtp_assets.catalogue.specs import DocumentSpec
from wmtp_assets.rules.findings import Outcome
from wmtp_assets.storage.manifest import Document, Manifest
from wmtp_assets.storage.store import Store

PACKAGE = Path(__file__).parents[1]
SOURCES = (".py", ".jinja")

ABSENT = ""
"""Instead of the hash of a manifest: there is none."""

_OUTCOME = TypeAdapter(Outcome)


class Memory(StrictModel):
    """A result, and what it depends on.

    Attributes:
        program: fingerprint of the package's sources.
        declared: fingerprint of all specs, and of the YAML files beside documents.
        source: ``sample`` or ``hub``.
        manifests: asset that was read → the hash of its manifest over itself, and its guests.
        said: the outcome.
    """

    program: str
    declared: str
    source: str
    manifests: dict[str, str]
    said: Document

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
                key in store.catalogue
                and (state := _state(store, store.catalogue[key])) is not None
                and state + _guests(store, store.catalogue[key]) == known
                for key, known in self.manifests.items()
            )
        )


class NotingStore(Store):
    """A store that notes which artifacts are read through it, and whether anything else is."""

    def __init__(self, store: Store) -> None:
        self._elsewhere = False
        self._seen: dict[str, str | None] = {}
        self._guests: dict[str, str] = {}
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
        self._seen.setdefault(artifact.key, None)
        if artifact.key not in self._guests:  # before anything of it is read
            self._guests[artifact.key] = _guests(self._plain, artifact)
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
        if self._elsewhere:
            return None
        manifests: dict[str, str] = {}
        for key, noted in self._seen.items():
            artifact = self.catalogue[key]
            state, guests = _state(self._plain, artifact), _guests(self._plain, artifact)
            if state is None or noted not in (None, state) or guests != self._guests[key]:
                return None
            manifests[key] = state + guests
        return Memory(
            program=program(),
            declared=declared(self.catalogue),
            source=self.settings.source,
            manifests=manifests,
            said=_OUTCOME.dump_python(outcome, mode="json"),
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


def _guests(store: Store, artifact: Artifact) -> str:
    """What lies where training may put files, which no manifest lists; empty: nothing."""
    signed = store.sign(artifact, artifact.guests)
    return f" {json.dumps(signed, sort_keys=True)}" if signed else ""


@cache
def program() -> str:
    """Fingerprint of the package's sources."""
    digest = hashlib.sha256()
    for path in sorted(path for path in PACKAGE.rglob("*") if path.suffix in SOURCES):
        digest.update(f"{path.relative_to(PACKAGE)}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def declared(catalogue: Catalogue) -> str:
    """Fingerprint of all specs, and of the YAML files that documents are made from too."""
    digest = hashlib.sha256()
    for spec in catalogue.specs:
        said = json.dumps([type(spec).__name__, spec.model_dump(mode="json")], sort_keys=True)
        digest.update(said.encode())
        beside = (
            spec.beside("defs.yaml").parent.glob("*.yaml") if isinstance(spec, DocumentSpec) else ()
        )
        for path in sorted(beside):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
