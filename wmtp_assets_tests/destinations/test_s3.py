"""S3: what is published there, verified, resumed, and refused."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from wmtp_assets.base.errors import PublishError, SpecError, StoreError, WmtpError
from wmtp_assets.destinations import in_parts
from wmtp_assets.destinations.destination import Access, How, open_destination
from wmtp_assets.destinations.file import Folder
from wmtp_assets.destinations.journal import Journal
from wmtp_assets.destinations.listing import MANIFEST, Outgoing, Reading, parse_listing
from wmtp_assets.destinations.s3 import S3
from wmtp_assets.destinations.s3_client import make_client
from wmtp_assets.operations.publish import Options, publish
from wmtp_assets.operations.pull import read_listing
from wmtp_assets.storage.files import hash_file
from wmtp_assets.storage.store import Store
from wmtp_assets.transfer import arrival
from wmtp_assets_tests.destinations.conftest import KEY, SECRET, OpenS3, client_of
from wmtp_assets_tests.destinations.faults import PAGE
from wmtp_assets_tests.destinations.front import After, Answer, Front, Request
from wmtp_assets_tests.destinations.trees import (
    DATASET,
    LARGE,
    MODEL,
    ROWS,
    commit,
    files_below,
    pull_all,
    random_bytes,
    release,
)
from wmtp_assets_tests.light import light_environment
from wmtp_assets_tests.trees import damage, flip


def objects(front: Front, bucket: str) -> dict[str, bytes]:
    """Path → content of all that lies in the bucket."""
    client = client_of(front.url)
    found = client.list_objects_v2(Bucket=bucket, Prefix="tree/").get("Contents", ())
    return {
        item["Key"].removeprefix("tree/"): client.get_object(Bucket=bucket, Key=item["Key"])[
            "Body"
        ].read()
        for item in found
    }


def send(store: Store, open_s3: OpenS3, **options: Any) -> S3:
    """Publish; the destination, which says how much was sent."""
    destination = open_s3()
    publish(store, None, destination, Options(**options))
    return destination


def test_same_layout_and_checksums(
    tree_store: Store, open_s3: OpenS3, front: Front, bucket: str
) -> None:
    """Under the same paths; and what the server keeps beside an object is what MANIFEST.json has,
    so that neither has to be believed alone."""
    send(tree_store, open_s3)
    there = objects(front, bucket)
    data = there.pop(MANIFEST)
    assert there == files_below(tree_store.root)
    listing = parse_listing(data, "")
    head = client_of(front.url).head_object(
        Bucket=bucket, Key=f"tree/{LARGE}", ChecksumMode="ENABLED"
    )
    assert head["ChecksumSHA256"] == listing.files[LARGE].composite.partition("-")[0]
    assert listing.files[LARGE].composite.endswith("-3")
    last = [r.key for r in front.requests if r.operation in ("PutObject", "UploadPart")][-1]
    assert last == f"tree/{MANIFEST}"


def test_second_publication_sends_nothing(tree_store: Store, open_s3: OpenS3, front: Front) -> None:
    """0 bytes of payload, and no request that writes; with every byte read back too."""
    send(tree_store, open_s3)
    for how in ("size", "hash", "full"):
        front.soundly()
        assert send(tree_store, open_s3, how=how).payload == front.payload == 0
        assert {*front.operations()} <= {"GetObject", "HeadObject", "ListObjects"}


def test_only_what_changed_is_sent(tree_store: Store, open_s3: OpenS3, front: Front) -> None:
    """By file."""
    send(tree_store, open_s3)
    commit(tree_store, DATASET, {"raw/data.parquet": b"new", "raw/LICENSE": b"MIT\n"})
    front.soundly()
    send(tree_store, open_s3)
    manifest = tree_store.manifest_path(tree_store.catalogue[DATASET])
    assert front.payload == 3 + manifest.stat().st_size


def test_object_that_was_replaced_is_sent_again(
    tree_store: Store, open_s3: OpenS3, front: Front, bucket: str
) -> None:
    """By somebody else, with as many bytes: the checksum beside it is another, or there is none,
    and then it is read."""
    send(tree_store, open_s3)
    client = client_of(front.url)
    for body in (random_bytes(50_000, 3), random_bytes(50_000, 2)):
        client.put_object(Bucket=bucket, Key=f"tree/{ROWS}", Body=body, ChecksumAlgorithm="SHA256")
        front.soundly()
        assert send(tree_store, open_s3).payload == 50_000
        assert objects(front, bucket)[ROWS] == random_bytes(50_000, 2)


def test_server_that_keeps_no_checksums(
    tree_store: Store, open_s3: OpenS3, front: Front, bucket: str
) -> None:
    """What is there is read back, rather than sent again or believed."""

    def forget(request: Request, answer: Answer) -> None:
        if request.operation == "HeadObject":
            answer.headers.pop("x-amz-checksum-sha256", None)

    send(tree_store, open_s3)
    front.after = forget
    assert send(tree_store, open_s3).payload == 0
    client_of(front.url).delete_object(Bucket=bucket, Key=f"tree/{ROWS}")
    assert send(tree_store, open_s3).payload == 50_000


def test_server_that_knows_no_checksums(
    tree_store: Store, front: Front, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named what to set; then the signature of each request covers its body, and a flipped
    bit is refused all the same."""
    monkeypatch.setenv("WMTP_S3_CHECKSUM", "md5")
    with pytest.raises(SpecError, match="'md5' is not known; use 'sha256', or 'signature'"):
        open_destination(tree_store, f"s3://{bucket}/tree", Access(front.url))
    monkeypatch.delenv("WMTP_S3_CHECKSUM")
    front.is_old = True
    with pytest.raises(PublishError, match=r"run again, with WMTP_S3_CHECKSUM=signature"):
        publish(
            tree_store, None, open_destination(tree_store, f"s3://{bucket}/tree", Access(front.url))
        )
    monkeypatch.setenv("WMTP_S3_CHECKSUM", "signature")
    flipped: list[str] = []

    def before(request: Request) -> None:
        if request.operation == "UploadPart" and not flipped:
            flipped.append(request.key)
            request.body = flip(1)(request.body)

    front.before = before
    publish(
        tree_store, None, open_destination(tree_store, f"s3://{bucket}/tree", Access(front.url))
    )
    assert flipped
    there = objects(front, bucket)
    assert {path: there[path] for path in files_below(tree_store.root)} == files_below(
        tree_store.root
    )
    again = open_destination(tree_store, f"s3://{bucket}/tree", Access(front.url))
    assert publish(tree_store, None, again).payload == 0


def test_full_verification_reads_every_byte_back(
    tree_store: Store, open_s3: OpenS3, front: Front
) -> None:
    """A server may keep the checksum and lose the bytes; --verify=full sees it before
    MANIFEST.json is written."""

    def rot(request: Request, answer: Answer) -> None:
        if request.operation == "GetObject" and request.key.endswith(LARGE):
            answer.body = flip(100)(answer.body)

    front.after = rot
    with pytest.raises(PublishError, match=r"does not lie at s3://.* as it was sent: 3000000 byt"):
        send(tree_store, open_s3, how="full")
    assert "PutObject" not in front.operations()


def test_reading_back_goes_on_where_it_was_cut(
    tree_store: Store, open_s3: OpenS3, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of reading are not lost, nor a publication, to one cut connection."""
    monkeypatch.setattr(arrival, "FIRST_WAIT", 0.0)
    cuts = [1_500_000]

    def cut(request: Request, answer: Answer) -> None:
        if request.operation == "GetObject" and request.key.endswith(LARGE) and cuts:
            answer.stop = cuts.pop()

    front.after = cut
    send(tree_store, open_s3, how="full")
    ranges = [
        request.headers.get("range")
        for request in front.requests
        if request.operation == "GetObject" and request.key.endswith(LARGE)
    ]
    assert [*map(bool, ranges)] == [False, True]


def test_comparing_says_how_far_it_is(
    tree_store: Store, open_s3: OpenS3, folder: Folder, front: Front, bucket: str
) -> None:
    """Each byte once, however files are compared, and wherever."""
    told: list[int] = []
    path = tree_store.root / LARGE
    outgoing = Outgoing(MODEL, LARGE, path, hash_file(path))

    def is_told(is_same: bool, *, is_read: bool) -> bool:
        sizes = told.copy()
        told.clear()
        assert is_same
        assert min(sizes) > 0
        return sum(sizes) == 3_000_000 and (len(sizes) > 1) == is_read

    for destination, read in ((open_s3(), {"full"}), (folder, {"hash", "full"})):
        publish(tree_store, None, destination)
        file = read_listing(destination).files[LARGE]
        for how in get_args(How):
            is_same = destination.is_same(LARGE, file, how, told.append)
            assert is_told(is_same, is_read=how in read)
        assert is_told(destination.holds(outgoing, told.append), is_read="hash" in read)
        assert not destination.is_same("nothing", file, "full", told.append)
        assert told == []
    client_of(front.url).put_object(
        Bucket=bucket, Key=f"tree/{LARGE}", Body=path.read_bytes(), ChecksumAlgorithm="SHA256"
    )
    assert is_told(open_s3().holds(outgoing, told.append), is_read=True)


def test_manifest_that_is_another_when_it_is_read_back(
    tree_store: Store, open_s3: OpenS3, front: Front
) -> None:
    """Somebody else wrote it in the same moment: nobody is told that all went well."""
    written: list[bytes] = []

    def after(request: Request, answer: Answer) -> None:
        if request.operation == "PutObject":
            document = parse_listing(request.body, "")
            written.append(document.model_copy(update={"release": "v9"}).render())
        if request.operation == "GetObject" and request.key.endswith(MANIFEST) and written:
            answer.body = written[0]
            answer.headers["content-length"] = str(len(answer.body))

    front.after = after
    with pytest.raises(PublishError, match=r"MANIFEST\.json is not what was written"):
        send(tree_store, open_s3)


@pytest.mark.parametrize("is_first", [True, False])
def test_manifest_is_written_only_over_the_one_that_was_read(
    tree_store: Store, open_s3: OpenS3, front: Front, bucket: str, is_first: bool
) -> None:
    """Somebody writes it between the last look and the writing: theirs stays."""
    if not is_first:
        send(tree_store, open_s3)
        commit(tree_store, DATASET, {"raw/data.parquet": b"new"})
    done: list[str] = []

    def overtaken(request: Request) -> None:
        if request.operation == "PutObject" and not done:
            done.append(request.key)
            client = client_of(front.url)
            client.put_object(
                Bucket=bucket, Key=request.key, Body=b"theirs", ChecksumAlgorithm="SHA256"
            )

    front.before = overtaken
    with pytest.raises(PublishError, match="was written by somebody else"):
        send(tree_store, open_s3)
    assert objects(front, bucket)[MANIFEST] == b"theirs"


def test_answer_to_the_manifest_is_lost(
    tree_store: Store, open_s3: OpenS3, front: Front, bucket: str
) -> None:
    """It is sent again, and the condition does not hold any more: because of us."""
    lost: list[str] = []

    def lose(request: Request, answer: Answer) -> None:
        if request.operation == "PutObject" and not lost:
            lost.append(request.key)
            answer.stop = 0

    front.after = lose
    send(tree_store, open_s3)
    assert lost
    assert parse_listing(objects(front, bucket)[MANIFEST], "").artifacts.keys() == {MODEL, DATASET}


def test_server_that_knows_no_conditions(
    tree_store: Store, open_s3: OpenS3, front: Front, bucket: str
) -> None:
    """It goes without."""

    def refuse(request: Request) -> Answer | None:
        is_meant = {"if-match", "if-none-match"} & request.headers.keys()
        return Answer.refusal(501, "NotImplemented") if is_meant else None

    front.before = refuse
    send(tree_store, open_s3)
    commit(tree_store, DATASET, {"raw/data.parquet": b"new"})
    send(tree_store, open_s3)
    assert objects(front, bucket)[ROWS] == b"new"


def test_conflict_about_the_manifest(
    tree_store: Store, open_s3: OpenS3, front: Front, bucket: str
) -> None:
    """Two write it in the same moment: the server takes neither, or one; the other is told so."""

    def conflict(request: Request) -> Answer | None:
        is_meant = request.operation == "PutObject"
        return Answer.refusal(409, "ConditionalRequestConflict") if is_meant else None

    for _ in range(2):  # there is none; there is another
        front.before = conflict
        with pytest.raises(PublishError, match="written by somebody else"):
            send(tree_store, open_s3)
        front.soundly()
        send(tree_store, open_s3)
        commit(tree_store, DATASET, {"raw/data.parquet": b"new"})


def stating_when_completed(checksum: str) -> After:
    """The answer to a completion states this checksum of the large file."""

    def after(request: Request, answer: Answer) -> None:
        if request.operation == "CompleteMultipartUpload" and request.key.endswith(LARGE):
            end = b"</CompleteMultipartUploadResult>"
            said = f"<ChecksumSHA256>{checksum}</ChecksumSHA256>".encode()
            text = re.sub(b"<ChecksumSHA256>.*</ChecksumSHA256>", b"", answer.body)
            answer.body = text.replace(end, said + end)
            answer.headers["content-length"] = str(len(answer.body))

    return after


def test_checksum_that_a_completion_states(
    tree_store: Store, open_s3: OpenS3, front: Front
) -> None:
    """Another one stops the publication, whatever the server says later."""
    front.after = stating_when_completed("A" * 43 + "=-3")
    with pytest.raises(PublishError, match=rf"{LARGE} does not lie .* its checksum is A{{43}}=-3"):
        send(tree_store, open_s3)
    assert "PutObject" not in front.operations()


def test_upload_that_is_gone_was_not_completed(
    tree_store: Store, open_s3: OpenS3, front: Front
) -> None:
    """Unless the object is there; what was sent is not given up for an answer that was wrong."""

    def deny(request: Request) -> Answer | None:
        is_meant = request.operation == "CompleteMultipartUpload" and request.key.endswith(LARGE)
        return Answer.refusal(404, "NoSuchUpload") if is_meant else None

    front.before = deny
    with pytest.raises(PublishError, match=r"refuses CompleteMultipartUpload \(NoSuchUpload\)"):
        send(tree_store, open_s3)
    front.soundly()
    send(tree_store, open_s3)
    assert not [r for r in front.requests if r.is_payload and r.key.endswith(LARGE)]


def test_parts_in_memory(
    tree_store: Store, front: Front, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than may be on their way, and one that each file has at hand, however slow the line
    and however large the file."""
    monkeypatch.setattr(in_parts, "PARTS", 2)
    lock, there, most = threading.Lock(), [0], [0]
    read, sent = Reading.parts, S3._send_part

    def count(change: int) -> None:
        with lock:
            there[0] += change
            most[0] = max(most[0], there[0])

    def parts(self: Reading) -> Iterator[tuple[int, bytes, bytes]]:
        for part in read(self):
            count(1)
            yield part

    def send_slowly(self: S3, *arguments: Any) -> None:
        time.sleep(0.01)
        count(-1)
        sent(self, *arguments)

    monkeypatch.setattr(Reading, "parts", parts)
    monkeypatch.setattr(S3, "_send_part", send_slowly)
    journal = Journal(tmp_path / "journal.jsonl")
    destination = S3(client_of(front.url), bucket, "tree", "s3://x", journal, 100_000)
    publish(tree_store, None, destination)
    assert 2 <= most[0] <= 2 + S3.streams


def test_addressing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket stands in the path where that is asked for, whatever the profile says."""
    import boto3

    config = tmp_path / "config"
    config.write_text("[default]\ns3 =\n  addressing_style = virtual\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))

    class Asked(Exception):
        pass

    def asked(request: Any, **_: Any) -> None:
        raise Asked(request.url)

    urls: list[str] = []
    for is_path in (False, True):
        session = boto3.Session("key", "secret", region_name="us-east-1")
        client = make_client(session, "https://storage.example", path_style=is_path)
        client.meta.events.register("before-send.s3", asked)
        with pytest.raises(Asked) as url:
            client.head_object(Bucket="bucket-x", Key="a")
        urls.append(str(url.value))
    assert urls == ["https://bucket-x.storage.example/a", "https://storage.example/bucket-x/a"]


def test_file_that_is_replaced_when_the_manifest_is_written(
    tree_store: Store, open_s3: OpenS3, front: Front, bucket: str
) -> None:
    """By another publication, which gave its names a moment later, to as many bytes: nobody is
    told that all went well."""

    def replace(request: Request, answer: Answer) -> None:
        if request.operation == "PutObject" and request.key.endswith(MANIFEST):
            client_of(front.url).put_object(
                Bucket=bucket,
                Key=f"tree/{ROWS}",
                Body=random_bytes(50_000, 8),
                ChecksumAlgorithm="SHA256",
            )

    front.after = replace
    with pytest.raises(PublishError, match=r"any more as MANIFEST\.json says since a moment ago"):
        send(tree_store, open_s3)


def test_delete(tree_store: Store, open_s3: OpenS3, front: Front, bucket: str) -> None:
    """What is no longer wanted stays until --delete; what is not ours stays forever."""
    send(tree_store, open_s3)
    client_of(front.url).put_object(
        Bucket=bucket, Key="tree/models_v2/run.log", Body=b"x", ChecksumAlgorithm="SHA256"
    )
    commit(tree_store, DATASET, {"raw/data.parquet": b"new"})
    licence = "datasets_v2/humaneval/raw/LICENSE"
    send(tree_store, open_s3)
    assert licence in objects(front, bucket)
    send(tree_store, open_s3, delete=True)
    there = objects(front, bucket)
    assert licence not in there
    assert "models_v2/run.log" in there
    assert parse_listing(there[MANIFEST], "").retired == {}


def test_object_of_somebody_else_in_a_place_of_ours(
    tree_store: Store, open_s3: OpenS3, front: Front, bucket: str
) -> None:
    """None of our manifests names it: the same bytes are taken, whoever's client sent them, and
    others are not replaced, unless asked for."""
    client = client_of(front.url)
    same = {"Bucket": bucket, "Key": f"tree/{ROWS}", "ChecksumAlgorithm": "SHA256"}
    client.put_object(Body=random_bytes(50_000, 2), **same)
    client.put_object(Body=random_bytes(3_000_000, 8), **{**same, "Key": f"tree/{LARGE}"})
    before = objects(front, bucket)
    with pytest.raises(PublishError, match=r"consolidated\.pth at s3://.* with --overwrite"):
        send(tree_store, open_s3)
    assert objects(front, bucket) == before
    send(tree_store, open_s3, overwrite=True)
    there = objects(front, bucket)
    assert {p: there[p] for p in files_below(tree_store.root)} == files_below(tree_store.root)


def test_folders_of_others_are_not_listed(
    tree_store: Store, open_s3: OpenS3, front: Front, bucket: str
) -> None:
    """A million logs beside the tree cost no request; a folder whose name differs from
    ours only in case is in the way."""

    def put(name: str) -> None:
        client_of(front.url).put_object(
            Bucket=bucket, Key=f"tree/{name}", Body=b"x", ChecksumAlgorithm="SHA256"
        )

    for number in range(3):
        put(f"runs/{number}/log")
    put("notes.txt")
    front.requests.clear()
    assert open_s3().names() == {"notes.txt": 1}
    assert [request.query["prefix"] for request in front.requests] == [["tree/"]]
    put("Models_v2/x")
    assert open_s3().names() == {"notes.txt": 1, "Models_v2/x": 1}
    put(LARGE.replace("models", "Models"))
    with pytest.raises(PublishError, match="upper and lower case are the same"):
        send(tree_store, open_s3)


def test_folders_that_a_console_made(
    tree_store: Store, open_s3: OpenS3, front: Front, bucket: str
) -> None:
    """Their marks are not files, and in nobody's way."""
    for name in ("", "models_v2/", "models_v2/meta-llama-mtp/"):
        client_of(front.url).put_object(
            Bucket=bucket, Key=f"tree/{name}", Body=b"", ChecksumAlgorithm="SHA256"
        )
    assert open_s3().names() == {}
    send(tree_store, open_s3)


def uploads(front: Front, bucket: str) -> list[str]:
    """The keys of uploads that were begun."""
    found = client_of(front.url).list_multipart_uploads(Bucket=bucket).get("Uploads", ())
    return sorted(item["Key"] for item in found)


def test_stale_uploads_of_ours_are_aborted(
    open_s3: OpenS3, front: Front, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They cost money and nobody sees them. A week counts from when one was last resumed."""
    client, journal = client_of(front.url), Journal(tmp_path / "journal.jsonl")
    for path in (LARGE, ROWS):
        begun = client.create_multipart_upload(Bucket=bucket, Key=f"tree/{path}")
        journal.begin(path, begun["UploadId"], "0" * 64, 10, 5)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 6 * 24 * 3600)
    open_s3().prepare(0)
    assert uploads(front, bucket) == [f"tree/{ROWS}", f"tree/{LARGE}"]
    journal.part(ROWS, 1, "1" * 64, "etag")
    monkeypatch.setattr(time, "time", lambda: now + 8 * 24 * 3600)
    open_s3().prepare(0)
    assert uploads(front, bucket) == [f"tree/{ROWS}"]
    assert Journal(tmp_path / "journal.jsonl").uploads.keys() == {ROWS}


def test_uploads_of_others_are_left(open_s3: OpenS3, front: Front, bucket: str) -> None:
    """Another team's, another machine's, another root's: below the prefix too, and of any age.
    (This server says that all began in 2010.)"""
    client = client_of(front.url)
    keys = sorted((f"tree/{LARGE}", "tree/README.md", "tree/docs/movie.mp4", f"other/{LARGE}"))
    for key in keys:
        client.create_multipart_upload(Bucket=bucket, Key=key)
    front.soundly()
    open_s3().prepare(0)
    assert "ListMultipartUploads" not in front.operations()
    assert uploads(front, bucket) == keys


def test_stale_uploads_are_aborted_where_nothing_is_sent(
    tree_store: Store,
    open_s3: OpenS3,
    front: Front,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All is published already, and what somebody gave up before costs money still."""
    send(tree_store, open_s3)
    path = "models_v2/given-up/consolidated.pth"
    begun = client_of(front.url).create_multipart_upload(Bucket=bucket, Key=f"tree/{path}")
    Journal(tmp_path / "journal.jsonl").begin(path, begun["UploadId"], "0" * 64, 10, 5)
    assert send(tree_store, open_s3).payload == 0
    assert uploads(front, bucket) == [f"tree/{path}"]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 8 * 24 * 3600)
    assert send(tree_store, open_s3).payload == 0
    assert uploads(front, bucket) == []
    assert not (tmp_path / "journal.jsonl").exists()


def test_stale_upload_that_somebody_aborted(
    open_s3: OpenS3, front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule of the bucket, mostly: it is forgotten, and not asked for again at every run."""
    Journal(tmp_path / "journal.jsonl").begin(LARGE, "gone", "0" * 64, 10, 5)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 8 * 24 * 3600)

    def gone(request: Request) -> Answer | None:
        is_meant = request.query.get("uploadId") == ["gone"]
        return Answer.refusal(404, "NoSuchUpload") if is_meant else None

    front.before = gone
    open_s3().prepare(0)
    assert not (tmp_path / "journal.jsonl").exists()


def test_upload_that_is_gone_on_with_is_not_stale(
    tree_store: Store, open_s3: OpenS3, front: Front, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no part of it arrives."""
    now = time.time()
    front.before = lambda r: Answer.refusal(403, "AccessDenied") if r.is_payload else None
    for days in (0, 6):
        monkeypatch.setattr(time, "time", lambda days=days: now + days * 24 * 3600)
        with pytest.raises(PublishError, match="do not permit UploadPart"):
            send(tree_store, open_s3)
    begun = uploads(front, bucket)
    assert f"tree/{LARGE}" in begun
    monkeypatch.setattr(time, "time", lambda: now + 8 * 24 * 3600)
    open_s3().prepare(0)
    assert f"tree/{LARGE}" in uploads(front, bucket)


def test_stale_upload_that_may_not_be_aborted(
    open_s3: OpenS3, front: Front, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is remembered, and tried again."""
    journal = Journal(tmp_path / "journal.jsonl")
    begun = client_of(front.url).create_multipart_upload(Bucket=bucket, Key=f"tree/{LARGE}")
    journal.begin(LARGE, begun["UploadId"], "0" * 64, 10, 5)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 8 * 24 * 3600)

    def refuse(request: Request) -> Answer | None:
        is_meant = request.operation == "AbortMultipartUpload" and request.key.endswith(LARGE)
        return Answer.refusal(403, "AccessDenied") if is_meant else None

    front.before = refuse
    open_s3().prepare(0)
    assert Journal(tmp_path / "journal.jsonl").uploads.keys() == {LARGE}


def test_another_selection_forgets_nothing(
    tree_store: Store, open_s3: OpenS3, front: Front, bucket: str, tmp_path: Path
) -> None:
    """What is half sent of a model is resumed after a data set was published."""
    send_killed(tree_store, front, bucket, tmp_path / "journal.jsonl", "UploadPart", 2)
    publish(tree_store, [tree_store.catalogue[DATASET]], open_s3())
    front.soundly()
    publish(tree_store, [tree_store.catalogue[MODEL]], open_s3())
    manifest = tree_store.manifest_path(tree_store.catalogue[MODEL])
    assert front.payload == 1_000_000 + manifest.stat().st_size
    assert not (tmp_path / "journal.jsonl").exists()


def test_what_is_published_needs_no_upload_any_more(
    tree_store: Store, open_s3: OpenS3, front: Front, bucket: str, tmp_path: Path
) -> None:
    """The file went back to what lies there, while its upload was half sent: it is aborted by the
    publication that has the file."""
    send(tree_store, open_s3)
    journal = Journal(tmp_path / "journal.jsonl")
    begun = client_of(front.url).create_multipart_upload(Bucket=bucket, Key=f"tree/{LARGE}")
    journal.begin(LARGE, begun["UploadId"], "0" * 64, 10, 5)
    commit(tree_store, DATASET, {"raw/data.parquet": b"new"})
    send(tree_store, open_s3)
    assert uploads(front, bucket) == []
    assert not (tmp_path / "journal.jsonl").exists()


def test_journal_is_read_under_the_lock(
    tree_store: Store, open_s3: OpenS3, front: Front, bucket: str, tmp_path: Path
) -> None:
    """A process that waited for another resumes what that one sent."""
    second = open_s3()
    send_killed(tree_store, front, bucket, tmp_path / "journal.jsonl", "UploadPart", 2)
    publish(tree_store, None, second)
    assert second.payload == sum(map(len, files_below(tree_store.root).values())) - 2_000_000


def test_released_copies_and_pull(
    tree_store: Store, open_s3: OpenS3, front: Front, node: Store
) -> None:
    """The way to the training node and back: the same tree."""
    send(release(tree_store, "v2.0.0"), open_s3)
    pull_all(node, open_s3())
    assert files_below(node.root) == files_below(tree_store.root)


def test_pull_goes_on_where_it_was_cut(
    tree_store: Store, open_s3: OpenS3, front: Front, node: Store
) -> None:
    """Within one run and in the next: a range is asked for, and what arrived is not fetched
    again."""
    send(tree_store, open_s3)
    cuts = [1_500_000]

    def cut(request: Request, answer: Answer) -> None:
        if request.operation == "GetObject" and request.key.endswith(LARGE) and cuts:
            answer.stop = cuts.pop()

    front.soundly()
    front.after = cut
    pull_all(node, open_s3(), MODEL)
    ranges = [r.headers.get("range") for r in front.requests if r.key.endswith(LARGE)]
    assert len(ranges) == 2
    assert ranges[1] is not None
    assert (node.root / LARGE).read_bytes() == random_bytes(3_000_000)


# -- killed ----------------------------------------------------------------------------------------

KILLED = """
import os, sys
from pathlib import Path
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.destinations import destination, in_parts
from wmtp_assets.destinations.journal import Journal
from wmtp_assets.operations.publish import publish
from wmtp_assets.destinations.s3 import S3
from wmtp_assets.base.settings import Settings
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.destinations.conftest import client_of
root, journal, url, bucket, operation, left = sys.argv[1:]
destination.SIDE_BY_SIDE = S3.streams = in_parts.PARTS = 1
client = client_of(url)
left = [int(left)]
def count(**kwargs):
    if not left[0]:
        os.kill(os.getpid(), 9)
    left[0] -= 1
client.meta.events.register(f"before-call.s3.{operation}", count)
there = S3(client, bucket, "tree", f"s3://{bucket}/tree", Journal(Path(journal)), 1_000_000)
publish(Store(Settings("sample", Path(root)), load_catalogue()), None, there)
"""


def send_killed(
    store: Store, front: Front, bucket: str, journal: Path, operation: str, after: int
) -> None:
    """Publish in a process that is killed when it asks for ``operation`` once more than ``after``
    times."""
    arguments = (store.root, journal, front.url, bucket, operation, after)
    command = [sys.executable, "-c", KILLED, *map(str, arguments)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("operation", "after", "is_untouched"),
    [
        ("UploadPart", 2, True),
        pytest.param("CompleteMultipartUpload", 0, True, marks=pytest.mark.long),
        pytest.param("CompleteMultipartUpload", 3, False, marks=pytest.mark.long),
        pytest.param("PutObject", 0, False, marks=pytest.mark.long),
    ],
)
def test_killed(
    tree_store: Store,
    open_s3: OpenS3,
    front: Front,
    bucket: str,
    tmp_path: Path,
    operation: str,
    after: int,
    is_untouched: bool,
) -> None:
    """At any step: until names are given nothing there has changed, MANIFEST.json is the one from
    before to the end, and the next process sends what is missing, and nothing twice."""
    send(tree_store, open_s3)
    before = objects(front, bucket)
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": random_bytes(3_500_000, 5)})
    commit(tree_store, DATASET, {"raw/data.parquet": b"newer", "raw/LICENSE": b"MIT\n"})
    front.soundly()
    send_killed(tree_store, front, bucket, tmp_path / "journal.jsonl", operation, after)
    there = objects(front, bucket)
    assert there[MANIFEST] == before[MANIFEST]
    assert (there == before) == is_untouched

    sent, front.payload = front.payload, 0
    send(tree_store, open_s3)
    local = files_below(tree_store.root)
    changed = sum(len(data) for path, data in local.items() if before.get(path) != data)
    assert sent == (2_000_000 if operation == "UploadPart" else changed)
    assert front.payload == changed - sent
    there = objects(front, bucket)
    listing = parse_listing(there.pop(MANIFEST), "")
    assert {path: there[path] for path in local} == local
    assert there.keys() - local.keys() == listing.retired.keys()
    assert not (tmp_path / "journal.jsonl").exists()
    assert uploads(front, bucket) == []


def test_killed_between_completion_and_the_journal(
    tree_store: Store, open_s3: OpenS3, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload is no more, and the object is there: nothing is sent again."""

    class Killed(BaseException):
        pass

    def die(self: Journal, path: str) -> None:
        if path == LARGE:
            raise Killed
        complete(self, path)

    complete = Journal.complete
    monkeypatch.setattr(Journal, "complete", die)
    with pytest.raises(Killed):
        send(tree_store, open_s3)
    monkeypatch.undo()
    assert send(tree_store, open_s3).payload == 0


def test_upload_with_other_checksums_is_another(tmp_path: Path) -> None:
    """A part that a server took without comparing it is not believed in the other mode."""
    Journal(tmp_path / "journal.jsonl").begin("a", "id", "0" * 64, 10, 5, "sha256")
    upload = Journal(tmp_path / "journal.jsonl").uploads["a"]
    assert upload.is_of("0" * 64, 10, 5, "sha256")
    assert not upload.is_of("0" * 64, 10, 5, "signature")


def test_size_is_not_enough_for_what_was_just_sent(
    tree_store: Store, open_s3: OpenS3, front: Front
) -> None:
    """--verify=size is about what was published earlier."""

    def other(request: Request, answer: Answer) -> None:
        if request.operation == "HeadObject" and request.key.endswith(LARGE):
            answer.headers["x-amz-checksum-sha256"] = "A" * 43 + "="

    front.after = other
    with pytest.raises(PublishError, match="does not lie at s3://"):
        send(tree_store, open_s3, how="size")
    assert "PutObject" not in front.operations()


def test_part_that_nobody_remembers(
    tree_store: Store, open_s3: OpenS3, front: Front, bucket: str, tmp_path: Path
) -> None:
    """It was sent, and the process was killed before it knew: a server that lists the SHA-256 of
    its parts, as Amazon's does, is believed where that is ours."""
    journal = tmp_path / "journal.jsonl"
    send_killed(tree_store, front, bucket, journal, "UploadPart", 2)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(line for line in lines if b'"part"' not in line))
    front.soundly()
    front.after = front.list_checksums
    send(tree_store, open_s3)
    local = files_below(tree_store.root)
    assert front.payload == sum(map(len, local.values())) - 2_000_000
    assert objects(front, bucket)[LARGE] == local[LARGE]


def test_part_that_nobody_remembers_is_remembered(
    tree_store: Store, open_s3: OpenS3, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the server has listed it: a run killed again, before the manifest, sends nothing of the
    file a third time."""

    class Killed(BaseException):
        pass

    def die(*arguments: Any) -> None:
        raise Killed

    for owner, name in ((Journal, "part"), (S3, "write_manifest")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, die)
            front.after = front.list_checksums
            with pytest.raises(Killed):
                send(tree_store, open_s3)
    assert send(tree_store, open_s3).payload == 0


def test_another_generation_abandons_what_was_sent(
    tree_store: Store, open_s3: OpenS3, front: Front, bucket: str, tmp_path: Path
) -> None:
    """Parts of the old content must never be completed into the new file."""
    send_killed(tree_store, front, bucket, tmp_path / "journal.jsonl", "UploadPart", 2)
    data = random_bytes(3_000_000, 7)
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": data, "raw/empty": b""})
    send(tree_store, open_s3)
    assert objects(front, bucket)[LARGE] == data
    assert uploads(front, bucket) == []


def test_part_that_the_server_has_otherwise_is_sent_again(
    tree_store: Store, open_s3: OpenS3, front: Front, bucket: str, tmp_path: Path
) -> None:
    """The journal is a memory: what the server lists decides."""
    send_killed(tree_store, front, bucket, tmp_path / "journal.jsonl", "UploadPart", 3)
    (upload_id,) = {
        u.upload_id for u in Journal(tmp_path / "journal.jsonl").uploads.values() if u.parts
    }

    def lost(request: Request, answer: Answer) -> None:
        if request.operation == "ListParts" and request.query["uploadId"] == [upload_id]:
            answer.body = answer.body.replace(b"<PartNumber>1<", b"<PartNumber>9<")

    front.soundly()
    front.after = lost
    send(tree_store, open_s3)
    assert front.payload >= 1_000_000
    assert objects(front, bucket)[LARGE] == random_bytes(3_000_000)


@pytest.mark.parametrize(
    "tail", [b'{"event": "part", "pa', b"\xff\xfe", b'{"event": "part"}\n', b"[]"]
)
def test_journal_with_a_torn_line(tmp_path: Path, tail: bytes) -> None:
    """The process was killed while it wrote; the lines before count, and those behind."""
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.begin("a", "id", "0" * 64, 10, 5)
    journal.part("a", 1, "1" * 64, "etag")
    with path.open("ab") as file:
        file.write(tail)
    again = Journal(path)
    assert again.uploads == journal.uploads
    again.part("a", 2, "2" * 64, "etag")
    assert Journal(path).uploads["a"].parts.keys() == {1, 2}


def test_journal_that_cannot_be_written(tmp_path: Path) -> None:
    """Nothing is sent that would have to be sent again."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="nobody would know what was sent"):
        Journal(tmp_path / "file/journal.jsonl").begin("a", "id", "0" * 64, 10, 5)


# -- refused ---------------------------------------------------------------------------------------


def test_artifact_that_fails_a_rule(tree_store: Store, open_s3: OpenS3, front: Front) -> None:
    """Not a byte is sent, not an upload begun."""
    damage(tree_store.root / LARGE, flip(5))
    with pytest.raises(PublishError, match=f"{MODEL} does not pass the rule sha256"):
        send(tree_store, open_s3)
    assert {*front.operations()} <= {"GetObject", "ListObjects", "CreateBucket"}


def test_file_that_changes_while_it_is_sent(
    tree_store: Store, open_s3: OpenS3, front: Front, bucket: str
) -> None:
    """After the rules passed: no name is given, and MANIFEST.json is the one from before."""
    send(tree_store, open_s3)
    before = objects(front, bucket)
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": random_bytes(40_000_000, 5)})

    def change(request: Request) -> None:
        if request.operation == "UploadPart":
            with (tree_store.root / LARGE).open("r+b") as file:  # behind what was read
                file.seek(-1, os.SEEK_END)
                file.write(b"?")

    front.before = change
    with pytest.raises(PublishError, match="changed while it was read, or is damaged: SHA-256"):
        send(tree_store, open_s3)
    assert objects(front, bucket) == before


def test_without_credentials(
    tree_store: Store, front: Front, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said with what to set."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(
        PublishError, match="there are no credentials for S3: set AWS_ACCESS_KEY_ID"
    ):
        open_destination(tree_store, f"s3://{bucket}/tree", Access(front.url))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(PublishError, match="PartialCredentialsError"):
        open_destination(tree_store, f"s3://{bucket}/tree", Access(front.url))
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(PublishError, match="names the profile nobody, which does not exist: look"):
        open_destination(tree_store, f"s3://{bucket}/tree", Access(front.url))


def test_profile_that_runs_what_is_not_there(
    tree_store: Store, front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said as what it is, not as an endpoint that is none."""
    config = tmp_path / "config"
    config.write_text("[default]\ncredential_process = /nowhere/to-be-found\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(PublishError, match="the S3 client cannot be made"):
        open_destination(tree_store, "s3://bucket-x/tree", Access(front.url))


def test_region_that_is_none(
    tree_store: Store, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is sent to look at the endpoint."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us_east_1")
    with pytest.raises(SpecError, match="us_east_1 is not a region name: look at AWS_DEFAULT_R"):
        open_destination(tree_store, "s3://bucket-x/tree", Access(front.url))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer.refusal(403, "RequestTimeTooSkewed"), "this machine's clock and the server's"),
        (Answer.refusal(400, "AuthorizationHeaderMalformed"), "another region. Look at AWS_DEFAU"),
        (Answer(403, {"content-type": "text/html"}, PAGE), "do not permit GetObject (403)"),
        (Answer.refusal(400, ""), "the server refuses GetObject (400)"),
        (Answer(400, {}), "the server refuses GetObject (400)"),
    ],
)
def test_refusals_say_what_to_look_at(
    tree_store: Store, open_s3: OpenS3, front: Front, answer: Answer, message: str
) -> None:
    """The clock, the region, the rights; the status where a page or nothing comes."""
    front.before = lambda request: answer
    with pytest.raises(PublishError) as error:
        send(tree_store, open_s3)
    assert message in str(error.value)


def test_answer_without_a_body_cannot_say_why(
    tree_store: Store, open_s3: OpenS3, front: Front
) -> None:
    """HEAD has none: a token that expired is a 400 like any other."""
    send(tree_store, open_s3)
    front.before = lambda r: Answer(400, {}) if r.operation == "HeadObject" else None
    with pytest.raises(PublishError, match=r"HeadObject \(400\), .* credentials have expired, or"):
        send(tree_store, open_s3)


def test_variable_that_is_set_is_not_advised(
    tree_store: Store, open_s3: OpenS3, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It did not help."""
    monkeypatch.setenv("WMTP_S3_CHECKSUM", "signature")
    front.before = lambda request: Answer.refusal(400, "InvalidRequest")
    with pytest.raises(PublishError, match="InvalidRequest") as error:
        send(tree_store, open_s3)
    assert "WMTP_S3_CHECKSUM" not in str(error.value)


def test_server_that_is_not_there(tree_store: Store, front: Front) -> None:
    """It is said which one was asked, whatever named it."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{nobody.getsockname()[1]}"
        destination = open_destination(tree_store, "s3://bucket-x/tree", Access(f"http://{host}"))
        with pytest.raises(
            PublishError, match=rf"does not answer as a server does \(\w+ at {host}"
        ):
            publish(tree_store, None, destination)


def test_server_that_redirects_is_asked_twice(
    tree_store: Store, open_s3: OpenS3, front: Front
) -> None:
    """The library would ask it for the bucket's region until its stack is full."""
    front.requests.clear()
    front.before = lambda request: Answer(301, {"location": "https://elsewhere.example/"})
    with pytest.raises(
        PublishError, match=r"this endpoint redirects \(301\); is it an S3 server\?"
    ):
        send(tree_store, open_s3)
    assert front.operations() == ["GetObject", "HeadBucket"]


def test_text_of_a_server_is_no_command_of_a_terminal(
    tree_store: Store, open_s3: OpenS3, front: Front
) -> None:
    """Its codes and checksums are of any length and any characters."""
    evil = "a\n\x9b31m" + "b" * 5_000
    front.before = lambda request: Answer.refusal(400, evil)
    with pytest.raises(PublishError) as first:
        send(tree_store, open_s3)
    front.soundly()
    front.after = stating_when_completed(evil)
    with pytest.raises(PublishError) as second:
        send(tree_store, open_s3)
    for error in (first, second):
        assert str(error.value).isprintable()
        assert r"a\n\x9b31mbbb" in str(error.value)
        assert len(str(error.value)) < 2_000


@pytest.mark.parametrize("url", ["http://192.0.2.1:9000", "http://storage.example", "nonsense"])
def test_endpoints_that_are_refused(tree_store: Store, front: Front, url: str) -> None:
    """Plain http beyond this machine, and what is not a URL."""
    with pytest.raises(SpecError, match=r"plain http is only for loopback|is not a URL of an S3"):
        open_destination(tree_store, "s3://bucket-x/tree", Access(url))


@pytest.mark.long
def test_endpoint_with_a_password(
    tree_store: Store, front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a URL that is refused no more than the host is shown, wherever it comes from."""

    def refused(url: str | None) -> None:
        with pytest.raises(SpecError, match="is not a URL of an S3 server") as error:
            open_destination(tree_store, "s3://bucket-x/tree", Access(url))
        assert "planted" not in str(error.value)

    with_password = "https://me:planted@storage.example"
    refused(with_password)
    refused("https://sto rage/?token=planted")
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        with monkeypatch.context() as patch:
            patch.setenv(name, with_password)
            refused(None)
    config = tmp_path / "config"
    config.write_text(f"[default]\nendpoint_url = {with_password}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    refused(None)


def test_bucket_that_is_absent(tree_store: Store, front: Front) -> None:
    """By its name."""
    destination = open_destination(tree_store, "s3://no-such-bucket/tree", Access(front.url))
    with pytest.raises(PublishError, match="there is no bucket no-such-bucket"):
        publish(tree_store, None, destination)


def test_library_is_missing(tree_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base package has no boto3; the message says how to get it."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(
        PublishError, match=r"boto3 is not installed: pip install 'wmtp_assets\[s3\]'"
    ):
        open_destination(tree_store, "s3://bucket-x/tree")


# -- the command -----------------------------------------------------------------------------------


def test_command_and_secrets(tree_store: Store, front: Front, bucket: str, tmp_path: Path) -> None:
    """Plan, publication, second publication and pull as people type them, the last where no Dagster
    and no torch is; and the credentials are in no output, journal or manifest, also where it
    fails."""

    light = light_environment(tmp_path / "light")

    def wmtp(
        root: Path, *arguments: str, of: Mapping[str, str] = os.environ
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).with_name("wmtp"), *arguments, "--endpoint-url", front.url],
            env={**of, "WMTP_SOURCE": "sample", "WMTP_STORAGE_ROOT": str(root)},
            capture_output=True,
            text=True,
            check=False,
        )

    to = ("--to", f"s3://{bucket}/tree")
    runs = [
        wmtp(tree_store.root, "publish", *to, "--dry-run"),
        wmtp(tree_store.root, "publish", *to, "--json"),
        wmtp(tree_store.root, "publish", *to),
        wmtp(tmp_path / "node", "pull", MODEL, "--from", f"s3://{bucket}/tree", of=light),
    ]
    assert [run.returncode for run in runs] == [0, 0, 0, 0], runs
    assert "time ? (nothing was sent there yet)" in runs[0].stdout
    assert json.loads(runs[1].stdout)["sent_bytes"] == 3_000_000 + 50_004 + sum(
        tree_store.manifest_path(tree_store.catalogue[key]).stat().st_size
        for key in (MODEL, DATASET)
    )
    assert runs[2].stdout.endswith("2 artifacts published, 0 B sent in 0 s; it was all there\n")
    front.before = lambda request: Answer.refusal(403, "AccessDenied")
    runs.append(wmtp(tree_store.root, "publish", *to))
    assert runs[-1].returncode == 1
    assert "the credentials do not permit GetObject (AccessDenied)" in runs[-1].stderr
    said = "".join(run.stdout + run.stderr for run in runs)
    left = [path.read_bytes() for path in tree_store.internal.rglob("*") if path.is_file()]
    front.soundly()
    for secret in (SECRET, KEY, "X-Amz-Signature"):
        assert secret not in said
        assert not any(secret.encode() in data for data in left)
        assert secret.encode() not in objects(front, bucket)[MANIFEST]


def test_usage(tree_store: Store) -> None:
    """Every refusal is one of ours."""
    for url in ("gs://x/y", "s3://", "file://relative"):
        with pytest.raises(WmtpError):
            open_destination(tree_store, url)
