"""Rules for checkpoints and tokenizers; what counts is what the tensor headers say."""

from __future__ import annotations

import hashlib

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput
from wmtp_assets.base.strict_json import parse_object
from wmtp_assets.base.yaml_file import read_yaml
from wmtp_assets.catalogue.artifact import VALUE_HEAD
from wmtp_assets.catalogue.specs import MicroSpec, ModelSpec
from wmtp_assets.checkpoints.configs import (
    MODEL_FILES,
    TOKENIZER_CONFIG,
    adapter_document,
    checkpoint_dtype,
    files_of,
    parse_parameters,
)
from wmtp_assets.checkpoints.families import FAMILIES, META, Family
from wmtp_assets.checkpoints.llama_config import llama_config
from wmtp_assets.checkpoints.micro import micro_params
from wmtp_assets.checkpoints.params import MetaParams, parse_params
from wmtp_assets.checkpoints.safetensors_file import (
    DTYPE_NAMES,
    Header,
    describe_tensors,
    read_header,
)
from wmtp_assets.checkpoints.tokenizer import (
    MAX_MODEL,
    config_bytes,
    pinned_sha256,
    read_facts,
)
from wmtp_assets.checkpoints.value_head import NO_VALUE_HEAD, check_value_head
from wmtp_assets.rules.findings import Report, Rule, Subject, is_there
from wmtp_assets.rules.reading import has_library, read_document, read_file
from wmtp_assets.storage.files import hash_file
from wmtp_assets.storage.manifest import Document

ModelSubject = Subject[ModelSpec | MicroSpec]


def _header(subject: ModelSubject, report: Report) -> Header:
    return read_header(report.reads(subject, files_of(subject.artifact).checkpoint))


def _family(subject: ModelSubject) -> Family:
    spec = subject.artifact.spec
    return FAMILIES[subject.store.catalogue.family(spec)]


def check_dtype(subject: ModelSubject, report: Report) -> None:
    """Every tensor has the artifact's dtype, and every label says so."""
    declared, files = subject.artifact.dtype, files_of(subject.artifact)
    header = _header(subject, report)
    counts: dict[str, int] = {}
    for entry in header.entries:
        dtype = DTYPE_NAMES.get(entry.dtype, entry.dtype)
        counts[dtype] = counts.get(dtype, 0) + 1
        report.require(
            subject.file(files.checkpoint),
            expected=declared,
            found=dtype,
            place=f"tensor {entry.name}",
        )
    report.note(declared=declared, tensors_by_dtype=counts)
    for file, label, field in (
        (subject.artifact.manifest, subject.manifest.document, "dtype"),
        (files.config, read_document(subject, report, files.config), "torch_dtype"),
        (files.adapter, read_yaml(report.reads(subject, files.adapter)), "dtype"),
    ):
        found = label.get(field) if isinstance(label, dict) else None
        report.require(subject.file(file), expected=declared, found=found, place=field)


def check_parameters(subject: ModelSubject, report: Report) -> None:
    """``params.json``, ``meta_adapter.yaml``, ``config.json``, ``metadata.json`` and the tensors
    describe the same model."""
    spec, files = subject.artifact.spec, files_of(subject.artifact)
    tied = isinstance(spec, MicroSpec)
    header = _header(subject, report)
    params = parse_params(read_file(subject, report, files.params), files.params)
    _check_shapes(subject, report, _family(subject).tensor_shapes(params, tied), header.shapes)
    report.note(n_params=header.n_params, tensors=len(header.entries), params=params.model_dump())
    report.require(
        subject.file(subject.artifact.manifest),
        expected={"n_params": header.n_params, "checkpoint": describe_tensors(header.entries)},
        found=_description(subject),
    )
    dtype = checkpoint_dtype({entry.dtype for entry in header.entries})
    config = read_document(subject, report, files.config)
    upstream = _check_params_upstream(subject, report, params)
    if upstream is None and _family(subject) is not META:
        upstream = config
    report.require(
        subject.file(files.config),
        expected=llama_config(params, dtype, tied, upstream),
        found=config,
    )
    if files.beside != files.config and _family(subject) is not META:
        report.require(
            subject.file(files.beside),
            expected=config,
            found=read_document(subject, report, files.beside),
        )
    report.require(
        subject.file(files.adapter),
        expected=adapter_document(spec.folder, params, dtype),
        found=read_yaml(report.reads(subject, files.adapter)),
    )


def _check_shapes(
    subject: ModelSubject,
    report: Report,
    expected: dict[str, tuple[int, ...]],
    found: dict[str, tuple[int, ...]],
) -> None:
    def text(shape: tuple[int, ...] | None) -> str:
        return "no such tensor" if shape is None else f"shape {list(shape)}"

    for name in sorted(expected.keys() | found.keys()):
        report.require(
            subject.file(files_of(subject.artifact).checkpoint),
            expected=text(expected.get(name)),
            found=text(found.get(name)),
            place=f"tensor {name}",
        )


def _description(subject: ModelSubject) -> Document:
    """What ``metadata.json`` says about the checkpoint, as far as its header tells the same.

    One of the version before has the hashes of the tensors, too; nothing relies on them.
    """
    tensors = subject.stated("checkpoint", "tensors")
    rows = tensors.items() if isinstance(tensors, dict) else ()
    return {
        "n_params": subject.stated("n_params"),
        "checkpoint": {
            "tensors": {
                name: {key: value for key, value in row.items() if key != "sha256"}
                for name, row in rows
                if isinstance(row, dict)
            },
        },
    }


def _check_params_upstream(
    subject: ModelSubject, report: Report, params: MetaParams
) -> Document | None:
    """``params.json`` is what upstream's parameters are, or what the micro spec makes of them.

    Returns:
        Upstream's ``config.json``; None where the family has none, or upstream is not here.
    """
    spec = subject.artifact.spec
    is_micro = isinstance(spec, MicroSpec)
    upstream = subject.upstream("safetensors" if is_micro else "raw")
    name = MODEL_FILES.params if is_micro else f"raw/{spec.parameters_file}"
    if not is_there(subject.store.path(upstream, name)):
        report.note(upstream=f"{upstream.key} is not here: not compared")
        return None
    data = read_file(subject, report, name, upstream)
    config: Document | None = None
    if not is_micro:
        expected, config = parse_parameters(spec, data, name)
    else:
        parent = parse_params(data, name)
        if _family(subject) is not META:
            config = read_document(subject, report, MODEL_FILES.config, upstream)
        report.reads(subject, MODEL_FILES.params)
        expected = micro_params(parent, spec)
    params_file = files_of(subject.artifact).params
    report.reads(subject, params_file)
    report.require(
        subject.file(params_file),
        expected=expected.model_dump(exclude_unset=True),
        found=params.model_dump(exclude_unset=True),
    )
    return config


def check_tokenizer(subject: Subject[ModelSpec], report: Report) -> None:
    """The tokenizer is the pinned one, byte for byte, with the vocabulary the spec asks for; one
    that is shared is identical with the other model's."""
    spec, store = subject.artifact.spec, subject.store
    required = store.catalogue.tokenizer(spec)
    data = read_file(subject, report, "tokenizer.model", max_size=MAX_MODEL)
    pinned = pinned_sha256(required, store.settings.source)
    found = hashlib.sha256(data).hexdigest()
    file = subject.file("tokenizer.model")
    report.note(sha256=found, pinned=pinned)
    if pinned is not None and found != pinned:  # and it is not parsed: it may be anything
        report.add(file, expected=f"SHA-256 {pinned}", found=f"SHA-256 {found}")
        return
    _check_sharing(subject, report, "tokenizer.model", found)
    if not has_library(report, "sentencepiece"):
        return
    report.reads(subject, "tokenizer.model")
    facts = read_facts(data, file)
    report.note(vocab_size=facts.vocab_size)
    report.require(file, expected=required.vocab_size, found=facts.vocab_size, place="vocabulary")
    report.require(
        subject.file("tokenizer_config.json"),
        expected=parse_object(config_bytes(facts)),
        found=read_document(subject, report, "tokenizer_config.json"),
    )


def _check_sharing(subject: ModelSubject, report: Report, name: str, found: str) -> None:
    """``metadata.json`` names the model that the tokenizer is shared with, and theirs is the same.

    Args:
        name: of the tokenizer in the artifact.
        found: its SHA-256.
    """
    spec = subject.artifact.spec
    owner = subject.store.catalogue.shared_tokenizer(spec)
    shared_with = owner.spec.folder if owner else None
    report.note(shared_with=shared_with)
    report.require(
        subject.file(subject.artifact.manifest),
        expected=shared_with,
        found=subject.stated("tokenizer_shared_with"),
        place="tokenizer_shared_with",
    )
    if owner is None:
        return
    if not is_there(subject.store.path(owner, "tokenizer.model")):
        report.note(shared=f"{owner.key} is not here: not compared")
        return
    expected = hash_file(report.reads(subject, "tokenizer.model", owner)).sha256
    if found != expected:
        report.add(
            subject.file(name),
            expected=f"SHA-256 {expected}, as {owner.key}",
            found=f"SHA-256 {found}",
        )


def check_tokenizer_fits(subject: ModelSubject, report: Report) -> None:
    """The tokenizer beside the checkpoint is the one it was made with, its vocabulary has as many
    pieces as the embedding has rows, and a shared one is identical with the other model's."""
    files, family = files_of(subject.artifact), _family(subject)
    shape = _header(subject, report).shapes.get(family.embedding)
    rows = shape[0] if shape else None
    is_own = isinstance(subject.artifact.spec, MicroSpec)
    tokenizer = subject.upstream("tokenizer")
    data = (
        read_file(subject, report, files.tokenizer, max_size=MAX_MODEL)
        if is_own
        else read_file(subject, report, "tokenizer.model", tokenizer, MAX_MODEL)
    )
    found = hashlib.sha256(data).hexdigest()
    committed = subject.stated("sha256", "tokenizer")
    report.note(sha256=found, embedding_rows=rows)
    if found != committed:  # and it is not parsed: it may be anything
        report.add(
            subject.file(files.tokenizer),
            expected=f"SHA-256 {committed}",
            found=f"SHA-256 {found}",
        )
        return
    _check_sharing(subject, report, files.tokenizer, found)
    if not has_library(report, "sentencepiece"):
        return
    report.reads(subject, files.tokenizer)
    facts = read_facts(data, files.tokenizer)
    report.note(vocab_size=facts.vocab_size)
    if rows != facts.vocab_size:
        report.add(
            subject.file(files.checkpoint),
            expected=f"{facts.vocab_size} rows, as the tokenizer has pieces",
            found=f"{rows} rows",
            place=f"tensor {family.embedding}",
        )
    if is_own:
        report.require(
            subject.file(TOKENIZER_CONFIG),
            expected=parse_object(config_bytes(facts)),
            found=read_document(subject, report, TOKENIZER_CONFIG),
        )


def check_recorded_value_head(subject: ModelSubject, report: Report) -> None:
    """A value head beside the checkpoint is recorded in ``metadata.json``, is the recorded one, and
    has shape [hidden_size, 1]; where none is recorded, none is there."""
    artifact, stated_one = subject.artifact, subject.stated("value_head")
    path = subject.store.path(artifact, VALUE_HEAD)
    is_place = VALUE_HEAD in artifact.guests
    if not is_place or not isinstance(stated_one, dict) or "path" not in stated_one:
        report.require(
            subject.file(artifact.manifest),
            expected=NO_VALUE_HEAD,
            found=stated_one,
            place="value_head",
        )
        report.note(stated=stated_one)
        return
    recorded, found = stated_one["path"], VALUE_HEAD if is_there(path) else None
    report.note(recorded=recorded, found=found)
    remedy = f"wmtp value-head {artifact.spec.folder}"
    if recorded != found:
        report.add(
            subject.file(VALUE_HEAD if found is None else artifact.manifest),
            expected="the recorded value head" if found is None else "a record of the value head",
            found="nothing" if found is None else f"path {recorded}, but the file is there",
            place="" if found is None else "value_head",
            problem="missing" if found is None else "corrupt",
            remedy=f"put it back, or: {remedy} --forget"
            if found is None
            else f"check and record it: {remedy}",
        )
    if found is None:
        return
    shape = _header(subject, report).shapes.get(_family(subject).embedding, ())
    hidden_size = shape[1] if len(shape) == 2 else 0
    try:
        report.reads(subject, VALUE_HEAD)
        sha256, now = subject.stated("value_head", "sha256"), hash_file(path).sha256
        report.note(sha256=now)
        if recorded is not None and now != sha256:  # and it is not parsed: it may be anything
            report.add(
                subject.file(VALUE_HEAD),
                expected=f"SHA-256 {sha256}",
                found=f"SHA-256 {now}",
                remedy=f"put it back, or record the new one: {remedy}",
            )
            return
        check_value_head(path, hidden_size)
    except (CorruptArtifact, InvalidInput) as error:  # making the model again would keep the file
        report.add(
            subject.file(VALUE_HEAD),
            expected=f"one tensor of shape [{hidden_size}, 1]",
            found=error,
            remedy=f"replace it and record the new one: {remedy}",
        )


def check_micro_size(subject: Subject[MicroSpec], report: Report) -> None:
    """``model.safetensors`` is smaller than the spec's ``max_bytes``."""
    spec = subject.artifact.spec
    size = report.reads(subject, MODEL_FILES.checkpoint).stat().st_size
    if size >= spec.max_bytes:
        report.add(
            subject.file(MODEL_FILES.checkpoint),
            expected=f"under {spec.max_bytes} bytes",
            found=f"{size} bytes",
        )
    report.note(bytes=size, max_bytes=spec.max_bytes)


_CHECKPOINTS = ("safetensors", "micro")

RULES = (
    Rule(
        "dtype",
        "Every tensor has the declared dtype, read from the tensor headers.",
        _CHECKPOINTS,
        check_dtype,
    ),
    Rule(
        "parameters",
        "params.json, meta_adapter.yaml, config.json, metadata.json and the tensor shapes agree.",
        _CHECKPOINTS,
        check_parameters,
    ),
    Rule(
        "tokenizer",
        "The tokenizer is the pinned one, byte for byte, and a shared one is the other model's.",
        ("tokenizer",),
        check_tokenizer,
    ),
    Rule(
        "tokenizer",
        "The tokenizer is the one the checkpoint was made with, shared ones are identical, and "
        "the embedding has a row per piece.",
        _CHECKPOINTS,
        check_tokenizer_fits,
    ),
    Rule(
        "value_head",
        "A value head is recorded in metadata.json with its hash, and has shape [hidden_size, 1].",
        _CHECKPOINTS,
        check_recorded_value_head,
    ),
    Rule(
        "micro_size",
        "model.safetensors is smaller than the declared maximum.",
        ("micro",),
        check_micro_size,
    ),
)
