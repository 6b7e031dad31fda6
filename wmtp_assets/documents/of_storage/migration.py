"""``docs/migration_notes.md``: where bytes differ from notes, and what replaces the scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.strict_json import parse_object
from wmtp_assets.base.yaml_file import read_model
from wmtp_assets.catalogue.specs import ModelSpec
from wmtp_assets.checkpoints.safetensors_file import DTYPE_CODES, ITEM_SIZE
from wmtp_assets.datasets.stats import newest_summary
from wmtp_assets.documents.document import DocumentType, Fact, Facts
from wmtp_assets.documents.edited import Notes, Quote, action_items
from wmtp_assets.documents.markdown import render
from wmtp_assets.rules.findings import stated
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.store import materialize_command

VESSL = "vessl://STORAGE/VOLUME/PATH"

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "setup_models.py": (
        materialize_command("group:models or group:micro"),
        "wmtp plan",
        "wmtp adopt PATH",
    ),
    "setup_datasets.py --steps download": (
        materialize_command("codecontests_raw,mbpp_raw,humaneval_raw"),
    ),
    "setup_datasets.py --steps process": (
        materialize_command("codecontests_processed,mbpp_processed,humaneval_processed"),
    ),
    "setup_datasets.py --steps small": (materialize_command("group:small"),),
    "setup_datasets.py --steps stats": (
        materialize_command("codecontests_stats,mbpp_stats,humaneval_stats"),
    ),
    "setup_datasets.py (all steps)": (materialize_command("group:datasets or group:small"),),
    "prepare.py --dataset codecontests": (
        materialize_command("codecontests_processed,codecontests_pairs,codecontests_stats"),
    ),
    "verify_mtp_model.py": ("wmtp verify meta-llama-mtp",),
    "validate_datasets.py": ("wmtp verify codecontests mbpp humaneval",),
    "verify_storage.py": ("wmtp verify", materialize_command("completion_report")),
    "prepare_local_small_model.py": (materialize_command("*micro_mtp"),),
    "prepare_micro_reference.py": (materialize_command("*micro_ref"),),
    "convert_sharded_to_safetensors.py": (materialize_command("*ref_sheared_llama_safetensors"),),
    "sync_to_vessl_storage.py": (f"wmtp publish --to {VESSL}", "wmtp verify --release"),
    "sync_to_vessl_storage.py --include-local-small": (
        f"wmtp publish --include-local-small --to {VESSL}",
        "wmtp verify --release",
    ),
    "sync_to_vessl_storage.py --dry-run": (f"wmtp publish --dry-run --to {VESSL}",),
}
"""The scripts there were → what is typed instead."""


def migration_notes(facts: Facts) -> bytes:
    """The document.

    Raises:
        InvalidInput: if statistics are not JSON, or a YAML file beside the spec is wrong.
    """
    notes = read_model(facts.about.spec.beside("notes.yaml"), Notes)
    return render(
        "of_storage/migration",
        facts=facts,
        sizes=_sizes(facts),
        summary=_summary,
        stated=stated,
        tied=_tied(facts),
        commands=COMMANDS,
        notes=notes,
        quoted=_quoted(facts, notes),
        action_items=action_items(facts.store.catalogue),
    )


def _quoted(facts: Facts, notes: Notes) -> Iterator[tuple[Quote, str, str, int | None]]:
    """Each number of rows that a document says, its split, and the rows that were counted."""
    processed = {fact.artifact.spec.name: fact for fact in facts.of("processed")}
    for quote in notes.quoted_counts:
        fact = processed.get(quote.dataset)
        for split, said in quote.rows.items():
            yield quote, split, said, fact.counted("splits", split, "rows") if fact else None


def _sizes(facts: Facts) -> Iterator[tuple[Fact, FileRecord, int, int]]:
    """Of each model its checkpoint, and how many bytes and files the raw one has."""
    for fact in facts.of("safetensors"):
        spec, raw, checkpoint = fact.artifact.spec, facts.upstream(fact, "raw"), fact.checkpoint
        if isinstance(spec, ModelSpec) and raw is not None and checkpoint is not None:
            names = spec.files.shards or (spec.files.checkpoint,)
            files = [raw.file(f"raw/{name}") for name in names]
            yield fact, checkpoint, sum(file.size for file in files if file), len(names)


def _summary(facts: Facts, fact: Fact) -> dict[str, Any]:
    """What the newest statistics say of each split."""
    newest = newest_summary(fact.manifest.files)
    if newest is None:
        return {}
    try:
        splits = parse_object(facts.read(fact.artifact, newest)).get("splits")
    except ValueError as error:
        raise InvalidInput(f"{fact.key}: {newest}: {error}") from error
    return splits if isinstance(splits, dict) else {}


def _tied(facts: Facts) -> Iterator[tuple[Fact, int, int]]:
    """Of each tied micro model the bytes of its checkpoint, and of what is tied in it."""
    for fact in facts.of("micro"):
        tied = fact.stated("conversion", "aliased")
        if fact.checkpoint is not None and isinstance(tied, dict) and tied:
            yield fact, fact.checkpoint.size, sum(_bytes_of(fact, name) for name in tied.values())


def _bytes_of(fact: Fact, tensor: Any) -> int:
    """Bytes of a tensor, as the manifest describes it."""
    if not isinstance(tensor, str):
        return 0
    dtype = fact.stated("checkpoint", "tensors", tensor, "dtype")
    shape = fact.listed("checkpoint", "tensors", tensor, "shape")
    if dtype not in DTYPE_CODES or not all(type(size) is int for size in shape):
        return 0
    return prod(shape) * ITEM_SIZE[DTYPE_CODES[dtype]]


DOCUMENT = DocumentType(
    "migration_notes.md", migration_notes, edited=("action_items.yaml", "notes.yaml")
)
