"""What is not a file of bytes: links, devices, pipes, sockets, folders and endless files."""

from __future__ import annotations

import gzip
import os
import socket
import stat
import zipfile
from pathlib import Path

from wmtp_assets_tests.hostile.corpus import hostile_node
from wmtp_assets_tests.hostile.doors import (
    ADAPTER,
    CHECKPOINT,
    COMMITTED_TOKENIZER,
    CONFIG,
    CONFIG_JSON,
    COUNTED,
    DATA_MANIFEST,
    EVALUATION,
    INDEX,
    MODEL_MANIFEST,
    OFFSETS,
    PAIRS,
    PARAMS,
    PARAMS_JSON,
    PROBLEM_INDEX,
    PTH,
    RAW_DATA,
    RAW_SAFE,
    RAW_TESTS,
    ROWS,
    SCHEMA,
    SHARD,
    SMALL,
    SUMS,
    TESTS,
    TOKENIZER,
    TWIN,
)

DOORS = PTH, RAW_DATA, CHECKPOINT, ROWS, TWIN
NO_SUCH_FILE = "parquet|not a torch checkpoint|safetensors|SentencePiece|sentencepiece"
REFUSED = "regular|link, folder or device"


@hostile_node(*DOORS, DATA_MANIFEST, said=REFUSED)
def link_to_passwd(path: Path) -> None:
    """What is read may be shown to somebody."""
    path.unlink()
    path.symlink_to("/etc/passwd")


@hostile_node(CHECKPOINT, RAW_DATA, said=REFUSED)
def link_to_itself(path: Path) -> None:
    """Leads nowhere, forever."""
    path.unlink()
    path.symlink_to(path.name)


@hostile_node(*DOORS, ADAPTER, said=REFUSED)
def link_to_a_good_file(path: Path) -> None:
    """Whoever owns its target can change it at any time."""
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real").name)


@hostile_node(*DOORS, said=REFUSED)
def link_to_zero(path: Path) -> None:
    """A device that never ends."""
    path.unlink()
    path.symlink_to("/dev/zero")


@hostile_node(*DOORS, SCHEMA, PROBLEM_INDEX, said=REFUSED)
def pipe(path: Path) -> None:
    """Whoever opens it waits forever."""
    path.unlink()
    os.mkfifo(path)


@hostile_node(ROWS, PTH, said=f"{REFUSED}|No such device")
def bound_socket(path: Path) -> None:
    """Cannot be opened."""
    path.unlink()
    before = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(before)


@hostile_node(*DOORS, ADAPTER, said=REFUSED)
def folder(path: Path) -> None:
    """In the place of a file."""
    path.unlink()
    path.mkdir()


@hostile_node(CHECKPOINT, ROWS, PTH, said=REFUSED)
def device(path: Path) -> None:
    """/dev/zero itself; only root can make one."""
    path.unlink()
    os.mknod(path, 0o644 | stat.S_IFCHR, os.makedev(1, 5))


@hostile_node(CHECKPOINT, said="no safetensors file|bad safetensors header")
def sparse_terabyte(path: Path) -> None:
    """A terabyte of zeros that takes no room."""
    os.truncate(path, 1 << 40)


@hostile_node(
    CONFIG_JSON,
    PARAMS_JSON,
    ADAPTER,
    SCHEMA,
    COMMITTED_TOKENIZER,
    said="longer than [83]",
)
def sparse_terabyte_to_read(path: Path) -> None:
    """In the place of a file that is read whole."""
    os.truncate(path, 1 << 40)


@hostile_node(MODEL_MANIFEST, DATA_MANIFEST, said="not a manifest: ValueError.'longer than")
def sparse_terabyte_of_a_manifest(path: Path) -> None:
    """It is read by every rule, and by the process that is not a child, too."""
    os.truncate(path, 1 << 40)


@hostile_node(SUMS, said="a line per file")
def sums_of_millions(path: Path) -> None:
    """A hundred megabytes of lines, each with a name of its own."""
    path.write_bytes(b"".join(b"%064d  file%08d\n" % (0, n) for n in range(1_200_000)))


@hostile_node(TWIN, said="not readable as parquet")
def sparse_terabyte_of_rows(path: Path) -> None:
    """The footer is looked for at the end."""
    os.truncate(path, 1 << 40)


@hostile_node(
    ROWS, EVALUATION, PAIRS, SMALL, TESTS, OFFSETS, PROBLEM_INDEX, said="longer than|another|more"
)
def sparse_terabyte_behind_good_rows(path: Path) -> None:
    """A hole has no newline, and takes no room."""
    os.truncate(path, 1 << 40)


def _gzip(path: Path) -> None:
    """A gigabyte of zeros in a megabyte."""
    with gzip.open(path, "wb") as file:
        for _ in range(1000):
            file.write(bytes(1 << 20))


@hostile_node(RAW_DATA, RAW_TESTS, COUNTED, PTH, SHARD, RAW_SAFE, TOKENIZER, said=NO_SUCH_FILE)
def gzip_bomb_in_the_place_of_a_raw_file(path: Path) -> None:
    """Nothing raw is unpacked because of what it looks like."""
    _gzip(path)


@hostile_node(PARAMS, INDEX, CONFIG, said="UTF-8|longer than|a NUL byte")
def gzip_bomb_in_the_place_of_a_raw_document(path: Path) -> None:
    """JSON is not unpacked either."""
    _gzip(path)


@hostile_node(RAW_DATA, RAW_TESTS, COUNTED, RAW_SAFE, TOKENIZER, said=NO_SUCH_FILE)
def zip_bomb_in_the_place_of_a_raw_file(path: Path) -> None:
    """It is not looked into."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", bytes(200 << 20))


@hostile_node(RAW_SAFE, PTH, said="not a torch checkpoint|safetensors")
def empty(path: Path) -> None:
    """No bytes at all."""
    path.write_bytes(b"")
