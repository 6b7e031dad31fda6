"""Tokenizers: the same bytes are the same tokenizer, the same number of pieces is not."""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput
from wmtp_assets.base.settings import Source
from wmtp_assets.catalogue.specs import ModelSpec, TokenizerSpec
from wmtp_assets.checkpoints.tokenizer import (
    check_identity,
    pinned_sha256,
    read_facts,
)
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.sample.tokenizer import MODEL_PATH, MODEL_SHA256
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.checkpoints.tiny import RAW, TOKENIZER
from wmtp_assets_tests.trees import damage, flip, tree

LLAMA = "9e556afd44213b6bd1be2b850ebbbd98f5481437a8021afaf58ee7fb1818d347"
"""SHA-256 of the tokenizer.model of Llama 2, which Meta's and Sheared-LLaMA's repositories hold."""

SAMPLE = MODEL_PATH.read_bytes()


def piece(text: str) -> bytes:
    """A piece in the protobuf, up to its score."""
    data = text.encode()
    return b"\x0a" + bytes([len(data)]) + data + b"\x15"


def swapped(first: str, second: str) -> bytes:
    """The sample's model with the text of two pieces of equal length exchanged."""
    a, b = piece(first), piece(second)
    assert len(a) == len(b)
    assert SAMPLE.count(a) == SAMPLE.count(b) == 1
    placeholder = piece("\0" * (len(a) - 3))
    return SAMPLE.replace(a, placeholder).replace(b, a).replace(placeholder, b)


LINES = ("def f(x): return x + 1", "for i in range(10): print(i)") * 20


def trained(vocab_size: int = 300, lines: Iterable[str] = LINES, **options: Any) -> bytes:
    """A small tokenizer of another vocabulary."""
    model = io.BytesIO()
    defaults = {
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "minloglevel": 2,
    }
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=vocab_size,
        **{**defaults, **options},
    )
    return model.getvalue()


# -- facts ---------------------------------------------------------------------------------------


def config(**facts: int | None) -> dict[str, Any]:
    return {"model_type": "sentencepiece", **facts}


def test_facts_are_read_from_the_model() -> None:
    """Ids that are written down by hand are wrong as soon as the model is another one. The training
    code reads them; a pad of -1 would index the last embedding row."""
    assert read_facts(SAMPLE, "x") == config(
        vocab_size=32_000, bos_id=1, eos_id=2, unk_id=0, pad_id=None
    )
    other = trained(pad_id=3, bos_id=4, eos_id=5)
    assert read_facts(other, "x") == config(vocab_size=300, bos_id=4, eos_id=5, unk_id=0, pad_id=3)
    first = trained(pad_id=0, bos_id=4, eos_id=5, unk_id=1)
    assert read_facts(first, "x")["pad_id"] == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"garbage",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        b'{"model": {"type": "BPE"}}',
        SAMPLE[:-1],
        SAMPLE[: len(SAMPLE) // 2],
        SAMPLE + b"x",
    ],
    ids=["empty", "null", "text", "pointer", "json", "cut by one", "half", "extended"],
)
def test_garbage_is_refused(data: bytes) -> None:
    """A pointer file or a tokenizer.json in its place. No bytes at all once counted as a model."""
    with pytest.raises(InvalidInput, match=r"^some/tokenizer\.model: not a sentencepiece model: "):
        read_facts(data, "some/tokenizer.model")


def try_mutants(count: int) -> int:
    """Read damaged copies of a small model; how many are accepted. Anything else comes out."""
    generator = random.Random(0)
    good, accepted = trained(), 0
    for number in range(count):
        mutant = bytearray(good)
        mutant[generator.randrange(len(mutant))] = generator.randrange(256)
        if number % 5 == 0:
            del mutant[generator.randrange(len(mutant)) :]
        try:
            facts = read_facts(bytes(mutant), "x")
        except InvalidInput as error:
            assert str(error).isprintable(), str(error)
            continue
        assert facts["vocab_size"] > 0
        accepted += 1
    return accepted


FUZZ = """
from wmtp_assets_tests.checkpoints.test_tokenizer import try_mutants
print(try_mutants(4000))
"""


def test_damaged_models_never_crash() -> None:
    """In a process of its own, since the parser is C++: refused in one line or read.

    A piece that is not UTF-8 came out as a UnicodeDecodeError; one with control characters in it
    must not reach the terminal.
    """
    assert 0 < int(tiny.run_python(FUZZ)) < 4000


# -- identity ------------------------------------------------------------------------------------


def spec(sha256: str | None = None, vocab_size: int = 32_000) -> TokenizerSpec:
    return TokenizerSpec(vocab_size=vocab_size, sha256=sha256, sample_sha256=MODEL_SHA256)


def test_pins() -> None:
    """The spec pins the hub's tokenizer, and the one that this package ships for the sample."""
    models = [found for found in load_catalogue().specs if isinstance(found, ModelSpec)]
    meta = next(found for found in models if found.name == "meta_llama_mtp")
    assert pinned_sha256(meta.tokenizer, "hub") == LLAMA
    assert pinned_sha256(meta.tokenizer, "sample") == MODEL_SHA256
    assert pinned_sha256(spec(), "hub") is None
    assert pinned_sha256(TokenizerSpec(vocab_size=300), "sample") is None
    assert hashlib.sha256(SAMPLE).hexdigest() == MODEL_SHA256 != LLAMA


def test_the_pinned_tokenizer_is_accepted() -> None:
    """In both sources, by its hash; where nothing is pinned, by the number of its pieces."""
    other = trained()
    pinned = spec(hashlib.sha256(other).hexdigest(), 300)
    assert check_identity(SAMPLE, spec(LLAMA), "sample", "x")["vocab_size"] == 32_000
    assert check_identity(other, pinned, "hub", "x")["vocab_size"] == 300
    assert check_identity(other, spec(vocab_size=300), "hub", "x")["vocab_size"] == 300


def test_other_pieces_of_the_same_number_are_another_tokenizer() -> None:
    """The same file size, the same 32,000 pieces, other meanings: every token id would be wrong.

    Made by exchanging the text of two pieces; sentencepiece loads it without complaint.
    """
    other = swapped("▁import", "▁return")
    before, after = (SentencePieceProcessor(model_proto=data) for data in (SAMPLE, other))
    assert len(other) == len(SAMPLE)
    assert after.get_piece_size() == before.get_piece_size() == 32_000
    assert sum(before.id_to_piece(i) != after.id_to_piece(i) for i in range(32_000)) == 2
    assert read_facts(other, "x") == read_facts(SAMPLE, "x")
    found = hashlib.sha256(other).hexdigest()
    sources: list[tuple[Source, str]] = [("sample", MODEL_SHA256), ("hub", LLAMA)]
    for source, pinned in sources:
        with pytest.raises(InvalidInput) as refused:
            check_identity(other, spec(LLAMA), source, "x/tokenizer.model")
        assert str(refused.value) == (
            f"x/tokenizer.model: another tokenizer: SHA-256 {found}, expected {pinned} "
            "(32000 pieces; the number of pieces does not make it the same). If upstream is right, "
            "correct tokenizer.sha256 in the spec; else get the raw files anew"
        )


def test_the_samples_tokenizer_is_not_llamas() -> None:
    """The sample must not pass for the real thing where the real thing is asked for."""
    with pytest.raises(InvalidInput, match=f"expected {LLAMA}"):
        check_identity(SAMPLE, spec(LLAMA), "hub", "x")


@pytest.mark.parametrize("vocab_size", [31_999, 32_001, 300])
def test_wrong_number_of_pieces_is_refused(vocab_size: int) -> None:
    """Even the pinned bytes must have as many pieces as the embedding has rows."""
    with pytest.raises(InvalidInput, match=rf"^x: 32000 pieces, expected {vocab_size}$"):
        check_identity(SAMPLE, spec(MODEL_SHA256, vocab_size), "hub", "x")
    with pytest.raises(InvalidInput, match=r"^x: 300 pieces, expected 32000$"):
        check_identity(trained(), spec(), "hub", "x")


# -- files ---------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A committed tiny tokenizer."""
    store = tiny.make_store(tmp_path / "storage")
    tiny.commit_raw(store, {})
    tiny.make(store, TOKENIZER)
    return store


def test_tokenizer_is_copied_and_described(store: Store) -> None:
    """The bytes are upstream's; the manifest says where they are from."""
    artifact = store.catalogue[TOKENIZER]
    folder = store.folder(artifact)
    assert (folder / "tokenizer.model").read_bytes() == SAMPLE
    written = json.loads((folder / "tokenizer_config.json").read_bytes())
    facts = config(vocab_size=32_000, bos_id=1, eos_id=2, unk_id=0, pad_id=None)
    assert written == facts | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }
    manifest = store.manifest(artifact)
    assert set(manifest.files) == {"tokenizer.json", "tokenizer.model", "tokenizer_config.json"}
    assert manifest.document["fast_tokenizer"] == {"written": True}
    assert manifest.files["tokenizer.model"].sha256 == MODEL_SHA256
    assert manifest.document["vocab_size"] == 32_000
    assert manifest.document["source"] == store.manifest(store.catalogue[RAW]).document["source"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (swapped("▁import", "▁return"), "another tokenizer"),
        (b"garbage", "not a sentencepiece model"),
        (b"", "not a sentencepiece model"),
    ],
    ids=["other", "garbage", "empty"],
)
def test_builder_refuses_and_keeps_the_old_one(store: Store, data: bytes, message: str) -> None:
    """Datasets are counted with this tokenizer: a wrong one must never get that far."""
    tiny.commit_raw(store, {}, tokenizer=data)
    folder = store.folder(store.catalogue[TOKENIZER])
    before = tree(folder)
    with pytest.raises(InvalidInput, match=message) as refused:
        tiny.make(store, TOKENIZER)
    assert str(refused.value).startswith(str(tiny.model_folder(store, RAW) / "raw/tokenizer.model"))
    assert tree(folder) == before
    assert tiny.staged_left(store) == []


def test_damaged_raw_file_is_corrupt(store: Store) -> None:
    """Verified before it is parsed: the C++ parser never sees it."""
    path = tiny.model_folder(store, RAW) / "raw/tokenizer.model"
    damage(path, flip(1000))
    with pytest.raises(CorruptArtifact, match=rf"wmtp repair {RAW}"):
        tiny.make(store, TOKENIZER)
