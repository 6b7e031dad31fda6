"""What changed is made again, and nothing else: every field of every spec, changed in turn."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from wmtp_assets.base.child import directly
from wmtp_assets.base.errors import SpecError, WmtpError
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import DEFS_FOLDER
from wmtp_assets.kinds.registry import load_catalogue, rules_of
from wmtp_assets.kinds.staleness import Reason, reasons
from wmtp_assets.operations.materialize import build_staged
from wmtp_assets.rules.apply import apply_rule
from wmtp_assets.rules.findings import differences, is_warning
from wmtp_assets.storage.manifest import Manifest
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.examples import EPOCH
from wmtp_assets_tests.quick import first_of_each, quick, thinned

NOT_CONTENT = ("made_with", "upstream")
"""What a manifest says of the making."""

OTHER: dict[str, Any] = {
    "version": "v9.0.0",
    "status": "optional",
    "family": "llama_reward",
    "dtype": "float32",
    "variants": ["float32"],
    "type": "dataset",
    "revision": "0" * 40,
    "license": "MIT",
    "size": "1 GB",
    "converter": "gsm8k",
    "sha256": "0" * 64,
    "sample_sha256": "0" * 64,
    "extras": [],
    "parent": "ref_sheared_llama",
    "dim": 256,
    "n_layers": 3,
    "n_heads": 2,
    "n_kv_heads": 2,
    "multiple_of": 32,
    "ffn_dim_multiplier": 0.25,
    "max_bytes": 60_000_000,
    "tokenizer": "ref_sheared_llama_tokenizer",
    "max_tokens": 300,
    "public_tests": 1,
    "uses": ["evaluation"],
    "citation": "A. Nobody: Nothing.",
    "target_device": "cpu",
    "train": 5,
    "other": 5,
    "seed": 1,
    "evaluation": ["test"],
    "document": "inventory",
}
"""Field → another value that it may have; of others one is made of what they have."""

UNTRIED = ("shared_with", "gated")
"""Fields that no other value fits without another field: ``shared_with`` excludes the facts; and
``gated`` says something about people's access."""


def leaves(value: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """The paths of the fields of a document."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, *path, key)
    else:
        yield path


def fields() -> Iterator[tuple[str, str]]:
    """File below the folder of definitions, and field with dots."""
    catalogue = load_catalogue()
    for spec in catalogue.specs:
        file = Path(spec.where).relative_to(DEFS_FOLDER).as_posix()
        for path in leaves(spec.model_dump(mode="json")):
            if path[-1] not in UNTRIED and path[0] != "sections":
                yield file, ".".join(path)


def changed(name: str, value: Any) -> Any:
    """Another value of a field."""
    if name in OTHER and OTHER[name] != value:
        return OTHER[name]
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return f"{value}x"
        case list():
            return value[:-1]
    raise AssertionError((name, value))


def change(folder: Path, file: str, field: str) -> bool:
    """Change a field of a ``defs.yaml``; whether what then stands there may stand there."""
    path = folder / file
    document = yaml.safe_load(path.read_text())
    spec = next(s for s in load_catalogue(folder).specs if Path(s.where) == path).model_dump(
        mode="json"
    )
    *above, last = field.split(".")
    at = spec
    for key in above:
        at = at[key]
    place = document["attributes"]
    for key in above:
        place = place.setdefault(key, {})
    try:
        place[last] = changed(last, at[last])
    except AssertionError:
        return False
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    try:
        load_catalogue(folder)
    except SpecError:
        return False
    return True


def is_within_reach(store: Store, artifact: Artifact, specs: set[str]) -> bool:
    """Whether a builder of the artifact can see one of the specs: its own, or that of what it is
    made from, or all of them where it is a document."""
    return (
        artifact.is_generated
        or artifact.spec.name in specs
        or any(is_within_reach(store, store.catalogue[key], specs) for key in artifact.upstream)
    )


class Made:
    """An artifact that was made again.

    Attributes:
        is_there: whether it was there before.
        refusal: why it could not be made; empty: it was, and committed.
        changes: where its files, and what its manifest says of them, are others now.
    """

    def __init__(self, store: Store, artifact: Artifact) -> None:
        before = store.find_manifest(artifact)
        self.is_there = before is not None
        self.refusal = ""
        self.changes: list[Any] = []
        with store.stage(artifact) as staged:
            try:
                description = build_staged(store, artifact, staged, run=directly)
            except WmtpError as error:
                self.refusal = str(error)
                return
            manifest = store.commit(artifact, staged, description)
        if before is not None:
            self.changes = [*differences(_said(before), _said(manifest))]


def _said(manifest: Manifest) -> dict[str, Any]:
    """What a manifest says but of the making."""
    said = {k: v for k, v in manifest.description.items() if k not in NOT_CONTENT}
    return {**said, "manifest.files": {k: v.sha256 for k, v in manifest.files.items()}}


OF_EACH_KIND = ("datasets/mbpp", "models/micro_ref/", "models/starling_rm", "reports/")
"""Specs of which ``make test-long`` changes one of each group of fields; ``make test-full`` changes
all fields of all specs."""
QUICK = [
    ("datasets/mbpp/defs.yaml", field)
    for field in ("small.train", "description", "citation", "max_tokens", "version", "uses")
]
KEPT = first_of_each(
    [case for case in fields() if case[0].startswith(OF_EACH_KIND)],
    lambda case: case[1].partition(".")[0],
)
CASES = thinned(fields(), [*KEPT, *QUICK])


@pytest.mark.parametrize(("file", "field"), quick(CASES, QUICK))
def test_field_makes_stale_what_it_decides(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, field: str
) -> None:
    """A field too many costs hours of conversion for nothing; a field too few leaves an artifact
    that is not what its ``defs.yaml`` says, and nobody is told.

    Everything that a builder could have read the field for is made, upstream first. What was not
    stale is what it was; what was stale for its settings is not.
    """
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)  # statistics have the day in their name
    folder = tmp_path / "defs"
    shutil.copytree(DEFS_FOLDER, folder)
    if not change(folder, file, field):
        pytest.skip("no other value fits alone")
    catalogue = load_catalogue(folder)
    now = Store(store.settings, catalogue)
    specs = {spec.name for spec in catalogue.specs if spec.where == str(folder / file)}
    wrong: list[str] = []
    for artifact in catalogue:
        if not is_within_reach(now, artifact, specs):
            continue
        if any(now.find_manifest(catalogue[key]) is None for key in artifact.upstream):
            continue
        found = reasons(now, artifact)
        made = Made(now, artifact)
        by_fields = [reason for reason in found if reason.why == "settings changed"]
        if not made.is_there:
            assert found == [Reason("never made")]
        elif made.refusal and not found:
            failed = [
                rule.name
                for rule in rules_of(artifact)
                if not is_warning(apply_rule(rule, now, artifact))
            ]
            if not failed:
                wrong.append(f"{artifact.key}: refused, and no rule fails: {made.refusal}")
        elif made.changes and not found:
            wrong.append(f"{artifact.key}: was not stale, and is another: {made.changes}")
        elif found == by_fields != [] and not made.refusal and not made.changes:
            wrong.append(f"{artifact.key}: it is the same, and was stale: {found}")
    assert not wrong, "\n".join(wrong)
