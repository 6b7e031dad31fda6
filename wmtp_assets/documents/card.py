"""The card in the folder of a model or dataset: ``README.md``, with the front matter that the hub
reads, and for a dataset also ``datasets.load_dataset``.

Sources: https://github.com/huggingface/hub-docs/blob/main/modelcard.md and datasetcard.md.
"""

from __future__ import annotations

from typing import Any

from wmtp_assets.base.text import printable
from wmtp_assets.catalogue.specs import DatasetSpec, MicroSpec, ModelSpec
from wmtp_assets.checkpoints.beside import MODEL_FILES, yaml_bytes
from wmtp_assets.datasets.features import fields_of
from wmtp_assets.datasets.process import split_file
from wmtp_assets.datasets.records import format_of
from wmtp_assets.datasets.twin import twin_file
from wmtp_assets.documents import bom
from wmtp_assets.documents.document import DocumentType, Fact, Facts
from wmtp_assets.documents.markdown import Markdown, render

_HUB_LICENSES = {
    "Llama 2 Community License": "llama2",
    "Apache-2.0": "apache-2.0",
    "CC-BY-4.0": "cc-by-4.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
    "MIT": "mit",
}
"""What the hub calls a licence; another is ``other``, with its name."""


def card(facts: Facts) -> bytes:
    """The card of a model or dataset."""
    of = _dataset_card if isinstance(facts.about.spec, DatasetSpec) else _model_card
    return of(facts)


def _model_card(facts: Facts) -> bytes:
    spec = facts.about.spec
    catalogue = facts.store.catalogue
    model = facts.one("safetensors", "micro")
    origin = catalogue.root_of(spec)
    return render(
        "card",
        facts=facts,
        model=model,
        name=MODEL_FILES.checkpoint,
        repository=origin.repository,
        front_matter=_yaml(_model_front_matter(facts, origin)),
        is_loaded=origin.family == "llama"
        or str(model.stated("architecture", "class")).endswith(("ForCausalLM", "LMHeadModel")),
        is_proven=origin.family != "any",
        has_configs=origin.parameters_file is not None,
        embedding_rows=origin.checkpoint.embedding_rows,
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


def _dataset_card(facts: Facts) -> bytes:
    spec: DatasetSpec = facts.about.spec
    processed = facts.one("processed")
    return render(
        "dataset_card",
        facts=facts,
        processed=processed,
        front_matter=_yaml(_dataset_front_matter(facts, processed)),
        fields=[*fields_of(format_of(spec).record.model_json_schema())],
        files=[(split, split_file(split), twin_file(split)) for split in spec.processed_splits],
    )


def _yaml(front_matter: dict[str, Any]) -> Markdown:
    return Markdown(yaml_bytes(_plain(front_matter)).decode().rstrip("\n"))


def _plain(value: Any) -> Any:
    """A value of the front matter, whose texts hold nothing that is not printed."""
    if isinstance(value, str):
        return printable(value, keep="")
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _license(name: str) -> dict[str, str]:
    """What the hub reads about a licence."""
    license = _HUB_LICENSES.get(name)
    return {"license": license} if license else {"license": "other", "license_name": name}


def _dataset_front_matter(facts: Facts, processed: Fact) -> dict[str, Any]:
    """What the hub and ``datasets`` read: the one config is the Parquet twin of every split. Files
    of several formats cannot be configs of one card."""
    spec: DatasetSpec = facts.about.spec
    rows = processed.counted("rows") or 0
    return {
        **_license(spec.repository.license),
        "pretty_name": spec.pretty_name or spec.folder,
        **({"language": list(spec.language)} if spec.language else {}),
        "task_categories": ["text-generation"],
        "size_categories": [_size_category(rows)],
        **({} if spec.repository.is_folder else {"source_datasets": [spec.repository.id]}),
        "tags": ["wmtp", *(("sample",) if facts.is_sample else ())],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": twin_file(split)} for split in spec.processed_splits
                ],
            }
        ],
    }


def _size_category(rows: int) -> str:
    """The hub's word for a number of rows: powers of ten, from a thousand to a trillion."""

    def power(exponent: int) -> str:
        return f"{10 ** (exponent % 3)}{'_KMBT'[exponent // 3]}"

    digits = len(str(rows))
    if digits <= 3:
        return f"n<{power(3)}"
    if digits > 12:
        return f"n>{power(12)}"
    return f"{power(digits - 1)}<n<{power(digits)}"


def _model_front_matter(facts: Facts, origin: ModelSpec) -> dict[str, Any]:
    """What the hub reads; ``origin`` is the model that the bytes come from."""
    return {
        **_license(origin.repository.license),
        **({} if origin.repository.is_folder else {"base_model": origin.repository.id}),
        "library_name": "transformers" if origin.is_loaded else "safetensors",
        "tags": [
            "wmtp",
            *(("micro",) if origin.name != facts.about.spec.name else ()),
            *(("sample",) if facts.is_sample else ()),
        ],
    }


DOCUMENT = DocumentType("README.md", card, beside={bom.FILE: bom.bom})
