"""Whatever others wrote, no command ends with a defect of the program, and nothing is lost.

Manifests whose own hashes were made again, so that they are believed; ``defs.yaml`` files; answers
of a hub. What they say is damaged at random, with fixed seeds.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from wmtp_assets.base.errors import SpecError, WmtpError
from wmtp_assets.catalogue.artifact import INTERNAL, Artifact
from wmtp_assets.catalogue.specs import DEFS_FOLDER, DatasetSpec, ModelSpec
from wmtp_assets.cli import common
from wmtp_assets.cli.main import cli
from wmtp_assets.hub.client import careful_connections
from wmtp_assets.hub.endpoint import Endpoint
from wmtp_assets.hub.remote import resolve
from wmtp_assets.kinds.registry import kind_of, load_catalogue, rules_of
from wmtp_assets.kinds.staleness import reasons
from wmtp_assets.rules.apply import DEFECT, apply_rule
from wmtp_assets.rules.findings import is_warning
from wmtp_assets.sample.server import serve
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.conftest import catalogue
from wmtp_assets_tests.faults.extent import extent
from wmtp_assets_tests.faults.mutations import mutated, resealed
from wmtp_assets_tests.hub.faults import SPECS, Answer, Request, faulty_hub, write_hub
from wmtp_assets_tests.quick import first_of_each

pytestmark = pytest.mark.faults

MANIFESTS = extent(1, 30)
"""Damages of each of the manifests."""

ANSWERS = extent(60, 1000)
"""Damages of what a hub says of a repository."""

DECLARED = extent(15, 200)
"""Damages of each ``defs.yaml``."""

SLOW = ("token_length", "contamination", "sha256", "fast_tokenizer")
"""Rules that are applied to a few damages only."""

DECLARING = [path.relative_to(DEFS_FOLDER).parent for path in DEFS_FOLDER.rglob("defs.yaml")]
DECLARING.sort()
OF_EACH_KIND = first_of_each(catalogue(), lambda artifact: artifact.kind)
KEYS = [artifact.key for artifact in extent(OF_EACH_KIND, [*catalogue()])]


@pytest.fixture
def quiet(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store that the commands use; nothing is made durable, there are thousands."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(common, "load_catalogue", catalogue)
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(store.root))
    monkeypatch.setenv("WMTP_SOURCE", "")
    return store


def run(*arguments: str) -> None:
    """A command; whatever it says, and whatever it ends with but a defect."""
    with (
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
        suppress(WmtpError, click.ClickException, OSError, SystemExit),
    ):
        cli.main(list(arguments), standalone_mode=False)


def commands(key: str, below: str) -> Iterator[tuple[str, ...]]:
    """Those that read manifests and change nothing."""
    yield "status", key, below
    yield "status", "--files", key
    yield "status", "--stale", key, below
    for name in {key, below}:
        yield "show", name
        yield "show", name, "--json"
        yield "rollback", name
        yield "clean", name
    yield "repair", "--dry-run", key
    yield "migrate", "--dry-run", key


def files(root: Path) -> dict[str, tuple[int, int]]:
    """Inode and size of all files but those of ``.wmtp/``."""
    found = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != INTERNAL]
        for name in names:
            status = os.lstat(Path(folder, name))
            found[str(Path(folder, name))] = status.st_ino, status.st_size
    return found


def look(store: Store, artifact: Artifact[Any], *, all_rules: bool) -> None:
    """Apply rules to an artifact and what is made of it, and run the commands over both."""
    below = [item for item in store.catalogue if artifact.key in item.upstream]
    before = files(store.root)
    for item in (artifact, *below):
        for rule in rules_of(item):
            if all_rules or rule.name not in SLOW:
                outcome = apply_rule(rule, store, item)
                assert not [str(it) for it in outcome.findings if it.found.startswith(DEFECT)]
    for arguments in commands(artifact.key, (below or [artifact])[0].key):
        run(*arguments)
    assert files(store.root) == before


@pytest.mark.parametrize("key", KEYS)
def test_manifest_that_is_believed(quiet: Store, key: str) -> None:
    """It may say anything: rules find it, and commands show it or say what is wrong."""
    artifact = quiet.catalogue[key]
    path = quiet.manifest_path(artifact)
    document = json.loads(path.read_bytes())
    chance = random.Random(key)
    for number in range(MANIFESTS):
        path.unlink()
        path.write_bytes(resealed(mutated(document, chance)))
        look(quiet, artifact, all_rules=number == 0)


@pytest.mark.parametrize("key", KEYS)
def test_manifest_that_is_gone(quiet: Store, key: str) -> None:
    """Also where something is about it that cannot do without: a finding that names it."""
    artifact = quiet.catalogue[key]
    quiet.manifest_path(artifact).unlink()
    look(quiet, artifact, all_rules=False)
    for item in quiet.catalogue:
        if item.kind in ("card", "croissant") and key in item.upstream:
            (current,) = [rule for rule in rules_of(item) if rule.name == "current"]
            outcome = apply_rule(current, quiet, item)
            assert not is_warning(outcome)


@pytest.mark.parametrize("key", ["mbpp_processed", "meta_llama_mtp_safetensors"])
def test_manifest_in_the_place_of_another(quiet: Store, key: str) -> None:
    """A good one of another artifact."""
    artifact = quiet.catalogue[key]
    for other in ("humaneval_raw", "micro_mtp", "storage_readme"):
        data = quiet.manifest_path(quiet.catalogue[other]).read_bytes()
        quiet.manifest_path(artifact).unlink()
        quiet.manifest_path(artifact).write_bytes(data)
        look(quiet, artifact, all_rules=False)


@pytest.mark.parametrize("path", DECLARING)
def test_declared(path: Path, tmp_path: Path, empty_store: Store) -> None:
    """Accepted, and then known to every kind; or one error that names the file."""
    folder = tmp_path / "defs"
    shutil.copytree(DEFS_FOLDER, folder)
    file = folder / path / "defs.yaml"
    document = yaml.safe_load(file.read_text())
    chance = random.Random(str(path))
    for _ in range(DECLARED):
        file.write_text(yaml.safe_dump(mutated(document, chance), allow_unicode=False))
        try:
            found = load_catalogue(folder)
        except SpecError as error:
            assert "defs.yaml" in str(error)
            continue
        store = Store(empty_store.settings, found)
        for artifact in found:
            kind_of(artifact).settings(artifact)
            list(reasons(store, artifact, reads=False))


ODD_YAML = (
    "type: x\nattributes: &a [*a]",
    "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n"
    + "".join(
        f"k{n}: &k{n} [*{'c' if not n else f'k{n - 1}'}, *{'c' if not n else f'k{n - 1}'}]\n"
        for n in range(40)
    ),
    "x: 1" + ":59" * 500 + ".5",
    "x: 1:30",
    "x: !!timestamp y",
    "x: !!int ''",
    "x: !!bool y",
    "x: !!float y",
    "? [a]\n: b",
    "x: =",
    "<<: 1",
    "x: 2026-99-99",
    "[" * 5000,
    "x: " + "9" * 5000,
    "x: 1" + "0" * 39,
    "\0",
    "\ufffe",
    "- " * 3000,
    "x" * (1 << 20),
)


@pytest.mark.parametrize("text", ODD_YAML, ids=range(len(ODD_YAML)))
def test_odd_yaml(text: str, tmp_path: Path) -> None:
    """What the parser itself does not expect."""
    (tmp_path / "defs.yaml").write_text(text)
    with pytest.raises(SpecError, match=r"defs\.yaml"):
        load_catalogue(tmp_path)


ODD_JSON = (
    b"[" * 100_000,
    b'{"sha": ' + b"9" * 5000 + b"}",
    b'{"sha": 1e999}',
    b"null",
    b"[]",
    b'"x"',
    b"",
    b"\xff\xfe",
    b'{"sha": "\\ud800"}',
    b'{"id": null, "siblings": null}',
    b"<html>",
)


def test_answers_of_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepted, or one error that names the repository."""
    spec = SPECS["humaneval"]
    assert isinstance(spec, ModelSpec | DatasetSpec)
    chance = random.Random(3)
    bodies: list[bytes | None] = [*ODD_JSON, *[None] * ANSWERS]
    now: list[bytes | None] = [None]

    def change(request: Request, answer: Answer) -> None:
        if request.is_file or answer.status != 200:
            return
        body = now[0]
        if body is None:
            body = json.dumps(mutated(json.loads(answer.body), chance)).encode()
        answer.replace(body)

    monkeypatch.setenv("HF_TOKEN", "")
    with (
        serve(write_hub(tmp_path / "hub", b"x" * 1000)) as url,
        faulty_hub(url) as hub,
        careful_connections(lambda request: None),
    ):
        hub.change = change
        for body in bodies:
            now[0] = body
            with suppress(WmtpError):
                found = resolve(Endpoint(hub.url, "mirror"), spec, "main")
                assert all(file.size < 1 << 60 for file in found.files)
