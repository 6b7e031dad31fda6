"""The tokenizer of a model: its facts, its identity, its files.

It is a sentencepiece model, ``tokenizer.model``, or where upstream has no other, a
``tokenizer.json`` of Hugging Face's ``tokenizers``. Beside the former lies upstream's
``tokenizer.json`` where the spec lists it; else one is made.

Two tokenizers are the same when their bytes are; an equal number of pieces proves nothing.

``tokenizer_config.json`` is upstream's where the spec lists it. Else it holds the facts, and what
transformers needs to read ``tokenizer.json`` as it is. Its class there is
``PreTrainedTokenizerFast``: ``LlamaTokenizer`` of transformers 5 puts rules of its own in the place
of the file's, which lose a space before indented text.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.settings import Source
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import TOKENIZER_FILES, MicroSpec, ModelSpec, TokenizerSpec
from wmtp_assets.checkpoints.fast_tokenizer import FastTokenizer, make_fast
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.files import hash_file
from wmtp_assets.storage.manifest import Document, render
from wmtp_assets.storage.store import Store

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor
    from tokenizers import Tokenizer

MAX_MODEL = 8 << 20
"""Bytes of a ``tokenizer.model``; 32,000 pieces take half a megabyte."""

MAX_FAST = 64 << 20
"""Bytes of a ``tokenizer.json``; that of Gemma 3, with 262,145 pieces, has 33 million."""

MODEL, CONFIG, FAST = "tokenizer.model", "tokenizer_config.json", "tokenizer.json"
"""The files of a tokenizer; of the last one, one that is made only where it is equal to the
first."""

MAX_SIZES = {MODEL: MAX_MODEL, FAST: MAX_FAST}

FILES = (MODEL, CONFIG, FAST, *sorted(TOKENIZER_FILES - {CONFIG, FAST}))
"""Whatever there may be in the folder of a tokenizer."""

_MAX_TAGS = 600_000
"""Line feeds: the byte before each piece, and before its text: half as many bound the pieces."""


def load_processor(data: bytes, where: str) -> SentencePieceProcessor:
    """Parse a sentencepiece model.

    Raises:
        InvalidInput: naming the file (``where``), if it is none.
    """
    from sentencepiece import SentencePieceProcessor

    if not data:  # sentencepiece takes no bytes for no argument
        raise InvalidInput(f"{where}: not a sentencepiece model: it is empty")
    if len(data) > MAX_MODEL or data.count(b"\n") > _MAX_TAGS:
        raise InvalidInput(
            f"{where}: not a sentencepiece model: more than {MAX_MODEL} bytes, or than "
            f"{_MAX_TAGS // 2} pieces"
        )
    try:
        return SentencePieceProcessor(model_proto=data)
    except (RuntimeError, ValueError) as error:  # the latter: about a piece that is not UTF-8
        raise InvalidInput(f"{where}: not a sentencepiece model: {str(error)!r}") from error


def load_fast(data: bytes, where: str) -> Tokenizer:
    """Parse a ``tokenizer.json``.

    Raises:
        InvalidInput: naming the file (``where``), if ``tokenizers`` does not take it.
    """
    from tokenizers import Tokenizer

    if len(data) > MAX_FAST:
        raise InvalidInput(f"{where}: not a tokenizer.json: more than {MAX_FAST} bytes")
    try:
        return Tokenizer.from_str(data.decode())
    except Exception as error:  # tokenizers has no class of its own for what it refuses
        problem = repr(str(error))[:200]
        raise InvalidInput(f"{where}: not a tokenizer.json: {problem}") from error


def _fast_facts(data: bytes, where: str) -> Document:
    """What a ``tokenizer.json`` says about itself: it does not say which tokens begin and end."""
    tokenizer = load_fast(data, where)
    ids = tokenizer.get_vocab(with_added_tokens=True).values()
    return {
        "model_type": type(tokenizer.model).__name__,
        "vocab_size": max(ids, default=-1) + 1,
        **dict.fromkeys(("bos_id", "eos_id", "unk_id", "pad_id")),
    }


def is_fast(where: str) -> bool:
    """Whether a file is a ``tokenizer.json``, by its name."""
    return where.endswith(".json")


def read_facts(data: bytes, where: str) -> Document:
    """What a tokenizer says about itself, as ``tokenizer_config.json`` has it.

    ``vocab_size`` counts the ids from 0 to the highest. ``pad_id`` is None where it has no pad.

    Raises:
        InvalidInput: naming the file (``where``), if it is none.
    """
    if is_fast(where):
        return _fast_facts(data, where)
    processor = load_processor(data, where)
    return {
        "model_type": "sentencepiece",
        "vocab_size": processor.vocab_size(),
        "bos_id": processor.bos_id(),
        "eos_id": processor.eos_id(),
        "unk_id": processor.unk_id(),
        "pad_id": processor.pad_id() if processor.pad_id() >= 0 else None,
    }


def fast_tokenizer(data: bytes, where: str) -> FastTokenizer:
    """The ``tokenizer.json`` of a sentencepiece model; of the same bytes it is made once.

    Raises:
        InvalidInput: naming the file (``where``), if it is not a sentencepiece model.
    """
    load_processor(data, where)
    return _fast_tokenizer(data)


@lru_cache(maxsize=2)
def _fast_tokenizer(data: bytes) -> FastTokenizer:
    return make_fast(data, load_processor(data, MODEL), MODEL)


def config_document(data: bytes, where: str, *, has_fast: bool) -> Document:
    """``tokenizer_config.json``: the facts of a tokenizer, and transformers' keys.

    Without a ``tokenizer.json`` there are the facts alone: transformers then refuses the folder. It
    would otherwise derive a tokenizer that reads some texts differently.

    Raises:
        InvalidInput: naming the file (``where``), if it is not a tokenizer.
    """
    facts = read_facts(data, where)
    if is_fast(where):
        return {**facts, "tokenizer_class": "PreTrainedTokenizerFast", **_TAKES}
    if not has_fast:
        return facts
    processor = load_processor(data, where)
    ids = {f"{name}_token": facts[f"{name}_id"] for name in ("bos", "eos", "unk", "pad")}
    return {
        **facts,
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{
            name: processor.id_to_piece(number)
            for name, number in ids.items()
            if number is not None and number >= 0
        },
        **_TAKES,
    }


_TAKES: Document = {
    "model_input_names": ["input_ids", "attention_mask"],
    "clean_up_tokenization_spaces": False,
}


def pinned_sha256(spec: TokenizerSpec, source: Source) -> str | None:
    """The SHA-256 that the tokenizer must have; None: it is not pinned."""
    return spec.sha256 if source == "hub" else spec.sample_sha256


def check_identity(data: bytes, spec: TokenizerSpec, source: Source, where: str) -> Document:
    """Check hash and vocabulary of a tokenizer against the spec, and return its facts.

    Raises:
        InvalidInput: saying what was expected and what was found.
    """
    facts = read_facts(data, where)
    pieces = facts["vocab_size"]
    pinned = pinned_sha256(spec, source)
    found = hashlib.sha256(data).hexdigest()
    if pinned is not None and found != pinned:
        raise InvalidInput(
            f"{where}: another tokenizer: SHA-256 {found}, expected {pinned} "
            f"({pieces} pieces; the number of pieces does not make it the same). If "
            "upstream is right, correct tokenizer.sha256 in the spec; else get the raw files anew"
        )
    if pieces != spec.vocab_size:
        raise InvalidInput(f"{where}: {pieces} pieces, expected {spec.vocab_size}")
    return facts


def place_tokenizer(build: Build[Any], folder: str) -> None:
    """Stage the files of the upstream tokenizer in a folder too, as hard links.

    Args:
        folder: with its slash; empty: the artifact's base.

    Raises:
        CorruptArtifact: if one is not the committed one.
    """
    tokenizer = build.upstream("tokenizer")
    committed = build.store.manifest(tokenizer).files
    for name in filter(committed.__contains__, FILES):
        data = build.store.read(tokenizer, name)
        target = f"{folder}{name}"
        parts: list[str] = []
        build.staged.place(target, build.store.path(tokenizer, name), committed[name], parts)
        placed = build.staged.folder / target
        if hash_file(placed, parts=parts) != committed[name]:  # committed again in between
            placed.unlink()
            build.staged.write(target, data)


def tokenizer_of(store: Store, artifact: Artifact[ModelSpec | MicroSpec]) -> Document:
    """What a model's manifest says of the one that its tokenizer is shared with: its folder."""
    shared = store.catalogue.shared_tokenizer(artifact.spec)
    return {"tokenizer_shared_with": shared.spec.folder if shared else None}


def kept_files(store: Store, artifact: Artifact[ModelSpec]) -> dict[str, tuple[Artifact[Any], str]]:
    """The files of a tokenizer that are kept as they are, besides the tokenizer itself: name → the
    artifact that has it, and its name there."""
    files = artifact.spec.files
    if files.tokenizer is not None:
        raw = store.catalogue[artifact.roles["raw"]]
        return {PurePosixPath(path).name: (raw, f"raw/{path}") for path in files.tokenizer_beside}
    owner = store.catalogue[artifact.roles["shared"]]
    return {name: (owner, name) for name in kept_files(store, owner)}


def build_tokenizer(build: Build[ModelSpec]) -> Document:
    """Copy the tokenizer out of the raw files, or from the model it is shared with, and what the
    spec lists beside it. A ``tokenizer.model`` gets the ``tokenizer.json`` that transformers reads,
    if one is equal."""
    spec, store = build.artifact.spec, build.store
    is_own = spec.files.tokenizer is not None
    upstream = build.upstream("raw" if is_own else "shared")
    main = store.catalogue.tokenizer_name(spec)
    name = f"raw/{spec.files.tokenizer}" if is_own else main
    data, where = store.read(upstream, name), str(store.path(upstream, name))
    facts = check_identity(data, store.catalogue.tokenizer(spec), store.settings.source, where)
    kept = {
        name: (store.read(owner, path), str(store.path(owner, path)))
        for name, (owner, path) in kept_files(store, build.artifact).items()
    }
    if FAST in kept:
        load_fast(*kept[FAST])
    build.staged.write(main, data)
    for name, (content, _) in kept.items():
        build.staged.write(name, content)
    fast: Document = {"written": True, "upstream": True}
    if main == MODEL and FAST not in kept:
        made = fast_tokenizer(data, where)
        fast = made.document
        if made.data is not None:
            build.staged.write(FAST, made.data)
        else:
            build.say(f"{build.artifact.key}: {FAST} is not written: {made}")
    if CONFIG not in kept:
        config = config_document(data, where, has_fast=fast["written"])
        build.staged.write(CONFIG, render(config))
    return {
        "model_name": spec.folder,
        "version": spec.version,
        "format": "sentencepiece" if main == MODEL else "tokenizers",
        "vocab_size": facts["vocab_size"],
        "fast_tokenizer": fast,
        **tokenizer_of(store, build.artifact),
        "from_upstream": is_own,
        "source": store.manifest(upstream).document["source"],
    }
