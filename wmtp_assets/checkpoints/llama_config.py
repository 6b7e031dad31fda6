"""transformers' ``config.json`` of a Llama model: read into parameters, and written from them.

Field names and defaults are those of ``LlamaConfig``:
https://huggingface.co/docs/transformers/model_doc/llama#transformers.LlamaConfig.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.model import first_error
from wmtp_assets.base.strict_json import parse_object, short
from wmtp_assets.checkpoints.params import MAX_POSITION_EMBEDDINGS, MetaParams
from wmtp_assets.storage.manifest import Document

# Far above any model; beyond it, the formula of the feed-forward size overflows.
_Size = Annotated[int, Field(gt=0, lt=1 << 31)]


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
    rope_scaling: Any = None
    rope_parameters: Any = None
    hidden_act: str = "silu"
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False


_THEIR_NAMES = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "norm_eps": "rms_norm_eps",
    "ffn_dim_multiplier": "intermediate_size",
}
"""Meta's name of a parameter → transformers', for errors."""


def parse_config(data: bytes, where: str) -> Document:
    """Read a ``config.json``.

    Raises:
        InvalidInput: naming the file (``where``), if it is no JSON object.
    """
    try:
        return parse_object(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{where}: not a JSON object: {error}") from error


def llama_params(config: Mapping[str, Any], where: str) -> MetaParams:
    """The parameters of a Llama model, from its ``config.json``.

    ``multiple_of`` and ``ffn_dim_multiplier``, which it does not have, are chosen so that Meta's
    formula gives its ``intermediate_size``.

    Raises:
        InvalidInput: naming the file (``where``) and the field, if it describes no plain Llama
            model with untied embeddings.
    """
    try:
        fields = _LlamaFields.model_validate(dict(config))
        plain = {
            "model_type": "llama",
            "head_dim": fields.head_dim and fields.hidden_size // fields.num_attention_heads,
            "rope_scaling": None,
            "rope_parameters": None,  # says both, where transformers 5 wrote the file
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": False,
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
            rope_theta=fields.rope_theta,
        )
    except ValidationError as error:
        field, message = first_error(error)
        field = _THEIR_NAMES.get(field, field) or "hidden_size, num_attention_heads and the others"
        raise InvalidInput(f"{where}: {field}: {message}") from error


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
        "hidden_size": params.dim,
        "intermediate_size": params.intermediate_size,
        "num_hidden_layers": params.n_layers,
        "num_attention_heads": params.n_heads,
        "num_key_value_heads": params.kv_heads,
        "head_dim": params.head_dim,
        "vocab_size": params.vocab_size,
        "rms_norm_eps": params.norm_eps,
        "rope_theta": params.rope_theta,
        "tie_word_embeddings": tied,
        "torch_dtype": dtype,
    }
    if upstream is not None:
        implied = {
            "num_key_value_heads": params.n_heads,
            "head_dim": params.dim // params.n_heads,
            "rms_norm_eps": 1e-06,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
        }
        said = {k: v for k, v in decided.items() if k in upstream or v != implied.get(k)}
        renamed = {"dtype": dtype} if "dtype" in upstream else {}
        return {**upstream, **said, **renamed}
    return {
        "model_type": "llama",
        **decided,
        "max_position_embeddings": MAX_POSITION_EMBEDDINGS,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "n_future_tokens": params.n_future_tokens,
    }
