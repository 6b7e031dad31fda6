"""Small storage trees to publish: raw artifacts of random bytes, committed by the real store."""

from __future__ import annotations

import random
from pathlib import Path

from wmtp_assets.base.settings import Settings
from wmtp_assets.destinations.destination import Destination
from wmtp_assets.destinations.file import Folder
from wmtp_assets.documents.document import gather
from wmtp_assets.documents.of_storage.release import freeze
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.operations.pull import Pulled, choose, pull, read_listing, require_room
from wmtp_assets.storage.files import PART, replace_file
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.respec import respec

MODEL, DATASET, OTHER, RELEASE = (
    "meta_llama_mtp_raw",
    "humaneval_raw",
    "mbpp_raw",
    "storage_release",
)

CATALOGUE = load_catalogue()
"""Read once: it takes longer than most of these tests."""

LARGE = "models_v2/meta-llama-mtp/raw/7B_1T_4/consolidated.pth"
ROWS = "datasets_v2/humaneval/raw/data.parquet"


STAGING = ".wmtp/staging"
"""Where a publication stages, below a mounted folder."""


def at(folder: Path, owner: str = "", part_size: int = PART) -> Folder:
    """A mounted folder as a destination."""
    return Folder(Store(Settings("sample", folder), CATALOGUE), owner, part_size)


def random_bytes(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def make_store(root: Path, size: int = 3_000_000) -> Store:
    """A model of ``size`` bytes, a data set, and nothing released."""
    store = Store(Settings("sample", root), CATALOGUE)
    commit(store, MODEL, {"raw/7B_1T_4/consolidated.pth": random_bytes(size), "raw/empty": b""})
    commit(store, DATASET, {"raw/data.parquet": random_bytes(50_000, 2), "raw/LICENSE": b"MIT\n"})
    return store


def commit(store: Store, key: str, files: dict[str, bytes]) -> None:
    """Commit an artifact with these files."""
    artifact = store.catalogue[key]
    with store.stage(artifact) as staged:
        for name, data in files.items():
            staged.write(name, data)
        store.commit(artifact, staged, {"asset": key, "kind": artifact.kind})


def release(store: Store, version: str) -> Store:
    """Freeze what is there under a version; the store whose specs say so."""
    raised = respec(store, RELEASE, version=version)
    about = raised.catalogue[RELEASE]
    facts = gather(raised, about, raised.read, raised.manifest)
    data = freeze(facts, None)
    with raised.stage(about) as staged:
        staged.write("RELEASE.json", data)
        raised.commit(about, staged, {"asset": RELEASE, "kind": "release"})
    replace_file(raised.root / "RELEASE.json", data)
    return raised


def pull_all(node: Store, destination: Destination, *names: str) -> list[Pulled]:
    """Pull by names, as the command does; all that is published by default."""
    listing = read_listing(destination)
    chosen = choose(node, listing, names or [*listing.artifacts])
    require_room(node, chosen, destination, listing)
    return [pull(node, artifact, destination, listing) for artifact in chosen]


def files_below(folder: Path) -> dict[str, bytes]:
    """Path → content of every file but those in ``.wmtp``."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".wmtp" not in path.relative_to(folder).parts
    }
