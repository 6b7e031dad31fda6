"""What a call costs the child process."""

from __future__ import annotations

import ctypes
import gc
import os
from dataclasses import dataclass
from pathlib import Path

from wmtp_assets.base import child
from wmtp_assets.base.progress import Say


@dataclass(frozen=True)
class Cost:
    """Of a call, in the child: seconds of CPU, bytes of memory above what it had."""

    cpu: float = 0
    memory: int = 0


def settle(say: Say) -> int:
    """In the child: give back what is free, so that it is not used again unseen.

    Returns:
        Its number.
    """
    import pyarrow as pa

    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)
    return os.getpid()


def number(say: Say) -> int:
    """In the child: its number."""
    return os.getpid()


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


class Meter:
    """Measures what the child does from now on; a child that died costs nothing."""

    def __init__(self) -> None:
        self._pid: int = child.call(settle)
        self._memory = _memory(self._pid, "VmRSS")
        self._cpu = _cpu(self._pid)
        self.read()

    def read(self) -> Cost:
        """What it cost since it was read last; memory above what there was at first."""
        if not Path(f"/proc/{self._pid}/stat").exists():
            return Cost()
        now = _cpu(self._pid)
        cost = Cost(now - self._cpu, _memory(self._pid, "VmHWM") - self._memory)
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")
        self._cpu = now
        return cost

    def is_same_child(self) -> bool:
        """Whether the child has survived."""
        return child.call(number) == self._pid
