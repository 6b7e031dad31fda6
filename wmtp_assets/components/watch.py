"""What a run has done so far, put together from its events; nothing here knows a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.errors import DagsterAssetCheckFailedError

from wmtp_assets.base.progress import human_bytes, human_seconds

CHECKS = "_checks"
"""How the step that only applies an artifact's rules is called after the artifact."""

SURE = 0.1
"""Share of the work after which the time that is left is said."""

_ENDS = {
    dg.DagsterEventType.RUN_SUCCESS: "success",
    dg.DagsterEventType.RUN_FAILURE: "failed",
    dg.DagsterEventType.RUN_CANCELED: "interrupted",
}


@dataclass(frozen=True)
class Failure:
    """What failed, for people.

    Attributes:
        name: of the artifact, and of the check after it.
        what: one text; empty where the fields say it.
        fields: title → text, such as where, expected, found.
        remedy: what to do; empty: ``what`` says it.
    """

    name: str
    what: str
    fields: Mapping[str, str] = field(default_factory=dict)
    remedy: str = ""


@dataclass
class Item:
    """One artifact of a run.

    Attributes:
        is_planned: it is to be made; otherwise only its checks are run.
        made: ``made`` or ``unchanged``; empty: not yet.
        seconds: what its steps took together.
    """

    key: str
    is_planned: bool = False
    checks: set[str] = field(default_factory=set)
    made: str = ""
    size: int = 0
    seconds: float = 0.0
    passed: int = 0
    warned: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    has_error: bool = False
    is_told: bool = False

    @property
    def is_done(self) -> bool:
        """Whether nothing more is to be done about it."""
        applied = self.passed + len(self.warned) + len(self.failed)
        is_made = bool(self.made) or not self.is_planned
        return self.has_error or (is_made and applied >= len(self.checks))


def counted_checks(passed: int, warned: int, failed: int) -> str:
    """``9 checks passed, 1 warned, 2 failed``: what there is none of is left out."""
    said = [f"{passed} check{'s' * (passed != 1)} passed"]
    said += [f"{warned} warned"] * bool(warned) + [f"{failed} failed"] * bool(failed)
    return ", ".join(said)


class Watch:
    """A run as its events tell it.

    Args:
        sizes: bytes that are expected of an artifact, by key: how the time left is shared out.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.items: dict[str, Item] = {}
        self.failures: list[Failure] = []
        self.running: dict[str, float] = {}
        self.said: dict[str, str] = {}
        self.end = ""
        self.is_interrupted = False
        self.started: float | None = None
        self._sizes = sizes

    def feed(self, entry: dg.EventLogEntry) -> None:
        """Take the next event of the run."""
        step, at = entry.step_key or "", entry.timestamp
        event = entry.dagster_event
        if event is None:
            if step in self.running:
                self.said[step] = entry.user_message.partition("\n")[0]
            return
        kind = event.event_type
        if kind == dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED and event.asset_key:
            self._item(event.asset_key).is_planned = True
        elif kind == dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED:
            planned = event.asset_check_planned_data
            self._item(planned.asset_key).checks.add(planned.check_name)
        elif kind == dg.DagsterEventType.RUN_START:
            self.started = at
        elif kind in (dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_RESTARTED):
            self.running[step] = at
        elif kind == dg.DagsterEventType.ASSET_MATERIALIZATION and event.asset_key:
            self._materialized(event.step_materialization_data.materialization)
        elif kind == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            self._evaluated(event.asset_check_evaluation_data)
        elif kind in (
            dg.DagsterEventType.STEP_SUCCESS,
            dg.DagsterEventType.STEP_FAILURE,
            dg.DagsterEventType.STEP_UP_FOR_RETRY,
        ):
            self._ended(step, at)
            if kind == dg.DagsterEventType.STEP_FAILURE:
                self._failed(step, event)
        elif kind in _ENDS:
            self.end = "interrupted" if self.is_interrupted else _ENDS[kind]
            if self.end == "failed" and not self.failures:
                self.failures.append(Failure("the run", event.message or "it failed"))

    def _item(self, key: dg.AssetKey) -> Item:
        name = key.to_user_string()
        return self.items.setdefault(name, Item(name))

    def _materialized(self, made: dg.AssetMaterialization) -> None:
        item = self._item(made.asset_key)
        said = {name: value.value for name, value in made.metadata.items()}
        item.made = str(said.get("made", "made"))
        size = said.get("dagster/size_bytes")
        item.size = size if isinstance(size, int) else 0

    def _evaluated(self, check: AssetCheckEvaluation) -> None:
        item = self._item(check.asset_key)
        if check.passed:
            item.passed += 1
        elif check.severity == dg.AssetCheckSeverity.WARN:
            item.warned.append(check.check_name)
        else:
            item.failed.append(check.check_name)
            self.failures.append(_failed_check(check))

    def _ended(self, step: str, at: float) -> None:
        began = self.running.pop(step, at)
        self.said.pop(step, None)
        item = self.items.get(artifact_of(step))
        if item is not None:
            item.seconds += at - began

    def _failed(self, step: str, event: dg.DagsterEvent) -> None:
        data = event.step_failure_data
        item = self.items.get(artifact_of(step))
        user, error = data.user_failure_data, data.error
        if item is not None:
            if error is not None and error.cls_name == DagsterAssetCheckFailedError.__name__:
                return  # its checks say why
            item.has_error = True
        if error is not None and error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
            self.is_interrupted = True
            return
        what = user.description if user and user.description else ""
        while not what and error is not None:
            what, error = error.message.strip(), error.cause
            if error is not None:  # Dagster's own says only where, and what it wraps says why
                what = ""
        what, remedy = _with_remedy(what or event.message or "it failed")
        self.failures.append(Failure(artifact_of(step), what, remedy=remedy))

    def told(self) -> Iterator[Item]:
        """Artifacts about which everything is done, each once, when their steps have ended."""
        running = set() if self.end else {artifact_of(step) for step in self.running}
        for item in self.items.values():
            if item.is_done and not item.is_told and item.key not in running:
                item.is_told = True
                yield item

    @property
    def made(self) -> int:
        """How many artifacts are made, or were found as they would be made."""
        return sum(bool(item.made) for item in self.items.values())

    @property
    def planned(self) -> int:
        """How many are to be made."""
        return sum(item.is_planned for item in self.items.values())

    @property
    def checks(self) -> int:
        """How many checks are to be run."""
        return sum(len(item.checks) for item in self.items.values())

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many checks passed, warned and failed."""
        items = self.items.values()
        return (
            sum(item.passed for item in items),
            sum(len(item.warned) for item in items),
            sum(len(item.failed) for item in items),
        )

    @property
    def size(self) -> int:
        """Bytes of the artifacts that are made."""
        return sum(item.size for item in self.items.values())

    @property
    def share(self) -> float:
        """Of the work, how much is done, 0 to 1: artifacts weigh what is expected of their size,
        and their checks half as much."""
        done = total = 0.0
        for item in self.items.values():
            weight = 1 + self._sizes.get(item.key, 0) / 1e8
            applied = item.passed + len(item.warned) + len(item.failed)
            total += weight * item.is_planned + weight / 2 * bool(item.checks)
            done += weight * bool(item.made) + weight / 2 * applied / max(len(item.checks), 1)
        return done / total if total else 0.0

    def left(self, now: float) -> float | None:
        """Seconds that are left, if the rest goes as what is done; None: too little is done."""
        share = self.share
        if self.started is None or share < SURE:
            return None
        return (now - self.started) * (1 - share) / share


def artifact_of(step: str) -> str:
    """The artifact that a step makes, is one part of, or applies the rules to."""
    return step.partition(".")[0].removesuffix(CHECKS)


def _with_remedy(text: str) -> tuple[str, str]:
    """An error for people, and the command at its end, if it has one."""
    run = r"(?:[.;] (?:(?:[Tt]hen )?[Rr]un(?: again)?|[Rr]epair it with))?"
    found = re.search(run + r": ((?:dagster|wmtp|make|export|source|pip) [^\n]*)$", text)
    return (text[: found.start()], found[1]) if found else (text, "")


def _failed_check(check: AssetCheckEvaluation) -> Failure:
    """A failed check: its first finding, from the table or the fields of its metadata."""
    said: dict[str, str] = {}
    for name, value in check.metadata.items():
        if isinstance(value, dg.TableMetadataValue) and value.records:
            first = value.records[0].data
            if "remedy" in first:
                said |= {key: str(text) for key, text in first.items()}
        elif isinstance(value, dg.TextMetadataValue) and value.text:
            said.setdefault(name, value.text)
    place = ": ".join(filter(None, [said.get("file", ""), said.get("place", "")]))
    fields = {"where": place} | {key: said.get(key, "") for key in ("expected", "found")}
    fields = {title: text for title, text in fields.items() if text}
    number = check.metadata.get("findings")
    if isinstance(number, dg.IntMetadataValue) and (number.value or 0) > 1:
        fields["findings"] = f"{number.value} in all; this is the first"
    name = f"{check.asset_key.to_user_string()}: {check.check_name}"
    what = "" if place else check.description or ""
    return Failure(name, what, fields, said.get("remedy", ""))


def line_of(item: Item) -> tuple[str, str]:
    """An artifact about which everything is done, as one line with its style."""
    state = item.made or ("not made" if item.is_planned else "checked")
    if item.has_error or item.failed:
        state = "FAILED"
    told = f"{item.passed} passed" if item.checks else "no checks"
    if item.failed:
        told += f", {len(item.failed)} failed"
    elif item.warned:
        told += f", {len(item.warned)} warned"
    size = human_bytes(item.size) if item.made else ""
    line = f"{item.key:<29} {state:<9} {size:>8} {human_seconds(item.seconds):>10}  {told}"
    return line.rstrip(), "red" if state == "FAILED" else "yellow" if item.warned else ""
