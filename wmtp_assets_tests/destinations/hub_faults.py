"""What can go wrong between here and the hub while it is published to, and what comes of it.

``python -m wmtp_assets_tests.destinations.hub_faults`` prints the list as the table in
``docs/publishing-faults.md``; test_hf_faults.py plays each fault with the hub's own client, and
compares what it measures with what stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from wmtp_assets_tests.destinations.hub import Hub, Refusal

SIZE = 3_000_000
"""Bytes of the one large file."""

REPOSITORY = "model", "acme/mtp"
COMMIT = "POST /api/models/acme/mtp/commit"
LARGE = "PUT /lfs/"
COMPLETION = "POST /lfs/"
PART_SIZE = 1_000_000

Play = Callable[[Hub], None]
"""Sets a fault at a hub."""


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: what happens.
        play: how.
        error: a part of the message; empty: it succeeds.
        again: bytes of the large file that the next run sends, without the fault.
        state: of the branch after the fault.
    """

    name: str
    play: Play
    error: str
    again: int
    state: Literal["as before", "new"] = "as before"


def nothing(hub: Hub) -> None:
    """No fault."""


def refusing(beginning: str, status: int, message: str = "", times: int = -1) -> Play:
    """Requests that begin so are refused; ``times`` of them, or all."""

    def play(hub: Hub) -> None:
        left = [times]

        def refuse(request: str, body: bytes) -> None:
            if request.startswith(beginning) and left[0]:
                left[0] -= 1
                raise Refusal(status, message)

        hub.fault = refuse

    return play


def hanging_up(beginning: str) -> Play:
    """The connection ends before such a request is answered or done."""

    def play(hub: Hub) -> None:
        def hang_up(request: str, body: bytes) -> None:
            if request.startswith(beginning):
                raise ConnectionResetError

        hub.fault = hang_up

    return play


def losing(beginning: str) -> Play:
    """Such a request is done, and its answer is lost, once."""

    def play(hub: Hub) -> None:
        hub.lost = beginning

    return play


def somebody_commits(hub: Hub) -> None:
    """Another commit comes between the plan and ours."""

    def commit(request: str, body: bytes) -> None:
        if request.startswith(COMMIT):
            repository = hub.repositories[REPOSITORY]
            repository.add("main", dict(repository.main))
            hub.fault = lambda request, body: None

    hub.fault = commit


def cutting(beginning: str) -> Play:
    """Such a request ends in the middle of its body."""

    def play(hub: Hub) -> None:
        hub.cut = beginning

    return play


def in_parts(play: Play, at: int = 0) -> Play:
    """The hub asks for the large file in three parts, as the real one does from some size on.

    Args:
        play: the fault.
        at: the part that it is about; 0: each.
    """

    def asked(hub: Hub) -> None:
        hub.part_size = PART_SIZE
        play(hub)
        whole = hub.fault

        def fault(request: str, body: bytes) -> None:
            if not at or not request.startswith(LARGE) or request.endswith(f"/{at}"):
                whole(request, body)

        hub.fault = fault

    return asked


def damaged_part(hub: Hub) -> None:
    """A bit of a part flips where it is kept, or on the way there."""

    def flip(request: str, body: bytes) -> None:
        if request.startswith(COMPLETION):
            for parts in hub.parts.values():
                parts[2] = bytes([parts[2][0] ^ 1]) + parts[2][1:]

    hub.fault = flip


def too_few_parts(hub: Hub) -> None:
    """Two URLs for a file that has three parts."""
    hub.part_size, hub.spared = PART_SIZE, 1


def web_page(hub: Hub) -> None:
    """A page to log in, in place of every answer."""
    hub.page = b"<!doctype html><title>Log in</title>"


FAULTS = (
    Fault("none", nothing, "", 0, "new"),
    Fault("500 to a large file, twice", refusing(LARGE, 500, times=2), "", 0, "new"),
    Fault("500 to a large file, forever", refusing(LARGE, 500), "the hub answers 500", SIZE),
    Fault(
        "a large file arrives with other bytes",
        refusing(LARGE, 400, "The SHA-256 does not match"),
        "The SHA-256 does not match",
        SIZE,
    ),
    Fault("the connection ends at a large file", hanging_up(LARGE), "was lost", SIZE),
    Fault(
        "the quota is used up",
        refusing("POST /acme/mtp.git", 402, "You need more storage"),
        "the quota for storage is used up (402): You need more storage",
        SIZE,
    ),
    Fault(
        "a file over the hub's limits",
        refusing("POST /acme/mtp.git", 413, "Too large"),
        "over the hub's limits (413)",
        SIZE,
    ),
    Fault(
        "the token may not write",
        refusing("GET /api/models/acme/mtp/auth-check/write", 403, "Read-only token"),
        "may not write there (403): Read-only token",
        SIZE,
    ),
    Fault(
        "the branch is protected",
        refusing(COMMIT, 403, "Protected branch"),
        "may not write there (403): Protected branch",
        0,
    ),
    Fault(
        "the token expires before the commit", refusing(COMMIT, 401), "refuses the token (401)", 0
    ),
    Fault("the hub is busy", refusing(COMMIT, 429), "wants to be left alone for a while (429)", 0),
    Fault("the hub refuses the commit", refusing(COMMIT, 400, "Odd card"), "(400): Odd card", 0),
    Fault("500 to the commit", refusing(COMMIT, 500), "the hub answers 500", 0),
    Fault("somebody else commits", somebody_commits, "committed to it first (412)", 0),
    Fault("the answer to the commit is lost", losing(COMMIT), "", 0, "new"),
    Fault("the connection ends before the commit is made", hanging_up(COMMIT), "and it was not", 0),
    Fault("a web page in place of every answer", web_page, "did not answer as a hub does", SIZE),
    Fault("the hub asks for parts", in_parts(nothing), "", 0, "new"),
    Fault("500 to a part, twice", in_parts(refusing(LARGE, 500, times=2), 2), "", 0, "new"),
    Fault(
        "500 to the second part, always",
        in_parts(refusing(LARGE, 500), 2),
        "the hub answers 500",
        SIZE,
    ),
    Fault("a part is cut in the middle", in_parts(cutting(LARGE)), "was lost", SIZE),
    Fault("a bit of a part flips", in_parts(damaged_part), "The SHA-256 does not match", SIZE),
    Fault("the URLs of parts expire", in_parts(refusing(LARGE, 403), 3), "403", SIZE),
    Fault("the parts are not put together", in_parts(refusing(COMPLETION, 500)), "500", SIZE),
    Fault("the answer that they are is lost", in_parts(losing(COMPLETION)), "no such upload", 0),
    Fault("the hub names too few parts", too_few_parts, "did not answer as a hub does", SIZE),
)


def table() -> str:
    """The list as a table in Markdown."""
    lines = ["| what happens | outcome | the branch | the next run sends |", "|---|---|---|--:|"]
    for fault in FAULTS:
        outcome = f"error: {fault.error}" if fault.error else "success"
        lines.append(f"| {fault.name} | {outcome} | {fault.state} | {fault.again:,} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table())
