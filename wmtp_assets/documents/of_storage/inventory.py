"""``docs/phase1_asset_inventory.md``: every artifact, every file."""

from __future__ import annotations

from collections.abc import Iterator

from wmtp_assets.checkpoints.configs import files_of
from wmtp_assets.documents.facts import Facts, heading
from wmtp_assets.documents.markdown import NONE, code, escape, page, shown, table


def inventory(facts: Facts) -> bytes:
    """The document."""
    return page(
        [
            *heading(facts, "Asset inventory"),
            *_origins(facts),
            *_checkpoints(facts),
            *_datasets(facts),
            *_lineage(facts),
            *_files(facts),
        ]
    )


def _origins(facts: Facts) -> Iterator[str]:
    yield "## Origins"
    yield ""
    yield from table(
        ("asset", "repository", "revision", "pinned", "licence", "fetched from", "right:bytes"),
        (
            (
                code(fact.key),
                code(fact.stated("source", "repo")),
                code(fact.stated("source", "revision")),
                "yes" if fact.stated("source", "pinned") is True else "no",
                shown(fact.stated("source", "license")),
                shown(fact.stated("source", "endpoint")),
                shown(fact.size),
            )
            for fact in facts.of("raw")
        ),
    )


def _checkpoints(facts: Facts) -> Iterator[str]:
    yield "## Checkpoints"
    yield ""
    rows = []
    for fact in facts.of("safetensors", "micro"):
        checkpoint = fact.file(files_of(fact.artifact).checkpoint)
        rows.append(
            (
                code(fact.key),
                shown(fact.counted("n_params")),
                shown(len(fact.listed("checkpoint", "tensors"))),
                shown(fact.stated("dtype")),
                shown(fact.listed("conversion", "from_dtype")),
                shown(fact.stated("target_device")),
                shown(fact.stated("status")),
                shown(checkpoint.size) if checkpoint else NONE,
                code(checkpoint.sha256) if checkpoint else NONE,
            )
        )
    yield from table(
        (
            *("asset", "right:numbers", "right:tensors", "dtype", "cast from", "device", "status"),
            *("right:bytes", "SHA-256 of the checkpoint"),
        ),
        rows,
    )
    yield "## Tokenizers"
    yield ""
    yield from table(
        ("asset", "right:pieces", "shared with", "SHA-256 of tokenizer.model"),
        (
            (
                code(fact.key),
                shown(fact.counted("vocab_size")),
                shown(fact.stated("tokenizer_shared_with")),
                code(record.sha256) if (record := fact.file("tokenizer.model")) else NONE,
            )
            for fact in facts.of("tokenizer")
        ),
    )


def _datasets(facts: Facts) -> Iterator[str]:
    yield "## Datasets"
    yield ""
    names = ("upstream_rows", "samples", "rows", "problems", "crlf_rows")
    rows = []
    for fact in facts.of("processed"):
        for split in fact.listed("splits"):
            dropped = fact.stated("splits", split, "dropped")
            pairs = dropped.items() if isinstance(dropped, dict) else ()
            rows.append(
                (
                    code(fact.key),
                    escape(split),
                    *(shown(fact.counted("splits", split, name)) for name in names),
                    ", ".join(f"{escape(why)} {shown(count)}" for why, count in pairs) or NONE,
                )
            )
    titles = ("upstream rows", "samples", "rows", "problems", "rows with CRLF")
    yield from table(("asset", "split", *(f"right:{title}" for title in titles), "dropped"), rows)
    rows = [
        (code(fact.key), escape(split), shown(fact.counted("splits", split, "rows")))
        for fact in facts.of("pairs", "small")
        for split in fact.listed("splits")
    ]
    yield from table(("asset", "split", "right:rows"), rows)


def _lineage(facts: Facts) -> Iterator[str]:
    yield "## Lineage"
    yield ""
    yield from table(
        ("asset", "made from", "with the content"),
        (
            (code(fact.key), code(key), code(fact.stated("upstream", key)))
            for fact in facts.there
            for key in fact.listed("upstream")
        ),
    )
    if facts.absent:
        yield "Optional, and not there: " + ", ".join(code(item.key) for item in facts.absent) + "."
        yield ""


def _files(facts: Facts) -> Iterator[str]:
    yield "## Files"
    yield ""
    yield from table(
        ("asset", "file", "right:bytes", "SHA-256"),
        (
            (
                code(fact.key),
                code(f"{fact.artifact.base}/{name}"),
                shown(record.size),
                code(record.sha256),
            )
            for fact in facts.there
            for name, record in fact.files.items()
        ),
    )
