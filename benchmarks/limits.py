"""What this machine can do at most, so that "at the limit" is a number.

    python benchmarks/limits.py [--gigabytes 1] [--folder DIR]

Each row is the fastest of three rounds: other processes only take away. For Linux; on other systems
the cold read is one from the page cache.

- *read, cold*: blocks of 8 MiB past the page cache (``O_DIRECT``), two in flight, as a disk wants
  it; else plain reads of what was put out of the page cache.
- *plain read, cold*: one thread, 1 MiB at a time, through the page cache.
- *write, fsync*: one thread, 1 MiB at a time, until it is on the disk.
- *SHA-256*, *CRC-32*, *memcpy*: of bytes in memory, 1 MiB at a time; on one core, and on all that
  the process may use. *two SHA-256*: the same bytes hashed twice, side by side: as a whole and in
  parts.
"""

from __future__ import annotations

import argparse
import hashlib
import mmap
import os
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wmtp_assets.base.cpus import usable_cpus

BLOCK = 1 << 20
DIRECT_BLOCK = 8 << 20
ROUNDS = 3

Limits = dict[str, float]
"""Name → bytes a second."""


def forget(*paths: Path) -> None:
    """Put files out of the page cache."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def plain_read(path: Path) -> None:
    """Read a file in one thread, 1 MiB at a time."""
    buffer = memoryview(bytearray(BLOCK))
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def direct_read(path: Path) -> None:
    """Read a file past the page cache, where the system and the filesystem can."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECT", 0))
    except OSError:  # such as on tmpfs
        descriptor = os.open(path, os.O_RDONLY)
    size = path.stat().st_size

    def read(first: int) -> None:
        buffer = mmap.mmap(-1, DIRECT_BLOCK)  # aligned
        for begin in range(first * DIRECT_BLOCK, size, 2 * DIRECT_BLOCK):
            os.preadv(descriptor, [buffer], begin)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(read, range(2)))
    os.close(descriptor)


def write(path: Path, size: int) -> None:
    """Write ``size`` bytes that no disk can compress, and wait until they are there."""
    block = os.urandom(BLOCK)
    with path.open("wb", buffering=0) as file:
        for _ in range(size // BLOCK):
            file.write(block)
        os.fsync(file.fileno())


def sha256(size: int) -> None:
    """Hash bytes of memory."""
    digest, block = hashlib.sha256(), bytes(BLOCK)
    for _ in range(size // BLOCK):
        digest.update(block)


def beside(work: Callable[[int], None], size: int, count: int) -> None:
    """Do the same work in so many threads."""
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, [size] * count))


def _crc32(size: int) -> None:
    block = bytes(BLOCK)
    for _ in range(size // BLOCK):
        zlib.crc32(block)


def _memcpy(size: int) -> None:
    one, other = memoryview(bytearray(64 * BLOCK)), memoryview(bytearray(64 * BLOCK))
    for _ in range(max(size // len(one), 1)):
        other[:] = one


def fastest(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Seconds of the fastest round."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def measure(folder: Path, size: int, rounds: int = ROUNDS) -> Limits:
    """The limits of this machine, and of the disk that ``folder`` is on.

    Args:
        size: bytes that are read, written and hashed.
    """
    path, cpus = folder / "limits", usable_cpus()

    def cold(read: Callable[[Path], None]) -> float:
        def once() -> float:
            forget(path)
            return fastest(lambda: read(path), 1)

        return size / min(once() for _ in range(rounds))

    def rate(work: Callable[[], object], done: int = size) -> float:
        return done / fastest(work, rounds)

    try:
        written = rate(lambda: write(path, size))
        found = {
            "read, cold": cold(direct_read),
            "plain read, cold": cold(plain_read),
            "write, fsync": written,
            "SHA-256, one core": rate(lambda: sha256(size)),
            "SHA-256, all cores": rate(lambda: beside(sha256, size // cpus, cpus)),
            "two SHA-256": rate(lambda: beside(sha256, size, 2)),
            "CRC-32, one core": rate(lambda: _crc32(size)),
            "memcpy, one core": rate(lambda: _memcpy(size)),
        }
    finally:
        path.unlink(missing_ok=True)
    return found


def report(found: Limits) -> None:
    """Print the limits as a table."""
    print(f"limits of this machine, {usable_cpus()} CPUs")
    for name, rate in found.items():
        print(f"{name:20}{rate / 1e9:8.2f} GB/s")


def print_limits(folder: Path, gigabytes: float = 0.5) -> Limits:
    """Measure and print; what each benchmark begins with."""
    found = measure(folder, int(gigabytes * 1e9))
    report(found)
    print(flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: a new one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        report(measure(Path(folder), int(arguments.gigabytes * 1e9)))


if __name__ == "__main__":
    main()
