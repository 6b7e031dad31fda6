"""Naming schemes: how each family of checkpoints calls its tensors, and which it has.

With the reader of our checkpoints, which gives a tied file its output matrix.

Sources: ``llama/model.py`` of facebook/multi-token-prediction (``META``); ``LlamaForCausalLM`` of
transformers, and for the norms of heads ``Qwen3ForCausalLM`` (``LLAMA``); the reward model of
berkeley-nest/Starling-RM-7B-alpha, whose trunk is in the file twice (``LLAMA_REWARD``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wmtp_assets.base.strict_json import parse_object, read_small
from wmtp_assets.catalogue.specs import FamilyName
from wmtp_assets.checkpoints.params import MetaParams

if TYPE_CHECKING:
    import torch


Axis = Literal["channels", "queries", "keys", "units"]
"""What a dimension of a matrix runs along: hidden channels, those of all query heads, those of all
key-value heads, feed-forward units."""


@dataclass(frozen=True)
class Block:
    """Names of the tensors in a transformer block, without ``.weight``.

    Shapes, with h the hidden size: ``query`` [heads·head_dim, h], ``key`` and ``value``
    [kv_heads·head_dim, h], ``output`` [h, heads·head_dim], ``gate`` and ``up`` [units, h],
    ``down`` [h, units], both norms [h]. Those of a head, which not all models have: [head_dim].
    """

    query: str
    key: str
    value: str
    output: str
    gate: str
    down: str
    up: str
    attention_norm: str
    feed_forward_norm: str
    head_norms: tuple[str, ...] = ()

    @property
    def axes(self) -> Mapping[str, tuple[Axis, ...]]:
        """Name → what each dimension of the weight runs along, and a bias along the first of them;
        empty: neither is cut."""
        return {
            self.query: ("queries", "channels"),
            self.key: ("keys", "channels"),
            self.value: ("keys", "channels"),
            self.output: ("channels", "queries"),
            self.gate: ("units", "channels"),
            self.down: ("channels", "units"),
            self.up: ("units", "channels"),
            self.attention_norm: ("channels",),
            self.feed_forward_norm: ("channels",),
            **dict.fromkeys(self.head_norms, ()),
        }

    @property
    def weights(self) -> tuple[str, ...]:
        """The tensors that every model has."""
        return tuple(f"{name}.weight" for name in self.axes if name not in self.head_norms)


@dataclass(frozen=True)
class Family:
    """A naming scheme.

    Attributes:
        embedding: shape [vocab, hidden].
        output: shape [vocab, hidden]; a tied file leaves it out and means ``embedding``.
        norm: the last norm.
        layers, extra_heads: prefixes of the numbered blocks; empty: it has no extra heads.
        block: names in a block.
        value_head: shape [1, hidden]; empty: it has none.
        buffers: names of tensors that a checkpoint may hold and the model recomputes; dropped.
        prefixes: begin of a name in the raw file → how it begins in ours. Where two raw tensors get
            one name, they must be equal.
    """

    embedding: str
    output: str
    norm: str
    layers: str
    block: Block
    buffers: re.Pattern[str]
    extra_heads: str = ""
    value_head: str = ""
    prefixes: Mapping[str, str] = field(default_factory=dict)

    def name_of(self, name: str) -> str:
        """What the tensor ``name`` of a raw file is called in ours."""
        prefix = next(filter(name.startswith, self.prefixes), "")
        return self.prefixes.get(prefix, "") + name.removeprefix(prefix)

    def part_of(self, name: str) -> str:
        """The part of the model that one of our tensors belongs to: embedding, attention,
        feed-forward, extra heads, norms, output or value head."""
        block = self.block
        whole = {
            self.embedding: "embedding",
            self.output: "output",
            self.norm: "norms",
            self.value_head: "value head",
        }
        in_block = {
            **dict.fromkeys((block.attention_norm, block.feed_forward_norm), "norms"),
            **dict.fromkeys((block.gate, block.up, block.down), "feed-forward"),
        }
        if self.extra_heads and name.startswith(f"{self.extra_heads}."):
            return "extra heads"
        role = name.removeprefix(f"{self.layers}.").partition(".")[2].removesuffix(".weight")
        return whole.get(name) or in_block.get(role, "attention")

    def blocks(self, params: MetaParams) -> tuple[str, ...]:
        """Name prefixes of all transformer blocks."""
        return (
            *(f"{self.layers}.{i}" for i in range(params.n_trunk)),
            *(f"{self.extra_heads}.{i}" for i in range(params.n_extra_heads)),
        )

    def tensor_shapes(self, params: MetaParams, tied: bool) -> dict[str, tuple[int, ...]]:
        """Name → shape of every tensor of the model; ``tied`` leaves the output matrix out."""
        dim = params.dim
        sizes: Mapping[Axis, int] = {
            "channels": dim,
            "queries": dim,
            "keys": params.kv_heads * params.head_dim,
            "units": params.intermediate_size,
        }
        axes, block = self.block.axes, self.block.weights
        return {
            self.embedding: (params.vocab_size, dim),
            **{
                f"{prefix}.{part}": tuple(sizes[axis] for axis in axes[part.rpartition(".")[0]])
                for prefix in self.blocks(params)
                for part in block
            },
            self.norm: (dim,),
            **({} if tied else {self.output: (params.vocab_size, dim)}),
            **({self.value_head: (1, dim)} if self.value_head else {}),
        }

    def is_tied(self, names: Collection[str]) -> bool:
        """Whether the output matrix is the embedding: a tied file leaves it out."""
        return self.embedding in names and self.output not in names


META = Family(
    embedding="tok_embeddings.weight",
    output="output.weight",
    norm="norm.weight",
    layers="layers",
    extra_heads="extra_heads",
    block=Block(
        query="attention.wq",
        key="attention.wk",
        value="attention.wv",
        output="attention.wo",
        gate="feed_forward.w1",
        down="feed_forward.w2",
        up="feed_forward.w3",
        attention_norm="attention_norm",
        feed_forward_norm="ffn_norm",
    ),
    buffers=re.compile(r"rope\.freqs|freqs_cis"),
)

_INV_FREQ = r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq"

LLAMA = Family(
    embedding="model.embed_tokens.weight",
    output="lm_head.weight",
    norm="model.norm.weight",
    layers="model.layers",
    block=Block(
        query="self_attn.q_proj",
        key="self_attn.k_proj",
        value="self_attn.v_proj",
        output="self_attn.o_proj",
        gate="mlp.gate_proj",
        down="mlp.down_proj",
        up="mlp.up_proj",
        attention_norm="input_layernorm",
        feed_forward_norm="post_attention_layernorm",
        head_norms=("self_attn.q_norm", "self_attn.k_norm"),
    ),
    buffers=re.compile(rf"model\.{_INV_FREQ}"),
)

LLAMA_REWARD = replace(
    LLAMA,
    value_head="v_head.weight",
    buffers=re.compile(rf"(model\.model|transformer)\.{_INV_FREQ}"),
    prefixes={
        "model.model.": "model.",
        "model.lm_head.": "lm_head.",
        "transformer.": "model.",
    },
)

FAMILIES: Mapping[FamilyName, Family] = {
    "meta_mtp": META,
    "llama": LLAMA,
    "llama_reward": LLAMA_REWARD,
}
"""Those whose tensors are named here. Of ``transformers`` the library names them, see
``architecture.py``; of ``any`` only their file does."""


def load_state_dict(path: str | Path, *, verify: bool = False) -> dict[str, torch.Tensor]:
    """Load a checkpoint and untie it: a tied file gets its ``output.weight``.

    The semantics are those of ``safetensors.torch.load_file``: tensors on the CPU, in the file's
    dtype. In a tied file, one that has ``tok_embeddings.weight`` and no ``output.weight`` (Meta's
    names), or ``model.embed_tokens.weight`` and no ``lm_head.weight`` (transformers' names of a
    Llama), the latter becomes the same tensor (shared memory, shape [vocab, hidden]), because the
    training code's loader is strict about names. A ``config.json`` beside it that says otherwise,
    as that of a classifier does, is believed.

    With ``verify=True`` every byte is compared with the hashes of its manifest, tensor by tensor,
    in a thread per CPU. Tensors then lie in private memory, where they were hashed: what happens to
    the file afterwards does not reach them. The manifest is found in the folders above the file, so
    that a copied or pulled folder will do.

    Args:
        path: a ``model.safetensors``, of a variant too, or a ``value_head.safetensors`` that is
            recorded.
        verify: False: the file is mapped, and nothing is compared.

    Raises:
        safetensors.SafetensorError: if the file is not a safetensors file.
        OSError: if it cannot be read, or there is too little memory.
        CorruptArtifact: with ``verify``: naming the tensor and the command that helps, if bytes are
            not the committed ones; if no manifest lists the file, or manifests contradict
            themselves.
        MissingArtifact: with ``verify``: if the file or its manifest is missing.
        InvalidInput: with ``verify``: if the committed file is not a safetensors file.
    """
    if verify:
        from wmtp_assets.checkpoints.load import load_verified

        tensors = load_verified(path)
    else:
        from safetensors.torch import load_file

        tensors = load_file(path)
    for family in (META, LLAMA):
        if family.is_tied(tensors) and not _is_untied(Path(path).with_name("config.json")):
            tensors[family.output] = tensors[family.embedding]
    return tensors


def _is_untied(config: Path) -> bool:
    """Whether a ``config.json`` says that the output, whatever it is, is not the embedding."""
    try:
        return parse_object(read_small(config)).get("tie_word_embeddings") is False
    except (OSError, ValueError, RecursionError):
        return False
