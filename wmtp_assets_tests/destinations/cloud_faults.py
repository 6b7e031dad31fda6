"""What can go wrong between here and Google Cloud Storage or Azure, and what comes of it.

``python -m wmtp_assets_tests.destinations.cloud_faults`` prints the list as the table in
``docs/publishing-faults.md``; test_cloud_faults.py plays each fault with the real clients, and
compares what it measures with what stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from wmtp_assets_tests.destinations.faults import (
    PART_FAILS,
    SIZE,
    Play,
    State,
    dropping,
    flipping,
    nothing,
    page_for_part,
    redirecting,
    refusing,
    rot,
    slowly,
    web_page,
)
from wmtp_assets_tests.destinations.front import Answer, Front, Request

CODES = {
    "busy": {"gs": "SlowDown", "az": "ServerBusy"},
    "broken": {"gs": "InternalError", "az": "InternalError"},
    "expired": {"gs": "AuthenticationRequired", "az": "AuthenticationFailed"},
    "forbidden": {"gs": "AccessDenied", "az": "AuthorizationPermissionMismatch"},
    "no upload": {"gs": "NoSuchUpload", "az": "InvalidBlockList"},
    "damaged": {"gs": "BadDigest", "az": "Md5Mismatch"},
}
"""What an error is called by each."""

SCHEMES = ("gs", "az")


@dataclass(frozen=True)
class Outcome:
    """What comes of a fault.

    Attributes:
        error: a part of the message, with ``{code}``; empty: it succeeds.
        moved: bytes of the file that went over the line, in all attempts.
        again: those of the next run, without the fault.
        state: of the destination after the fault.
    """

    error: str
    moved: int
    again: int
    state: State = "as before"


@dataclass(frozen=True)
class CloudFault:
    """One fault.

    Attributes:
        name: what happens.
        play: scheme → sets it at a front.
        code: key of :data:`CODES`; empty: the error names none.
        outcomes: scheme → what comes of it.
    """

    name: str
    play: Callable[[str], Play]
    code: str
    outcomes: dict[str, Outcome]

    def error(self, scheme: str) -> str:
        """A part of the message; empty: it succeeds."""
        code = CODES[self.code][scheme] if self.code else ""
        return self.outcomes[scheme].error.format(code=code)


def _alike(
    name: str,
    play: Play | Callable[[str], Play],
    error: str = "",
    moved: int = SIZE,
    again: int = 0,
    state: State = "new",
    code: str = "",
    *,
    is_by_scheme: bool = False,
    **others: Outcome,
) -> CloudFault:
    """A fault of which the same comes at both, but for ``others``."""
    outcome = Outcome(error, moved, again, state)
    by_scheme = play if is_by_scheme else lambda scheme: play
    return CloudFault(
        name,
        by_scheme,  # type: ignore[arg-type]
        code,
        {scheme: others.get(scheme, outcome) for scheme in SCHEMES},
    )


def _refusing(operation: str, status: int, code: str, times: int = -1, after: int = 0):
    return lambda scheme: refusing(operation, status, CODES[code][scheme], times, after)


def _refused(
    name: str,
    operation: str,
    status: int,
    code: str,
    error: str,
    moved: int,
    again: int,
    state: State = "as before",
    times: int = -1,
    after: int = 0,
    **others: Outcome,
) -> CloudFault:
    play = _refusing(operation, status, code, times, after)
    return _alike(name, play, error, moved, again, state, code, is_by_scheme=True, **others)


def _forget_meanwhile(scheme: str) -> Play:
    """Somebody, or a rule of the bucket, removes what was sent before it is put together."""

    def play(front: Front) -> None:
        def before(request: Request) -> Answer | None:
            if request.operation != "CompleteMultipartUpload" or not _is_large(request):
                return None
            method = {"gs": "DELETE", "az": "FORGET"}[scheme]
            front.ask(Request(method, request.path, request.headers, b""))
            return None

        front.before = before

    return play


def _is_large(request: Request) -> bool:
    return request.key.endswith(".pth")


def _say_another(front: Front) -> None:
    """The checksum that lies beside the file is another: Google's CRC32C, the names of blocks."""

    def after(request: Request, answer: Answer) -> None:
        if _is_large(request) and request.operation == "HeadObject":
            answer.headers["x-goog-hash"] = "crc32c=AAAAAA=="
        if _is_large(request) and request.query.get("blocklisttype") == ["committed"]:
            answer.body = answer.body.replace(b"<Name>", b"<Name>eHh4")
            answer.headers["content-length"] = str(len(answer.body))

    front.after = after


def _without_answer_checksum(front: Front) -> None:
    """The answers to parts say no checksum."""

    def after(request: Request, answer: Answer) -> None:
        if request.operation == "UploadPart":
            answer.headers.pop("x-goog-hash", None)
            answer.headers.pop("content-md5", None)

    front.after = after


BUSY = "the server is busy or broken ({code}, 6 times)"

FAULTS = (
    _alike("none", nothing),
    _alike("a bit of a part flips on the line, once", flipping(1), moved=4_000_000),
    _alike(
        "a bit of each part flips on the line",
        flipping(-1),
        "other bytes arrive than are sent ({code}, 6 times)",
        6_000_000,
        SIZE,
        "as before",
        "damaged",
    ),
    _alike(
        "the server stores other bytes than it was sent",
        rot,
        "other bytes arrive than are sent ({code}, 6 times)",
        6_000_000,
        SIZE,
        "as before",
        "damaged",
    ),
    _alike(
        "the server does not say that it compared a checksum",
        _without_answer_checksum,
        "so nobody knows whether it compared it",
        1_000_000,
        SIZE,
        "as before",
    ),
    _alike(
        "the connection is reset before a part is stored, once",
        dropping("UploadPart", 1, is_done=False),
        moved=4_000_000,
    ),
    _alike(
        "the connection is reset after a part was stored, once",
        dropping("UploadPart", 1, is_done=True),
        moved=4_000_000,
    ),
    _alike(
        "the connection is reset at every part",
        dropping("UploadPart", -1, is_done=False),
        PART_FAILS,
        6_000_000,
        SIZE,
        "as before",
    ),
    _alike(
        "no answer to a part, once",
        dropping("UploadPart", 1, is_done=False, rests=True),
        moved=4_000_000,
    ),
    _alike("every request takes long", slowly),
    _refused(
        "503 to parts, five times", "UploadPart", 503, "busy", "", 8_000_000, 0, "new", times=5
    ),
    _refused(
        "429 to parts, twice",
        "UploadPart",
        429,
        "busy",
        "",
        5_000_000,
        0,
        "new",
        times=2,
        az=Outcome("the server is busy ({code})", 1_000_000, SIZE),
    ),
    _refused(
        "503 to the third part, forever",
        "UploadPart",
        503,
        "busy",
        BUSY,
        8_000_000,
        1_000_000,
        after=2,
    ),
    _refused(
        "500 to a completion, twice",
        "CompleteMultipartUpload",
        500,
        "broken",
        "",
        SIZE,
        0,
        "new",
        times=2,
    ),
    _alike(
        "the answer to a completion is lost, once",
        dropping("CompleteMultipartUpload", 1, is_done=True),
    ),
    _refused(
        "the credentials expire after the first part",
        "UploadPart",
        401,
        "expired",
        "the server does not accept the credentials ({code})",
        2_000_000,
        2_000_000,
        after=1,
        gs=Outcome("Google gives no token for these credentials", 2_000_000, 2_000_000),
    ),
    _refused("no right to read", "GetObject", 403, "forbidden", "do not permit", 0, SIZE),
    _refused("no right to list", "ListObjects", 403, "forbidden", "do not permit", 0, SIZE),
    _refused(
        "no right to write",
        "UploadPart",
        403,
        "forbidden",
        "do not permit",
        1_000_000,
        SIZE,
    ),
    _refused(
        "the right to write is withdrawn before the first completion",
        "CompleteMultipartUpload",
        403,
        "forbidden",
        "do not permit",
        SIZE,
        0,
    ),
    _refused(
        "the right to write is withdrawn before MANIFEST.json",
        "PutObject",
        403,
        "forbidden",
        "do not permit",
        SIZE,
        0,
        "some names new",
    ),
    _alike(
        "somebody removes the parts before they are put together",
        _forget_meanwhile,
        "refuses",
        SIZE,
        SIZE,
        "as before",
        "no upload",
        is_by_scheme=True,
    ),
    _alike(
        "another checksum lies beside the file than is sent",
        _say_another,
        "does not lie at",
        SIZE,
        0,
        "some names new",
        az=Outcome("", SIZE, 0, "new"),
    ),
    _alike(
        "every request is redirected", redirecting, "this endpoint redirects", 0, SIZE, "as before"
    ),
    _alike(
        "a web page in place of the answers to parts",
        page_for_part,
        "so nobody knows whether it compared it",
        1_000_000,
        SIZE,
        "as before",
        az=Outcome("the answer is none of Azure's", 1_000_000, SIZE),
    ),
    _alike("a web page in place of every answer", web_page, PART_FAILS, 0, SIZE, "as before"),
)


def table() -> str:
    """The list as a table in Markdown: what is the same at both is there once."""
    lines = [
        "| what happens | outcome | at the destination | bytes moved | the next run moves |",
        "|---|---|---|--:|--:|",
    ]
    for fault in FAULTS:
        outcomes = [replace(fault.outcomes[scheme]) for scheme in SCHEMES]
        is_one = outcomes[0] == outcomes[1]
        for scheme, outcome in zip(SCHEMES, outcomes, strict=True):
            if is_one and scheme != SCHEMES[0]:
                continue
            codes = CODES.get(fault.code, {})
            both = " or ".join(dict.fromkeys(codes.values())) if is_one else codes.get(scheme, "")
            error = outcome.error.format(code=both)
            what = f"error: {error}" if error else "success"
            name = fault.name if is_one else f"{fault.name}: {scheme}"
            lines.append(
                f"| {name} | {what} | {outcome.state} | {outcome.moved:,} | {outcome.again:,} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table())
