"""The sentencepiece tokenizer of a model: its facts, its identity, its files.

Two tokenizers are the same when their bytes are; an equal number of pieces proves nothing.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.settings import Source
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import MicroSpec, ModelSpec, TokenizerSpec
from wmtp_assets.storage.build import Build
from wmtp_assets.storage.manifest import Document, render
from wmtp_assets.storage.store import Store

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor


MAX_MODEL = 8 << 20
"""Bytes of a ``tokenizer.model``; 32,000 pieces take half a megabyte."""

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


def read_facts(data: bytes, where: str) -> Document:
    """What a sentencepiece model says about itself, as ``tokenizer_config.json`` has it.

    ``pad_id`` is None where it has no pad.

    Raises:
        InvalidInput: naming the file (``where``), if it is none.
    """
    processor = load_processor(data, where)
    return {
        "model_type": "sentencepiece",
        "vocab_size": processor.vocab_size(),
        "bos_id": processor.bos_id(),
        "eos_id": processor.eos_id(),
        "unk_id": processor.unk_id(),
        "pad_id": processor.pad_id() if processor.pad_id() >= 0 else None,
    }


def pinned_sha256(spec: TokenizerSpec, source: Source) -> str | None:
    """The SHA-256 that ``tokenizer.model`` must have; None: it is not pinned."""
    return spec.sha256 if source == "hub" else spec.sample_sha256


def check_identity(data: bytes, spec: TokenizerSpec, source: Source, where: str) -> Document:
    """Check hash and vocabulary of a ``tokenizer.model`` against the spec, and return its facts.

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


def tokenizer_of(store: Store, artifact: Artifact[ModelSpec | MicroSpec]) -> Document:
    """What a model's manifest says of the one that its tokenizer is shared with: its folder."""
    shared = store.catalogue.shared_tokenizer(artifact.spec)
    return {"tokenizer_shared_with": shared.spec.folder if shared else None}


def build_tokenizer(build: Build[ModelSpec]) -> Document:
    """Copy ``tokenizer.model`` out of the raw files, or from the model it is shared with."""
    spec, store = build.artifact.spec, build.store
    is_own = spec.files.tokenizer is not None
    upstream = build.upstream("raw" if is_own else "shared")
    name = f"raw/{spec.files.tokenizer}" if is_own else "tokenizer.model"
    data = store.read(upstream, name)
    facts = check_identity(
        data,
        store.catalogue.tokenizer(spec),
        store.settings.source,
        str(store.path(upstream, name)),
    )
    build.staged.write("tokenizer.model", data)
    build.staged.write("tokenizer_config.json", render(facts))
    return {
        "model_name": spec.folder,
        "version": spec.version,
        "format": "sentencepiece",
        "vocab_size": facts["vocab_size"],
        **tokenizer_of(store, build.artifact),
        "from_upstream": is_own,
        "source": store.manifest(upstream).document["source"],
    }
