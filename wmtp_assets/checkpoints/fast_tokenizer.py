"""``tokenizer.json``: a sentencepiece model as Hugging Face's ``tokenizers`` and ``transformers``
read it, compared with sentencepiece before it is written.

transformers derives a tokenizer of its own where a folder has only ``tokenizer.model``, and version
5 derives one that reads indentation differently. So the file is made here. Sources:
``sentencepiece_model.proto`` and ``bpe_model.cc`` of google/sentencepiece; ``serialization.rs`` and
``models/bpe`` of huggingface/tokenizers.

Sentencepiece merges the neighbours whose piece has the highest score, of equal ones the leftmost.
``tokenizers`` merges those whose pair comes first in ``merges``. Here the pairs are in the order of
their pieces' scores. Two pairs of one piece can overlap in a text, so the one that lies further
left there comes first.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.storage.manifest import Document

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

SPACE = "▁"
"""U+2581, which sentencepiece writes for a space."""

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_BPE = 2


class Piece(NamedTuple):
    """A piece: its text, its score, and its type as ``sentencepiece_model.proto`` numbers them."""

    text: str
    score: float = 0.0
    type: int = _NORMAL


@dataclass(frozen=True)
class SentencePieceModel:
    """What a ``tokenizer.model`` says about how it splits text.

    Attributes:
        pieces: by id.
        type: 1 unigram, 2 BPE, 3 words, 4 characters.
        has_rules: it rewrites characters before it splits, as NFKC does.
        dummy_prefix: a space is put before each text.
        drops_spaces: it removes spaces that are repeated or at the ends.
        escapes_spaces: a space is written as :data:`SPACE`.
        has_suffixes: it puts the space behind a word.
    """

    pieces: Sequence[Piece]
    type: int
    has_rules: bool
    dummy_prefix: bool
    drops_spaces: bool
    escapes_spaces: bool
    has_suffixes: bool

    def of_type(self, *types: int) -> dict[int, str]:
        """Id → text of the pieces of some types."""
        return {i: piece.text for i, piece in enumerate(self.pieces) if piece.type in types}


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protobuf message.

    Values: an integer (varint), or bytes: four or eight of a number, or what is embedded.
    https://protobuf.dev/programming-guides/encoding/
    """
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while place < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        size = varint() if key & 7 == 2 else {1: 8, 5: 4}[key & 7]
        if place + size > len(data):
            raise IndexError
        yield key >> 3, data[place : place + size]
        place += size


def read_model(data: bytes, where: str) -> SentencePieceModel:
    """Read the pieces and the settings of a sentencepiece model.

    Raises:
        InvalidInput: naming the file (``where``), if it is not one.
    """
    try:
        pieces: list[Piece] = []
        trainer: dict[int, Any] = {}
        normalizer: dict[int, Any] = {}
        for number, value in _fields(data):
            if number == 1:
                fields = dict(_fields(value))
                (score,) = struct.unpack("<f", fields.get(2, bytes(4)))
                pieces.append(Piece(fields.get(1, b"").decode(), score, fields.get(3, _NORMAL)))
            elif number in (2, 3):
                (trainer if number == 2 else normalizer).update(_fields(value))
    except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error) as error:
        raise InvalidInput(f"{where}: not a sentencepiece model: its protobuf is cut") from error
    return SentencePieceModel(
        pieces,
        type=trainer.get(3, 1),
        has_rules=bool(normalizer.get(2)),
        dummy_prefix=bool(normalizer.get(3, True)),
        drops_spaces=bool(normalizer.get(4, True)),
        escapes_spaces=bool(normalizer.get(5, True)),
        has_suffixes=bool(trainer.get(24, False)),
    )


def obstacle(model: SentencePieceModel) -> str:
    """Why no ``tokenizer.json`` of this form can say the same; empty: nothing is known."""
    names = {1: "unigram", 3: "word", 4: "character"}
    unused = model.of_type(_USER_DEFINED, _UNUSED)
    first = next(iter(unused.values()), "")
    reasons = {
        f"it is a {names.get(model.type, 'unknown')} model, not BPE": model.type != _BPE,
        "it normalizes characters": model.has_rules,
        "it removes extra spaces": model.drops_spaces,
        "it does not escape spaces": not model.escapes_spaces,
        "it puts spaces behind words": model.has_suffixes,
        f"it has {len(unused)} pieces that are user-defined or unused, such as {first!r}": unused,
        "it has no unknown piece": not model.of_type(_UNKNOWN),
        "it has two pieces of one text": len({it.text for it in model.pieces}) < len(model.pieces),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _merges(pieces: Sequence[Piece]) -> list[list[str]]:
    """The pairs that make a piece, in the order in which sentencepiece prefers them."""
    scores = {piece.text: piece.score for piece in pieces if piece.type == _NORMAL}

    def pairs(text: str) -> Iterable[int]:
        cuts = (cut for cut in range(1, len(text)) if text[:cut] in scores)
        # where X, Y and Z lie side by side, and XY and YZ are the same piece: XY is merged
        return sorted(
            (cut for cut in cuts if text[cut:] in scores),
            key=lambda cut: (text[cut:] != text[:-cut], -cut),
        )

    by_score = sorted(scores, key=scores.__getitem__, reverse=True)
    return [[text[:cut], text[cut:]] for text in by_score for cut in pairs(text)]


def _template(begin: str, number: int) -> Document:
    """The begin token before each text, once."""
    sequences = [{"Sequence": {"id": name, "type_id": n}} for n, name in enumerate("AB")]
    begins = [{"SpecialToken": {"id": begin, "type_id": n}} for n in range(2)]
    return {
        "type": "TemplateProcessing",
        "single": [begins[0], sequences[0]],
        "pair": [begins[0], sequences[0], begins[1], sequences[1]],
        "special_tokens": {begin: {"id": begin, "ids": [number], "tokens": [begin]}},
    }


def fast_document(model: SentencePieceModel, begin: int) -> Document:
    """The content of ``tokenizer.json``.

    Control pieces and the unknown piece are special tokens: their text, ``</s>`` for one, is read
    as that token wherever it occurs, and sentencepiece reads it as characters.

    Args:
        begin: id of the token that is put before each text; negative: none is.
    """
    is_prefixed = model.dummy_prefix
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": number,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for number, text in model.of_type(_UNKNOWN, _CONTROL).items()
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                *([{"type": "Prepend", "prepend": SPACE}] if is_prefixed else []),
                {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": _template(model.pieces[begin].text, begin) if begin >= 0 else None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *(
                    [{"type": "Strip", "content": " ", "start": 1, "stop": 0}]
                    if is_prefixed
                    else []
                ),
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": next(iter(model.of_type(_UNKNOWN).values()), None),
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": bool(model.of_type(_BYTE)),
            "ignore_merges": False,
            "vocab": {piece.text: number for number, piece in enumerate(model.pieces)},
            "merges": _merges(model.pieces),
        },
    }


def fast_bytes(document: Document) -> bytes:
    """``tokenizer.json``: UTF-8, on one line."""
    return (json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


TEXTS = (
    "",
    " ",
    "x",
    "  x",
    "x  y  ",
    "def f(a, b=[1, 20]):\n    if a:\n        return {'k': a + 1}  # why\n\n    return 0.5e-3\n",
    "class A(B):\n\tdef __init__(self):\n\t\tself.x = lambda y: y ** 2 - 1_000\n",
    'for (int i = 0; i < n; ++i) {\r\n  std::cout << a[i] << "\\n";\r\n}\r\n',
    "\t\t\tx\t\n \n  \n\n\n\r\r\n \t \t",
    "SELECT * FROM t WHERE a != 'b' -- --- ----\n/* ***** */ ====== ###### ______",
    "<html><body class='a'>&amp; &lt;br/&gt;</body></html>",
    "The quick brown fox's 3.14159 dogs; isn't it? -- \"Yes!\" (sic) [1] {2} 100% #1 @me",
    "ÀÉÎõü ß Straße Ærø Łódź İstanbul",
    "e\u0301 o\u0302\u0323 \u1112\u1161\u11ab \ufb01 \u2126 \uff21\uff11 \u212b A\u030a",
    "Привет, мир! Ωδή שלום مرحبا नमस्ते สวัสดี 你好,世界。こんにちは 안녕하세요",
    "👍 👩\u200d👩\u200d👧\u200d👦 🇩🇪 ☕\ufe0f \U0001d4b3 \U00010348 \U0001f3fd",
    "\u00a0a\u2003b\u3000c\u200bd\ufeffe\u2028f\u0085g\u00adh\u202ei",
    "\0\1\x1b[0m\x7f\ufffd\ufffe\U0010ffff",
    "<0x0A> <0xFF> ▁ ▁▁x x▁",
    "https://example.org/a/b?c=d&e=%20f#g C:\\dir\\file.txt /usr/local/lib64 a_b-c.d+e=f",
    *(f"{' ' * n}x{' ' * n}\n{' ' * n}return" for n in range(1, 130)),
    *(c * n for c in "\n\t -=*#_.a0é€👍" for n in (2, 3, 5, 7, 15, 16, 17, 31, 33, 63, 65, 127)),
)
"""What is compared whatever the tokenizer is: code, white space of every length, other scripts."""

_TOGETHER = 12


def texts_of(model: SentencePieceModel) -> Iterator[str]:
    """The texts to compare: :data:`TEXTS`, then every piece once, among others; none has the text
    of a special token in it."""
    pieces = [piece.text.replace(SPACE, " ") for piece in model.pieces if piece.type == _NORMAL]
    step = -(-len(pieces) // _TOGETHER)
    texts = chain(
        TEXTS,
        ("".join(pieces[begin::step]) for begin in range(step)),
        (f"x{text}y" for text in model.of_type(_USER_DEFINED, _UNUSED).values()),
    )
    special = model.of_type(_UNKNOWN, _CONTROL).values()
    return (text for text in texts if not any(token in text for token in special))


def first_difference(
    fast: bytes, processor: SentencePieceProcessor, texts: Iterable[str]
) -> str | None:
    """The first text that a ``tokenizer.json`` does not read, or give back, as sentencepiece does;
    None: there is none.

    Ids are compared without the begin token.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(fast.decode())
    for text in texts:
        ids = processor.encode(text)
        if tokenizer.encode(text, add_special_tokens=False).ids != ids:
            return text
        if tokenizer.decode(ids, skip_special_tokens=False) != processor.decode(ids):
            return text
    return None


@dataclass(frozen=True)
class FastTokenizer:
    """A ``tokenizer.json`` that was compared with sentencepiece.

    Attributes:
        data: the file; None: it cannot be equal, and is not written.
        reason: why not.
        text: the first text that it would read otherwise; None: none was found.
    """

    data: bytes | None
    reason: str = ""
    text: str | None = None

    @property
    def document(self) -> Document:
        """What the manifest says about it."""
        if self.data is not None:
            return {"written": True}
        return {"written": False, "reason": self.reason, "text": self.text}

    def __str__(self) -> str:
        found = "" if self.text is None else f"; the first text it reads otherwise: {self.text!r}"
        return f"{self.reason}{found}"


def make_fast(data: bytes, processor: SentencePieceProcessor, where: str) -> FastTokenizer:
    """Make the ``tokenizer.json`` of a sentencepiece model, and compare the two.

    Args:
        data: the model.
        processor: made of it.

    Raises:
        InvalidInput: naming the file (``where``), if it is not a sentencepiece model.
    """
    model = read_model(data, where)
    fast = fast_bytes(fast_document(model, processor.bos_id()))
    reason = obstacle(model)
    try:
        text = first_difference(fast, processor, texts_of(model))
    except Exception as error:  # tokenizers has no class of its own for what it refuses
        return FastTokenizer(None, reason or f"tokenizers does not accept it: {error}")
    if reason or text is not None:
        return FastTokenizer(None, reason or "tokenizers reads a text otherwise", text)
    return FastTokenizer(fast)
