"""A model that would be refused is refused before its large files are fetched.

The real client asks a real hub on loopback, behind a proxy that counts what is asked and sent. The
files are real checkpoints of more than :data:`LARGE` bytes, and damaged ones.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.excerpts import Hole
from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.specs import ModelSpec
from wmtp_assets.hub.download import foresee
from wmtp_assets.hub.endpoint import open_endpoint
from wmtp_assets.hub.preflight import LARGE
from wmtp_assets.hub.remote import MAIN, RemoteRepository, resolve
from wmtp_assets.kinds.registry import expand
from wmtp_assets.operations.materialize import is_alone, materialize, update
from wmtp_assets.operations.plan import make_plan, plan_raw
from wmtp_assets.operations.repair import repair_one
from wmtp_assets.sample.server import serve
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.checkpoints.tiny import (
    CHECKPOINT,
    INDEX,
    LLAMA_MODEL,
    META_MODEL,
    RAW,
    SAFETENSORS,
    SHARDS,
    TOKENIZER,
)
from wmtp_assets_tests.hub.conftest import write_files
from wmtp_assets_tests.hub.faults import (
    Answer,
    FaultyHub,
    Request,
    faulty_hub,
    files,
    refuse,
    unavailable,
)
from wmtp_assets_tests.trees import damage, flip

SMALL = 2_000_000
"""Bytes of files that a refusal costs, at most; the tokenizer is a quarter of them."""

CONFIG = tiny.CONFIG | {"hidden_size": 64, "vocab_size": 32_000}
PARAMS = tiny.PARAMS | {"dim": 64, "vocab_size": 32_000}
LLAMA = tiny.llama_tensors(config=CONFIG)
META = tiny.random_tensors(tiny.params(dim=64, vocab_size=32_000))
GOOD = tiny.llama_files(LLAMA, CONFIG)
META_FILES = {
    CHECKPOINT: tiny.saved(META),
    "7B_1T_4/params.json": json.dumps(PARAMS).encode(),
    "tokenizer.model": GOOD["tokenizer.model"],
}
SINGLE_MODEL = LLAMA_MODEL | {
    "files": {
        "checkpoint": "model.safetensors",
        "config": "config.json",
        "tokenizer": "tokenizer.model",
    }
}
SINGLE = {
    "model.safetensors": save({n: t for n, t in LLAMA.items() if "inv_freq" not in n}),
    "config.json": GOOD["config.json"],
    "tokenizer.model": GOOD["tokenizer.model"],
}

Serve = Callable[..., tuple[Store, FaultyHub]]


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Serve these files as the model of a spec; an empty root of the source ``hub``, and the hub.

    The tokenizer of the specs is not pinned for the hub: its number of pieces is what is judged.
    """
    monkeypatch.setenv("WMTP_LOCK", str(tmp_path / "wmtp.lock"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "nobody"))
    with ExitStack() as stack:

        def serve_(held: Mapping[str, bytes], model: Mapping[str, Any]) -> tuple[Store, FaultyHub]:
            write_files(tmp_path / "hub/models/owner/tiny", dict(held))
            front = stack.enter_context(faulty_hub(stack.enter_context(serve(tmp_path / "hub"))))
            monkeypatch.setenv("HF_ENDPOINT", front.url)
            specs = expand([ModelSpec.model_validate(model)])
            return Store(Settings("hub", tmp_path / "storage"), specs), front

        yield serve_


def make(store: Store, *keys: str, say: Callable[[str], None] = lambda line: None) -> None:
    for key in keys:
        materialize(store, store.catalogue[key], say)


def ranges(hub: FaultyHub) -> list[tuple[str, str]]:
    """File and range of what was asked for; an empty range is the whole file."""
    asked = [request for request in hub.requests if request.is_content]
    return [(r.path.rpartition("/")[2], r.headers.get("Range", "")) for r in asked]


def assert_committed(store: Store, held: Mapping[str, bytes]) -> None:
    """The raw files are those of the hub."""
    raw = store.catalogue[RAW]
    assert {*store.manifest(raw).document["source"]["files"]} == {*held}
    assert {name: store.read(raw, f"raw/{name}") for name in held} == held


def replaced(held: Mapping[str, bytes], **changes: bytes) -> dict[str, bytes]:
    """Files, one of which is another: by the first that ends with the name, dots as underscores."""
    result = dict(held)
    for ending, data in changes.items():
        name = next(n for n in held if n.replace(".", "_").endswith(ending))
        result[name] = data
    return result


def pickled(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


class Thing:
    """What no description of weights names."""


def with_placeholder() -> dict[str, torch.Tensor]:
    name = next(name for name in META if name.endswith("w1.weight"))
    return META | {name: torch.zeros(0)}


BROKEN: dict[str, tuple[Mapping[str, Any], dict[str, bytes], str]] = {
    "config of another architecture": (
        LLAMA_MODEL,
        replaced(GOOD, config_json=json.dumps(CONFIG | {"hidden_act": "gelu"}).encode()),
        "hidden_act",
    ),
    "config that is not JSON": (LLAMA_MODEL, replaced(GOOD, config_json=b"{"), "not a JSON object"),
    "params with a key more": (
        META_MODEL,
        replaced(META_FILES, params_json=json.dumps(PARAMS | {"x": 1}).encode()),
        "the training code takes no such parameter",
    ),
    "config and tensors of two sizes": (
        LLAMA_MODEL,
        replaced(GOOD, config_json=json.dumps(CONFIG | {"num_hidden_layers": 5}).encode()),
        "missing tensors: model.layers.4",
    ),
    "vocabulary larger than the tokenizer": (
        META_MODEL,
        {
            **META_FILES,
            CHECKPOINT: tiny.saved(tiny.random_tensors(tiny.params(dim=64, vocab_size=32_064))),
            "7B_1T_4/params.json": json.dumps(PARAMS | {"vocab_size": 32_064}).encode(),
        },
        "embedding_rows: 32064",
    ),
    "unexpected tensors": (
        META_MODEL,
        {**META_FILES, CHECKPOINT: tiny.saved(META | {"lora.weight": torch.zeros(4)})},
        "unexpected tensors: lora.weight",
    ),
    "unexpected tensors in safetensors": (
        SINGLE_MODEL,
        {**SINGLE, "model.safetensors": save({**LLAMA, "lora.weight": torch.zeros(4)})},
        "unexpected tensors: lora.weight",
    ),
    "a quantised tensor": (
        SINGLE_MODEL,
        {
            **SINGLE,
            "model.safetensors": save(
                {n: t for n, t in LLAMA.items() if "inv_freq" not in n}
                | {"lm_head.weight": torch.zeros(32_000, 64, dtype=torch.int8)}
            ),
        },
        "lm_head.weight is I8",
    ),
    "a legacy file": (
        META_MODEL,
        {**META_FILES, CHECKPOINT: pickled(META, _use_new_zipfile_serialization=False)},
        "a legacy (non-zip) torch file",
    ),
    "protocol 4": (
        META_MODEL,
        {**META_FILES, CHECKPOINT: pickled(META, pickle_protocol=4)},
        "it is pickled with protocol 4",
    ),
    "more than weights": (
        META_MODEL,
        {**META_FILES, CHECKPOINT: tiny.saved(META | {"thing": Thing()})},
        "which weights do not need",
    ),
    "a placeholder of DeepSpeed": (
        META_MODEL,
        {**META_FILES, CHECKPOINT: tiny.saved(with_placeholder())},
        "a placeholder of DeepSpeed ZeRO-3",
    ),
    "a state dict further inside": (
        META_MODEL,
        {**META_FILES, CHECKPOINT: tiny.saved({"model": META, "step": 3})},
        "checkpoint: {select: model}",
    ),
    "an index that names a tensor nowhere": (
        LLAMA_MODEL,
        {
            **GOOD,
            INDEX: tiny.index_of(
                dict(zip(SHARDS, ([*part, "x"] for part in tiny.split(LLAMA)), strict=True))
            ),
        },
        "'x' is not in pytorch_model-00002-of-00002.bin",
    ),
    "a web page in place of weights": (
        META_MODEL,
        {**META_FILES, CHECKPOINT: b"<html>" + bytes(LARGE)},
        "not a torch checkpoint, or cut off",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_refused_before_the_large_files(
    what: str, served: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the words that the conversion would find after 27 GB; ``wmtp plan`` says it too."""
    model, held, match = BROKEN[what]
    store, hub = served(held, model)
    with pytest.raises(InvalidInput, match="was not downloaded, as it would be refused") as refused:
        make(store, RAW)
    message = str(refused.value)
    assert match in message
    assert hub.payload < SMALL
    large = {name.rpartition("/")[2] for name, data in held.items() if len(data) > LARGE}
    assert large
    assert all(part for name, part in ranges(hub) if name in large)
    assert not (store.root / "models_v2").exists()
    assert tiny.staged_left(store) == []

    hub.payload = 0
    planned = plan_raw(store, store.catalogue[RAW])
    assert planned.problem.startswith("would be refused: ")
    assert planned.problem.removeprefix("would be refused: ") in message
    assert hub.payload < SMALL

    monkeypatch.setattr("wmtp_assets.hub.preflight.LARGE", 1 << 40)
    make(store, RAW)
    with pytest.raises(InvalidInput) as later:
        make(store, TOKENIZER, SAFETENSORS)
    assert planned.problem == f"would be refused: {later.value}"


def test_raw_files_alone_are_had(served: Serve) -> None:
    """A user of upstream's files only, to look at them or to convert them elsewhere, gets them, and
    is told; ``wmtp plan`` of them is not a failure, and of what is made from them one."""
    model, held, match = BROKEN["unexpected tensors in safetensors"]
    store, _ = served(held, model)
    catalogue, raw = store.catalogue, store.catalogue[RAW]
    (row,) = make_plan(store, [raw]).raw
    assert (row.problem, row.warning.startswith("would be refused: ")) == ("", True)
    assert match in row.warning
    (row,) = make_plan(store, [catalogue[SAFETENSORS]]).raw
    assert (row.problem.startswith("would be refused: "), row.warning) == (True, "")
    with pytest.raises(InvalidInput, match="was not downloaded") as refused:
        materialize(store, raw)
    assert str(refused.value).endswith(
        f"To have the raw files only: dagster asset materialize --select '{RAW}'"
    )
    said: list[str] = []
    update(store, raw, said.append, alone=True)
    assert_committed(store, held)
    (line,) = [line for line in said if line.startswith(f"only {RAW} is wanted")]
    assert match in line


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([RAW], True),
        ([], True),
        ([RAW, "nobody"], True),
        ([RAW, TOKENIZER], False),
        ([RAW, SAFETENSORS], False),
        ([RAW, "tiny_card"], False),
    ],
)
def test_alone_is_without_all_that_is_made_from_it(wanted: list[str], expected: bool) -> None:
    """A card of a model that cannot be converted would fail, too."""
    catalogue = expand([ModelSpec.model_validate(META_MODEL)])
    assert is_alone(catalogue, catalogue[RAW], wanted) == expected


@pytest.mark.parametrize(
    ("pieces", "says"), [(32_000, ""), (31_999, "32000 pieces, expected 31999")]
)
def test_tokenizer_is_judged(served: Serve, pieces: int, says: str) -> None:
    """Another vocabulary than the spec names is seen before any large file is asked for."""
    store, hub = served(META_FILES, META_MODEL | {"tokenizer": {"vocab_size": pieces}})
    found = plan_raw(store, store.catalogue[RAW]).problem
    assert says in found
    assert bool(found) == bool(says)
    is_asked = any(name == "consolidated.pth" for name, _ in ranges(hub))
    assert is_asked == (not says)


@pytest.mark.parametrize(
    ("model", "held", "extra"),
    [(META_MODEL, META_FILES, 2), (LLAMA_MODEL, GOOD, 4), (SINGLE_MODEL, SINGLE, 1)],
    ids=["pth", "shards", "safetensors"],
)
def test_good_model_takes_few_requests_more(
    served: Serve, model: Mapping[str, Any], held: Mapping[str, bytes], extra: int
) -> None:
    """Small files come first and once; then at most two parts of each large one; then that."""
    store, hub = served(held, model)
    said: list[str] = []
    make(store, RAW, say=said.append)
    asked = ranges(hub)
    parts = [(name, part) for name, part in asked if part]
    whole = [name for name, part in asked if not part]
    large = {name.rpartition("/")[2] for name, data in held.items() if len(data) > LARGE}
    small = {name.rpartition("/")[2] for name in held} - large
    assert len(parts) == extra
    assert {name for name, _ in parts} == large
    assert sorted(whole) == sorted(small | large)
    assert {name for name, _ in asked[: len(small)]} == small
    assert asked[len(small) : len(small) + extra] == parts
    sizes = sum(map(len, held.values()))
    assert hub.payload - sizes <= extra * (72 << 10)
    assert "(100 %)" in said[-1]
    assert_committed(store, held)
    make(store, TOKENIZER, SAFETENSORS)


def test_nothing_of_it_is_kept(served: Serve) -> None:
    """What was only looked at was not verified, and must not be used again."""
    store, _ = served(*reversed(BROKEN["unexpected tensors"][:2]))
    assert plan_raw(store, store.catalogue[RAW]).problem
    assert not [path for path in store.root.rglob("*") if path.is_file()]
    with pytest.raises(InvalidInput):
        make(store, RAW)
    partials = store.scratch(store.catalogue[RAW]) / "partial"
    assert {path.stat().st_size for path in partials.iterdir()} == {
        len(data) for data in META_FILES.values() if len(data) <= LARGE
    }


def ignore_range(request: Request, answer: Answer) -> None:
    """200 and the whole file, whatever part is asked for."""
    if answer.status == 206:
        answer.status = 200
        del answer.headers["Content-Range"]
        answer.replace(META_FILES[CHECKPOINT])


def other_range(request: Request, answer: Answer) -> None:
    """Fewer bytes than were asked for, and the header says so."""
    if answer.status == 206:
        answer.headers["Content-Range"] = f"bytes 0-9/{len(META_FILES[CHECKPOINT])}"
        answer.replace(answer.body[:10])


def only_ranges(change: Callable[[Request, Answer], None]) -> Callable[[Request, Answer], None]:
    """The fault is of the requests that only look."""
    return lambda request, answer: change(request, answer) if answer.status == 206 else None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (ignore_range, "does not send a part of a file"),
        (other_range, "does not send a part of a file"),
        (only_ranges(refuse(403)), "HfHubHTTPError"),
        (only_ranges(unavailable), "HfHubHTTPError"),
        (only_ranges(refuse(416)), "HfHubHTTPError"),
    ],
    ids=["ignored", "other", "403", "503", "416"],
)
def test_hub_without_ranges(
    served: Serve, change: Callable[[Request, Answer], None], why: str
) -> None:
    """Nothing is known before the download then, and it is as it was: no body is read twice."""
    store, hub = served(META_FILES, META_MODEL)
    hub.change = files(change)()
    said: list[str] = []
    make(store, RAW, say=said.append)
    assert any("is not looked at before it is downloaded" in line and why in line for line in said)
    assert_committed(store, META_FILES)
    with_body = [name for name, part in ranges(hub) if not part]
    assert len(with_body) == len(META_FILES)
    assert plan_raw(store, store.catalogue[RAW]).problem == ""


def test_config_is_judged_where_there_are_no_ranges(served: Serve) -> None:
    """Small files come whole: what they say needs no part of a large one."""
    model, held, match = BROKEN["params with a key more"]
    store, hub = served(held, model)
    hub.change = files(ignore_range)()
    with pytest.raises(InvalidInput, match=match):
        make(store, RAW)
    assert "consolidated.pth" not in {name for name, _ in ranges(hub)}


def test_committed_files_are_not_judged_anew(served: Serve) -> None:
    """Neither by ``plan`` nor where all is here: nothing would be fetched."""
    store, hub = served(META_FILES, META_MODEL)
    make(store, RAW)
    before = store.manifest(store.catalogue[RAW]).content_sha256
    hub.requests.clear()
    assert plan_raw(store, store.catalogue[RAW]).problem == ""
    make(store, RAW)
    assert not any(part for _, part in ranges(hub))
    assert store.manifest(store.catalogue[RAW]).content_sha256 == before


def test_damaged_files_are_repaired_without_a_judgement(served: Serve) -> None:
    """What was committed comes back, even where the spec would refuse it today."""
    store, hub = served(META_FILES, META_MODEL)
    make(store, RAW)
    stricter = META_MODEL | {"checkpoint": {"embedding_rows": 7}}
    store = Store(store.settings, expand([ModelSpec.model_validate(stricter)]))
    damage(tiny.raw_path(store), flip(5_000_000))
    hub.requests.clear()
    row, _ = repair_one(store, store.catalogue[RAW])
    assert row["state"] == "repaired"
    assert not any(part for _, part in ranges(hub))


def test_hostile_front_ends_the_child_only(served: Serve) -> None:
    """It is parsed where a crash is one failed call, as it would be later."""
    store, _ = served(META_FILES, META_MODEL)
    assert "SIGSEGV" in foresee(store, store.catalogue[RAW], announced(store), crash)


def announced(store: Store) -> RemoteRepository:
    """What the hub says of the repository."""
    spec = store.catalogue[RAW].spec
    with open_endpoint(store.settings, spec.repository) as endpoint:
        return resolve(endpoint, spec, MAIN)


def crash(store: object, raw: object, excerpts: object, say: object) -> list[Any]:
    """A judge whose parser does not survive."""
    os.kill(os.getpid(), signal.SIGSEGV)
    return []


def test_a_judge_that_asks_for_too_much_judges_nothing(served: Serve) -> None:
    """Nobody fetches 27 GB to find out whether to fetch 27 GB."""
    held = {**META_FILES, CHECKPOINT: META_FILES[CHECKPOINT] + bytes(18 << 20)}
    store, hub = served(held, META_MODEL)
    remote = announced(store)
    assert foresee(store, store.catalogue[RAW], remote, ask_for_all) == ""
    assert hub.payload < SMALL


def ask_for_all(store: Store, raw: Any, excerpts: Any, say: object) -> list[Any]:
    """A judge that wants the whole checkpoint."""
    path = store.path(raw, f"raw/{CHECKPOINT}")
    return [Hole(path, 0, excerpts[path].size)]


def test_holes_survive_the_way_between_processes() -> None:
    """The child says what it misses by raising it."""
    hole = pickle.loads(pickle.dumps(Hole(Path("/a"), 1, 2)))
    assert (hole.path, hole.begin, hole.end) == (Path("/a"), 1, 2)
