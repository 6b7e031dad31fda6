"""``docs/migration_notes.md``: where bytes differ from notes, and what replaces the scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.strict_json import parse_object
from wmtp_assets.catalogue.specs import DatasetSpec, MicroSpec, ModelSpec
from wmtp_assets.checkpoints.configs import files_of
from wmtp_assets.checkpoints.safetensors_file import DTYPE_CODES, ITEM_SIZE
from wmtp_assets.datasets.stats import newest_summary
from wmtp_assets.documents.facts import Fact, Facts, heading
from wmtp_assets.documents.markdown import NONE, code, escape, page, paragraph, shown, table
from wmtp_assets.storage.store import materialize_command

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
    "verify_mtp_model.py": ("wmtp verify meta-llama-mtp",),
    "validate_datasets.py": ("wmtp verify codecontests mbpp humaneval",),
    "prepare_local_small_model.py": (materialize_command("*micro_mtp"),),
    "prepare_micro_reference.py": (materialize_command("*micro_ref"),),
    "convert_sharded_to_safetensors.py": (materialize_command("*ref_sheared_llama_safetensors"),),
    "sync_to_vessl_storage.py --include-local-small": (
        "wmtp publish --include-local-small --to vessl://STORAGE/VOLUME/PATH",
        "wmtp verify --release",
    ),
}
"""The scripts there were → what is typed instead."""


def migration_notes(facts: Facts) -> bytes:
    """The document."""
    return page(
        [
            *heading(facts, "Migration notes"),
            *paragraph(
                "What the notes about the models and datasets say, what the bytes say, and what "
                "was decided. Where they differ, the bytes are right."
            ),
            *_dtypes(facts),
            *_sizes(facts),
            *_duplicates(facts),
            *_tying(facts),
            *_counts(facts),
            *_scripts(),
        ]
    )


def _dtypes(facts: Facts) -> Iterator[str]:
    rows = []
    for fact in facts.of("safetensors"):
        noted, found = fact.artifact.dtype, fact.listed("conversion", "from_dtype")
        same = found == [noted]
        decided = "copied" if same else f"cast to {escape(noted)}; overflow is an error"
        rows.append(
            (code(fact.key), shown(noted), shown(found), decided, shown(fact.stated("dtype")))
        )
    yield "## dtypes"
    yield ""
    yield from paragraph(
        "A label is no dtype: it is read from the tensor headers, before and after the conversion."
    )
    yield from table(
        ("asset", "wanted", "raw tensors are", "decided", "committed tensors are"), rows
    )


def _sizes(facts: Facts) -> Iterator[str]:
    rows = []
    for fact in facts.of("safetensors"):
        spec = fact.artifact.spec
        raw = facts.get(fact.artifact.upstream[0])
        checkpoint = fact.file(files_of(fact.artifact).checkpoint)
        if not isinstance(spec, ModelSpec) or raw is None or checkpoint is None:
            continue
        names = spec.files.shards or (spec.files.checkpoint,)
        files = [raw.file(f"raw/{name}") for name in names]
        size = sum(record.size for record in files if record is not None)
        rows.append(
            (
                code(fact.key),
                shown(size),
                shown(len(names)),
                shown(checkpoint.size),
                f"{checkpoint.size / size:.0%}" if size else NONE,
            )
        )
    yield "## Sizes"
    yield ""
    yield from table(
        (
            "asset",
            "right:bytes of the raw checkpoint",
            "right:files",
            "right:bytes of model.safetensors",
            "right:of raw",
        ),
        rows,
    )
    yield from paragraph(
        "Raw files stay as they are, under upstream's names; training reads only the other ones."
    )


def _duplicates(facts: Facts) -> Iterator[str]:
    yield "## Duplicates"
    yield ""
    yield from table(
        ("asset", "right:tensors that stood twice", "right:tensors dropped", "decided"),
        (
            (
                code(fact.key),
                shown(len(fact.listed("conversion", "aliased"))),
                shown(len(fact.listed("conversion", "dropped"))),
                "one of each pair kept, after both were compared; buffers are computed again"
                if fact.artifact.kind == "safetensors"
                else "see below: tied",
            )
            for fact in facts.of("safetensors", "micro")
        ),
    )
    rows = []
    for fact in facts.of("stats"):
        summary = _summary(facts, fact)
        for split, said in summary.items():
            count = said if isinstance(said, dict) else {}
            rows.append(
                (
                    code(fact.artifact.spec.folder),
                    escape(split),
                    shown(count.get("duplicates")),
                    shown(count.get("contradicted")),
                )
            )
    yield from table(("dataset", "split", "right:rows twice", "right:rows contradicted"), rows)
    yield from paragraph(
        "They are kept and marked (`is_duplicate`, `is_contradicted` in the Parquet twin): "
        "upstream has them, and whoever trains decides."
    )
    for fact in facts.of("processed"):
        if renamed := fact.listed("renamed_problems"):
            yield from paragraph(
                f"Problems of {code(fact.artifact.spec.folder)} with the name of another problem "
                f"got one of their own: {', '.join(code(name) for name in renamed)}."
            )


def _summary(facts: Facts, fact: Fact) -> dict[str, Any]:
    """What the newest statistics say of each split."""
    newest = newest_summary(fact.manifest.files)
    if newest is None:
        return {}
    data = facts.read(fact.artifact, newest)
    try:
        splits = parse_object(data).get("splits")
    except ValueError as error:
        raise InvalidInput(f"{fact.key}: {newest}: {error}") from error
    return splits if isinstance(splits, dict) else {}


def _tying(facts: Facts) -> Iterator[str]:
    rows = []
    for fact in facts.of("micro"):
        spec, checkpoint = fact.artifact.spec, fact.file(files_of(fact.artifact).checkpoint)
        tied = fact.stated("conversion", "aliased")
        if not isinstance(spec, MicroSpec) or checkpoint is None or not isinstance(tied, dict):
            continue
        matrix = sum(_bytes_of(fact, name) for name in tied.values())
        rows.append(
            (
                code(fact.key),
                ", ".join(f"{code(lost)} is {code(kept)}" for lost, kept in tied.items()) or NONE,
                shown(checkpoint.size),
                shown(spec.max_bytes),
                shown(checkpoint.size + matrix),
            )
        )
    yield "## Embedding tying"
    yield ""
    yield from paragraph(
        "The notes ask for micro models under a size that embedding and output matrix together do "
        "not fit into. Decided: they are tied. The file has no output matrix, and "
        "`wmtp_assets.load_state_dict` gives it back under its name."
    )
    yield from table(
        ("asset", "tied", "right:bytes", "right:limit", "right:bytes if it were not tied"), rows
    )


def _bytes_of(fact: Fact, tensor: Any) -> int:
    """Bytes of a tensor, as the manifest describes it."""
    if not isinstance(tensor, str):
        return 0
    dtype = fact.stated("checkpoint", "tensors", tensor, "dtype")
    shape = fact.listed("checkpoint", "tensors", tensor, "shape")
    if dtype not in DTYPE_CODES or not all(type(size) is int for size in shape):
        return 0
    return prod(shape) * ITEM_SIZE[DTYPE_CODES[dtype]]


def _counts(facts: Facts) -> Iterator[str]:
    rows = []
    for fact in facts.of("processed"):
        spec = fact.artifact.spec
        assert isinstance(spec, DatasetSpec)
        for name, split in spec.processed_splits.items():
            noted = split.expected.problems if split.expected else split.rows
            labels = split.expected
            rows.append(
                (
                    code(spec.folder),
                    escape(name),
                    shown(noted),
                    shown(fact.counted("splits", name, "upstream_rows")),
                    shown(labels.correct + labels.incorrect) if labels else NONE,
                    shown(fact.counted("splits", name, "rows")),
                )
            )
    yield "## Counts"
    yield ""
    yield from table(
        (
            "dataset",
            "split",
            "right:noted upstream rows",
            "right:upstream rows",
            "right:noted rows",
            "right:rows",
        ),
        rows,
    )
    yield from paragraph(
        "Noted rows were counted with no public tests in `input`; with them fewer rows are short "
        "enough, so another number is a warning where that setting is zero, and says nothing "
        "elsewhere."
    )
    for fact in facts.of("processed"):
        tests, most = fact.counted("public_tests"), fact.counted("max_tokens")
        said = f", {shown(tests)} public tests" if tests is not None else ""
        yield f"- {code(fact.artifact.spec.folder)}: at most {shown(most)} tokens{said}"
    yield ""


def _scripts() -> Iterator[str]:
    yield "## Scripts"
    yield ""
    yield from table(
        ("script", "now"),
        (
            (code(script), "<br>".join(code(command) for command in commands))
            for script, commands in COMMANDS.items()
        ),
    )
    yield from paragraph(
        "Every command is run from the project folder after `source activate.sh`; checks run with "
        "it."
    )
