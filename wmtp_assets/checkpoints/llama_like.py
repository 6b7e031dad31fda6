"""Models that a class of transformers takes and whose tensors are named as a Llama's: Llama,
Mistral, Qwen 2 and 3, and whatever else is. Micro models are cut from them.

What a tensor is for is known by its name alone, so one with another name is refused. That all else
is as in a Llama is not believed: the class must take what was cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.strict_json import short
from wmtp_assets.catalogue.specs import MicroShape
from wmtp_assets.checkpoints.architecture import Shapes
from wmtp_assets.checkpoints.families import LLAMA, Family
from wmtp_assets.checkpoints.params import feed_forward_size, is_tied
from wmtp_assets.storage.manifest import Document

_CLASSIFIER = replace(LLAMA, value_head="score.weight")
"""``LlamaForSequenceClassification`` and the like: its matrix has the shape [labels, hidden]."""


@dataclass(frozen=True)
class LlamaLike:
    """The size of a model, in the words of :class:`~wmtp_assets.checkpoints.params.MetaParams`.

    Attributes:
        family: how its tensors are called.
        parts: the tensors of each block, without the block's name.
        has_output: whether there is an output matrix, be it the embedding.
    """

    family: Family
    parts: tuple[str, ...]
    has_output: bool
    dim: int
    n_heads: int
    kv_heads: int
    head_dim: int
    n_trunk: int
    intermediate_size: int
    n_extra_heads: int = 0

    def cut_to(self, shape: MicroShape) -> LlamaLike:
        """The size of a micro model; the heads have the width that they have here."""
        units = feed_forward_size(shape.dim, shape.multiple_of, shape.ffn_dim_multiplier)
        return replace(
            self,
            dim=shape.dim,
            n_heads=shape.n_heads,
            kv_heads=shape.n_kv_heads,
            n_trunk=shape.n_layers,
            intermediate_size=units,
        )

    def config(self, parent: Document, blocks: Iterable[int], *, tied: bool) -> Document:
        """``config.json`` of a model of this size that was cut from another.

        Args:
            parent: the other's.
            blocks: the number there of each block here.
            tied: whether the output matrix, if there is one, is the embedding.
        """
        said: Document = {
            "hidden_size": self.dim,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.n_trunk,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.kv_heads,
        }
        if "head_dim" in parent or self.n_heads * self.head_dim != self.dim:
            said["head_dim"] = self.head_dim
        if self.has_output:
            said["tie_word_embeddings"] = tied
        types, window = parent.get("layer_types"), parent.get("max_window_layers")
        if isinstance(types, list):
            said["layer_types"] = [types[block] for block in blocks]
        if isinstance(window, int):  # the first block whose attention slides
            said["max_window_layers"] = sum(block < window for block in blocks)
        return {**parent, **said}


def llama_like(config: Document, shapes: Shapes, where: str) -> LlamaLike:
    """The size of a model, as its tensors say, and as to the number of heads its ``config.json``.

    Raises:
        SpecError: naming the file of the tensors (``where``) and the reason, if nothing can be cut
            from it.
    """
    family = _CLASSIFIER if _CLASSIFIER.value_head in shapes else LLAMA
    names = family.block
    name_in_block = re.compile(rf"{re.escape(family.layers)}\.(\d+)\.((.+)\.(?:weight|bias))")
    blocks: dict[int, dict[str, tuple[int, ...]]] = {}

    def refused(why: str) -> SpecError:
        made_by = config.get("architectures")
        return SpecError(
            f"{where}: nothing can be cut from {short(made_by)}: {why}. Micro models are cut from "
            "models whose tensors are named as in Llama, Mistral and Qwen"
        )

    for name, shape in shapes.items():
        found = name_in_block.fullmatch(name)
        if found and found[3] in names.axes:
            blocks.setdefault(int(found[1]), {})[found[2]] = shape
        elif name not in (family.embedding, family.norm, family.output, family.value_head):
            raise refused(f"what {name} is for is not known here")
    block = blocks.get(0, {})
    lacking = [name for name in names.weights if name not in block]
    lacking += [name for name in (family.embedding, family.norm) if name not in shapes]
    if lacking:
        raise refused(f"it has no {lacking[0]}")
    if any(blocks.get(number) != block for number in range(len(blocks))):
        raise refused("its blocks are not alike")
    heads = config.get("num_attention_heads")
    (queries, dim), (keys, _) = (block[f"{name}.weight"] for name in (names.query, names.key))
    if not isinstance(heads, int) or heads < 1 or queries % heads or keys % (queries // heads):
        raise refused(
            f"num_attention_heads is {short(heads)}, with queries of {queries} rows and keys of "
            f"{keys}"
        )
    head_dim = queries // heads
    for name in names.head_norms:
        if block.get(f"{name}.weight", (head_dim,)) != (head_dim,):
            raise refused(f"{name} is of all heads together")
    return LlamaLike(
        family=family,
        parts=tuple(block),
        has_output=family.output in shapes or is_tied(config),
        dim=dim,
        n_heads=heads,
        kv_heads=keys // head_dim,
        head_dim=head_dim,
        n_trunk=len(blocks),
        intermediate_size=block[f"{names.gate}.weight"][0],
    )
