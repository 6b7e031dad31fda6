"""Pictures are drawn once, and again when what they show, or the program, is another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.kinds import drawn
from wmtp_assets.kinds.drawn import pictures_of
from wmtp_assets.kinds.registry import kind_of
from wmtp_assets.storage.manifest import Document
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.rules.cases import edit_manifest

KEY = "micro_mtp"


@pytest.fixture
def told(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gets the key of each artifact whose pictures are drawn."""
    told: list[str] = []
    plain = kind_of(store.catalogue[KEY])

    def draw(store: Store, artifact: Artifact, document: Document) -> list[tuple[str, bytes]]:
        told.append(artifact.key)
        assert plain.pictures is not None
        return [*plain.pictures(store, artifact, document)]

    monkeypatch.setattr(drawn, "kind_of", lambda artifact: replace(plain, pictures=draw))
    return told


def _pictures(store: Store) -> dict[str, bytes]:
    artifact = store.catalogue[KEY]
    return {**pictures_of(store, artifact, store.manifest(artifact))}


def test_unchanged_is_drawn_once(store: Store, told: list[str]) -> None:
    """Half of what an unchanged artifact cost was its pictures, which were the same."""
    first = _pictures(store)
    assert first["size_by_part"].startswith(b"<?xml")
    assert _pictures(store) == first
    assert told == [KEY]


def _other_manifest(store: Store, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit_manifest(version="9.9.9")(store, store.catalogue[KEY])


def _other_program(store: Store, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn, "program", lambda: "another")


def _other_library(store: Store, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn, "version", lambda name: "0.0")


def _cut_off(store: Store, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.write_bytes(kept.read_bytes()[:-7])


def _removed(store: Store, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.unlink()


@pytest.mark.parametrize(
    "change", [_other_manifest, _other_program, _other_library, _cut_off, _removed]
)
def test_drawn_again(
    store: Store,
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Store, Path, pytest.MonkeyPatch], None],
) -> None:
    """A picture of what was there before would lie; a damaged one must not fail the run."""
    first = _pictures(store)
    change(store, store.internal / "drawn" / KEY / "pictures.json", monkeypatch)
    assert _pictures(store) == first
    assert _pictures(store) == first
    assert told == [KEY, KEY]


def test_root_that_cannot_be_written(
    store: Store, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pictures are shown, and are drawn the next time too."""

    def refuse(path: Path, data: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(drawn, "replace_file", refuse)
    assert _pictures(store) == _pictures(store) != {}
    assert told == [KEY, KEY]
