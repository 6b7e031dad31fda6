"""Rules for checkpoints and tokenizers; what counts is what the tensor headers say."""

from __future__ import annotations

import hashlib
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput
from wmtp_assets.base.yaml_file import read_yaml
from wmtp_assets.catalogue.artifact import VALUE_HEAD, Artifact
from wmtp_assets.catalogue.specs import MicroSpec, ModelSpec
from wmtp_assets.checkpoints.architecture import architecture_config, keys_document, prove
from wmtp_assets.checkpoints.beside import (
    COMPLETE_SINCE,
    MODEL_FILES,
    NO_VALUE_HEAD,
    TOKENIZER_FOLDER,
    adapter_document,
    check_value_head,
    checkpoint_dtype,
    files_of,
    generation_config,
    hash_value_head,
    roles_of,
    upstreams_generation,
)
from wmtp_assets.checkpoints.families import FAMILIES, META, Family
from wmtp_assets.checkpoints.micro import micro_config, micro_params
from wmtp_assets.checkpoints.params import (
    MetaParams,
    is_tied,
    llama_config,
    parse_described,
    parse_parameters,
    parse_params,
)
from wmtp_assets.checkpoints.safetensors_file import (
    DTYPE_NAMES,
    Header,
    describe_tensors,
    read_header,
)
from wmtp_assets.checkpoints.tokenizer import (
    CONFIG,
    FAST,
    FILES,
    MAX_FAST,
    MAX_MODEL,
    MAX_SIZES,
    MODEL,
    config_document,
    fast_tokenizer,
    kept_files,
    load_fast,
    pinned_sha256,
    read_facts,
)
from wmtp_assets.rules.findings import (
    Report,
    Rule,
    Subject,
    has_library,
    is_there,
    read_document,
    read_file,
)
from wmtp_assets.storage.files import hash_file
from wmtp_assets.storage.manifest import Document

TOKEN_IDS = {"bos_token_id": "bos_id", "eos_token_id": "eos_id"}
"""Key of ``config.json`` → of ``tokenizer_config.json``. The pad is not among them: transformers'
``pad_token_id`` is a choice of upstream's, and the tokenizers have no pad."""

ModelSubject = Subject[ModelSpec | MicroSpec]


def _header(subject: ModelSubject, report: Report) -> Header:
    return read_header(report.reads(subject, files_of(subject.artifact).checkpoint))


def _is_taken_over(subject: ModelSubject) -> bool:
    """Whether the checkpoint is upstream's file as it is, as the manifest says."""
    return subject.stated("conversion", "taken_over") is not None


def _family(subject: ModelSubject) -> Family:
    return FAMILIES[subject.store.catalogue.family(subject.spec)]


def _embedding(subject: ModelSubject) -> str:
    """The name of the embedding: that of the naming scheme, or the one that was recorded; empty:
    none is known."""
    if subject.store.catalogue.root_of(subject.spec).has_params:
        return _family(subject).embedding
    recorded = subject.stated("architecture", "embedding")
    return recorded if isinstance(recorded, str) else ""


def check_dtype(subject: ModelSubject, report: Report) -> None:
    """Every tensor has the artifact's dtype, and every label says so.

    The label in the file itself is compared with its tensors; one of upstream's need not have it.
    """
    declared, files = subject.artifact.dtype, files_of(subject.artifact)
    header = _header(subject, report)
    dtypes = {entry.name: DTYPE_NAMES.get(entry.dtype, entry.dtype) for entry in header.entries}
    for name, dtype in dtypes.items():
        report.require(
            subject.file(files.checkpoint), expected=declared, found=dtype, place=f"tensor {name}"
        )
    report.note(declared=declared, tensors_by_dtype=dict(Counter(dtypes.values())))
    if "dtype" in header.metadata or not _is_taken_over(subject):
        report.require(
            subject.file(files.checkpoint),
            expected=checkpoint_dtype({entry.dtype for entry in header.entries}),
            found=header.metadata.get("dtype"),
            place="__metadata__.dtype",
        )
    roles = roles_of(subject.store.catalogue, subject.artifact)
    labels: list[tuple[str, Any, str]] = [
        (subject.artifact.manifest, subject.manifest.document, "dtype")
    ]
    if "config" in roles:
        labels.append((files.config, read_document(subject, report, files.config), "torch_dtype"))
    if "adapter" in roles:
        labels.append((files.adapter, read_yaml(report.reads(subject, files.adapter)), "dtype"))
    for file, label, field in labels:
        found = label.get(field) if isinstance(label, dict) else None
        report.require(subject.file(file), expected=declared, found=found, place=field)


def check_parameters(subject: ModelSubject, report: Report) -> None:
    """``params.json``, ``meta_adapter.yaml``, ``config.json``, ``metadata.json`` and the tensors
    describe the same model."""
    if not subject.store.catalogue.root_of(subject.artifact.spec).has_params:
        _check_architecture(subject, report)
        return
    spec, files = subject.artifact.spec, files_of(subject.artifact)
    header = _header(subject, report)
    params = parse_params(read_file(subject, report, files.params), files.params)
    config = read_document(subject, report, files.config)
    rows = header.shapes.get(_family(subject).embedding, (None,))[0]
    upstream = _check_params_upstream(subject, report, params, rows)
    if upstream is None and _family(subject) is not META:
        upstream = config
    tied = spec.tied if isinstance(spec, MicroSpec) else is_tied(upstream)
    expected = _shapes(_family(subject).tensor_shapes(params, tied))
    found = _shapes(header.shapes)
    report.require(
        subject.file(files.checkpoint),
        expected={**dict.fromkeys(found, "no such tensor"), **expected},
        found={**dict.fromkeys(expected, "no such tensor"), **found},
    )
    report.note(params=params.model_dump())
    _check_description(subject, report, header)
    dtype = checkpoint_dtype({entry.dtype for entry in header.entries})
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


def _check_description(subject: ModelSubject, report: Report, header: Header) -> None:
    """``metadata.json`` lists the tensors that the header does."""
    report.note(n_params=header.n_params, tensors=len(header.entries))
    report.require(
        subject.file(subject.artifact.manifest),
        expected={"n_params": header.n_params, "checkpoint": describe_tensors(header.entries)},
        found=_description(subject),
    )
    spec, checkpoint = subject.artifact.spec, files_of(subject.artifact).checkpoint
    if isinstance(spec, ModelSpec) and _is_taken_over(subject):
        record = subject.manifest.files.get(checkpoint)
        report.require(
            subject.file(checkpoint),
            expected=subject.stated("source", "files", spec.files.checkpoint),
            found=record and record.sha256,
            place="SHA-256 of what was taken over as it is",
        )


def _check_architecture(subject: ModelSubject, report: Report) -> None:
    """Of a model that has no parameters here: the tensors are those that were proven when it was
    made, and where transformers is there, its class takes them now; ``config.json`` is upstream's
    with what it says of the file put right."""
    files = files_of(subject.artifact)
    root = subject.store.catalogue.root_of(subject.artifact.spec)
    header = _header(subject, report)
    _check_description(subject, report, header)
    stated = subject.stated("architecture")
    manifest, checkpoint = subject.file(subject.artifact.manifest), subject.file(files.checkpoint)
    if root.family == "any":
        report.require(manifest, expected=None, found=stated, place="architecture")
    else:
        proven = stated if isinstance(stated, dict) else {}
        report.require(
            checkpoint,
            expected={key: proven.get(key) for key in keys_document({})},
            found=keys_document(header.shapes),
            place="names and shapes",
        )
    if "config" not in roles_of(subject.store.catalogue, subject.artifact):
        return
    config = read_document(subject, report, files.config)
    tied: bool | None = None
    if root.family == "transformers" and find_spec("transformers") is None:
        said = config.get("tie_word_embeddings")
        tied = said if isinstance(said, bool) else None
        report.note(transformers="it is not installed: only what it said before was compared")
    elif root.family == "transformers":
        proof = prove(config, header.shapes, checkpoint, subject.file(files.config))
        tied = proof.tied
        report.note(proven_by=f"{proof.model_class} of transformers {proof.version}")
        report.require(
            manifest,
            expected={"class": proof.model_class, "embedding": proof.embedding or None},
            found={key: subject.stated("architecture", key) for key in ("class", "embedding")},
            place="architecture",
        )
    upstream = _config_made_from(subject, report)
    if upstream is not None:
        dtype = checkpoint_dtype({entry.dtype for entry in header.entries})
        report.require(
            subject.file(files.config),
            expected=architecture_config(upstream, dtype, tied),
            found=config,
        )
    if files.beside != files.config and root.is_loaded:
        report.require(
            subject.file(files.beside),
            expected=config,
            found=read_document(subject, report, files.beside),
        )


def _config_made_from(subject: ModelSubject, report: Report) -> Document | None:
    """Upstream's ``config.json``, or what cutting makes of the parent's; None: it is not here."""
    spec = subject.artifact.spec
    is_micro = isinstance(spec, MicroSpec)
    owner = subject.upstream("safetensors" if is_micro else "raw")
    name = MODEL_FILES.config if is_micro else f"raw/{spec.parameters_file}"
    checkpoint = subject.store.path(owner, MODEL_FILES.checkpoint)
    if not is_there(subject.store.path(owner, name)) or (is_micro and not is_there(checkpoint)):
        report.note(upstream=f"{owner.key} is not here: not compared")
        return None
    if not is_micro:
        return parse_described(spec, read_file(subject, report, name, owner), name)
    parent = read_document(subject, report, name, owner)
    shapes = read_header(report.reads(subject, MODEL_FILES.checkpoint, owner)).shapes
    return micro_config(parent, shapes, spec, str(checkpoint))[-1]


def _shapes(shapes: Mapping[str, Sequence[int]]) -> dict[str, str]:
    return {f"tensor {name}": f"shape {list(shape)}" for name, shape in shapes.items()}


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
    subject: ModelSubject, report: Report, params: MetaParams, rows: int | None
) -> Document | None:
    """``params.json`` is what upstream's parameters are, or what the micro spec makes of them.

    Args:
        rows: of the embedding.

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
    if is_micro:
        parent, config = parse_params(data, name), None
        if _family(subject) is not META:
            config = read_document(subject, report, MODEL_FILES.config, upstream)
        report.reads(subject, MODEL_FILES.params)
        expected = micro_params(parent, spec)
    else:
        upstreams = parse_parameters(spec, data, name, rows)
        expected, config = upstreams.params, upstreams.config
    report.require(
        subject.file(files_of(subject.artifact).params),
        expected=expected.model_dump(exclude_unset=True),
        found=params.model_dump(exclude_unset=True),
    )
    return config


def check_tokenizer(subject: Subject[ModelSpec], report: Report) -> None:
    """The tokenizer is the pinned one, byte for byte, with the vocabulary the spec asks for; one
    that is shared is identical with the other model's. What the spec lists beside it is upstream's.
    """
    required = subject.store.catalogue.tokenizer(subject.spec)
    name = subject.store.catalogue.tokenizer_name(subject.spec)
    data = read_file(subject, report, name, max_size=MAX_SIZES[name])
    pinned = pinned_sha256(required, subject.store.settings.source)
    report.note(pinned=pinned)
    facts = _check_tokenizer(subject, report, name, data, pinned)
    if facts is None:
        return
    report.require(
        subject.file(name),
        expected=required.vocab_size,
        found=facts["vocab_size"],
        place="vocabulary",
    )
    report.require(
        subject.file(subject.artifact.manifest),
        expected=facts["vocab_size"],
        found=subject.stated("vocab_size"),
        place="vocab_size",
    )
    _check_tokenizer_config(subject, report, "", data)
    _check_kept(subject, report)


def _check_tokenizer(
    subject: ModelSubject, report: Report, name: str, data: bytes, expected: str | None
) -> Document | None:
    """A tokenizer has the SHA-256 ``expected`` (None: any); ``metadata.json`` names the model that
    it is shared with, and theirs is the same.

    Args:
        name: of the tokenizer, in the artifact.
        data: what it holds.

    Returns:
        Its facts; None: it is another one, or cannot be parsed here.
    """
    found, file = hashlib.sha256(data).hexdigest(), subject.file(name)
    owner = subject.store.catalogue.shared_tokenizer(subject.spec)
    shared_with = owner.spec.folder if owner else None
    report.note(sha256=found, shared_with=shared_with)
    if expected is not None and found != expected:  # and it is not parsed: it may be anything
        report.add(file, expected=f"SHA-256 {expected}", found=f"SHA-256 {found}")
        return None
    report.require(
        subject.file(subject.artifact.manifest),
        expected=shared_with,
        found=subject.stated("tokenizer_shared_with"),
        place="tokenizer_shared_with",
    )
    main = subject.store.catalogue.tokenizer_name(subject.spec)
    if owner is not None and not is_there(subject.store.path(owner, main)):
        report.note(shared=f"{owner.key} is not here: not compared")
    elif owner is not None:
        theirs = _sha256(subject, report, main, owner)
        if found != theirs:
            expected = f"SHA-256 {theirs}, as {owner.key}"
            report.add(file, expected=expected, found=f"SHA-256 {found}")
    if not has_library(report, "tokenizers" if main == FAST else "sentencepiece"):
        return None
    report.reads(subject, name)
    facts = read_facts(data, file)
    report.note(vocab_size=facts["vocab_size"])
    return facts


def check_tokenizer_fits(subject: ModelSubject, report: Report) -> None:
    """The tokenizer beside the checkpoint is the one it was made with, its vocabulary has as many
    pieces as the embedding has rows and the ids that ``config.json`` says, and a shared one is
    identical with the other model's."""
    files, embedding = files_of(subject.artifact), _embedding(subject)
    roles = roles_of(subject.store.catalogue, subject.artifact)
    main = subject.store.catalogue.tokenizer_name(subject.spec)
    is_own = isinstance(subject.artifact.spec, MicroSpec)
    data = (
        read_file(subject, report, roles["tokenizer"], max_size=MAX_SIZES[main])
        if is_own
        else read_file(subject, report, main, subject.upstream("tokenizer"), MAX_SIZES[main])
    )
    facts = _check_tokenizer(
        subject, report, roles["tokenizer"], data, str(subject.stated("sha256", "tokenizer"))
    )
    if not embedding:
        report.note(embedding="none is known: its rows are not compared")
    if facts is None or not embedding:
        return
    shape = _header(subject, report).shapes.get(embedding)
    rows = shape[0] if shape else None
    report.note(embedding_rows=rows)
    pieces = facts["vocab_size"]
    stated = subject.store.catalogue.root_of(subject.spec).checkpoint.embedding_rows
    if rows != (stated or pieces) or rows < pieces:
        said = f", or {stated}, as the spec says" if stated else ""
        report.add(
            subject.file(files.checkpoint),
            expected=f"{pieces} rows, as the tokenizer has pieces{said}",
            found=f"{rows} rows",
            place=f"tensor {embedding}",
        )
    if is_own:
        _check_tokenizer_config(subject, report, TOKENIZER_FOLDER, data)
    if not subject.store.catalogue.root_of(subject.spec).has_params:
        return  # upstream's config.json is passed on as it is
    config = read_document(subject, report, files.config)
    for label, fact in TOKEN_IDS.items():
        if label in config and facts[fact] is not None:
            report.require(
                subject.file(files.config), expected=facts[fact], found=config[label], place=label
            )


def _check_tokenizer_config(
    subject: ModelSubject, report: Report, folder: str, data: bytes
) -> None:
    """``tokenizer_config.json`` says what the tokenizer does, and transformers' keys where a
    ``tokenizer.json`` lies beside it.

    Args:
        folder: in the artifact, with its slash.
        data: the sentencepiece model.
    """
    name = f"{folder}{CONFIG}"
    has_fast = f"{folder}{FAST}" in subject.manifest.files
    if CONFIG in _kept(subject):
        read_document(subject, report, name)  # upstream's, whatever it says
        return
    main = subject.file(f"{folder}{subject.store.catalogue.tokenizer_name(subject.spec)}")
    report.require(
        subject.file(name),
        expected=config_document(data, main, has_fast=has_fast),
        found=read_document(subject, report, name),
    )


def _kept(subject: ModelSubject) -> dict[str, tuple[Artifact[Any], str]]:
    """The files of a tokenizer that are upstream's: name → whose they are, and their name there."""
    tokenizer = subject.store.catalogue[
        f"{subject.store.catalogue.root_of(subject.spec).name}_tokenizer"
    ]
    return kept_files(subject.store, tokenizer)


def _sha256(
    subject: Subject[ModelSpec] | ModelSubject,
    report: Report,
    name: str,
    of: Artifact[Any] | None = None,
) -> str:
    """SHA-256 of a file of a tokenizer, or beside one, of the subject unless another is given.

    Raises:
        CorruptArtifact: if it is larger than such files are, and than it was committed: a sparse
            file costs nothing, and is read for hours.
    """
    path = report.reads(subject, name, of)
    about = subject.manifest if of is None else subject.store.find_manifest(of)
    record = about.files.get(name) if about else None
    most, size = max(MAX_FAST, record.size if record else 0), path.stat().st_size
    if size > most:
        raise CorruptArtifact(f"{name}: {size} bytes, and no such file has more than {most}")
    return hash_file(path).sha256


def _check_kept(subject: Subject[ModelSpec], report: Report) -> None:
    """What the spec lists beside the tokenizer is upstream's, byte for byte."""
    for name, (owner, theirs) in _kept(subject).items():
        if not is_there(subject.store.path(owner, theirs)):
            report.note(**{name: f"{owner.key} is not here: not compared"})
            continue
        expected = _sha256(subject, report, theirs, owner)
        found = _sha256(subject, report, name)
        report.note(**{name: found})
        if found != expected:
            report.add(
                subject.file(name),
                expected=f"SHA-256 {expected}, as {owner.key}",
                found=f"SHA-256 {found}",
            )


def check_fast_tokenizer(subject: ModelSubject, report: Report) -> None:
    """``tokenizer.json`` is what follows from ``tokenizer.model``, and reads texts as sentencepiece
    does; where none can, there is none, and that is a warning."""
    is_micro = isinstance(subject.artifact.spec, MicroSpec)
    folder = TOKENIZER_FOLDER if is_micro else ""
    name, file = f"{folder}{FAST}", subject.file(f"{folder}{FAST}")
    stated, is_listed = subject.stated("fast_tokenizer"), name in subject.manifest.files
    if subject.store.catalogue.tokenizer_name(subject.spec) == FAST or FAST in _kept(subject):
        load_fast(read_file(subject, report, name, max_size=MAX_FAST), file)
        report.note(upstream="it is upstream's")
        return
    if not is_listed and (_is_incomplete(subject) if is_micro else stated is None):
        report.add(
            file,
            expected="a tokenizer.json, for transformers",
            found="none: a version before this one made the artifact",
            problem="warning",
        )
        return
    data = read_file(subject, report, f"{folder}{MODEL}", max_size=MAX_MODEL)
    fast = fast_tokenizer(data, subject.file(f"{folder}{MODEL}"))
    report.note(**fast.document)
    if not is_micro:
        report.require(
            subject.file(subject.artifact.manifest),
            expected=fast.document,
            found=stated,
            place="fast_tokenizer",
        )
    if fast.data is not None:
        found = _sha256(subject, report, name)
        expected = hashlib.sha256(fast.data).hexdigest()
        if found != expected:
            report.add(file, expected=f"SHA-256 {expected}", found=f"SHA-256 {found}")
    elif is_listed:
        report.add(file, expected=f"no such file: {fast}", found="a file")
    else:
        report.add(
            file,
            expected="a tokenizer.json that reads every text as sentencepiece does",
            found=f"none: {fast}",
            problem="warning",
            remedy="read tokenizer.model with sentencepiece; transformers cannot",
        )


def _is_incomplete(subject: ModelSubject) -> bool:
    """Whether a version before this one made a checkpoint, without files of the tokenizer."""
    made_with, files = subject.manifest.made_with, subject.manifest.files
    is_old = made_with is None or made_with.builder < COMPLETE_SINCE
    return is_old and not any(posixpath.basename(name) == FAST for name in files)


def _is_loaded_with_a_tokenizer(artifact: Artifact[ModelSpec | MicroSpec]) -> bool:
    """Whether files of a tokenizer lie among those of a checkpoint: not where transformers does not
    know the names of its tensors; a micro model always has its own."""
    return isinstance(artifact.spec, MicroSpec) or artifact.spec.is_loaded


def check_model_folder(subject: ModelSubject, report: Report) -> None:
    """What transformers loads is one folder: its tokenizer is that of ``tokenizer/``, and
    ``generation_config.json`` has that one's ids. The tokenizer of a micro model is its parent's.
    """
    if _is_incomplete(subject):
        report.note(compared="nothing: a version before this one made the artifact")
        return
    files, tokenizer = files_of(subject.artifact), subject.upstream("tokenizer")
    is_micro = isinstance(subject.artifact.spec, MicroSpec)
    root = subject.store.catalogue.root_of(subject.spec)
    is_here = is_there(
        subject.store.path(tokenizer, subject.store.catalogue.tokenizer_name(subject.spec))
    )
    if not is_here:
        report.note(tokenizer=f"{tokenizer.key} is not here: not compared")
    elif is_micro:
        _require_copies(subject, report, TOKENIZER_FOLDER, tokenizer, "")
    owner, folder = (subject.artifact, TOKENIZER_FOLDER) if is_micro else (tokenizer, "")
    if not root.is_loaded or not (is_here or is_micro):
        return
    _require_copies(subject, report, files.folder, owner, folder, is_all_or_none=True)
    generation = _generation(subject, report, f"{folder}{CONFIG}", owner)
    if generation is None:
        report.note(generation="upstream's is not here: not compared")
        return
    report.require(
        subject.file(files.generation),
        expected=generation,
        found=read_document(subject, report, files.generation),
    )


def _generation(
    subject: ModelSubject, report: Report, name: str, owner: Artifact[Any]
) -> Document | None:
    """What ``generation_config.json`` is to be; None: that cannot be told here.

    Args:
        name, owner: of the ``tokenizer_config.json``.
    """
    root, files = subject.store.catalogue.root_of(subject.spec), files_of(subject.artifact)
    if not root.has_params:
        is_micro = isinstance(subject.artifact.spec, MicroSpec)
        upstream = subject.upstream("safetensors" if is_micro else "raw")
        if subject.store.find_manifest(upstream) is None:
            return None
        kept = MODEL_FILES.generation if is_micro else upstreams_generation(subject.store, upstream)
        if kept is not None:
            return read_document(subject, report, kept, upstream)
    else:
        facts = read_document(subject, report, name, owner)
        if "bos_id" in facts:
            return generation_config(facts)
    return generation_config(read_document(subject, report, files.config), "{}_token_id")


def _require_copies(
    subject: ModelSubject,
    report: Report,
    folder: str,
    owner: Artifact[Any],
    theirs: str,
    *,
    is_all_or_none: bool = False,
) -> None:
    """A folder of the subject has the files of a tokenizer, byte for byte.

    Args:
        owner, theirs: whose tokenizer it is, and its folder there.
        is_all_or_none: of one without ``tokenizer.json`` the folder has no file.
    """
    there = {
        name: _sha256(subject, report, f"{theirs}{name}", owner)
        for name in FILES
        if is_there(subject.store.path(owner, f"{theirs}{name}"))
    }
    if is_all_or_none and FAST not in there:
        there = {}
    report.note(**{f"{folder}{name}": sha256 for name, sha256 in there.items()})
    for name in FILES:
        mine, expected = f"{folder}{name}", there.get(name)
        is_mine = is_there(subject.store.path(subject.artifact, mine))
        found = _sha256(subject, report, mine) if is_mine else None
        if found != expected:
            report.add(
                subject.file(mine),
                expected=f"SHA-256 {expected}, as {owner.key}" if expected else "no such file",
                found=f"SHA-256 {found}" if found else "nothing",
                problem="corrupt" if is_mine else "missing",
            )


def check_recorded_value_head(subject: ModelSubject, report: Report) -> None:
    """A value head beside the checkpoint is recorded in ``metadata.json``, is the recorded one, and
    has shape [hidden_size, 1]; where none is recorded, none is there."""
    artifact, stated_one = subject.artifact, subject.stated("value_head")
    path = subject.store.path(artifact, VALUE_HEAD)
    if (
        VALUE_HEAD not in artifact.guests
        or not isinstance(stated_one, dict)
        or "path" not in stated_one
    ):
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
    shape = _header(subject, report).shapes.get(_embedding(subject), ())
    hidden_size = shape[1] if len(shape) == 2 else 0
    try:
        report.reads(subject, VALUE_HEAD)
        sha256, now = subject.stated("value_head", "sha256"), hash_value_head(path)
        report.note(sha256=now)
        if recorded is not None and now != sha256:  # and it is not parsed: it may be anything
            report.add(
                subject.file(VALUE_HEAD),
                expected=f"SHA-256 {sha256}",
                found=f"SHA-256 {now}",
                remedy=f"put it back, or record the new one: {remedy}",
            )
        else:
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
    size = report.reads(subject, MODEL_FILES.checkpoint).stat().st_size
    if size >= subject.spec.max_bytes:
        report.add(
            subject.file(MODEL_FILES.checkpoint),
            expected=f"under {subject.spec.max_bytes} bytes",
            found=f"{size} bytes",
        )
    report.note(bytes=size, max_bytes=subject.spec.max_bytes)


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
        "fast_tokenizer",
        "tokenizer.json reads texts as sentencepiece does; where none can, that is a warning.",
        ("tokenizer", "micro"),
        check_fast_tokenizer,
        needs=("sentencepiece", "tokenizers"),
    ),
    Rule(
        "model_folder",
        "The tokenizer in the folder that transformers loads is the one in tokenizer/.",
        _CHECKPOINTS,
        check_model_folder,
        applies=_is_loaded_with_a_tokenizer,
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
