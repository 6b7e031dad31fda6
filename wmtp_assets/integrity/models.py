"""Rules for checkpoints and tokenizers; what counts is what the tensor headers say."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from typing import Any

import yaml

from wmtp_assets.checkpoints.configs import (
    ADAPTER,
    CHECKPOINT,
    CONFIG,
    PARAMS,
    TOKENIZER,
    TOKENIZER_CONFIG,
    adapter_document,
    checkpoint_dtype,
    config_document,
)
from wmtp_assets.checkpoints.micro import micro_params
from wmtp_assets.checkpoints.params import EMBEDDING, MetaParams, parse_params
from wmtp_assets.checkpoints.safetensors_file import DTYPE_NAMES, Header, read_header
from wmtp_assets.checkpoints.tokenizer import config_bytes, pinned_sha256, read_facts
from wmtp_assets.data.jsonl import parse_line
from wmtp_assets.errors import InvalidInput
from wmtp_assets.integrity.findings import Report, Subject, is_there
from wmtp_assets.layout import Artifact
from wmtp_assets.manifest import Document
from wmtp_assets.specs import MicroSpec, ModelSpec

NEEDS_SENTENCEPIECE = "sentencepiece is not installed: pip install sentencepiece"

_GROWING = b"&*!"
"""What makes YAML anchors, aliases and tags, which can grow without bound; we write none."""


def _header(subject: Subject, report: Report) -> Header:
    return read_header(report.reads(subject, CHECKPOINT))


def _json(subject: Subject, report: Report, name: str) -> Document:
    data = report.reads(subject, name).read_bytes()
    try:
        return parse_line(data)
    except ValueError as error:
        raise InvalidInput(f"not JSON: {error}") from error


def _yaml(subject: Subject, report: Report, name: str) -> Any:
    data = report.reads(subject, name).read_bytes()
    if set(data) & set(_GROWING):
        raise InvalidInput("not plain YAML: an anchor, an alias or a tag")
    try:
        return yaml.safe_load(data)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise InvalidInput(f"not YAML: {' '.join(str(error).split())}") from error


def check_dtype(subject: Subject, report: Report) -> None:
    """Every tensor has the spec's dtype, and every label says so."""
    spec = subject.artifact.spec
    assert isinstance(spec, ModelSpec | MicroSpec)
    header = _header(subject, report)
    counts: dict[str, int] = {}
    for entry in header.entries:
        dtype = DTYPE_NAMES.get(entry.dtype, entry.dtype)
        counts[dtype] = counts.get(dtype, 0) + 1
        report.require(
            subject.file(CHECKPOINT),
            expected=spec.dtype,
            found=dtype,
            place=f"tensor {entry.name}",
        )
    report.note(tensors_by_dtype=counts)
    for file, label, field in (
        (subject.artifact.manifest, subject.manifest.document, "dtype"),
        (CONFIG, _json(subject, report, CONFIG), "torch_dtype"),
        (ADAPTER, _yaml(subject, report, ADAPTER), "dtype"),
    ):
        found = label.get(field) if isinstance(label, dict) else None
        report.require(subject.file(file), expected=spec.dtype, found=found, place=field)


def check_parameters(subject: Subject, report: Report) -> None:
    """``params.json``, ``meta_adapter.yaml``, ``config.json``, ``metadata.json`` and the tensors
    describe the same model."""
    spec = subject.artifact.spec
    assert isinstance(spec, ModelSpec | MicroSpec)
    is_micro = isinstance(spec, MicroSpec)
    header = _header(subject, report)
    params = _params(subject, report)
    _check_shapes(subject, report, params.tensor_shapes(tied=is_micro), header.shapes)
    report.note(n_params=header.n_params, tensors=len(header.entries), params=params.model_dump())
    report.require(
        subject.file(subject.artifact.manifest),
        expected=_described(header),
        found=_description(subject),
    )
    dtype = checkpoint_dtype({entry.dtype for entry in header.entries})
    report.require(
        subject.file(CONFIG),
        expected=config_document(params, dtype, tied=is_micro),
        found=_json(subject, report, CONFIG),
    )
    report.require(
        subject.file(ADAPTER),
        expected=adapter_document(spec.folder, params, dtype),
        found=_yaml(subject, report, ADAPTER),
    )
    _check_params_upstream(subject, report, params)


def _params(
    subject: Subject, report: Report, name: str = PARAMS, of: Artifact | None = None
) -> MetaParams:
    return parse_params(report.reads(subject, name, of).read_bytes(), name)


def _check_shapes(
    subject: Subject,
    report: Report,
    expected: dict[str, tuple[int, ...]],
    found: dict[str, tuple[int, ...]],
) -> None:
    def text(shape: tuple[int, ...] | None) -> str:
        return "no such tensor" if shape is None else f"shape {list(shape)}"

    for name in sorted(expected.keys() | found.keys()):
        report.require(
            subject.file(CHECKPOINT),
            expected=text(expected.get(name)),
            found=text(found.get(name)),
            place=f"tensor {name}",
        )


def _described(header: Header) -> Document:
    """What ``metadata.json`` must say about a checkpoint, as far as its header tells."""
    return {
        "n_params": header.n_params,
        "checkpoint": {
            "header_sha256": header.sha256,
            "tensors": {
                entry.name: {
                    "dtype": DTYPE_NAMES.get(entry.dtype, entry.dtype),
                    "shape": list(entry.shape),
                }
                for entry in header.entries
            },
        },
    }


def _description(subject: Subject) -> Document:
    """What ``metadata.json`` says, in the form of :func:`_described`."""
    tensors = subject.stated("checkpoint", "tensors")
    rows = tensors.items() if isinstance(tensors, dict) else ()
    return {
        "n_params": subject.stated("n_params"),
        "checkpoint": {
            "header_sha256": subject.stated("checkpoint", "header_sha256"),
            "tensors": {
                name: {key: value for key, value in row.items() if key != "sha256"}
                for name, row in rows
                if isinstance(row, dict)
            },
        },
    }


def _check_params_upstream(subject: Subject, report: Report, params: MetaParams) -> None:
    """``params.json`` is the raw one, or what the micro spec makes of the parent's."""
    spec = subject.artifact.spec
    upstream = subject.store.catalogue[subject.artifact.upstream[0]]
    name = f"raw/{spec.files.params}" if isinstance(spec, ModelSpec) else PARAMS
    if not is_there(subject.store.path(upstream, name)):
        report.note(upstream=f"{upstream.key} is not here: not compared")
        return
    expected = _params(subject, report, name, upstream)
    report.reads(subject, PARAMS)
    if isinstance(spec, MicroSpec):
        expected = micro_params(expected, spec)
    report.require(
        subject.file(PARAMS),
        expected=expected.model_dump(exclude_unset=True),
        found=params.model_dump(exclude_unset=True),
    )


def check_tokenizer(subject: Subject, report: Report) -> None:
    """The tokenizer is the pinned one, byte for byte, with the vocabulary the spec asks for."""
    spec = subject.artifact.spec
    assert isinstance(spec, ModelSpec)
    data = report.reads(subject, "tokenizer.model").read_bytes()
    pinned = pinned_sha256(spec.tokenizer, subject.store.settings.source)
    found = hashlib.sha256(data).hexdigest()
    file = subject.file("tokenizer.model")
    report.note(sha256=found, pinned=pinned)
    if pinned is not None and found != pinned:  # and it is not parsed: it may be anything
        report.add(file, expected=f"SHA-256 {pinned}", found=f"SHA-256 {found}")
        return
    if find_spec("sentencepiece") is None:
        report.skip(NEEDS_SENTENCEPIECE)
        return
    facts = read_facts(data, file)
    report.note(vocab_size=facts.vocab_size)
    report.require(
        file, expected=spec.tokenizer.vocab_size, found=facts.vocab_size, place="vocabulary"
    )
    report.require(
        subject.file("tokenizer_config.json"),
        expected=parse_line(config_bytes(facts)),
        found=_json(subject, report, "tokenizer_config.json"),
    )


def check_tokenizer_fits(subject: Subject, report: Report) -> None:
    """The tokenizer beside the checkpoint is the one it was made with, its vocabulary has as many
    pieces as the embedding has rows, and a shared one is identical to the parent's."""
    shape = _header(subject, report).shapes.get(EMBEDDING)
    rows = shape[0] if shape else None
    tokenizer = subject.store.catalogue[subject.artifact.upstream[1]]
    is_shared = isinstance(subject.artifact.spec, MicroSpec)
    path = (
        report.reads(subject, TOKENIZER)
        if is_shared
        else report.reads(subject, "tokenizer.model", tokenizer)
    )
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    committed = subject.stated("sha256", "tokenizer")
    report.note(sha256=found, embedding_rows=rows)
    if found != committed:  # and it is not parsed: it may be anything
        report.add(
            subject.file(TOKENIZER), expected=f"SHA-256 {committed}", found=f"SHA-256 {found}"
        )
        return
    shared_with = tokenizer.spec.folder if is_shared else None
    report.note(shared_with=shared_with)
    report.require(
        subject.file(subject.artifact.manifest),
        expected=shared_with,
        found=subject.stated("tokenizer_shared_with"),
        place="tokenizer_shared_with",
    )
    if is_shared:
        _check_shared(subject, report, tokenizer, found)
    if find_spec("sentencepiece") is None:
        report.skip(NEEDS_SENTENCEPIECE)
        return
    report.reads(subject, TOKENIZER)
    facts = read_facts(data, TOKENIZER)
    report.note(vocab_size=facts.vocab_size)
    if rows != facts.vocab_size:
        report.add(
            subject.file(CHECKPOINT),
            expected=f"{facts.vocab_size} rows, as the tokenizer has pieces",
            found=f"{rows} rows",
            place=f"tensor {EMBEDDING}",
        )
    if is_shared:
        report.require(
            subject.file(TOKENIZER_CONFIG),
            expected=parse_line(config_bytes(facts)),
            found=_json(subject, report, TOKENIZER_CONFIG),
        )


def _check_shared(subject: Subject, report: Report, parent: Artifact, found: str) -> None:
    if not is_there(subject.store.path(parent, "tokenizer.model")):
        report.note(shared=f"{parent.key} is not here: not compared")
        return
    data = report.reads(subject, "tokenizer.model", parent).read_bytes()
    expected = hashlib.sha256(data).hexdigest()
    if found != expected:
        report.add(
            subject.file(TOKENIZER),
            expected=f"SHA-256 {expected}, as {parent.key}",
            found=f"SHA-256 {found}",
        )


def check_micro_size(subject: Subject, report: Report) -> None:
    """``model.safetensors`` is smaller than the spec's ``max_bytes``."""
    spec = subject.artifact.spec
    assert isinstance(spec, MicroSpec)
    size = report.reads(subject, CHECKPOINT).stat().st_size
    if size >= spec.max_bytes:
        report.add(
            subject.file(CHECKPOINT),
            expected=f"under {spec.max_bytes} bytes",
            found=f"{size} bytes",
        )
    report.note(bytes=size, max_bytes=spec.max_bytes)
