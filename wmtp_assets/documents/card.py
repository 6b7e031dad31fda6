"""The model card in a model's folder: ``README.md``, with the front matter that the hub reads."""

from __future__ import annotations

from typing import Any

from wmtp_assets.catalogue.specs import MicroSpec, ModelSpec
from wmtp_assets.checkpoints.beside import MODEL_FILES, yaml_bytes
from wmtp_assets.documents.document import DocumentType, Facts
from wmtp_assets.documents.markdown import Markdown, render

_HUB_LICENSES = {
    "Llama 2 Community License": "llama2",
    "Apache-2.0": "apache-2.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
}
"""What the hub calls a licence; another is ``other``, with its name."""


def card(facts: Facts) -> bytes:
    """The model card."""
    spec = facts.about.spec
    catalogue = facts.store.catalogue
    (model,) = facts.of("safetensors", "micro")
    origin = catalogue.root_of(spec)
    return render(
        "card",
        facts=facts,
        model=model,
        name=MODEL_FILES.checkpoint,
        repository=origin.repository,
        front_matter=Markdown(yaml_bytes(_front_matter(facts, origin)).decode().rstrip("\n")),
        is_loaded=origin.family == "llama",
        siblings=[
            other
            for other in catalogue.of_kind("micro")
            if isinstance(spec, MicroSpec)
            and not other.spec.tied
            and (other.spec.parent, other.spec.shape) == (spec.parent, spec.shape)
        ],
        variants=[
            other
            for other in catalogue
            if other.spec.name == spec.name and other.dtype not in (None, model.artifact.dtype)
        ],
    )


def _front_matter(facts: Facts, origin: ModelSpec) -> dict[str, Any]:
    """What the hub reads; ``origin`` is the model that the bytes come from."""
    name = origin.repository.license
    license = _HUB_LICENSES.get(name, "other")
    return {
        "license": license,
        **({"license_name": name} if license == "other" else {}),
        "base_model": origin.repository.id,
        "library_name": "safetensors" if origin.family == "meta_mtp" else "transformers",
        "tags": [
            "wmtp",
            *(("micro",) if origin.name != facts.about.spec.name else ()),
            *(("sample",) if facts.is_sample else ()),
        ],
    }


DOCUMENT = DocumentType("README.md", card)
