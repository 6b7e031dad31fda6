"""The model card in a model's folder: ``README.md``, with the front matter that the hub reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from wmtp_assets.catalogue.specs import DTYPE_SUFFIXES, MicroSpec, ModelSpec
from wmtp_assets.checkpoints.configs import MODEL_FILES
from wmtp_assets.documents.facts import Fact, Facts, heading
from wmtp_assets.documents.markdown import NONE, code, escape, page, paragraph, shown, table
from wmtp_assets.storage.store import materialize_command

_HUB_LICENSES = {
    "Llama 2 Community License": "llama2",
    "Apache-2.0": "apache-2.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
}
"""What the hub calls a licence; another is ``other``, with its name."""

_USE = """\
```python
import wmtp_assets

tensors = wmtp_assets.load_state_dict("safetensors/model.safetensors")
```
"""


def card(facts: Facts) -> bytes:
    """The model card."""
    spec = facts.about.spec
    assert isinstance(spec, ModelSpec | MicroSpec)
    (model,) = facts.of("safetensors", "micro")
    return page(
        [
            *_front_matter(facts),
            *heading(facts, spec.folder),
            escape(spec.description),
            "",
            *_licence(facts),
            *_checkpoint(model),
            *_lineage(model),
            *_use(model, spec),
        ]
    )


def _root(facts: Facts) -> ModelSpec:
    """The model that the bytes come from."""
    spec = facts.about.spec
    name = spec.parent if isinstance(spec, MicroSpec) else spec.name
    models = (other for other in facts.store.catalogue.specs if isinstance(other, ModelSpec))
    return next(model for model in models if model.name == name)


def _front_matter(facts: Facts) -> Iterator[str]:
    root = _root(facts)
    name = root.repository.license
    license = _HUB_LICENSES.get(name, "other")
    document: dict[str, Any] = {
        "license": license,
        **({"license_name": name} if license == "other" else {}),
        "base_model": root.repository.id,
        "library_name": "safetensors" if root.family == "meta_mtp" else "transformers",
        "tags": [
            "wmtp",
            *(("micro",) if isinstance(facts.about.spec, MicroSpec) else ()),
            *(("sample",) if facts.is_sample else ()),
        ],
    }
    yield "---"
    yield from yaml.safe_dump(document, sort_keys=False, allow_unicode=True).splitlines()
    yield "---"
    yield ""


def _licence(facts: Facts) -> Iterator[str]:
    repository = _root(facts).repository
    gated = "; access is given there after its licence is accepted" if repository.gated else ""
    yield from paragraph(
        f"Licence: {escape(repository.license)}, that of {code(repository.id)}{gated}."
    )


def _checkpoint(model: Fact) -> Iterator[str]:
    yield "## Checkpoint"
    yield ""
    checkpoint = model.file(MODEL_FILES.checkpoint)
    yield from table(
        ("", ""),
        (
            ("file", code(MODEL_FILES.checkpoint)),
            ("bytes", shown(checkpoint.size) if checkpoint else NONE),
            ("SHA-256", code(checkpoint.sha256) if checkpoint else NONE),
            ("version", shown(model.version)),
            ("numbers", shown(model.counted("n_params"))),
            ("tensors", shown(len(model.listed("checkpoint", "tensors")))),
            ("dtype", shown(model.stated("dtype"))),
            ("meant for", shown(model.stated("target_device"))),
        ),
    )
    yield "The hash of each tensor stands in `metadata.json`, parameters in `configs/`."
    yield ""


def _lineage(model: Fact) -> Iterator[str]:
    said = model.stated
    yield "## Lineage"
    yield ""
    yield from table(
        ("", ""),
        (
            ("repository", code(said("source", "repo"))),
            ("revision", code(said("source", "revision"))),
            ("fetched from", shown(said("source", "endpoint"))),
            ("cast from", shown(model.listed("conversion", "from_dtype"))),
            ("tensors dropped", shown(len(model.listed("conversion", "dropped")))),
            ("tensors that are others", shown(len(model.listed("conversion", "aliased")))),
            ("tokenizer of", shown(said("tokenizer_shared_with") or model.artifact.spec.folder)),
            *(
                (f"made from {code(key)}", code(said("upstream", key)))
                for key in model.listed("upstream")
            ),
        ),
    )
    files = said("source", "files")
    if isinstance(files, dict) and files:
        yield from table(
            ("upstream file", "SHA-256"),
            ((code(name), code(sha256)) for name, sha256 in files.items()),
        )
    blocks = said("conversion", "blocks")
    if isinstance(blocks, dict) and blocks:
        yield "Cut by weight magnitude, which makes no claim of quality:"
        yield ""
        yield from table(
            ("block", "cut from"), ((code(here), code(there)) for here, there in blocks.items())
        )


def _use(model: Fact, spec: ModelSpec | MicroSpec) -> Iterator[str]:
    yield "## Use"
    yield ""
    yield _USE
    if isinstance(spec, ModelSpec) and spec.variants:
        for dtype in spec.variants:
            key = f"{spec.name}_{DTYPE_SUFFIXES[dtype]}"
            yield f"In {dtype} it is made by `{materialize_command(key)}`."
        yield ""
    yield from paragraph(
        "To verify it: `sha256sum -c SHA256SUMS` in `safetensors/`, or "
        f"`wmtp verify {spec.folder}`."
    )
