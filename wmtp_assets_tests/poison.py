"""A row that somebody changed in every view of it, so that nothing contradicts itself."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from wmtp_assets.operations.materialize import materialize
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.trees import damage, reseal

POISON = "import os  # as nobody upstream wrote it\n"


def poison(store: Store, name: str, column: str, row: int = 0, split: str = "train") -> str:
    """Change a text of a raw row, convert, and put the raw file back as it was.

    So rows, twin, offsets, index, pieces and manifest of ``<name>_processed`` agree about a row
    that upstream does not have.

    Returns:
        The text that upstream has.
    """
    raw, processed = store.catalogue[f"{name}_raw"], store.catalogue[f"{name}_processed"]
    (file,) = (it for it in store.manifest(raw).files if split in it and it.endswith(".parquet"))
    path, sealed = store.path(raw, file), store.manifest_path(raw)
    before, manifest = path.read_bytes(), sealed.read_bytes()
    content = store.manifest(raw).content_sha256
    table = pq.read_table(path)
    values = table.column(column).to_pylist()
    text, values[row] = values[row], POISON + values[row]
    index = table.schema.get_field_index(column)
    changed = table.set_column(index, table.schema.field(index), pa.array(values))
    path.unlink()
    pq.write_table(changed, path)
    reseal(store, raw)
    materialize(store, processed)
    damage(path, lambda data: before)
    damage(sealed, lambda data: manifest)
    upstream = {**store.manifest(processed).document["upstream"], raw.key: content}
    reseal(store, processed, upstream=upstream)
    return text
