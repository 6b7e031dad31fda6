"""The parameters of a model, everything that follows from them, and the two files that hold them.

Models of every family are described by the parameters of Meta's ``params.json``. Source of the
formulas and names: ``llama/model.py`` of facebook/multi-token-prediction. transformers'
``config.json`` of a Llama model is read into them, and written from them. Its field names and
defaults are those of ``LlamaConfig``:
https://huggingface.co/docs/transformers/model_doc/llama#transformers.LlamaConfig.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.model import StrictModel, first_error
from wmtp_assets.base.strict_json import parse_object, short
from wmtp_assets.catalogue.specs import ModelSpec
from wmtp_assets.storage.manifest import Document

MAX_SEQ_LEN = 2048
"""Context length in tokens where the file of the parameters says none: Meta's default and
LlamaConfig's."""


# Bounds far above any model: what follows from a parameter must not cost more than reading it.
_Size = Annotated[int, Field(gt=0, lt=1 << 31)]
_Count = Annotated[int, Field(gt=0, le=10_000)]
_Real = Annotated[float, Field(gt=0, le=1e12)]


class MetaParams(StrictModel):
    """``params.json``. The training code passes these keys on, so any other is an error there.

    ``dim`` is the hidden size; ``n_layers`` counts trunk layers and extra heads.
    """

    dim: _Size
    n_layers: _Count
    n_heads: _Size
    n_kv_heads: _Size | None = None
    vocab_size: _Size
    multiple_of: _Size
    ffn_dim_multiplier: _Real | None = None
    norm_eps: _Real
    n_future_tokens: _Count = 1
    rope_theta: _Real = 10000.0
    max_batch_size: _Size | None = None
    max_seq_len: _Size | None = None

    @model_validator(mode="after")
    def _divides(self) -> MetaParams:
        for name, value, by, divisor in (
            ("dim", self.dim, "n_heads", self.n_heads),
            ("n_heads", self.n_heads, "n_kv_heads", self.kv_heads),
        ):
            if value % divisor:
                raise ValueError(f"{name} {value} is not a multiple of {by} {divisor}")
        if self.n_trunk < 1:
            raise ValueError(
                f"n_layers {self.n_layers} leaves no layer beside {self.n_future_tokens - 1} "
                "extra heads"
            )
        return self

    @property
    def kv_heads(self) -> int:
        return self.n_kv_heads or self.n_heads

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads

    @property
    def context(self) -> int:
        """Context length, in tokens."""
        return self.max_seq_len or MAX_SEQ_LEN

    @property
    def n_extra_heads(self) -> int:
        """Prediction heads beside the next-token head."""
        return self.n_future_tokens - 1

    @property
    def n_trunk(self) -> int:
        """Number of ``layers.*``; the last of them is the next-token head."""
        return self.n_layers - self.n_extra_heads

    @property
    def intermediate_size(self) -> int:
        """Rows of ``w1``."""
        return feed_forward_size(self.dim, self.multiple_of, self.ffn_dim_multiplier)


def feed_forward_size(dim: int, multiple_of: int, factor: float | None) -> int:
    """Units of a feed-forward layer: ⌊factor·⌊8·dim/3⌋⌋ rounded up to a multiple of
    ``multiple_of``."""
    size = int(2 * (4 * dim) / 3)
    if factor is not None:
        size = int(factor * size)
    return multiple_of * ((size + multiple_of - 1) // multiple_of)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a model, and what it is called in each file that states it.

    Attributes:
        value: of a model.
        meta: its name in ``params.json``; empty: it follows from others there.
        llama: in ``config.json``; empty: it is not in it.
        plan: what the preparation plan calls it; empty: as one of the two.
    """

    value: Callable[[MetaParams], int | float | None]
    meta: str = ""
    llama: str = ""
    plan: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Its names in ``meta_adapter.yaml``, which has all of them, each once."""
        return tuple(dict.fromkeys(filter(None, (self.plan, self.meta, self.llama))))


PARAMETERS = (
    Parameter(lambda its: its.n_future_tokens, "n_future_tokens", "n_future_tokens"),
    Parameter(lambda its: its.dim, "dim", "hidden_size"),
    Parameter(lambda its: its.n_layers, "n_layers", "num_hidden_layers", plan="num_layers"),
    Parameter(lambda its: its.n_heads, "n_heads", "num_attention_heads"),
    Parameter(lambda its: its.kv_heads, "n_kv_heads", "num_key_value_heads"),
    Parameter(lambda its: its.head_dim, llama="head_dim"),
    Parameter(lambda its: its.intermediate_size, llama="intermediate_size"),
    Parameter(lambda its: its.multiple_of, "multiple_of"),
    Parameter(lambda its: its.ffn_dim_multiplier, "ffn_dim_multiplier"),
    Parameter(lambda its: its.rope_theta, "rope_theta", "rope_theta"),
    Parameter(lambda its: its.context, "max_seq_len", "max_position_embeddings"),
    Parameter(lambda its: its.norm_eps, "norm_eps", "rms_norm_eps"),
    Parameter(lambda its: its.vocab_size, "vocab_size", "vocab_size"),
)
"""Every parameter of a model. ``meta_adapter.yaml`` and ``config.json`` are written from this
table, and compared with ``params.json`` by it.

``max_batch_size`` is none: it sizes the cache of one run.
"""


def parse_params(data: bytes, where: str) -> MetaParams:
    """Read a ``params.json``.

    Raises:
        InvalidInput: naming the file (``where``) and the field that is wrong.
    """
    return _meta_params(_parse(data, f"{where}: not JSON"), where)


def _meta_params(document: Document, where: str) -> MetaParams:
    try:
        return MetaParams.model_validate(document, strict=True)
    except ValidationError as error:
        place, message = first_error(error)
        if error.errors()[0]["type"] == "extra_forbidden":
            message += ": the training code takes no such parameter"
        raise InvalidInput(f"{where}: {repr(place[:60])[1:-1] or 'document'}: {message}") from error


def check_tensor_shapes(
    expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], where: str, by: str
) -> None:
    """Compare the tensors of a file (``where``) with those its parameters (``by``) ask for.

    Raises:
        InvalidInput: naming the missing, unexpected and misshapen tensors (the first three each).
    """
    sides = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
    }
    problems = [
        f"{title} tensors: {', '.join(names[:3])}"
        + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        for title, names in sides.items()
        if names
    ]
    wrong = [name for name in expected if name in found and found[name] != expected[name]]
    problems += [
        f"{name} has shape {list(found[name])}, {by} asks for {list(expected[name])}"
        for name in wrong[:3]
    ]
    if problems:
        raise InvalidInput(f"{where}: {'; '.join(problems)}")


class _LlamaFields(BaseModel):
    """The fields that decide names, shapes and numbers; the others are passed on."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    model_type: str
    hidden_size: _Size
    intermediate_size: _Size
    num_hidden_layers: _Size
    num_attention_heads: _Size
    num_key_value_heads: _Size | None = None
    head_dim: _Size | None = None
    vocab_size: _Size
    rms_norm_eps: float = Field(default=1e-06, gt=0)
    rope_theta: float = Field(default=10000.0, gt=0)
    max_position_embeddings: _Size = MAX_SEQ_LEN
    rope_scaling: Any = None
    rope_parameters: Any = None
    partial_rotary_factor: Any = None
    layer_types: Any = None
    quantization_config: Any = None
    hidden_act: str = "silu"
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False


_THEIR_NAMES = {row.meta: row.llama for row in PARAMETERS if row.meta and row.llama} | {
    "ffn_dim_multiplier": "intermediate_size"
}
"""Meta's name of a parameter → transformers', for errors."""


def parse_config(data: bytes, where: str) -> Document:
    """Read a ``config.json``.

    Raises:
        InvalidInput: naming the file (``where``), if it is not a JSON object.
    """
    return _parse(data, f"{where}: not a JSON object")


def _parse(data: bytes, otherwise: str) -> Document:
    try:
        return parse_object(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{otherwise}: {error}") from error


def llama_params(config: Mapping[str, Any], where: str) -> MetaParams:
    """The parameters of a Llama model, from its ``config.json``.

    ``multiple_of`` and ``ffn_dim_multiplier``, which it does not have, are chosen so that Meta's
    formula gives its ``intermediate_size``.

    Raises:
        InvalidInput: naming the file (``where``) and the field, if it describes no plain Llama
            model.
    """
    try:
        fields = _LlamaFields.model_validate(dict(config))
        plain = {
            "model_type": "llama",
            "head_dim": fields.head_dim and fields.hidden_size // fields.num_attention_heads,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "quantization_config": None,
            "layer_types": fields.layer_types and ["full_attention"] * fields.num_hidden_layers,
        }
        for name, value in plain.items():
            if getattr(fields, name) != value:
                raise InvalidInput(
                    f"{where}: {name} is {short(getattr(fields, name))}; a model of this family "
                    f"has {value!r}"
                )
        multiple, factor = _feed_forward(fields.hidden_size, fields.intermediate_size)
        return MetaParams(
            dim=fields.hidden_size,
            n_layers=fields.num_hidden_layers,
            n_heads=fields.num_attention_heads,
            n_kv_heads=fields.num_key_value_heads or fields.num_attention_heads,
            vocab_size=fields.vocab_size,
            multiple_of=multiple,
            ffn_dim_multiplier=factor,
            norm_eps=fields.rms_norm_eps,
            n_future_tokens=1,
            rope_theta=_rope_theta(config, fields, where),
            max_seq_len=fields.max_position_embeddings,
        )
    except ValidationError as error:
        field, message = first_error(error)
        field = _THEIR_NAMES.get(field, field) or "hidden_size, num_attention_heads and the others"
        raise InvalidInput(f"{where}: {field}: {message}") from error


_DEFAULT_ROPE = {
    "rope_type": (None, "default"),
    "type": (None, "default"),  # of versions before 4.43
    "partial_rotary_factor": (None, 1),
}
"""Fields of a rotary embedding that nothing but its base decides about → what they say then."""


def _rope_theta(config: Mapping[str, Any], fields: _LlamaFields, where: str) -> float:
    """The base of the rotary embedding: ``rope_theta`` up to transformers 4, in
    ``rope_parameters`` from 5 on. Where both are there, versions of both read the file.

    Raises:
        InvalidInput: if the embedding is scaled, as linear, dynamic, yarn and llama3 are, or if the
            two are not the same.
    """
    theta: float | None = config.get("rope_theta") and fields.rope_theta
    whole = {"partial_rotary_factor": fields.partial_rotary_factor}
    for name in ("partial_rotary_factor", "rope_scaling", "rope_parameters"):
        value = whole if name in whole else getattr(fields, name)
        if value is None:
            continue
        stated = value if isinstance(value, dict) else {"": value}
        base = stated.get("rope_theta")
        is_default = isinstance(value, dict) and all(
            said in _DEFAULT_ROPE.get(key, ())
            for key, said in stated.items()
            if key != "rope_theta"
        )
        if not is_default or not (base is None or _is_number(base)):
            shown = fields.partial_rotary_factor if name in whole else value
            raise InvalidInput(
                f"{where}: {name} is {short(shown)}; a model of this family has the default rotary "
                "embedding: the training code knows rope_theta only, and would compute another "
                "model without a word"
            )
        if None not in (theta, base) and theta != base:
            raise InvalidInput(
                f"{where}: rope_theta is {theta:g}, and {name} says {base:g}: transformers 4 takes "
                "the one and 5 the other. Say in the spec which is right: overrides: {rope_theta: "
                f"…, {name}: null}}"
            )
        theta = theta if base is None else float(base)
    return 10000.0 if theta is None else theta


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def is_tied(config: Mapping[str, Any] | None) -> bool:
    """Whether a ``config.json`` says that the output matrix is the embedding; None: it is not."""
    return config is not None and config.get("tie_word_embeddings") is True


def _feed_forward(dim: int, size: int) -> tuple[int, float]:
    """``multiple_of`` and ``ffn_dim_multiplier`` with which Meta's formula gives ``size``.

    The multiple is the largest power of two that divides ``size``, 256 at most. The factor is 1
    where that is enough, as upstream; else it aims at the middle of what the formula rounds up to
    ``size``: from ``size`` - multiple + 1 to just below ``size`` + 1.
    """
    base = int(2 * (4 * dim) / 3)
    multiple = min(size & -size, 256)
    if multiple * -(-base // multiple) == size:
        return multiple, 1.0
    return multiple, (size - multiple / 2 + 1) / base


def llama_config(
    params: MetaParams, dtype: str, tied: bool, upstream: Mapping[str, Any] | None
) -> Document:
    """``config.json`` of a checkpoint.

    Args:
        params: of the model.
        dtype: of the tensors in the file, by torch's name: transformers loads them as that.
        tied: whether the file leaves the output matrix out.
        upstream: upstream's file. Its other fields are kept, and what it leaves to LlamaConfig's
            defaults is left to them. None: Meta's family, which has no such file and gets
            ``n_future_tokens`` in it.
    """
    decided: Document = {
        **{row.llama: row.value(params) for row in PARAMETERS if row.llama},
        "tie_word_embeddings": tied,
        "torch_dtype": dtype,
    }
    if upstream is not None:
        implied = {
            "num_key_value_heads": params.n_heads,
            "head_dim": params.dim // params.n_heads,
            "rms_norm_eps": 1e-06,
            "rope_theta": 10000.0,
            "max_position_embeddings": MAX_SEQ_LEN,
            "tie_word_embeddings": False,
            "n_future_tokens": 1,
        }
        said = {k: v for k, v in decided.items() if k in upstream or v != implied.get(k)}
        if "dtype" in upstream:  # of transformers 5
            said["dtype"] = dtype
        if upstream.get("layer_types"):
            said["layer_types"] = ["full_attention"] * params.n_layers
        return {**upstream, **said}
    return {
        "model_type": "llama",
        **decided,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


@dataclass(frozen=True)
class UpstreamParameters:
    """What the file of a model's upstream parameters says.

    Attributes:
        params: the parameters.
        config: ``config.json`` itself, with the spec's overrides; None: the family has none.
        derived: parameters that the file leaves open, and that the tensors decide.
    """

    params: MetaParams
    config: Document | None
    derived: Document


def parse_described(spec: ModelSpec, data: bytes, where: str) -> Document:
    """Upstream's ``params.json`` or ``config.json``, with the spec's overrides.

    Raises:
        InvalidInput: naming the file (``where``), if it is not a JSON object.
    """
    is_metas = spec.family == "meta_mtp"
    document = _parse(data, f"{where}: not {'JSON' if is_metas else 'a JSON object'}")
    for name, value in spec.overrides.items():
        if value is None:
            document.pop(name, None)
        else:
            document[name] = value
    return document


def parse_parameters(
    spec: ModelSpec, data: bytes, where: str, rows: int | None
) -> UpstreamParameters:
    """Read the file of a model's upstream parameters, with the spec's overrides.

    Args:
        rows: of the embedding: the vocabulary where the file says -1, as Meta's of Llama 1 and 2
            do. None: unknown.

    Raises:
        InvalidInput: naming the file (``where``) and the field that is wrong.
    """
    is_metas = spec.family == "meta_mtp"
    document = parse_described(spec, data, where)
    derived: Document = {}
    if document.get("vocab_size") == -1 and rows is not None:
        derived = {"vocab_size": rows}
        document |= derived
    if is_metas:
        return UpstreamParameters(_meta_params(document, where), None, derived)
    return UpstreamParameters(llama_params(document, where), document, derived)
