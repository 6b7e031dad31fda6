"""Rules for checkpoints and tokenizers; what counts is what the tensor headers say."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from typing import Any

import yaml

from wmtp_assets.checkpoints.configs import (
    ADAPTER,
    CHECKPOINT,
    CONFIG,
    PARAMS,
    TOKENIZER,
    adapter_document,
    checkpoint_dtype,
    config_document,
)
from wmtp_assets.checkpoints.micro import micro_params
from wmtp_assets.checkpoints.params import (
    EMBEDDING,
    check_tensor_shapes,
    is_tied,
    parse_params,
)
from wmtp_assets.checkpoints.safetensors_file import DTYPE_NAMES, Header, read_header
from wmtp_assets.checkpoints.tokenizer import config_bytes, pinned_sha256, read_facts
from wmtp_assets.errors import InvalidInput
from wmtp_assets.integrity.findings import Report, Subject
from wmtp_assets.layout import Artifact
from wmtp_assets.specs import MicroSpec, ModelSpec

NEEDS_SENTENCEPIECE = "sentencepiece is not installed: pip install 'wmtp_assets[platform]'"


def _header(subject: Subject) -> Header:
    return read_header(subject.store.path(subject.artifact, CHECKPOINT))


def _bytes(subject: Subject, name: str) -> bytes:
    return subject.store.path(subject.artifact, name).read_bytes()


def _parse(data: bytes, where: str, kind: str) -> Any:
    """JSON or YAML that may be damaged.

    Raises:
        InvalidInput: naming the file.
    """
    try:
        return json.loads(data) if kind == "json" else yaml.safe_load(data)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise InvalidInput(f"{where}: not {kind.upper()}: {error}") from error


def check_dtype(subject: Subject, report: Report) -> None:
    """Every tensor has the spec's dtype, and every label says so."""
    spec = subject.artifact.spec
    assert isinstance(spec, ModelSpec | MicroSpec)
    header = _header(subject)
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
    config = _parse(_bytes(subject, CONFIG), subject.file(CONFIG), "json")
    adapter = _parse(_bytes(subject, ADAPTER), subject.file(ADAPTER), "yaml")
    for file, label, field in (
        (CONFIG, config, "torch_dtype"),
        (ADAPTER, adapter, "dtype"),
        (subject.artifact.manifest, subject.manifest.document, "dtype"),
    ):
        found = label.get(field) if isinstance(label, dict) else None
        report.require(subject.file(file), expected=spec.dtype, found=found, place=field)
    report.note(tensors_by_dtype=counts)


def check_parameters(subject: Subject, report: Report) -> None:
    """``params.json``, ``meta_adapter.yaml``, ``config.json``, ``metadata.json`` and the tensors
    describe the same model."""
    spec = subject.artifact.spec
    assert isinstance(spec, ModelSpec | MicroSpec)
    header = _header(subject)
    params = parse_params(_bytes(subject, PARAMS), subject.file(PARAMS))
    tied = is_tied(header.shapes)
    dtype = checkpoint_dtype({entry.dtype for entry in header.entries})
    check_tensor_shapes(
        params.tensor_shapes(tied=isinstance(spec, MicroSpec)),
        header.shapes,
        subject.file(CHECKPOINT),
    )
    adapter = _parse(_bytes(subject, ADAPTER), subject.file(ADAPTER), "yaml")
    config = _parse(_bytes(subject, CONFIG), subject.file(CONFIG), "json")
    for file, found, expected in (
        (ADAPTER, adapter, adapter_document(spec.folder, params, dtype)),
        (CONFIG, config, config_document(params, dtype, tied)),
    ):
        found = found if isinstance(found, dict) else {}
        for field in sorted(expected.keys() | found.keys()):
            report.require(
                subject.file(file),
                expected=expected.get(field),
                found=found.get(field),
                place=field,
            )
    report.require(
        subject.file(subject.artifact.manifest),
        expected=header.n_params,
        found=subject.manifest.document.get("n_params"),
        place="n_params",
    )
    _check_params_upstream(subject, report)
    report.note(n_params=header.n_params, tensors=len(header.entries), params=params.model_dump())


def _check_params_upstream(subject: Subject, report: Report) -> None:
    """``params.json`` is the raw one, or what the micro spec makes of the parent's."""
    spec = subject.artifact.spec
    upstream = subject.store.catalogue[subject.artifact.upstream[0]]
    name = f"raw/{spec.files.params}" if isinstance(spec, ModelSpec) else PARAMS
    path = subject.store.path(upstream, name)
    if not path.is_file():
        report.note(upstream=f"{upstream.key} is not here: not compared")
        return
    expected = parse_params(path.read_bytes(), str(path))
    if isinstance(spec, MicroSpec):
        expected = micro_params(expected, spec)
    found = parse_params(_bytes(subject, PARAMS), subject.file(PARAMS))
    for field, value in expected.model_dump().items():
        report.require(
            subject.file(PARAMS), expected=value, found=getattr(found, field), place=field
        )


def check_tokenizer(subject: Subject, report: Report) -> None:
    """The tokenizer is the pinned one, byte for byte, with the vocabulary the spec asks for."""
    spec = subject.artifact.spec
    assert isinstance(spec, ModelSpec)
    data = _bytes(subject, "tokenizer.model")
    pinned = pinned_sha256(spec.tokenizer, subject.store.settings.source)
    found = hashlib.sha256(data).hexdigest()
    file = subject.file("tokenizer.model")
    if pinned is not None:
        report.require(file, expected=f"SHA-256 {pinned}", found=f"SHA-256 {found}")
    if find_spec("sentencepiece") is None:
        report.skip(NEEDS_SENTENCEPIECE)
        return
    facts = read_facts(data, file)
    report.require(
        file, expected=spec.tokenizer.vocab_size, found=facts.vocab_size, place="vocabulary"
    )
    config = _bytes(subject, "tokenizer_config.json")
    report.require(
        subject.file("tokenizer_config.json"),
        expected=config_bytes(facts).decode(),
        found=config.decode(errors="replace"),
    )
    report.note(sha256=found, pinned=pinned, vocab_size=facts.vocab_size)


def check_tokenizer_fits(subject: Subject, report: Report) -> None:
    """The tokenizer beside the checkpoint is the one it was made with, its vocabulary has as many
    pieces as the embedding has rows, and a shared one is identical to the parent's."""
    spec = subject.artifact.spec
    document = subject.manifest.document
    path = subject.store.folder(subject.artifact) / TOKENIZER
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    report.require(
        subject.file(TOKENIZER),
        expected=f"SHA-256 {document['sha256']['tokenizer']}",
        found=f"SHA-256 {found}",
    )
    shapes = _header(subject).shapes
    rows = shapes[EMBEDDING][0] if EMBEDDING in shapes else None
    report.note(sha256=found, embedding_rows=rows, shared_with=document["tokenizer_shared_with"])
    if isinstance(spec, MicroSpec):
        parent = subject.store.catalogue[subject.artifact.upstream[1]]
        _check_shared(subject, report, parent, found)
    if find_spec("sentencepiece") is None:
        report.skip(NEEDS_SENTENCEPIECE)
        return
    facts = read_facts(data, subject.file(TOKENIZER))
    report.require(
        subject.file(CHECKPOINT),
        expected=f"{facts.vocab_size} rows, as the tokenizer has pieces",
        found=f"{rows} rows, as the tokenizer has pieces",
        place=f"tensor {EMBEDDING}",
    )
    report.note(vocab_size=facts.vocab_size)


def _check_shared(subject: Subject, report: Report, parent: Artifact, found: str) -> None:
    path = subject.store.path(parent, "tokenizer.model")
    if not path.is_file():
        report.note(shared=f"{parent.key} is not here: not compared")
        return
    report.require(
        subject.file(TOKENIZER),
        expected=f"SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}, as {parent.key}",
        found=f"SHA-256 {found}, as {parent.key}",
        place="tokenizer_shared_with",
    )


def check_micro_size(subject: Subject, report: Report) -> None:
    """``model.safetensors`` is smaller than the spec's ``max_bytes``."""
    spec = subject.artifact.spec
    assert isinstance(spec, MicroSpec)
    size = subject.store.path(subject.artifact, CHECKPOINT).stat().st_size
    if size >= spec.max_bytes:
        report.add(
            subject.file(CHECKPOINT),
            expected=f"under {spec.max_bytes} bytes",
            found=f"{size} bytes",
        )
    report.note(bytes=size, max_bytes=spec.max_bytes)
