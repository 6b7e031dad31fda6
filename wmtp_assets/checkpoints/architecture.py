"""The proof that transformers takes a checkpoint: its own class says which tensors it wants.

The class that ``config.json`` names is built on the meta device, where tensors have a shape and no
data, and loads meta tensors of the checkpoint's names and shapes as ``from_pretrained`` loads
those of files: through the class's own mapping of keys. No code but that of the library is run,
nothing is fetched, and nothing is allocated.

``from_pretrained`` itself refuses the meta device, so the functions that it calls are called here.
Source: ``modeling_utils.py`` and ``core_model_loading.py`` of transformers 5.23.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.strict_json import short
from wmtp_assets.checkpoints.params import check_tensor_shapes
from wmtp_assets.storage.manifest import Document

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

Shapes = Mapping[str, tuple[int, ...]]
"""Name of a tensor in the file → shape."""

ANY = (
    "For a checkpoint that is carried with no claim about its architecture, write family: any into "
    "the spec"
)

_CODE = (
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_internal",
    "experts_implementation",
    "fusion_config",
    "auto_map",
)
"""Keys of a ``config.json`` that say which code computes, none of which is to be loaded."""


@dataclass(frozen=True)
class Proof:
    """What a class of transformers says of the tensors of a checkpoint that it takes.

    Attributes:
        model_class: its name.
        version: of transformers.
        shapes: the tensors that it reads.
        ignored: those that it expects, and does not read: buffers of old versions.
        same: tensors that are to be equal to another, such as a tied output matrix → that one.
        embedding: name of the embedding, shape [rows, hidden]; empty: it has none.
        tied: what it takes ``tie_word_embeddings`` for.
    """

    model_class: str
    version: str
    shapes: Shapes
    ignored: tuple[str, ...]
    same: Mapping[str, str]
    embedding: str
    tied: bool

    @property
    def document(self) -> Document:
        """What the manifest says; ``keys`` and ``sha256`` are verified without transformers."""
        left = {name: shape for name, shape in self.shapes.items() if name not in self.same}
        return {
            "class": self.model_class,
            "transformers": self.version,
            "embedding": self.embedding or None,
            **keys_document(left),
        }


def keys_document(shapes: Mapping[str, Any]) -> Document:
    """The number of tensors, and the SHA-256 of their names and shapes: of the JSON object with
    sorted keys and without spaces."""
    listed = {name: list(shape) for name, shape in shapes.items()}
    text = json.dumps(listed, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return {"keys": len(listed), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def architecture_config(config: Document, dtype: str, tied: bool | None) -> Document:
    """Upstream's ``config.json`` with what it says of the file put right.

    Args:
        dtype: of the tensors in the file, by torch's name: transformers loads them as that.
        tied: whether the output matrix is the embedding; None: nothing is said about it.
    """

    def retyped(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        types = {name: dtype for name in ("dtype", "torch_dtype") if name in value}
        return {name: retyped(item) for name, item in value.items()} | types

    said: Document = {} if tied is None else {"tie_word_embeddings": tied}
    return {**retyped(config), **said, "torch_dtype": dtype}


def prove(config: Document, shapes: Shapes, where: str, described: str) -> Proof:
    """Require that the class of a ``config.json`` takes tensors of these names and shapes: none is
    missing, none is unexpected.

    Raises:
        InvalidInput: naming the file of the tensors (``where``) or of the config (``described``),
            and the reason.
    """
    import torch
    import transformers
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with _offline(), _refused_by_transformers(described):
        model_class, parsed = _class_of(config, len(shapes), described)
        with ExitStack() as stack:
            for context in model_class.get_init_context(torch.float32, False, False, False):
                stack.enter_context(context)
            model = model_class(parsed)
        names = _names(model, shapes, where)
        info = _load(model, shapes)
    theirs = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    mismatched = {name: tuple(shape) for name, shape, _ in info.mismatched_keys}
    unexpected = {name: shapes[name] for name, key in names.items() if key in info.unexpected_keys}
    check_tensor_shapes(
        {name: theirs[name] for name in (*info.missing_keys, *mismatched)},
        {**unexpected, **mismatched},
        where,
        f"{model_class.__name__} of transformers {transformers.__version__}",
    )
    for name, problem in info.conversion_errors.items():
        raise InvalidInput(f"{where}: {name}: transformers cannot convert it: {_line(problem)}")
    ignored = {name for name, key in names.items() if key not in theirs}
    same = _same(model, names)
    return Proof(
        model_class.__name__,
        transformers.__version__,
        {name: shape for name, shape in shapes.items() if name not in ignored},
        tuple(sorted(ignored)),
        same,
        _embedding(model, names, same),
        bool(getattr(parsed, "tie_word_embeddings", False)),
    )


def prove_llama(config: Document, shapes: Shapes, where: str, described: str) -> None:
    """As :func:`prove`, of a model whose parameters we read ourselves: where transformers is
    installed, its class takes what they ask for. Of the reward model it has no class.

    Whoever verifies the model later compares it with its ``params.json``, without transformers.

    Raises:
        InvalidInput: as :func:`prove`.
    """
    if find_spec("transformers") is not None:
        prove({**config, "architectures": ["LlamaForCausalLM"]}, shapes, where, described)


def _line(problem: object) -> str:
    """What an exception of a library says, on one line of bounded length."""
    text = "".join(c if c.isprintable() else " " for c in str(problem))
    return " ".join(text.split())[:300]


@contextmanager
def _offline() -> Iterator[None]:
    """Nothing is fetched: no code for a kernel, no weights of a backbone."""
    from transformers.utils.hub import constants  # pyright: ignore[reportPrivateImportUsage]

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def _refused_by_transformers(where: str) -> Iterator[None]:
    """Name the file of what a class of the library refuses; it has no exception of its own."""
    try:
        yield
    except (InvalidInput, MemoryError):
        raise
    except Exception as error:
        raise InvalidInput(
            f"{where}: transformers does not take it: {type(error).__name__}: {_line(error)}. {ANY}"
        ) from error


def _class_of(
    config: Document, tensors: int, where: str
) -> tuple[type[PreTrainedModel], PreTrainedConfig]:
    """The class that a ``config.json`` names, and the config as it reads it.

    Args:
        tensors: how many the file has: more layers than that are not built.
    """
    import transformers

    kind, names = config.get("model_type"), config.get("architectures")
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        remote = ": it is code of the repository, which is not run" if "auto_map" in config else ""
        raise InvalidInput(
            f"{where}: model_type is {short(kind)}, which transformers "
            f"{transformers.__version__} does not know{remote}. {ANY}"
        )
    name = names[0] if isinstance(names, list) and len(names) == 1 else None
    found = getattr(transformers, name, None) if isinstance(name, str) else None
    config_class = transformers.CONFIG_MAPPING[kind]
    if (
        not isinstance(found, type)
        or not issubclass(found, transformers.PreTrainedModel)
        or found.config_class is None
        or not issubclass(config_class, found.config_class)
    ):
        raise InvalidInput(
            f"{where}: architectures is {short(names)}; expected one class of transformers "
            f"{transformers.__version__} for the model_type {kind}, which the spec may say: "
            f"overrides: {{architectures: […]}}. {ANY}"
        )
    if config.get("quantization_config") is not None:
        raise InvalidInput(
            f"{where}: quantization_config: {found.__name__} has no such tensors itself. {ANY}"
        )
    parsed = config_class.from_dict(_without_code(config), attn_implementation="eager")
    layers = getattr(parsed.get_text_config(), "num_hidden_layers", 0)
    if isinstance(layers, int) and layers > tensors:
        raise InvalidInput(
            f"{where}: num_hidden_layers is {layers}; the file has {tensors} tensors"
        )
    return found, parsed


def _without_code(value: Any) -> Any:
    """A config, and those within it, without :data:`_CODE`."""
    if not isinstance(value, dict):
        return value
    return {key: _without_code(item) for key, item in value.items() if key not in _CODE}


def _names(model: PreTrainedModel, shapes: Shapes, where: str) -> dict[str, str]:
    """Name in the file → what the model calls the tensor, or the one that it becomes a part of."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import (
        WeightConverter,
        WeightRenaming,
        rename_source_key,
    )

    mapping = get_model_conversion_mapping(model)
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    theirs = model.state_dict()
    names: dict[str, str] = {}
    whole: dict[str, str] = {}
    for name in shapes:
        prefix = model.base_model_prefix
        key, part_of = rename_source_key(name, renamings, converters, prefix, theirs)
        if key not in theirs and name in theirs:
            key, part_of = rename_source_key(name, [], [], prefix, theirs)
        names[name] = key
        if part_of is None and whole.setdefault(key, name) != name:
            raise InvalidInput(f"{where}: {whole[key]} and {name} are both read as {key}")
    return names


def _load(model: PreTrainedModel, shapes: Shapes) -> Any:
    """What the model misses and does not expect, as ``from_pretrained`` finds it."""
    import torch
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import convert_and_load_state_dict_in_model
    from transformers.modeling_utils import LoadStateDictConfig

    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    mapping: list[Any] = [*get_model_conversion_mapping(model)]
    where = LoadStateDictConfig(device_map={"": "meta"}, weight_mapping=mapping)
    info, _ = convert_and_load_state_dict_in_model(model, tensors, where)
    model.tie_weights(missing_keys=info.missing_keys, recompute_mapping=False)
    model._adjust_missing_and_unexpected_keys(info)
    return info


def _same(model: PreTrainedModel, names: Mapping[str, str]) -> dict[str, str]:
    """Tensors of the file that the model ties to another of it → that one."""
    in_file = {key: name for name, key in names.items()}
    kept: dict[str, str] = {}
    same: dict[str, str] = {}
    for target, source in model.all_tied_weights_keys.items():
        first = in_file.get(source) or kept.get(source)
        if target in in_file and first is not None:
            same[in_file[target]] = first
        elif target in in_file:
            kept[source] = in_file[target]
    return same


def _embedding(model: PreTrainedModel, names: Mapping[str, str], same: Mapping[str, str]) -> str:
    """The name in the file of the embedding of the model's input; empty: it has none."""
    try:
        embedding = model.get_input_embeddings()
    except NotImplementedError:
        return ""
    keys = {f"{name}.weight" for name, module in model.named_modules() if module is embedding}
    tied = {key for pair in model.all_tied_weights_keys.items() if keys & {*pair} for key in pair}
    for wanted in (keys, tied):
        for name, key in names.items():
            if key in wanted:
                return same.get(name, name)
    return ""
