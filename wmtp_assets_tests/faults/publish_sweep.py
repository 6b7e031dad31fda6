"""Faults at every system call with which a mounted folder gets the files of a publication.

Run as a program, as :mod:`wmtp_assets_tests.faults.sweep` is, which does the work::

    python -m wmtp_assets_tests.faults.publish_sweep PATH FOLDER STRIDE BY
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path

from wmtp_assets.destinations import sending as publishing
from wmtp_assets.destinations.file import Folder
from wmtp_assets.destinations.listing import MANIFEST
from wmtp_assets.operations.publish import plan_publication, publish
from wmtp_assets.transfer.places import ignore
from wmtp_assets_tests.destinations.trees import (
    DATASET,
    MODEL,
    STAGING,
    at,
    commit,
    make_store,
    release,
)
from wmtp_assets_tests.faults.sweep import KILL, Call, Sweep, Traced, main
from wmtp_assets_tests.storage.test_store import Tree, bytes_of, quick_commits

PATHS = {"exchange": True, "one by one": False}
"""Name → whether the system exchanges folders."""

UNITS = ("datasets_v2/humaneval/", "docs/")
"""Folders that are exchanged; files of others lie in the model's, so that its are renamed."""

NOTES = "models_v2/meta-llama-mtp/raw/notes.txt"


class PublishSweep(Sweep):
    """A model, a data set and a release of which an older generation is published: the next is
    staged, and gets its names."""

    def __init__(self, name: str, folder: Path) -> None:
        original, root = folder / "original", folder / "volume"
        super().__init__(original, root, folder / "strace.log", is_native=PATHS[name])
        original.mkdir(parents=True)
        with quick_commits():
            store = make_store(folder / "storage", 1000)
            publish(release(store, "1.0.0"), None, self._open(original))
            (original / NOTES).write_bytes(b"somebody's")
            (original / "models_v2/meta-llama-mtp/link").symlink_to("raw")
            commit(store, MODEL, {"raw/7B_1T_4/consolidated.pth": b"newer", "raw/added": b"x"})
            commit(store, DATASET, {"raw/data.parquet": b"more rows", "raw/LICENSE": b"MIT\n"})
            self.store = release(store, "1.1.0")
            self._stage(self._open(original))
            self.copy()
            self.old = self.state()
            self.work()
            self.new = self.state()

    def _open(self, root: Path) -> Folder:
        return at(root, "one machine")

    def _stage(self, destination: Folder) -> None:
        plan = plan_publication(self.store, None, destination)
        destination.prepare(plan.size)
        sent = {file.path: destination.stage(file, ignore, ignore) for file in plan.outgoing}
        self.paths = list(sent)
        self.units = publishing._by_unit(plan, sent)
        self.ours = publishing._ours(plan)
        self.listing = publishing._listing(plan, sent)

    def work(self) -> None:
        destination = self._open(self.root)
        with destination.hold():
            destination.commit(self.units, self.ours)
            destination.write_manifest(self.listing.render())
        destination.finish(self.paths)

    def state(self) -> Tree:
        """Everything below the root but what is staged."""
        found = bytes_of(self.root)
        return {name: data for name, data in found.items() if not name.startswith(".wmtp/")}

    def examine(self, call: Call, fault: str, traced: Traced) -> Iterator[str]:
        found = self.state()
        yield from self._torn(found)
        is_new = found == self.new
        self.swept.states["new" if is_new else "old" if found == self.old else "between"] += 1
        if traced.status == 0 and not is_new:
            yield "nothing was raised, but it is not the new one"
        if traced.status and fault != KILL and traced.error != "PublishError":
            yield f"said {traced.error}: {traced.message}"
        destination = self._open(self.root)
        with quick_commits():
            try:
                publish(self.store, None, destination)
            except Exception:
                yield f"the next try: {traceback.format_exc()}"
                return
        if self.state().keys() != self.new.keys() or list(self._torn(self.state())):
            yield f"the next try made {sorted(self.state())}"
        if destination.payload:
            yield f"the next try sent {destination.payload} bytes"
        if (self.root / STAGING).exists():
            yield f"the next try left {sorted(bytes_of(self.root / STAGING))}"

    def _torn(self, found: Tree) -> Iterator[str]:
        """What is neither old nor new: folders that are exchanged, or files."""
        for unit in UNITS if self.is_native else ():
            if _below(unit, found) not in (_below(unit, self.old), _below(unit, self.new)):
                yield f"{unit} is neither old nor new"
        for name in {*found, *self.old}:
            if found.get(name) not in (self.old.get(name), self.new.get(name)):
                yield f"{name} is neither old nor new"
        if found[MANIFEST] == self.new[MANIFEST] and found != self.new:
            yield "MANIFEST.json is new, and not all files are"


def _below(unit: str, found: Tree) -> Tree:
    return {name: data for name, data in found.items() if name.startswith(unit)}


if __name__ == "__main__":
    main(PublishSweep)
