"""The examples in ``docs/examples/`` are the sample's documents as they are made."""

from __future__ import annotations

import json

import pytest

from wmtp_assets.documents.document import SAMPLE
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.examples import FOLDER, examples_of


@pytest.mark.long
def test_examples_are_what_is_made(store: Store) -> None:
    """Whoever reads them decides whether to trust the real ones. If this fails because a document
    was changed on purpose: ``make examples``."""
    made = examples_of(store)
    there = {
        path.relative_to(FOLDER).as_posix(): path.read_bytes()
        for path in FOLDER.rglob("*")
        if path.is_file()
    }
    assert made.keys() == there.keys()
    for name, data in made.items():
        assert data.decode() == there[name].decode(), name


def test_examples_say_that_they_are_the_samples() -> None:
    """A table of sizes of random weights must not be taken for that of the real ones."""
    for path in FOLDER.rglob("*.md"):
        text = path.read_text()
        body = text.split("\n---\n\n", 1)[1] if text.startswith("---\n") else text
        assert body.startswith(f"> {SAMPLE}\n"), path
    release = json.loads((FOLDER / "RELEASE.json").read_text())
    assert next(iter(release.values())) == SAMPLE
    croissant = json.loads((FOLDER / "mbpp/croissant.json").read_text())
    assert croissant["description"].startswith(SAMPLE)
