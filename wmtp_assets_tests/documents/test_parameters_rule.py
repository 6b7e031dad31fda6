"""The rule of the parameter snapshot: what it says is what the models say now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.checkpoints.beside import MODEL_FILES
from wmtp_assets.documents.parameters import DOCUMENT
from wmtp_assets.kinds.registry import all_rules
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints.rules.test_checkpoint import bomb
from wmtp_assets_tests.rules.cases import (
    KEY,
    Case,
    Damage,
    apply,
    document_of,
    edit_manifest,
    edit_yaml,
    elsewhere,
    remove,
    rewrite,
    seal_as,
)
from wmtp_assets_tests.trees import damage, flip, remove_optional

DEFAULTS = DOCUMENT.file
STATEMENT = next(rule.expected for rule in all_rules() if rule.name == "current")
ADAPTER = MODEL_FILES.adapter
MODEL = "../models_v2/micro-mtp"
SOME = r"\{.*\}"


def edit_models(change: Callable[[dict[str, Any]], None]) -> Damage:
    """Change the models in the snapshot as somebody with an editor would, and seal."""

    def rewritten(data: bytes) -> bytes:
        document = yaml.safe_load(data)
        change(document["models"])
        return yaml.safe_dump(document).encode()

    return rewrite(DEFAULTS, rewritten)


def made_before(key: str) -> Damage:
    """Make the snapshot while another artifact is not there."""

    def act(store: Store, artifact: Artifact) -> None:
        path = store.manifest_path(store.catalogue[key])
        aside = path.rename(path.with_name("aside.json"))
        materialize(store, artifact)
        aside.rename(path)

    return act


def only_file_of(key: str, name: str, change: Callable[[bytes], bytes]) -> Damage:
    """Change a file of another artifact and nothing that vouches for it."""
    return lambda store, artifact: damage(store.path(store.catalogue[key], name), change)


def current(name: str, damage: Damage, place: str, expected: str, found: str, **more: Any) -> Case:
    file = more.pop("file", DEFAULTS)
    return Case(name, "current", "parameters", damage, file, place, expected, found, **more)


CASES = [
    current(
        "a number edited by hand",
        rewrite(DEFAULTS, lambda data: data.replace(b"n_params: 24908288", b"n_params: 24908289")),
        "models.micro-mtp.n_params",
        "24908288",
        "24908289",
        findings=2,
    ),
    current(
        "a parameter edited by hand",
        edit_models(lambda models: models["micro-ref"]["parameters"].update(rope_theta=1e6)),
        "models.micro-ref.parameters.rope_theta",
        "10000.0",
        "1000000.0",
    ),
    current(
        "true for 1",
        edit_models(lambda models: models["micro-mtp"]["parameters"]["cache"].update(freqs_cis=1)),
        "models.micro-mtp.parameters.cache.freqs_cis",
        "True",
        "1",
    ),
    current(
        "a path edited by hand",
        edit_models(lambda models: models["micro-ref"].update(checkpoint="/mnt/model.safetensors")),
        "models.micro-ref.checkpoint",
        "models_v2/micro-ref/safetensors/model.safetensors",
        "/mnt/model.safetensors",
    ),
    current(
        "a model taken out",
        edit_models(lambda models: models.pop("micro-ref")),
        "models.micro-ref",
        SOME,
        "nothing",
    ),
    current(
        "a model put in",
        edit_models(lambda models: models.update(mine={})),
        "models.mine",
        "nothing",
        r"\{\}",
    ),
    current(
        "a comment added",
        rewrite(DEFAULTS, lambda data: data + b"# checked\n"),
        "",
        "the file as it is made",
        "the same values, edited by hand",
    ),
    current(
        "written by another program, in another order",
        edit_models(lambda models: None),
        "",
        "the file as it is made",
        "the same values, edited by hand",
    ),
    current("it is empty", rewrite(DEFAULTS, lambda data: b""), "", r"\{.*", "None"),
    current("it is a list", rewrite(DEFAULTS, lambda data: b"- 1\n"), "", r"\{.*", r"\[1\]"),
    *(
        current(name, rewrite(DEFAULTS, lambda data, bad=bad: bad), "", STATEMENT, found)
        for name, bad, found in (
            ("it grows to gigabytes when it is printed", bomb(12), "not plain YAML: an anchor, .*"),
            (
                "it runs a command in a careless reader",
                b"!!python/object/apply:os.system ['true']\n",
                "not plain YAML: an anchor, an alias or a tag",
            ),
            ("it is cut off inside a text", b'models: {"micro', "not YAML: .*"),
            ("it is nested without end", b"[" * 5000, "not YAML: .*"),
            ("it is not text", b"\xff\xfe\xfa", "not YAML: .*"),
        )
    ),
    current(
        "an optional model appeared since it was made",
        made_before("starling_rm_safetensors"),
        "models.starling-rm-7b",
        SOME,
        "nothing",
    ),
    current(
        "a variant appeared since it was made",
        made_before("meta_llama_mtp_bf16"),
        "models.meta-llama-mtp-bf16",
        SOME,
        "nothing",
    ),
    current(
        "a model is gone since it was made",
        elsewhere("starling_rm_safetensors", remove("metadata.json")),
        "models.starling-rm-7b",
        "nothing",
        SOME,
    ),
    current(
        "a model was made anew with other parameters",
        elsewhere("micro_mtp", edit_yaml(ADAPTER, rope_theta=5e5)),
        "models.micro-mtp.parameters.rope_theta",
        "500000.0",
        "10000.0",
    ),
    current(
        "a model was made anew for another device",
        elsewhere("micro_mtp", edit_manifest(target_device="cpu")),
        "models.micro-mtp.target_device",
        "cpu",
        "mps",
    ),
    current(
        "a model's parameters are damaged: that is what must be repaired",
        only_file_of("micro_mtp", ADAPTER, lambda data: data.replace(b"10000.0", b"50000.0")),
        "",
        STATEMENT,
        ".* is damaged: SHA-256 .*",
        file=f"{MODEL}/{ADAPTER}",
        remedy="micro_mtp",
    ),
    current(
        "a model's parameters are missing",
        elsewhere("micro_mtp", remove(ADAPTER)),
        "",
        "a file",
        "nothing",
        file=f"{MODEL}/{ADAPTER}",
        problem="missing",
        remedy="micro_mtp",
    ),
    current(
        "a model's parameters are not YAML",
        elsewhere("micro_mtp", rewrite(ADAPTER, lambda data: b"a: [1,\n")),
        "",
        STATEMENT,
        "not YAML: .*",
        file=f"{MODEL}/{ADAPTER}",
        remedy="micro_mtp",
    ),
    current(
        "a model's parameters grow to gigabytes when they are printed",
        elsewhere("micro_mtp", rewrite(ADAPTER, lambda data: bomb(12))),
        "",
        STATEMENT,
        "not plain YAML: .*",
        file=f"{MODEL}/{ADAPTER}",
        remedy="micro_mtp",
    ),
    current(
        "a model's manifest is damaged: that is what must be repaired",
        only_file_of("micro_mtp", "metadata.json", flip(20)),
        "",
        STATEMENT,
        ".*metadata.json: .*",
        file=f"{MODEL}/metadata.json",
        remedy="micro_mtp",
    ),
    current(
        "a model of another version of this project says less about itself",
        elsewhere("micro_mtp", edit_manifest(status=...)),
        "models.micro-mtp.status",
        "None",
        "required",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_damage_is_found(store: Store, case: Case) -> None:
    """The training repository copies this file: it must not say what no model says any more."""
    case.check(store)


def test_evidence_names_the_models(store: Store) -> None:
    """'Passed' over no model at all looks the same; which ones there are decides what is in it."""
    snapshot = store.catalogue[KEY["parameters"]]
    assert apply(store, snapshot, "current").evidence == {"artifacts": list(snapshot.upstream)}
    remove_optional(store)
    outcome = apply(store, snapshot, "current")
    required = [key for key in snapshot.upstream if not store.catalogue[key].optional]
    assert (outcome.findings, outcome.evidence) == ([], {"artifacts": required})


def test_manifest_of_a_model_that_says_anything_never_crashes(store: Store) -> None:
    """Only what the snapshot shows of it can be wrong; and what it shows may be anything."""
    snapshot, model = store.catalogue[KEY["parameters"]], store.catalogue["micro_mtp"]
    good = document_of(store, model)
    for name in good:
        for value in (..., [7]):
            document = {key: item for key, item in good.items() if key != name}
            seal_as(store, model, document if value is ... else {**document, name: value})
            found = apply(store, snapshot, "current").findings
            assert all(item.file == "configs/defaults.yaml" for item in found)
