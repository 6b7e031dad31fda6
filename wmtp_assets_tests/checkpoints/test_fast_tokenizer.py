"""``tokenizer.json`` reads every text as sentencepiece does, or is not written."""

from __future__ import annotations

import hashlib
import json
import random
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.checkpoints import params
from wmtp_assets.checkpoints.fast_tokenizer import (
    FastTokenizer,
    fast_document,
    first_difference,
    make_fast,
    read_model,
    texts_of,
)
from wmtp_assets.checkpoints.tokenizer import load_processor, read_facts
from wmtp_assets.sample.tokenizer import MODEL_PATH
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.checkpoints.test_tokenizer import swapped, trained
from wmtp_assets_tests.checkpoints.tiny import SAFETENSORS, TOKENIZER

SAMPLE = MODEL_PATH.read_bytes()
CODE = Path(params.__file__).read_text().splitlines()
KEPT = {"remove_extra_whitespaces": False}
"""What Llama's tokenizers have in common, beside what :func:`trained` sets."""


@cache
def model_of(name: str) -> bytes:
    """A sentencepiece model: the sample's, or one that is trained here on code."""
    options: dict[str, Any] = {
        "code": {},
        "spaces": {"allow_whitespace_only_pieces": True},
        "no prefix": {"add_dummy_prefix": False},
        "other ids": {"pad_id": 3, "bos_id": 4, "eos_id": 5, "control_symbols": ["[INST]"]},
        "no begin": {"bos_id": -1},
    }
    if name == "sample":
        return SAMPLE
    lines = ["    " * (i % 4) + line for i, line in enumerate(CODE)]
    return trained(700, lines, **KEPT, **options[name])


EQUAL = ("sample", "code", "spaces", "no prefix", "other ids", "no begin")


def made(data: bytes) -> FastTokenizer:
    return make_fast(data, load_processor(data, "x"), "x")


@cache
def both(name: str) -> tuple[Any, Any, list[str], list[str]]:
    """The two tokenizers of a model, its pieces, and the texts of its special tokens."""
    data = model_of(name)
    fast, model = made(data), read_model(data, "x")
    assert fast.data is not None
    pieces = [piece.text.replace("▁", " ") for piece in model.pieces if piece.type == 1]
    special = [piece.text for piece in model.pieces if piece.type in (2, 3)]
    return load_processor(data, "x"), Tokenizer.from_str(fast.data.decode()), pieces, special


def assert_equal(name: str, text: str) -> None:
    """Both read a text as the same ids, and give the same text back."""
    processor, tokenizer, _, special = both(name)
    if any(token in text for token in special):
        return
    ids = processor.encode(text)
    assert tokenizer.encode(text, add_special_tokens=False).ids == ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == processor.decode(ids)


# -- equal -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EQUAL)
def test_pieces_and_scores_are_read_as_sentencepiece_has_them(name: str) -> None:
    """The protobuf is read here: what is read wrong would be merged in another order."""
    data = model_of(name)
    processor, pieces = load_processor(data, "x"), read_model(data, "x").pieces
    assert len(pieces) == processor.get_piece_size()
    for number, piece in enumerate(pieces):
        assert piece.text == processor.id_to_piece(number)
        assert piece.score == processor.get_score(number)
        assert (piece.type == 2) == processor.is_unknown(number)
        assert (piece.type == 3) == processor.is_control(number)
        assert (piece.type == 6) == processor.is_byte(number)


ALPHABET = st.characters(exclude_categories=["Cs"])
TEXTS = st.one_of(
    st.text(ALPHABET, max_size=60),
    st.text(" \t\r\n", max_size=60),
    st.text(" ab\n_=-#", max_size=60),
    st.lists(st.tuples(st.sampled_from(" -=*#a0\n▁é👍"), st.integers(1, 70)), max_size=5).map(
        lambda runs: "".join(char * count for char, count in runs)
    ),
)


@pytest.mark.parametrize("name", EQUAL)
@settings(deadline=None, max_examples=700)
@given(text=TEXTS)
def test_any_text_is_read_as_sentencepiece_reads_it(name: str, text: str) -> None:
    """Two readers that disagree train and serve two different models."""
    assert_equal(name, text)


@pytest.mark.parametrize("name", EQUAL)
def test_pieces_side_by_side(name: str) -> None:
    """Where merges compete: texts made of the tokenizer's own pieces, thousands of them."""
    generator = random.Random(0)
    pieces = both(name)[2]
    for _ in range(3000):
        several = generator.choices(pieces, k=generator.randint(1, 12))
        assert_equal(name, "".join(several))
        assert_equal(name, several[0] * generator.randint(1, 40))


def test_every_merge_of_one_letter() -> None:
    """``aaa`` is both ``a`` + ``aa`` and ``aa`` + ``a``: the left one is merged first.

    A tokenizer whose merges are not in that order reads a long run differently.
    """
    data = trained(290, ["a" * n for n in range(1, 40)] * 5, split_by_unicode_script=False, **KEPT)
    processor, fast = load_processor(data, "x"), made(data)
    assert sum({*processor.id_to_piece(i)} == {"a"} for i in range(290)) > 5
    assert fast.data is not None
    assert first_difference(fast.data, processor, ["a" * n for n in range(300)]) is None


def test_special_tokens_are_read_as_such() -> None:
    """By design: sentencepiece reads ``</s>`` in a text as four characters."""
    processor, tokenizer, _, special = both("sample")
    assert special == ["<unk>", "<s>", "</s>"]
    for number, token in enumerate(special):
        assert tokenizer.encode(token, add_special_tokens=False).ids == [number]
        assert number not in processor.encode(token)
    assert tokenizer.encode("x").ids == [1, *processor.encode("x")]
    assert tokenizer.encode("x", "y").ids == [1, *processor.encode("x"), 1, *processor.encode("y")]
    assert both("other ids")[1].encode("").ids == [4]
    assert both("no begin")[1].encode("").ids == []


def test_it_is_made_quickly() -> None:
    """It is made with every tokenizer, and once more by the rule."""
    began = time.process_time()
    assert made(SAMPLE).data is not None
    assert time.process_time() - began < 3


def test_same_model_same_bytes() -> None:
    """A hash is committed; the file must not depend on the order of a set."""
    code = (
        "import hashlib\nfrom wmtp_assets.checkpoints.tokenizer import fast_tokenizer\n"
        "from wmtp_assets.sample.tokenizer import MODEL_PATH\n"
        "data = fast_tokenizer(MODEL_PATH.read_bytes(), 'x').data\n"
        "print(hashlib.sha256(data).hexdigest())"
    )
    data = made(SAMPLE).data
    assert data is not None
    assert tiny.run_python(code).strip() == hashlib.sha256(data).hexdigest()


# -- not equal -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"model_type": "unigram"}, "it is a unigram model, not BPE"),
        ({"model_type": "char"}, "it is a character model, not BPE"),
        ({"model_type": "word"}, "it is a word model, not BPE"),
        ({"normalization_rule_name": "nmt_nfkc"}, "it normalizes characters"),
        ({"remove_extra_whitespaces": True}, "it removes extra spaces"),
        ({"treat_whitespace_as_suffix": True}, "it puts spaces behind words"),
        (
            {"user_defined_symbols": ["return", "<x>"]},
            "it has 2 pieces that are user-defined or unused, such as 'return'",
        ),
        ({"byte_fallback": False}, "tokenizers reads a text otherwise"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_equal_is_not_written(options: dict[str, Any], reason: str) -> None:
    """A reader that is given no file says so; one that is given a wrong file says nothing.

    The text that is named is really read differently.
    """
    size = {"hard_vocab_limit": False} if options.get("model_type") in ("char", "word") else {}
    data = trained(400, CODE, **{**KEPT, **size, **options})
    fast, processor = made(data), load_processor(data, "x")
    assert fast.data is None
    assert fast.reason == reason
    assert fast.document == {"written": False, "reason": reason, "text": fast.text}
    if fast.text is not None:
        candidate = json.dumps(fast_document(read_model(data, "x"), processor.bos_id())).encode()
        assert first_difference(candidate, processor, [fast.text]) == fast.text
        assert repr(fast.text) in str(fast)
    assert (fast.text is None) == (options.get("model_type") == "char")


def test_texts_cover_every_piece() -> None:
    """A piece that no text has is one whose merges nobody compared."""
    model = read_model(SAMPLE, "x")
    text = "\n".join(texts_of(model)).replace(" ", "▁")
    assert [
        piece.text for piece in model.pieces if piece.type == 1 and piece.text not in text
    ] == []


def test_one_piece_elsewhere_is_found() -> None:
    """The comparison sees one exchanged pair of 32,000 pieces."""
    other = made(swapped("▁import", "▁return")).data
    assert other is not None
    texts = texts_of(read_model(SAMPLE, "x"))
    found = first_difference(other, load_processor(SAMPLE, "x"), texts)
    assert found is not None and ("return" in found or "import" in found)


def try_mutants(count: int) -> int:
    """Make ``tokenizer.json`` of damaged copies of a small model; of how many it is one. Anything
    else than a refusal comes out."""
    generator, made_of = random.Random(0), 0
    good = trained(300, **KEPT)
    for _ in range(count):
        mutant = bytearray(good)
        mutant[generator.randrange(len(mutant))] = generator.randrange(256)
        try:
            read_facts(bytes(mutant), "x")
            made_of += made(bytes(mutant)).data is not None
        except InvalidInput as error:
            assert str(error).isprintable(), str(error)
    return made_of


FUZZ = """
from wmtp_assets_tests.checkpoints.test_fast_tokenizer import try_mutants
print(try_mutants(80))
"""


def test_damaged_models_never_crash() -> None:
    """In a process of its own, since the parsers are C++ and Rust: refused, or made and equal."""
    assert 0 < int(tiny.run_python(FUZZ)) < 80


# -- files -----------------------------------------------------------------------------------------


def unigram_store(root: Path) -> Any:
    """A model with transformers' names whose tokenizer is a unigram model."""
    data = trained(400, CODE, model_type="unigram", **KEPT)
    config = tiny.CONFIG | {"vocab_size": 400}
    model = tiny.LLAMA_MODEL | {"tokenizer": {"vocab_size": 400}}
    store = tiny.store_of(root, model, tiny.micro_spec(), tiny.SNAPSHOT)
    files = tiny.llama_files(config=config) | {"tokenizer.model": data}
    tiny.commit_files(store, files)
    tiny.make(store, TOKENIZER, SAFETENSORS, tiny.MICRO)
    return store


def test_tokenizer_that_transformers_would_read_otherwise(tmp_path: Path) -> None:
    """Said in the manifest with a text, and nothing is there that transformers would take: it would
    make a tokenizer of its own of ``tokenizer.model``."""
    store = unigram_store(tmp_path / "storage")
    said = store.manifest(store.catalogue[TOKENIZER]).document["fast_tokenizer"]
    assert (said["written"], said["reason"]) == (False, "it is a unigram model, not BPE")
    assert said["text"]
    folder = tiny.model_folder(store, TOKENIZER)
    assert {path.name for path in (folder / "tokenizer").iterdir()} == {
        "metadata.json",
        "tokenizer.model",
        "tokenizer_config.json",
    }
    config = json.loads((folder / "tokenizer/tokenizer_config.json").read_bytes())
    assert not {"tokenizer_class", "bos_token"} & {*config}
    for key in (SAFETENSORS, tiny.MICRO):
        assert {
            path.name for path in (tiny.model_folder(store, key) / "safetensors").iterdir()
        } == {
            "SHA256SUMS",
            "config.json",
            "generation_config.json",
            "model.safetensors",
        }


def test_folder_holds_links_not_copies(tmp_path: Path) -> None:
    """The bytes lie on the disk once, and each manifest names them; the checkpoint's hash is the
    first of SHA256SUMS, which has a line for every file."""
    store = tiny.llama_store(tmp_path / "storage")
    tiny.commit_files(store, tiny.llama_files())
    tiny.make(store, TOKENIZER, SAFETENSORS, tiny.MICRO)
    for key in (SAFETENSORS, tiny.MICRO):
        folder = tiny.model_folder(store, key)
        for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"):
            assert (folder / "safetensors" / name).samefile(folder / "tokenizer" / name)
            assert f"safetensors/{name}" in store.manifest(store.catalogue[key]).files
        lines = (folder / "safetensors/SHA256SUMS").read_text().splitlines()
        names = [line.partition("  ")[2] for line in lines]
        there = {path.name for path in (folder / "safetensors").iterdir()} - {"SHA256SUMS"}
        assert names == ["model.safetensors", *sorted(there - {"model.safetensors"})]
        generation = json.loads((folder / "safetensors/generation_config.json").read_bytes())
        assert generation == {"bos_token_id": 1, "eos_token_id": 2}
