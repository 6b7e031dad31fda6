"""Dagster, seen from outside: which instance the commands here use, and who can reach the web UI.

Nothing of it is imported: its marker file and the system's table of listening ports say enough.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml

from wmtp_assets.base.settings import HOME_VARIABLE, SOURCE_VARIABLE, Settings, project_folder
from wmtp_assets.operations.doctor.condition import Condition
from wmtp_assets.rules.findings import stated

PORT = 3000
"""Of ``make ui`` and ``dagster dev``."""

_LISTEN = "0A"  # linux/include/net/tcp_states.h


def instance(settings: Settings, environment: Mapping[str, str] = os.environ) -> Condition:
    """Whether the Dagster instance is there, and is that of the source."""
    if find_spec("dagster") is None:
        return Condition("instance", "ok", "Dagster is not installed")
    home = Path(HOME_VARIABLE.read(environment) or project_folder())
    remedy = f"export {SOURCE_VARIABLE}={settings.source}; source activate.sh; make install"
    marker = _base(home) / "wmtp_source"
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
    except (OSError, ValueError, yaml.YAMLError):
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
    where = f"127.0.0.1:{port} only" if addresses else f"nothing listens on port {port}"
    return Condition("server", "ok", where)


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
