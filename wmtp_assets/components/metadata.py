"""What a materialization says about an artifact, all of it read from the committed manifest."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import dagster as dg

from wmtp_assets.base.progress import human_bytes
from wmtp_assets.base.strict_json import parse_object
from wmtp_assets.base.text import printable
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import hub_page
from wmtp_assets.checkpoints.safetensors_file import DTYPE_CODES, TensorEntry
from wmtp_assets.datasets.features import columns_of
from wmtp_assets.datasets.jsonl import read_lines
from wmtp_assets.documents.markdown import code, shown
from wmtp_assets.kinds.drawn import pictures_of
from wmtp_assets.kinds.registry import kind_of
from wmtp_assets.rules.findings import stated
from wmtp_assets.storage.manifest import Document, Manifest
from wmtp_assets.storage.store import Store

SAMPLE_ROWS = 3
SAMPLE_TEXT = 300
"""Characters of each text of a sample row."""

LONG, WIDE = 12, 4
"""Rows and columns from which a table opens by a click: the page of an asset has a few screens,
and room for three columns in a window of 1,280 pixels."""

INLINE = 1000
"""Characters from which the web UI shows Markdown behind a link; shorter ones it shows in place."""

Row = Mapping[str, str | int | float | bool]
Table = dg.TableMetadataValue | dg.MarkdownMetadataValue | dg.TextMetadataValue


def table(rows: Iterable[Row], nothing: str = "none") -> Table:
    """A table; a large one opens over the page. Where there are no rows, the text ``nothing``."""
    rows = list(rows)
    if len(rows) >= LONG or any(len(row) >= WIDE for row in rows):
        return unfolded(rows)
    records = [dg.TableRecord({key: _plain(value) for key, value in row.items()}) for row in rows]
    return dg.MetadataValue.table(records) if records else dg.MetadataValue.text(nothing)


def unfolded(rows: Sequence[Row]) -> dg.MarkdownMetadataValue:
    """A table that the web UI shows behind a link, over the page, with columns of any width."""
    names = [*dict.fromkeys(name for row in rows for name in row)]
    cells = ([_cell(row.get(name)) for name in names] for row in rows)
    lines = [names, ["---"] * len(names), *cells]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return dg.MetadataValue.md(text.ljust(INLINE))


def _cell(value: Any) -> str:
    return code(value) if isinstance(value, str) else shown(value)


def describe(
    store: Store, artifact: Artifact, manifest: Manifest, seconds: float | None
) -> dict[str, Any]:
    """Materialization metadata; ``seconds`` is what making it took, None where it was not made."""
    document, kind = manifest.document, kind_of(artifact)
    metadata: dict[str, Any] = {
        "dagster/uri": store.folder(artifact).as_uri(),
        "dagster/size_bytes": manifest.size,
        "size": human_bytes(manifest.size),
        "content_sha256": manifest.content_sha256,
    }
    if seconds is not None:
        metadata |= {
            "seconds": round(seconds, 2),
            "megabytes_per_second": round(manifest.size / 1e6 / max(seconds, 1e-3), 2),
        }
    if "rows" in document:
        metadata["dagster/row_count"] = document["rows"]
    if "source" in document:
        source = document["source"]
        metadata |= {"source": source["endpoint"], "revision": source["revision"]}
        metadata["repository"] = source["repo"]
        if source["endpoint"] not in ("folder", "sample"):
            page = hub_page(source["type"], source["repo"])
            metadata["repository"] = dg.MetadataValue.url(page)
            metadata["revision_page"] = dg.MetadataValue.url(f"{page}/tree/{source['revision']}")
    if "n_params" in document:
        metadata |= {
            "dtype": document["dtype"],
            "n_params": document["n_params"],
            "from_dtype": ", ".join(document["conversion"]["from_dtype"]),
            "dtypes": table(_dtypes(document)),
            "tensors": table(_tensors(document)),
        }
    for name, picture in pictures_of(store, artifact, manifest).items():
        metadata[name] = dg.MetadataValue.md(
            f"![{name}](data:image/svg+xml;base64,{b64encode(picture).decode()})"
        )
    if "splits" in document:
        metadata["splits"] = table(_splits(document))
    if kind.rows is not None:
        sample = _sample(store, artifact, document, kind.rows.file)
        metadata["sample_rows"] = dg.MetadataValue.json(sample)
        metadata["dagster/column_schema"] = dg.TableSchema(
            [
                dg.TableColumn(name, type=type_, description=meaning)
                for name, type_, meaning in columns_of(kind.rows.record(artifact.spec))
            ]
        )
    return metadata | {"files": unfolded([*_files(artifact, manifest)])}


def _announced(document: Document, name: str) -> str:
    """The hash that the hub announced for a raw file; of what we add beside it there is none."""
    announced = stated(document, "source", "announced", name.removeprefix("raw/"))
    if not name.startswith("raw/") or not isinstance(announced, dict):
        return "none"
    kind = "sha256" if "sha256" in announced else "git_sha1"
    return f"{kind} {announced.get(kind)}"


def _files(artifact: Artifact[Any], manifest: Manifest) -> Iterable[Row]:
    """Name, bytes and SHA-256 of each file, and of upstream's what the hub announced."""
    for name, record in manifest.files.items():
        row: dict[str, str | int] = {"file": name, "bytes": record.size, "sha256": record.sha256}
        if artifact.is_downloaded:
            row["announced"] = _announced(manifest.document, name)
        yield row


def _tensors(document: Document) -> Iterable[Row]:
    """Name, dtype, shape and bytes of each tensor, in file order."""
    for name, tensor in document["checkpoint"]["tensors"].items():
        dtype, shape = tensor["dtype"], tensor["shape"]
        yield {
            "name": name,
            "dtype": dtype,
            "shape": " x ".join(map(str, shape)),
            "bytes": TensorEntry(name, DTYPE_CODES[dtype], tuple(shape)).size,
        }


def _dtypes(document: Document) -> Iterable[Row]:
    """How many tensors and bytes there are of each dtype."""
    found: dict[str, list[int]] = {}
    for row in _tensors(document):
        found.setdefault(str(row["dtype"]), []).append(int(row["bytes"]))
    for dtype, sizes in sorted(found.items()):
        yield {"dtype": dtype, "tensors": len(sizes), "bytes": sum(sizes)}


def _splits(document: Document) -> Iterable[Row]:
    """Rows of each split, and what was left out for which reason."""
    for split, said in document["splits"].items():
        numbers = {key: value for key, value in said.items() if isinstance(value, int)}
        dropped = sorted(said.get("dropped", {}).items())
        reasons = ", ".join(f"{reason}: {count}" for reason, count in dropped)
        yield {"split": split, **numbers, "dropped": reasons or "none"}


def _sample(
    store: Store, artifact: Artifact[Any], document: Document, name_of: Callable[[str], str]
) -> dict[str, Any]:
    """The first rows of each split, with long texts cut off."""
    paths = {split: store.path(artifact, name_of(split)) for split in document["splits"]}
    return {
        split: [_cut(parse_object(line)) for _, line in islice(read_lines(path), SAMPLE_ROWS)]
        for split, path in paths.items()
    }


def _plain(value: Any) -> Any:
    """A value whose text, if it is one, shows what it holds."""
    return printable(value, keep="\n\t") if isinstance(value, str) else value


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return _plain(f"{value[:SAMPLE_TEXT]}…" if len(value) > SAMPLE_TEXT else value)
    if isinstance(value, dict):
        return {key: _cut(item) for key, item in value.items()}
    return [_cut(item) for item in value[:SAMPLE_ROWS]] if isinstance(value, list) else value
