"""Meta's ``params.json``: the parameters of a model, and everything that follows from them.

Models of every family are described by these parameters. Source of the formulas and names:
``llama/model.py`` of facebook/multi-token-prediction.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.model import StrictModel, first_error
from wmtp_assets.base.strict_json import parse_object

MAX_POSITION_EMBEDDINGS = 2048
"""Context length the training code uses, in tokens."""


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
                raise ValueError(f"{name} {value} is no multiple of {by} {divisor}")
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
    def n_extra_heads(self) -> int:
        """Prediction heads beside the next-token head."""
        return self.n_future_tokens - 1

    @property
    def n_trunk(self) -> int:
        """Number of ``layers.*``; the last of them is the next-token head."""
        return self.n_layers - self.n_extra_heads

    @property
    def intermediate_size(self) -> int:
        """Rows of ``w1``: ⌊m·⌊8·dim/3⌋⌋ rounded up to a multiple of ``multiple_of``."""
        size = int(2 * (4 * self.dim) / 3)
        if self.ffn_dim_multiplier is not None:
            size = int(self.ffn_dim_multiplier * size)
        return self.multiple_of * ((size + self.multiple_of - 1) // self.multiple_of)


def parse_params(data: bytes, where: str) -> MetaParams:
    """Read a ``params.json``.

    Raises:
        InvalidInput: naming the file (``where``) and the field that is wrong.
    """
    try:
        return MetaParams.model_validate(parse_object(data), strict=True)
    except ValidationError as error:
        place, message = first_error(error)
        field = repr(place[:60])[1:-1] or "document"
        raise InvalidInput(f"{where}: {field}: {message}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{where}: not JSON: {error}") from error


def check_tensor_shapes(
    expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], where: str, by: str
) -> None:
    """Compare the tensors of a file (``where``) with those its parameters (``by``) ask for.

    Raises:
        InvalidInput: naming the missing, unexpected and misshapen tensors (the first three each).
    """
    problems = []
    for title, names in (
        ("missing", sorted(expected.keys() - found.keys())),
        ("unexpected", sorted(found.keys() - expected.keys())),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            problems.append(f"{title} tensors: {', '.join(names[:3])}{more}")
    wrong = [name for name in expected if name in found and found[name] != expected[name]]
    problems += [
        f"{name} has shape {list(found[name])}, {by} asks for {list(expected[name])}"
        for name in wrong[:3]
    ]
    if problems:
        raise InvalidInput(f"{where}: {'; '.join(problems)}")
