"""Damages of what others write, that leave it readable: values of other types, sizes and depths.

A document that is believed, because its own hash was made again, may say anything. So may a hub,
and whoever writes a ``defs.yaml``.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from wmtp_assets.storage import manifest

Document = dict[str, Any]

DEEP = 30
"""Lists in lists: more than any document has, and less than is refused as it is read."""


def _nested() -> Any:
    value: Any = 1
    for _ in range(DEEP - 4):
        value = [value]
    return value


ODD: tuple[Callable[[], Any], ...] = (
    lambda: None,
    lambda: True,
    lambda: 0,
    lambda: -1,
    lambda: 1.5,
    lambda: 1e300,
    lambda: 10**39,
    lambda: 1 << 63,
    lambda: "",
    lambda: "\x1b[2J\u202etxt",
    lambda: "é" * 3000,
    lambda: "a/" * 1500 + "a",
    lambda: "../../etc/passwd",
    lambda: "1:30",
    lambda: "None",
    lambda: "2026-01-31T12:00:00Z",
    list,
    dict,
    lambda: [None],
    lambda: [1.5, "x"],
    lambda: {"": None},
    lambda: {"rows": {"rows": 1.5}},
    _nested,
)
"""What no reader expects somewhere."""

Place = tuple[Any, Any]
"""A list or dict, and a key or index of it."""


def places(value: Any) -> Iterator[Place]:
    """Every place in a document, the outer ones first."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
    for key in keys:
        if isinstance(value[key], dict | list):
            yield from places(value[key])


def _pick(document: Any, chance: random.Random) -> Place | None:
    """A place; those that are nearer to the top are as likely as the many below them."""
    inside, key = None, None
    value = document
    while isinstance(value, dict | list) and value and (inside is None or chance.random() < 0.7):
        inside = value
        key = chance.choice([*value] if isinstance(value, dict) else range(len(value)))
        value = inside[key]
    return None if inside is None else (inside, key)


def mutated(document: Document, chance: random.Random) -> Document:
    """A copy of a document, one to three places of which are other values, gone, or named anew."""
    changed = deepcopy(document)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        place = _pick(changed, chance)
        if place is None:
            continue
        inside, key = place
        how = chance.random()
        if how < 0.65:
            inside[key] = chance.choice(ODD)()
        elif how < 0.8:
            del inside[key]
        elif how < 0.9 and isinstance(inside, dict):
            inside[str(chance.choice(ODD)())] = inside.pop(key)
        else:
            inside[key] = [inside[key]] if chance.random() < 0.5 else {"value": inside[key]}
    return changed


def resealed(document: Document) -> bytes:
    """A manifest whose hashes over itself are right, whatever it says."""
    made = deepcopy(document)
    body = made.get("manifest")
    if isinstance(body, dict) and isinstance(files := body.get("files"), dict):
        try:
            lines = "".join(f"{files[path]['sha256']}  {path}\n" for path in sorted(files))
            body["content_sha256"] = hashlib.sha256(lines.encode()).hexdigest()
        except (TypeError, KeyError):
            pass
    made.pop("self_sha256", None)
    canonical = json.dumps(made, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return manifest.render({**made, "self_sha256": hashlib.sha256(canonical.encode()).hexdigest()})
