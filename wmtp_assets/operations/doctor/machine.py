"""The machine: Python, libraries, and Dagster seen from outside; nothing of it is imported.

Dagster's marker file and the system's table of listening ports say which instance the commands here
use, and who can reach the web UI.
"""

from __future__ import annotations

import os
import platform
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

import yaml

from wmtp_assets.base.settings import HOME_VARIABLE, SOURCE_VARIABLE, Settings, project_folder
from wmtp_assets.base.yaml_file import NOT_YAML
from wmtp_assets.rules.findings import stated

PYTHON = (3, 11)
FLOORS: Mapping[str, str] = {
    "torch": "2.10",
    "sentencepiece": "0.2",
    "pyarrow": "20",
    "dagster": "1.13.27",
    "transformers": "5.20",
}
"""The lowest version of each library; as ``pyproject.toml`` has them."""

CEILINGS: Mapping[str, str] = {"transformers": "5.25"}
"""The lowest version that is too new, where undocumented parts of a library are used."""

NEEDED_FOR: Mapping[str, str] = {
    "torch": "reading raw checkpoints",
    "sentencepiece": "counting tokens: wmtp verify skips those rules",
    "pyarrow": "reading parquet: wmtp verify skips those rules",
    "dagster": "materializing; wmtp works without it",
    "transformers": "proving architectures: wmtp verify compares only what was recorded of a proof",
}
PLATFORM = "pip install 'wmtp_assets[platform]'; in a clone: make install"

PORT = 3000
"""Of ``make ui`` and ``dagster dev``."""

_LISTEN = "0A"  # linux/include/net/tcp_states.h

State = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Condition:
    """What was looked at, how it is, and what to do.

    Attributes:
        topic: a word.
        state: ``warning``: works, but somebody should know; ``error``: something will not work.
        says: one sentence.
        remedy: the command or step that repairs it; empty where it is ok.
    """

    topic: str
    state: State
    says: str
    remedy: str = ""


def machine() -> Iterator[Condition]:
    """Python, then each library."""
    yield python(sys.version_info[:2])
    yield from map(library, FLOORS)


def python(found: tuple[int, ...]) -> Condition:
    """Whether Python is new enough.

    Args:
        found: its version, major and minor.
    """
    if found < PYTHON:
        wanted = ".".join(map(str, PYTHON))
        return Condition(
            "python",
            "error",
            f"Python {'.'.join(map(str, found))} is older than {wanted}",
            f"make install PYTHON=python{wanted}",
        )
    return Condition("python", "ok", f"Python {platform.python_version()}")


def library(name: str) -> Condition:
    """Whether a library is here and new enough."""
    spec = find_spec(name)
    try:
        found = version(name) if spec is not None else None
    except PackageNotFoundError:
        found = None
    if spec is None or found is None:
        return Condition(
            name, "warning", f"{name} is not installed; needed for {NEEDED_FOR[name]}", PLATFORM
        )
    if _numbers(found) < _numbers(FLOORS[name]):
        unsafe = ", and loading a hostile file with it is not safe" * (name == "torch")
        says = f"{name} {found} is older than {FLOORS[name]}{unsafe}"
        return Condition(name, "error", says, PLATFORM)
    ceiling = CEILINGS.get(name)
    if ceiling and _numbers(found) >= _numbers(ceiling):
        says = (
            f"{name} {found} is not older than {ceiling}: {NEEDED_FOR[name]} was not tried with it"
        )
        return Condition(name, "warning", says, PLATFORM)
    build = f", {_torch_build(Path(spec.origin))}" if name == "torch" and spec.origin else ""
    return Condition(name, "ok", f"{name} {found}{build}")


def _numbers(text: str) -> tuple[int, ...]:
    """``2.13.0+cpu`` → (2, 13, 0)."""
    return tuple(map(int, re.findall(r"\d+", text.partition("+")[0])))


def _torch_build(module: Path) -> str:
    """What torch was built for, from its ``version.py``; importing torch takes seconds."""
    try:
        text = module.with_name("version.py").read_text()
    except OSError:
        return "build unknown"
    for name in ("cuda", "hip"):
        if found := re.search(rf"^{name}\b[^=]*= *'([^']+)'", text, flags=re.MULTILINE):
            return f"{name.upper()} {found[1]} build"
    return "CPU build"


def instance(settings: Settings, environment: Mapping[str, str] = os.environ) -> Condition:
    """Whether the Dagster instance is there, and is that of the source."""
    if find_spec("dagster") is None:
        return Condition("instance", "ok", "Dagster is not installed")
    remedy = f"export {SOURCE_VARIABLE}={settings.source}; source activate.sh; make install"
    marker = _base(Path(HOME_VARIABLE.read(environment) or project_folder())) / "wmtp_source"
    try:
        owner = marker.read_text().strip()
    except OSError:
        owner = ""
    if not owner:
        return Condition("instance", "warning", f"no Dagster instance in {marker.parent}", remedy)
    if owner != settings.source:
        return Condition(
            "instance",
            "error",
            f"the Dagster instance in {marker.parent} keeps the history of the source {owner!r}, "
            f"but {SOURCE_VARIABLE} is {settings.source!r}",
            remedy.removesuffix("; make install"),
        )
    return Condition("instance", "ok", f"{marker.parent}, source {owner}")


def _base(home: Path) -> Path:
    """The folder of an instance, as its ``dagster.yaml`` says; ``home`` where it says nothing."""
    try:
        document: Any = yaml.safe_load((home / "dagster.yaml").read_text())
    except (OSError, *NOT_YAML):
        return home
    base = stated(document, "local_artifact_storage", "config", "base_dir")
    return home / base if isinstance(base, str) else home


def server(port: int = PORT) -> Condition:
    """Whether anything listens on the web UI's port where others can reach it."""
    addresses = sorted(_listening(port))
    reachable = [address for address in addresses if not ip_address(address).is_loopback]
    if reachable:
        return Condition(
            "server",
            "warning",
            f"something listens on {reachable[0]}:{port}; Dagster's web UI has no authentication",
            "stop it, and start it with: make ui (it binds 127.0.0.1)",
        )
    return Condition(
        "server",
        "ok",
        f"127.0.0.1:{port} only" if addresses else f"nothing listens on port {port}",
    )


def _listening(port: int) -> Iterator[str]:
    """The addresses on which something listens."""
    tables = [path for path in map(Path, ("/proc/net/tcp", "/proc/net/tcp6")) if path.exists()]
    if tables:
        for table in tables:
            for line in table.read_text().splitlines()[1:]:
                local, _, state = line.split()[1:4]
                address, _, number = local.partition(":")
                if state == _LISTEN and int(number, 16) == port:
                    yield _address(address)
        return
    for address in ("127.0.0.1", *_own_addresses()):
        with socket.socket() as probe:
            probe.settimeout(0.3)
            if probe.connect_ex((address, port)) == 0:
                yield address


def _address(text: str) -> str:
    """``0100007F`` → 127.0.0.1: words of four bytes in the machine's order (little-endian)."""
    data = bytes.fromhex(text)
    words = [data[begin : begin + 4][::-1] for begin in range(0, len(data), 4)]
    address = ip_address(b"".join(words))
    return str(getattr(address, "ipv4_mapped", None) or address)


def _own_addresses() -> list[str]:
    """This machine's addresses; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return [probe.getsockname()[0]]
        except OSError:
            return []
