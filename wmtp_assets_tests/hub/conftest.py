"""A small hub to test against, written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from wmtp_assets.sample.server import serve

SMALL_MODEL = {
    "README.md": b"# tiny\n",
    "config.json": b'{"dim": 8}\n',
    "empty.txt": b"",
    "deep/er/weights.bin": bytes(range(256)) * 12_289,  # 3 MiB and 256 bytes
    "deep/tokenizer.model": b"\x00\x01\x02",
    "with space/ü.txt": "ü".encode(),
}
SMALL_DATASET = {"rows.csv": b"a,b\n1,2\n"}


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write path → content below ``folder``."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def small_folder(tmp_path: Path) -> Path:
    """Hand-made repositories: the model ``owner/tiny`` and the dataset ``owner/rows``."""
    folder = tmp_path / "small-hub"
    write_files(folder / "models/owner/tiny", SMALL_MODEL)
    write_files(folder / "datasets/owner/rows", SMALL_DATASET)
    return folder


@pytest.fixture
def small_hub(small_folder: Path) -> Iterator[str]:
    """Endpoint that serves :func:`small_folder`."""
    with serve(small_folder) as endpoint:
        yield endpoint
