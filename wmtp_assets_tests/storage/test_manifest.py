"""The manifest: whatever happens to its bytes, it is read as it was written or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wmtp_assets.base.errors import CorruptArtifact
from wmtp_assets.base.model import check_distinct
from wmtp_assets.storage.files import hash_file
from wmtp_assets.storage.manifest import (
    Document,
    FileRecord,
    Manifest,
    amend,
    content_sha256,
    parse,
    render,
    seal,
)
from wmtp_assets.storage.store import Store

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

MORNING, EVENING = "2026-01-31T06:00:00Z", "2026-01-31T18:00:00Z"

SEGMENT = st.text(
    st.characters(blacklist_characters="/\\", blacklist_categories=("Cc", "Cs")),
    min_size=1,
    max_size=8,
).filter(lambda segment: segment not in (".", ".."))
PATH = st.lists(SEGMENT, min_size=1, max_size=3).map("/".join)
SHA256 = st.binary(max_size=4).map(lambda data: hashlib.sha256(data).hexdigest())
RECORD = st.builds(FileRecord, size=st.integers(0, 1 << 60), sha256=SHA256)


def can_be_together(files: Iterable[str]) -> bool:
    """Whether a folder can hold all of these files."""
    try:
        check_distinct(files)
    except ValueError:
        return False
    return True


FILES = st.dictionaries(PATH, RECORD, max_size=5).filter(can_be_together)

TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=8)
VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
DESCRIPTION = st.dictionaries(
    TEXT.filter(lambda key: key not in ("created_at", "manifest", "self_sha256")), VALUE, max_size=4
)


def record(data: bytes) -> FileRecord:
    return FileRecord(size=len(data), sha256=hashlib.sha256(data).hexdigest())


FEW = {"b.txt": record(b"b"), "a/c.txt": record(b""), "a.txt": record(b"a")}


def forge(document: Document) -> bytes:
    """The bytes of a document with the right ``self_sha256``, whatever it says."""
    body = {key: value for key, value in document.items() if key != "self_sha256"}
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    sha256 = hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
    whole = json.dumps({**body, "self_sha256": sha256}, indent=2, ensure_ascii=False)
    return whole.encode("utf-8", "surrogatepass") + b"\n"


# -- writing and reading -------------------------------------------------------------------------


@UNTIMED
@given(DESCRIPTION, FILES)
def test_what_is_sealed_is_parsed(description: Document, files: dict[str, FileRecord]) -> None:
    """A manifest that its own reader refuses would make a good artifact corrupt."""
    sealed = parse(seal(description, files, MORNING, None), "here")
    assert sealed.files == files
    assert list(sealed.files) == sorted(files)
    assert sealed.size == sum(item.size for item in files.values())
    assert sealed.content_sha256 == content_sha256(files)
    assert sealed.document["created_at"] == MORNING
    assert {key: sealed.document[key] for key in description} == description


@UNTIMED
@given(DESCRIPTION, FILES)
def test_same_content_is_the_same_bytes(
    description: Document, files: dict[str, FileRecord]
) -> None:
    """A run that changes nothing must leave the very same file, whenever it runs."""
    first = seal(description, files, MORNING, None)
    backwards = dict(reversed(files.items()))
    assert seal(description, backwards, EVENING, parse(first, "here")) == first


@UNTIMED
@given(DESCRIPTION, FILES, st.data())
def test_other_content_is_of_its_own_time(
    description: Document, files: dict[str, FileRecord], data: st.DataObject
) -> None:
    """``created_at`` says when *this* content was made, so it may only outlive an equal one."""
    previous = parse(seal(description, files, MORNING, None), "here")
    other = data.draw(DESCRIPTION)
    other_files = data.draw(FILES)
    now = parse(seal(other, other_files, EVENING, previous), "here").document["created_at"]
    canonical = [json.dumps(item, sort_keys=True) for item in (description, other)]
    is_equal = canonical[0] == canonical[1] and files == other_files
    assert now == (MORNING if is_equal else EVENING)


@pytest.mark.parametrize(
    ("description", "files"),
    [
        ({"name": "y"}, FEW),
        ({"name": "x", "more": None}, FEW),
        ({}, FEW),
        ({"name": "x"}, {}),
        ({"name": "x"}, {**FEW, "d.txt": record(b"")}),
        ({"name": "x"}, {**FEW, "a.txt": record(b"A")}),
        ({"name": "x"}, {"B.txt" if name == "b.txt" else name: FEW[name] for name in FEW}),
    ],
    ids=["value", "new key", "no key", "no files", "new file", "other bytes", "renamed"],
)
def test_created_at_changes_with_any_difference(
    description: Document, files: dict[str, FileRecord]
) -> None:
    """The smallest differences, each alone."""
    previous = parse(seal({"name": "x"}, FEW, MORNING, None), "here")
    sealed = parse(seal(description, files, EVENING, previous), "here")
    assert sealed.document["created_at"] == EVENING


def test_created_at_is_carried_over_for_tuples_too() -> None:
    """In memory a shape is a tuple, read back it is a list: that is no other content."""
    description = {"shape": (2, 3), "tensors": {"w": {"shape": (1,)}}}
    previous = parse(seal(description, FEW, MORNING, None), "here")
    assert parse(seal(description, FEW, EVENING, previous), "here").document == previous.document


def test_order_of_the_keys_is_kept() -> None:
    """People read metadata.json from the top: the asset's name comes first."""
    data = seal({"zebra": 1, "apple": 2}, FEW, MORNING, None)
    assert list(json.loads(data)) == ["zebra", "apple", "created_at", "manifest", "self_sha256"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "\ud800"])
def test_what_json_cannot_hold_is_not_written(value: object) -> None:
    """``NaN`` is not JSON: other readers would refuse the whole file."""
    with pytest.raises(ValueError, match=r"not JSON compliant|surrogates not allowed"):
        render({"loss": value})
    with pytest.raises(ValueError, match=r"not JSON compliant|surrogates not allowed"):
        seal({"loss": value}, FEW, MORNING, None)


# -- saying something else about the same files ----------------------------------------------------


@UNTIMED
@given(DESCRIPTION, FILES, DESCRIPTION)
def test_what_is_amended_is_parsed(
    description: Document, files: dict[str, FileRecord], changes: Document
) -> None:
    """Other words about the same bytes: version and time stay, whatever is said."""
    sealed = parse(seal(description, files, MORNING, None), "here")
    amended = parse(amend(sealed, changes), "here")
    assert (amended.files, amended.content_sha256) == (sealed.files, sealed.content_sha256)
    expected = {**sealed.document, **changes, "self_sha256": amended.document["self_sha256"]}
    assert amended.document == expected


def test_amending_nothing_changes_no_byte() -> None:
    """And a change taken back leaves what was there before."""
    good = seal({"name": "x"}, FEW, MORNING, None)
    sealed = parse(good, "here")
    assert amend(sealed, {}) == good
    changed = amend(sealed, {"name": "y"})
    assert changed != good
    assert amend(parse(changed, "here"), {"name": "x"}) == good
    assert sealed == parse(good, "here")


# -- the content hash ----------------------------------------------------------------------------


def test_content_hash_is_over_what_sha256sum_prints(tmp_path: Path) -> None:
    """The version of an artifact can be computed with coreutils alone, without this project."""
    contents = {"b.txt": b"b", "a/c d.txt": b"", "a.txt": b"a", "Z/ü.bin": bytes(range(256))}
    for name, data in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    command = ["sha256sum"] if shutil.which("sha256sum") else ["shasum", "-a", "256"]
    names = sorted(contents, key=str.encode)
    printed = subprocess.run([*command, *names], cwd=tmp_path, capture_output=True, check=True)
    files = {name: hash_file(tmp_path / name) for name in contents}
    assert content_sha256(files) == hashlib.sha256(printed.stdout).hexdigest()


@UNTIMED
@given(st.dictionaries(PATH, RECORD, min_size=1, max_size=5), st.data())
def test_content_hash_changes_with_name_and_bytes(
    files: dict[str, FileRecord], data: st.DataObject
) -> None:
    """It is the data version: two contents under one version would never be remade downstream."""
    name = data.draw(st.sampled_from(sorted(files)))
    other = data.draw(PATH.filter(lambda path: path not in files))
    renamed = {other if path == name else path: files[path] for path in files}
    rewritten = {**files, name: FileRecord(size=0, sha256=hashlib.sha256(b"other").hexdigest())}
    removed = {path: files[path] for path in files if path != name}
    hashes = {content_sha256(item) for item in (files, renamed, rewritten, removed)}
    assert len(hashes) == 4


# -- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["humaneval_stats", "meta_llama_mtp_raw"])
def test_every_flipped_bit_is_found(store: Store, key: str) -> None:
    """A manifest vouches for all other files; the one bit it misses is the one that will flip."""
    artifact = store.catalogue[key]
    good = store.manifest_path(artifact).read_bytes()
    assert parse(good, "here").files
    changed = bytearray(good)
    for offset in range(len(good)):
        for bit in range(8):
            changed[offset] ^= 1 << bit
            with pytest.raises(CorruptArtifact):
                parse(bytes(changed), "here")
            changed[offset] ^= 1 << bit
    assert bytes(changed) == good


def test_every_truncation_is_found() -> None:
    """A file cut off by a full disk or a copy that was stopped."""
    good = seal({"name": "ü"}, FEW, MORNING, None)
    for size in range(len(good)):
        with pytest.raises(CorruptArtifact):
            parse(good[:size], "here")


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b"\n",
        lambda data: data[:-1],
        lambda data: b" " + data,
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.decode().encode("utf-16"),
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: json.dumps(json.loads(data)).encode(),
        lambda data: data.replace(b'"name": "x"', b'"name": "y",\n  "name": "x"'),
        lambda data: data.replace(b'"name": "x"', b'"name": "\\u0078"'),
    ],
    ids=["newline", "no newline", "space", "BOM", "UTF-16", "CRLF", "one line", "twice", "escape"],
)
def test_other_bytes_for_the_same_document_are_found(change: Any) -> None:
    """The document's hash does not see white space, so the bytes are compared as well."""
    good = seal({"name": "x"}, FEW, MORNING, None)
    with pytest.raises(CorruptArtifact, match=r"^here: .*manifest"):
        parse(change(good), "here")


def test_edited_manifest_names_both_hashes() -> None:
    """Someone will edit metadata.json by hand; the message says that this is what was found."""
    good = seal({"n_params": 7}, FEW, MORNING, None)
    stated = json.loads(good)["self_sha256"]
    with pytest.raises(CorruptArtifact) as error:
        parse(good.replace(b'"n_params": 7', b'"n_params": 8'), "models/metadata.json")
    assert str(error.value).startswith("models/metadata.json: the manifest was changed after")
    assert stated in str(error.value)


def test_manifest_that_was_good_before_is_compared_again() -> None:
    """That bytes were right is known by their hash: others are compared, and what a reader does to
    the document that it got is not what the next one reads."""
    good = seal({"n_params": 7}, FEW, MORNING, None)
    parse(good, "here").document["n_params"] = 8
    assert parse(good, "here").document["n_params"] == 7
    with pytest.raises(CorruptArtifact, match="changed after it was written"):
        parse(good.replace(b'"n_params": 7', b'"n_params": 8'), "here")


def test_hash_of_another_content_is_found() -> None:
    """The version stands in the manifest beside the files: the two must agree."""
    document = json.loads(seal({}, FEW, MORNING, None))
    document["manifest"]["content_sha256"] = content_sha256({})
    with pytest.raises(CorruptArtifact, match="changed after it was written"):
        parse(forge(document), "here")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\xff\xff",
        b"null",
        b"7",
        b'"self_sha256"',
        b"[]",
        b"{}",
        b'{"self_sha256": 1, "created_at": "", "manifest": []}',
        b'{"self_sha256": 1, "created_at": "", "manifest": {"files": []}}',
        b'{"self_sha256": 1, "created_at": "", "manifest": {"files": {}}}',
        b"1" * 5000,
        b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    ],
    ids=lambda data: repr(data[:60]),
)
def test_no_manifest_at_all(data: bytes) -> None:
    """Anything may lie at that path; the answer is always the same error, naming the file."""
    with pytest.raises(CorruptArtifact, match=r"^here: not a manifest: "):
        parse(data, "here")


@pytest.mark.parametrize("depth", [100, 800, 900, 950, 990, 1010, 5000])
def test_nested_as_deep_as_a_reader_goes(depth: int) -> None:
    """Parsing, hashing and rendering reach the interpreter's limit at different depths."""
    good = seal({"x": 1}, FEW, MORNING, None)
    nested = good.replace(b'"x": 1', b'"x": ' + b"[" * depth + b"]" * depth)
    with pytest.raises(CorruptArtifact, match=r"^here: "):
        parse(nested, "here")


FILE = {"size": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("path", "entry"),
    [
        ("../secret", FILE),
        ("/etc/passwd", FILE),
        ("a\\b", FILE),
        ("a\nb", FILE),
        ("", FILE),
        ("\ud800", FILE),
        ("a", {**FILE, "size": -1}),
        ("a", {**FILE, "size": "1"}),
        ("a", {**FILE, "size": 1.0}),
        ("a", {**FILE, "size": True}),
        ("a", {**FILE, "size": None}),
        ("a", {**FILE, "sha256": "0" * 63}),
        ("a", {**FILE, "sha256": "G" * 64}),
        ("a", {**FILE, "sha256": None}),
        ("a", {**FILE, "mode": 0o777}),
        ("a", {"size": 1}),
        ("a", {"sha256": "0" * 64}),
        ("a", []),
    ],
)
def test_wrong_entry_with_all_hashes_right(path: str, entry: object) -> None:
    """A hash proves that nothing changed, not that it is sound: paths are opened as they stand."""
    document = {
        "created_at": MORNING,
        "manifest": {"files": {path: entry}, "content_sha256": "0" * 64},
    }
    with pytest.raises(CorruptArtifact, match="here: not a manifest"):
        parse(forge(document), "here")


@pytest.mark.parametrize(
    "change",
    [
        {"created_at": 1769860800},
        {"created_at": None},
        {"note": "\ud800"},
        {"note": math.nan},
        {"note": -math.inf},
    ],
    ids=repr,
)
def test_wrong_document_with_all_hashes_right(change: Document) -> None:
    """Also what Python's JSON takes and no other does; never another error than this one."""
    document = {**json.loads(seal({}, FEW, MORNING, None)), **change}
    with pytest.raises(CorruptArtifact, match="here: not a manifest"):
        parse(forge(document), "here")


@UNTIMED
@given(st.binary(max_size=40) | VALUE.map(lambda value: json.dumps(value).encode()))
def test_arbitrary_bytes(data: bytes) -> None:
    """The reader stands before every other one: it must not be the one that falls over."""
    with pytest.raises(CorruptArtifact, match="here: not a manifest"):
        parse(data, "here")


@UNTIMED
@given(
    st.dictionaries(
        st.sampled_from(["created_at", "manifest", "self_sha256", "name"]),
        VALUE | st.fixed_dictionaries({"files": VALUE | st.just({}), "content_sha256": VALUE}),
    )
)
def test_arbitrary_documents(document: Document) -> None:
    """As above, with the keys that a manifest has."""
    with pytest.raises(CorruptArtifact, match=r"^here: "):
        parse(json.dumps(document).encode(), "here")


# -- render --------------------------------------------------------------------------------------


@UNTIMED
@given(st.dictionaries(TEXT, VALUE, max_size=4))
def test_render_is_plain_json(document: Document) -> None:
    """Other tools read these files: valid JSON, UTF-8, text as people write it, one newline."""
    data = render(document)
    assert json.loads(data) == document
    assert data.endswith(b"}\n")
    assert render(json.loads(data)) == data


@pytest.mark.parametrize(
    ("key", "folders"),
    [
        ("humaneval_pairs", ["."]),
        ("humaneval_processed", ["processed", "index"]),
        ("codecontests_processed", ["processed", "index"]),
        ("codecontests_raw", ["raw"]),
        ("codecontests_tests", ["."]),
    ],
)
def test_manifest_is_what_it_says(store: Store, key: str, folders: list[str]) -> None:
    """A manifest of the sample, against the files it lies beside: all that are the asset's, and
    none of another one in the same folder."""
    artifact = store.catalogue[key]
    found: Manifest = store.manifest(artifact)
    folder = store.folder(artifact)
    assert found.files == {name: hash_file(folder / name) for name in found.files}
    on_disk = {
        path.relative_to(folder).as_posix()
        for name in folders
        for path in (folder / name).rglob("*")
        if path.is_file()
    } - {artifact.manifest}
    assert found.files.keys() == on_disk
    assert found.size == sum((folder / name).stat().st_size for name in on_disk)
