"""What can go wrong between here and an S3 server, and what comes of it.

``python -m wmtp_assets_tests.destinations.faults`` prints the list as the tables in
``docs/publishing-faults.md``; test_faults.py plays each fault with the real client, and compares
what it measures with what stands here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from wmtp_assets_tests.destinations.front import Answer, Front, Request
from wmtp_assets_tests.trees import flip

SIZE = 3_000_000
"""Bytes of the one large file, in three parts."""

PAGE = b"<!doctype html><title>Log in</title>"

Play = Callable[[Front], None]
"""Sets a fault at a front."""

State = Literal["as before", "new", "some names new"]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: what happens.
        play: how.
        error: a part of the message; empty: it succeeds.
        moved: bytes of the file that went over the line, in all attempts.
        again: those of the next run, without the fault.
        state: of the destination after the fault; of a pull that of the node.
    """

    name: str
    play: Play
    error: str
    moved: int
    again: int
    state: State = "as before"


def _is_part(request: Request) -> bool:
    return request.operation == "UploadPart" and request.key.endswith(".pth")


def _limited(times: int) -> Callable[[], bool]:
    """True for the first ``times`` calls; for all where it is negative."""
    left = [times]

    def is_due() -> bool:
        left[0] -= 1
        return left[0] >= 0 or times < 0

    return is_due


def nothing(front: Front) -> None:
    """No fault."""


def flipping(times: int) -> Play:
    """One bit of a part changes on the line."""

    def play(front: Front) -> None:
        is_due = _limited(times)

        def before(request: Request) -> None:
            if _is_part(request) and is_due():
                request.body = flip(500_000)(request.body)

        front.before = before

    return play


def refusing(operation: str, status: int, code: str, times: int = -1, after: int = 0) -> Play:
    """The server refuses an operation (``*``: every one); ``after`` times it does not."""

    def play(front: Front) -> None:
        is_due, is_sound = _limited(times), _limited(after)

        def before(request: Request) -> Answer | None:
            is_meant = operation == "*" or request.operation == operation
            if operation == "UploadPart":
                is_meant = _is_part(request)
            if is_meant and not (after and is_sound()) and is_due():
                return Answer.refusal(status, code)
            return None

        front.before = before

    return play


def dropping(operation: str, times: int, *, is_done: bool, rests: bool = False) -> Play:
    """The connection ends without an answer, before or after the server did what was asked; or it
    stays open and silent."""

    def play(front: Front) -> None:
        is_due = _limited(times)

        def is_meant(request: Request) -> bool:
            named = _is_part(request) if operation == "UploadPart" else True
            return request.operation == operation and named and is_due()

        def before(request: Request) -> Answer | None:
            if not is_done and is_meant(request):
                return Answer(200, {}, stop=None if rests else 0, rests=rests)
            return None

        def after(request: Request, answer: Answer) -> None:
            if is_done and is_meant(request):
                answer.stop = 0

        front.before, front.after = before, after

    return play


def error_in_200(front: Front) -> None:
    is_due = _limited(1)

    def before(request: Request) -> Answer | None:
        if request.operation == "CompleteMultipartUpload" and is_due():
            return Answer.refusal(200, "InternalError")
        return None

    front.before = before


def slowly(front: Front) -> None:
    def before(request: Request) -> None:
        time.sleep(0.05)

    front.before = before


def abort_meanwhile(front: Front) -> None:
    """Somebody, or a rule of the bucket, aborts the upload."""
    is_due, is_sound = _limited(1), _limited(1)

    def before(request: Request) -> Answer | None:
        if _is_part(request) and not is_sound() and is_due():
            path = f"{request.path.split('?')[0]}?uploadId={request.query['uploadId'][0]}"
            front.ask(Request("DELETE", path, {}, b""))
            return Answer.refusal(404, "NoSuchUpload")  # the server behind says 500
        return None

    front.before = before


def lie_in_etag(front: Front) -> None:
    def after(request: Request, answer: Answer) -> None:
        if _is_part(request):
            answer.headers["etag"] = '"00000000000000000000000000000000"'

    front.after = after


def rot(front: Front) -> None:
    """The server stores other bytes than it was sent."""

    def stored(request: Request) -> None:
        if _is_part(request):
            request.body = flip(7)(request.body)

    front.stored = stored


def other_checksum(front: Front) -> None:
    def after(request: Request, answer: Answer) -> None:
        if request.operation == "HeadObject" and request.key.endswith(".pth"):
            answer.headers["x-amz-checksum-sha256"] = "A" * 43 + "="

    front.after = after


def without_checksums(*operations: str) -> Play:
    """Answers to these say no checksum."""

    def play(front: Front) -> None:
        def after(request: Request, answer: Answer) -> None:
            if request.operation in operations:
                answer.headers.pop("x-amz-checksum-sha256", None)

        front.after = after

    return play


def web_page(front: Front) -> None:
    def before(request: Request) -> Answer:
        return Answer(200, {"content-type": "text/html"}, PAGE)

    front.before = before


def redirecting(front: Front) -> None:
    def before(request: Request) -> Answer:
        return Answer(301, {"location": "https://elsewhere.example/"})

    front.before = before


def saying(operation: str, name: str, value: str) -> Play:
    """A header of the answers to an operation has a value that is none."""

    def play(front: Front) -> None:
        def after(request: Request, answer: Answer) -> None:
            if request.operation == operation:
                answer.headers[name] = value

        front.after = after

    return play


def listing_words(front: Front) -> None:
    """A listing has words in the place of sizes."""

    def after(request: Request, answer: Answer) -> None:
        if request.operation == "ListObjects":
            answer.body = answer.body.replace(b"<Size>", b"<Size>large")
            answer.headers["content-length"] = str(len(answer.body))

    front.after = after


def page_for_part(front: Front) -> None:
    def before(request: Request) -> Answer | None:
        return Answer(200, {"content-type": "text/html"}, PAGE) if _is_part(request) else None

    front.before = before


def empty_answer(front: Front) -> None:
    def before(request: Request) -> Answer | None:
        is_meant = request.operation == "CreateMultipartUpload"
        return Answer(200, {"content-type": "application/xml"}, b"<a/>") if is_meant else None

    front.before = before


# -- while a file is fetched -----------------------------------------------------------------------


def _is_get(request: Request) -> bool:
    return request.operation == "GetObject" and request.key.endswith(".pth")


def cutting(at: int, times: int) -> Play:
    """The body ends early, although its length says more."""

    def play(front: Front) -> None:
        is_due = _limited(times)

        def after(request: Request, answer: Answer) -> None:
            if _is_get(request) and len(answer.body) > at and is_due():
                answer.stop = at

        front.after = after

    return play


def cut_and_ignore_range(front: Front) -> None:
    is_due = _limited(1)

    def before(request: Request) -> None:
        if _is_get(request):
            request.headers.pop("range", None)

    def after(request: Request, answer: Answer) -> None:
        if _is_get(request) and is_due():
            answer.stop = 1_500_000

    front.before, front.after = before, after


def changing(change: Callable[[bytes], bytes]) -> Play:
    """Other bytes are served than are published, and their length is said."""

    def play(front: Front) -> None:
        def before(request: Request) -> None:
            if _is_get(request):
                request.headers["wanted"] = request.headers.pop("range", "bytes=0-")

        def after(request: Request, answer: Answer) -> None:
            if _is_get(request) and answer.status == 200:
                start = int(request.headers["wanted"].removeprefix("bytes=").split("-")[0])
                whole = change(answer.body)
                if start >= len(whole) > 0 and start:
                    refusal = Answer.refusal(416, "InvalidRange")
                    answer.status, answer.headers = refusal.status, refusal.headers
                    answer.body = refusal.body
                    return
                answer.body = whole[start:]
                answer.headers["content-length"] = str(len(answer.body))
                if start:
                    answer.status = 206
                    end = len(whole)
                    answer.headers["content-range"] = f"bytes {start}-{end - 1}/{end}"

        front.before, front.after = before, after

    return play


def refuse_file(front: Front) -> None:
    def before(request: Request) -> Answer | None:
        return Answer.refusal(404, "NoSuchKey") if _is_get(request) else None

    front.before = before


def page_for_file(front: Front) -> None:
    def before(request: Request) -> Answer | None:
        return Answer(200, {"content-type": "text/html"}, PAGE) if _is_get(request) else None

    front.before = before


def reading_back(at: int, times: int) -> Play:
    """The server keeps no checksums, and what is read back is cut as by :func:`cutting`."""

    def play(front: Front) -> None:
        cutting(at, times)(front)
        cut = front.after
        without_checksums("HeadObject", "CompleteMultipartUpload")(front)
        forget = front.after

        def after(request: Request, answer: Answer) -> None:
            cut(request, answer)
            forget(request, answer)

        front.after = after

    return play


PART_FAILS = "does not answer as a server does"


def forbidden(
    name: str, operation: str, moved: int, again: int, state: State = "as before"
) -> Fault:
    """The credentials do not permit an operation."""
    asked = {"ListObjects": "ListObjectsV2"}.get(operation, operation)
    error = f"do not permit {asked} (AccessDenied)"
    return Fault(name, refusing(operation, 403, "AccessDenied"), error, moved, again, state)


PUBLISHING = (
    Fault("none", nothing, "", SIZE, 0, "new"),
    Fault("a bit of a part flips on the line, once", flipping(1), "", 4_000_000, 0, "new"),
    Fault(
        "a bit of each part flips on the line",
        flipping(-1),
        "other bytes arrive than are sent (BadDigest, 6 times)",
        6_000_000,
        SIZE,
    ),
    Fault(
        "the server stores other bytes than it was sent",
        rot,
        "does not lie at s3://BUCKET/tree as it was sent",
        SIZE,
        SIZE,
        "some names new",
    ),
    Fault(
        "the connection is reset before a part is stored, once",
        dropping("UploadPart", 1, is_done=False),
        "",
        4_000_000,
        0,
        "new",
    ),
    Fault(
        "the connection is reset after a part was stored, once",
        dropping("UploadPart", 1, is_done=True),
        "",
        4_000_000,
        0,
        "new",
    ),
    Fault(
        "the connection is reset at every part",
        dropping("UploadPart", -1, is_done=False),
        PART_FAILS,
        6_000_000,
        SIZE,
    ),
    Fault(
        "no answer to a part, once",
        dropping("UploadPart", 1, is_done=False, rests=True),
        "",
        4_000_000,
        0,
        "new",
    ),
    Fault("every request takes long", slowly, "", SIZE, 0, "new"),
    Fault(
        "503 SlowDown to parts, five times",
        refusing("UploadPart", 503, "SlowDown", 5),
        "",
        8_000_000,
        0,
        "new",
    ),
    Fault(
        "503 SlowDown to the third part, forever",
        refusing("UploadPart", 503, "SlowDown", after=2),
        "the server is busy or broken (SlowDown, 6 times)",
        8_000_000,
        1_000_000,
    ),
    Fault(
        "500 to a completion, twice",
        refusing("CompleteMultipartUpload", 500, "InternalError", 2),
        "",
        SIZE,
        0,
        "new",
    ),
    Fault("200 with an error in it to a completion, once", error_in_200, "", SIZE, 0, "new"),
    Fault(
        "the answer to a completion is lost, once",
        dropping("CompleteMultipartUpload", 1, is_done=True),
        "",
        SIZE,
        0,
        "new",
    ),
    Fault(
        "the credentials expire after the first part",
        refusing("UploadPart", 400, "ExpiredToken", after=1),
        "the credentials have expired (ExpiredToken)",
        2_000_000,
        2_000_000,
    ),
    Fault(
        "the secret key is wrong",
        refusing("*", 403, "SignatureDoesNotMatch"),
        "does not accept the credentials (SignatureDoesNotMatch)",
        0,
        SIZE,
    ),
    forbidden("no right to read", "GetObject", 0, SIZE),
    forbidden("no right to list", "ListObjects", 0, SIZE),
    forbidden("no right to write", "CreateMultipartUpload", 0, SIZE),
    forbidden(
        "the right to write is withdrawn before the first completion",
        "CompleteMultipartUpload",
        SIZE,
        0,
    ),
    forbidden(
        "the right to write is withdrawn before MANIFEST.json",
        "PutObject",
        SIZE,
        0,
        "some names new",
    ),
    Fault(
        "somebody aborts the upload after the first part",
        abort_meanwhile,
        "the server refuses UploadPart (NoSuchUpload)",
        2_000_000,
        SIZE,
    ),
    Fault(
        "lying ETags",
        lie_in_etag,
        "the server refuses CompleteMultipartUpload (InvalidPart)",
        SIZE,
        SIZE,
    ),
    Fault(
        "the server says another checksum than the file has",
        other_checksum,
        "does not lie at s3://BUCKET/tree as it was sent",
        SIZE,
        0,
        "some names new",
    ),
    Fault(
        "the server keeps no checksums: it is read back",
        without_checksums("HeadObject", "CompleteMultipartUpload"),
        "",
        SIZE,
        0,
        "new",
    ),
    Fault(
        "the server keeps no checksums, and reading back is cut every 300,000 bytes",
        reading_back(300_000, -1),
        "",
        SIZE,
        0,
        "new",
    ),
    Fault(
        "the server keeps no checksums, and reading back is reset every time",
        reading_back(0, -1),
        PART_FAILS,
        SIZE,
        0,
        "some names new",
    ),
    Fault(
        "the server passes over checksums",
        without_checksums("UploadPart", "HeadObject", "CompleteMultipartUpload"),
        "Run again, with WMTP_S3_CHECKSUM=signature",
        1_000_000,
        SIZE,
    ),
    Fault("an answer that does not say what it must", empty_answer, PART_FAILS, 0, SIZE),
    Fault("sizes in a listing that are not numbers", listing_words, PART_FAILS, 0, SIZE),
    Fault(
        "a time that is none",
        saying("GetObject", "last-modified", "yesterday"),
        PART_FAILS,
        0,
        SIZE,
    ),
    Fault(
        "a length that is not a number, of what was just sent",
        saying("HeadObject", "content-length", "long"),
        PART_FAILS,
        SIZE,
        0,
        "some names new",
    ),
    Fault(
        "every request is redirected",
        redirecting,
        "this endpoint redirects (301); is it an S3 server?",
        0,
        SIZE,
    ),
    Fault(
        "a web page in place of the answers to parts",
        page_for_part,
        "the server is busy or broken (500, 6 times)",
        6_000_000,
        SIZE,
    ),
    Fault(
        "a web page in place of every answer", web_page, "is not a wmtp_assets manifest", 0, SIZE
    ),
)

FETCHING = (
    Fault("none", nothing, "", SIZE, 0, "new"),
    Fault("cut once, at byte 1,500,000", cutting(1_500_000, 1), "", SIZE, 0, "new"),
    Fault("cut every 100,000 bytes", cutting(100_000, -1), "", SIZE, 0, "new"),
    Fault("reset every time, before a byte came", cutting(0, -1), PART_FAILS, 0, SIZE),
    Fault("cut once, and the range is ignored", cut_and_ignore_range, "", 4_500_000, 0, "new"),
    Fault("a bit is flipped", changing(flip(9)), "It was not kept", SIZE, SIZE),
    Fault("shorter than published", changing(lambda data: data[:-9]), "ends at", SIZE - 9, 9),
    Fault("longer than published", changing(lambda data: data + b"x"), "", SIZE + 1, 0, "new"),
    Fault("503 five times", refusing("GetObject", 503, "SlowDown", 5), "", SIZE, 0, "new"),
    Fault("503 forever", refusing("GetObject", 503, "SlowDown"), "busy or broken", 0, SIZE),
    Fault(
        "the credentials have expired",
        refusing("GetObject", 400, "ExpiredToken"),
        "the credentials have expired",
        0,
        SIZE,
    ),
    Fault("404 to the file", refuse_file, "has no models_v2/", 0, SIZE),
    Fault("a web page in place of the file", page_for_file, "after 36 of", 108, 2 * SIZE - 36),
)


def table(faults: tuple[Fault, ...], place: str) -> str:
    """The list as a table in Markdown."""
    lines = [
        f"| what happens | outcome | {place} | bytes moved | the next run moves |",
        "|---|---|---|--:|--:|",
    ]
    for fault in faults:
        error = fault.error.replace("s3://BUCKET/tree", "URL").replace("|", "\\|")
        outcome = f"error: {error}" if error else "success"
        lines.append(
            f"| {fault.name} | {outcome} | {fault.state} | {fault.moved:,} | {fault.again:,} |"
        )
    return "\n".join(lines) + "\n"


def tables() -> tuple[str, str]:
    """The tables of publishing and of pulling."""
    return table(PUBLISHING, "at the destination"), table(FETCHING, "on the node")


if __name__ == "__main__":
    print("\n".join(tables()))
