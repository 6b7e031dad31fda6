"""Processed splits as ``datasets.Dataset``, for notebooks and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wmtp_assets.base.errors import CorruptArtifact, SpecError
from wmtp_assets.base.settings import Settings, read_settings
from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.datasets.twin import twin_file
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.storage.store import Store

if TYPE_CHECKING:
    from datasets import Dataset

_SAME_SPLIT = {"valid": "validation", "validation": "valid"}


def load_dataset(name: str, split: str, root: str | Path | None = None) -> Dataset:
    """A processed split with every field of its records, token counts, problem_id and language.

    ``datasets`` reads the Parquet twin once into its own cache (``HF_DATASETS_CACHE``) and maps
    that, so that memory does not grow with the split. The twin's size is compared with the
    manifest; ``wmtp verify`` compares its bytes.

    Args:
        name: of the dataset, such as ``codecontests``.
        split: such as ``train``; ``valid`` and ``validation`` mean the same.
        root: the storage root; None: as ``WMTP_SOURCE`` and ``WMTP_STORAGE_ROOT`` say.

    Raises:
        SpecError: for an unknown dataset or split.
        MissingArtifact: if the dataset was not made, naming the command that makes it.
        CorruptArtifact: if the twin is not there or has another size.
    """
    from datasets import Dataset
    from pyarrow.parquet import read_table

    settings = read_settings()
    root = settings.root if root is None else Path(root)
    store = Store(Settings(settings.source, root), load_catalogue())
    specs = {spec.name: spec for spec in store.catalogue.specs if isinstance(spec, DatasetSpec)}
    if name not in specs:
        raise SpecError(f"{name!r} is not a dataset; known: {', '.join(specs)}")
    splits = specs[name].processed_splits
    split = split if split in splits else _SAME_SPLIT.get(split, split)
    if split not in splits:
        raise SpecError(f"{name} has no split {split!r}; it has: {', '.join(splits)}")
    processed = store.catalogue[f"{name}_processed"]
    manifest = store.manifest(processed)
    record = manifest.files.get(twin_file(split))
    path = store.path(processed, twin_file(split))
    expected = f"{record.size} bytes" if record else "no such file"
    found = f"{path.stat().st_size} bytes" if path.is_file() else "no such file"
    if record is None or found != expected:
        raise CorruptArtifact(
            f"{path}: expected {expected}, found {found}. Find out more with: "
            f"wmtp verify {processed.key}"
        )
    if not manifest.document["splits"][split]["rows"]:
        return Dataset(read_table(path))
    return Dataset.from_parquet(str(path))  # pyright: ignore[reportReturnType]
