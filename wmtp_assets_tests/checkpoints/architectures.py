"""Checkpoints of many architectures, as transformers' own classes save them, and the list of them.

``python -m wmtp_assets_tests.checkpoints.architectures`` prints the lists as the tables in
``docs/adding-a-model.md``; test_architectures.py makes each checkpoint, converts it, and loads it
again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save

from wmtp_assets.base.strict_json import parse_object
from wmtp_assets.checkpoints.tokenizer import fast_tokenizer
from wmtp_assets_tests.checkpoints.tiny import META_MODEL, Tensors, saved

Form = Literal["one .safetensors", "sharded .safetensors", "one .bin", "sharded .bin"]
Tokens = Literal["tokenizer.json", "tokenizer.model", "both"]
Change = Callable[[Tensors, dict[str, Any]], None]
"""What is done to the tensors and the ``config.json`` of an upstream checkpoint."""

PIECES: Mapping[Tokens, int] = {"tokenizer.model": 320, "tokenizer.json": 290, "both": 320}
"""Ids of each tokenizer."""

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
HEADS = {**SMALL, "head_dim": 16}
"""Heads that are not the hidden size divided by their number."""

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


CUT = {
    "LlamaForCausalLM",
    "LlamaForSequenceClassification",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
}
"""The classes among these of whose models micro models are cut."""


@dataclass(frozen=True)
class Case:
    """A checkpoint, and what is made of it.

    Attributes:
        model: people's name of it.
        made_by: the class that saves it.
        form, tokens: of its files.
        settings: of its config.
        padded: rows of the embedding beyond the pieces.
        stated: what the spec says besides the usual.
        family: of the spec.
        saved: dtype of upstream's tensors.
        change: made to what was saved; None: nothing.
        refused: part of the message; empty: it is read.
        why: in the table.
    """

    model: str
    made_by: str
    form: Form
    tokens: Tokens
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    padded: int = 0
    stated: Mapping[str, Any] = field(default_factory=dict, hash=False)
    family: str = "transformers"
    dtype: str = "float16"
    saved: str = "float32"
    change: Change | None = None
    refused: str = ""
    why: str = ""

    def __str__(self) -> str:
        return f"{self.model}, {self.form}, {self.tokens}"

    @property
    def rows(self) -> int:
        """Of the embedding."""
        return PIECES[self.tokens] + self.padded

    @property
    def is_taken_over(self) -> bool:
        """Whether upstream's file becomes ours as it is."""
        return (self.form, self.saved, self.change) == ("one .safetensors", self.dtype, None)

    @property
    def is_cut(self) -> bool:
        """Whether micro models are cut from it."""
        return self.family == "transformers" and self.made_by in CUT


def _remote(tensors: Tensors, config: dict[str, Any]) -> None:
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_other.OtherForCausalLM"}
    config |= {"model_type": "other", "architectures": ["OtherForCausalLM"]}


def _class(name: str) -> Change:
    return lambda tensors, config: config.update(architectures=[name])


def _quantized(tensors: Tensors, config: dict[str, Any]) -> None:
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}


def _without(name: str) -> Change:
    return lambda tensors, config: tensors.__delitem__(name)


def _with_adapter(tensors: Tensors, config: dict[str, Any]) -> None:
    tensors["model.layers.0.adapter.weight"] = torch.zeros(2, 2)


def _with_buffers(tensors: Tensors, config: dict[str, Any]) -> None:
    """As versions before 4.31 saved them."""
    for layer in range(SMALL["num_hidden_layers"]):
        tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.arange(4.0)


def _with_masks(tensors: Tensors, config: dict[str, Any]) -> None:
    """As old files of GPT-2 have them: buffers of bytes, and no prefix."""
    for name in list(tensors):
        tensors[name.removeprefix("transformer.")] = tensors.pop(name)
    for layer in range(2):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.uint8)


def _narrow(tensors: Tensors, config: dict[str, Any]) -> None:
    config["intermediate_size"] = 40


def _module(tensors: Tensors, config: dict[str, Any]) -> None:
    for name in list(tensors):
        tensors[f"module.{name}"] = tensors.pop(name)


def _unchanged(tensors: Tensors, config: dict[str, Any]) -> None:
    """It is only saved in another form."""


def _both_matrices(tensors: Tensors, config: dict[str, Any]) -> None:
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()


def _other_matrix(tensors: Tensors, config: dict[str, Any]) -> None:
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1


ONE, MANY, BIN, BINS = (
    "one .safetensors",
    "sharded .safetensors",
    "one .bin",
    "sharded .bin",
)
FORMS: tuple[Form, ...] = (ONE, MANY, BIN, BINS)
JSON, MODEL, BOTH = "tokenizer.json", "tokenizer.model", "both"

READ = (
    Case("Llama 2", "LlamaForCausalLM", BINS, MODEL, SMALL, change=_with_buffers),
    Case(
        "Llama 3, its rope scaling",
        "LlamaForCausalLM",
        MANY,
        JSON,
        {**SMALL, "rope_parameters": LLAMA3},
        dtype="bfloat16",
    ),
    Case("Mistral", "MistralForCausalLM", MANY, MODEL, HEADS),
    Case("Qwen 2", "Qwen2ForCausalLM", MANY, JSON, SMALL, padded=30),
    Case("Qwen 2.5, tied", "Qwen2ForCausalLM", ONE, JSON, {**SMALL, "tie_word_embeddings": True}),
    Case("Qwen 3", "Qwen3ForCausalLM", BINS, JSON, HEADS, dtype="bfloat16"),
    Case(
        "Llama with biases, as it is",
        "LlamaForCausalLM",
        ONE,
        BOTH,
        {**SMALL, "attention_bias": True, "mlp_bias": True},
        saved="float16",
    ),
    Case(
        "Mistral, as it is",
        "MistralForCausalLM",
        ONE,
        JSON,
        HEADS,
        dtype="bfloat16",
        saved="bfloat16",
    ),
    Case(
        "Qwen 2.5, tied, as it is",
        "Qwen2ForCausalLM",
        ONE,
        JSON,
        {**SMALL, "tie_word_embeddings": True},
        dtype="bfloat16",
        saved="bfloat16",
    ),
    Case(
        "Qwen 2.5, its window",
        "Qwen2ForCausalLM",
        MANY,
        JSON,
        {**SMALL, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    ),
    Case("Gemma 2, tied", "Gemma2ForCausalLM", BIN, BOTH, HEADS, change=_both_matrices),
    Case("Gemma 3, tied", "Gemma3ForCausalLM", MANY, BOTH, HEADS, dtype="bfloat16"),
    Case("Phi 3", "Phi3ForCausalLM", MANY, BOTH, SMALL, padded=20),
    Case("OLMo 2", "Olmo2ForCausalLM", MANY, JSON, SMALL),
    Case("Mixtral", "MixtralForCausalLM", MANY, MODEL, {**SMALL, "num_local_experts": 3}),
    Case(
        "GPT-2, an old file",
        "GPT2LMHeadModel",
        BIN,
        JSON,
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2},
        change=_with_masks,
    ),
    Case("GPT-NeoX", "GPTNeoXForCausalLM", BIN, JSON, SMALL),
    Case(
        "a reward model on Llama",
        "LlamaForSequenceClassification",
        ONE,
        MODEL,
        {**SMALL, "num_labels": 1},
    ),
    Case(
        "as training saved it",
        "Qwen3ForCausalLM",
        BIN,
        JSON,
        HEADS,
        stated={"checkpoint": {"strip_prefix": "module."}},
        change=_module,
        why="`checkpoint.strip_prefix`",
    ),
    Case(
        "code of the repository",
        "LlamaForCausalLM",
        MANY,
        JSON,
        SMALL,
        family="any",
        change=_remote,
    ),
)
"""What is read."""

REFUSED = (
    Case(
        "code of the repository",
        "LlamaForCausalLM",
        ONE,
        JSON,
        SMALL,
        change=_remote,
        refused="which transformers [0-9.]+ does not know: it is code of the repository, which is "
        "not run.*family: any",
        why="its code is not run; the message names `any`",
    ),
    Case(
        "a class that transformers has not",
        "LlamaForCausalLM",
        ONE,
        JSON,
        SMALL,
        change=_class("LLMForSequenceRegression"),
        refused="architectures is .'LLMForSequenceRegression'.*family: any",
        why="the message names `any`",
    ),
    Case(
        "a class of another model_type",
        "LlamaForCausalLM",
        ONE,
        JSON,
        SMALL,
        change=_class("GPT2LMHeadModel"),
        refused="for the model_type llama",
        why="the config is another class's",
    ),
    Case(
        "quantized weights",
        "LlamaForCausalLM",
        ONE,
        JSON,
        SMALL,
        change=_quantized,
        refused="quantization_config",
        why="the class has no such tensors",
    ),
    Case(
        "a tensor too few",
        "Qwen3ForCausalLM",
        ONE,
        JSON,
        HEADS,
        change=_without("model.layers.1.self_attn.k_norm.weight"),
        refused=r"missing tensors: model\.layers\.1\.self_attn\.k_norm\.weight",
        why="`from_pretrained` would make it up",
    ),
    Case(
        "a tensor too many",
        "MistralForCausalLM",
        BIN,
        MODEL,
        SMALL,
        change=_with_adapter,
        refused=r"unexpected tensors: model\.layers\.0\.adapter\.weight",
        why="`from_pretrained` would leave it out",
    ),
    Case(
        "another shape than config.json says",
        "Olmo2ForCausalLM",
        ONE,
        JSON,
        SMALL,
        change=_narrow,
        refused=r"mlp\.\w+\.weight has shape .*Olmo2ForCausalLM of transformers [0-9.]+ asks for",
        why="one of the two is wrong",
    ),
    Case(
        "names with a prefix",
        "Qwen3ForCausalLM",
        BIN,
        JSON,
        HEADS,
        change=_module,
        refused='strip_prefix: "module."',
        why="the message says what to state",
    ),
    Case(
        "tied, and two matrices",
        "Qwen2ForCausalLM",
        ONE,
        JSON,
        {**SMALL, "tie_word_embeddings": True},
        change=_other_matrix,
        refused=r"lm_head\.weight is not the same as model\.embed_tokens\.weight",
        why="which is meant is not known",
    ),
    Case(
        "more rows than pieces",
        "Qwen2ForCausalLM",
        ONE,
        JSON,
        SMALL,
        padded=7,
        stated={"checkpoint": {}},
        refused=r"has 297 rows, and the tokenizer has 290 pieces\..*embedding_rows: 297",
        why="until `checkpoint.embedding_rows` says so",
    ),
    Case(
        "fewer rows than pieces",
        "Phi3ForCausalLM",
        ONE,
        BOTH,
        SMALL,
        padded=-1,
        refused="has 319 rows, and the tokenizer has 320 pieces: it is the tokenizer of another",
        why="it is another model's tokenizer",
    ),
)
"""What is refused."""

CASES = (*READ, *REFUSED)


ARCHITECTURES = [
    case
    for case in READ
    if case.model.split(",")[0]
    in (
        "Llama 2",
        "Llama 3",
        "Mistral",
        "Qwen 2",
        "Qwen 2.5",
        "Qwen 3",
        "Gemma 2",
        "Gemma 3",
        "Phi 3",
        "OLMo 2",
        "a reward model on Llama",
    )
    and "as it is" not in case.model
    and "window" not in case.model
]
"""One case of each architecture, to be crossed with every form and tokenizer."""


def crossed(case: Case) -> list[Case]:
    """The architecture of a case in every form and with every tokenizer."""
    return [
        replace(case, form=form, tokens=tokens, padded=max(case.padded, 0), change=_unchanged)
        for form in FORMS
        for tokens in PIECES
    ]


def crossed_table() -> str:
    """Architectures and forms as a table of Markdown; each is read with every tokenizer."""
    rows = [f"| | {' | '.join(FORMS)} |", f"|---{'|---' * len(FORMS)}|"]
    rows += [f"| {case.model.split(',')[0]} |{' read |' * len(FORMS)}" for case in ARCHITECTURES]
    return "\n".join(rows) + "\n"


def table() -> str:
    """The cases as a table of Markdown."""
    heading = "| checkpoint | class | files | tokenizer | family | | micro model |"
    rows = [heading, "|---|---|---|---|---|---|---|"]
    for case in CASES:
        verdict = "refused" if case.refused else "carried" if case.family == "any" else "read"
        if case.is_taken_over and not case.refused:
            verdict = "taken over as it is"
        why = case.why or (
            "more rows than pieces: `checkpoint.embedding_rows`" if case.padded else ""
        )
        told = f"{verdict}: {why}" if why else verdict
        cut = "" if case.refused else "cut" if case.is_cut else "refused"
        rows.append(
            f"| {case.model} | `{case.made_by}` | {case.form} | {case.tokens} | `{case.family}` "
            f"| {told} | {cut} |".replace("|  |", "| |")
        )
    return "\n".join(rows) + "\n"


LINES = [
    "def f(a, b=[1, 20]):\n    if a:\n        return {'k': a + 1}\n",
    "The quick brown fox jumps over the lazy dog; isn't it?\n",
    "for (int i = 0; i < n; ++i) std::cout << a[i];\n",
]


@cache
def tokenizer_json() -> bytes:
    """A byte-level ``tokenizer.json`` of 290 ids, three of them special tokens, as GPT-2's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES["tokenizer.json"],
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES * 20, trainer)
    return tokenizer.to_str().encode()


@cache
def tokenizer_model() -> bytes:
    """A sentencepiece model of 320 pieces."""
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(line for line in "".join(LINES).splitlines() * 20),
        model_writer=model,
        vocab_size=PIECES["tokenizer.model"],
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return model.getvalue()


@cache
def both_json() -> bytes:
    """The ``tokenizer.json`` of :func:`tokenizer_model`, in other bytes than ours."""
    made = fast_tokenizer(tokenizer_model(), "tokenizer.model").data
    assert made is not None
    return json.dumps(json.loads(made), indent=1).encode()


def _tokenizer_files(tokens: Tokens) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files of a tokenizer, and what the spec says of them."""
    model = {"tokenizer.model": tokenizer_model()}
    if tokens == "tokenizer.model":
        return model, {"tokenizer": "tokenizer.model"}
    said = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
    }
    config = {"tokenizer_config.json": json.dumps(said).encode()}
    if tokens == "tokenizer.json":
        return {"tokenizer.json": tokenizer_json()} | config, {
            "tokenizer": "tokenizer.json",
            "tokenizer_beside": ["tokenizer_config.json"],
        }
    return model | {"tokenizer.json": both_json()} | config, {
        "tokenizer": "tokenizer.model",
        "tokenizer_beside": ["tokenizer.json", "tokenizer_config.json"],
    }


@dataclass(frozen=True)
class Made:
    """What a repository has, and the spec of it."""

    files: Mapping[str, bytes]
    spec: dict[str, Any]


def make(case: Case, folder: Path) -> Made:
    """Save a model of random weights with transformers into ``folder``, which then has upstream's
    files, and describe it."""
    import transformers

    made_by = getattr(transformers, case.made_by)
    torch.manual_seed(5)
    config = made_by.config_class(vocab_size=case.rows, **case.settings)
    model = made_by(config).eval()
    for parameter in model.parameters():  # norms begin as ones, biases as zeros
        parameter.data += torch.randn_like(parameter) * 0.05
    model.to(getattr(torch, case.saved))
    shards = "sharded" in case.form
    model.save_pretrained(folder, max_shard_size="30KB" if shards else "5GB")
    if case.change is not None or ".bin" in case.form:
        _save_again(case, folder)
    tokenizer, said = _tokenizer_files(case.tokens)
    for name, data in tokenizer.items():
        (folder / name).write_bytes(data)
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    index = next((name for name in files if name.endswith(".index.json")), None)
    weights = [name for name in files if name.endswith((".bin", ".safetensors"))]
    assert bool(index) == shards and (len(weights) > 1) == shards
    spec = META_MODEL | {
        "family": case.family,
        "dtype": case.dtype,
        "files": {
            "checkpoint": index or weights[0],
            "shards": weights if index else [],
            "config": "config.json",
            **said,
            "extras": ["generation_config.json"],
        },
        "tokenizer": {"vocab_size": PIECES[case.tokens]},
    }
    if case.padded > 0 and case.family == "transformers":
        spec["checkpoint"] = {"embedding_rows": case.rows}
    return Made(files, {**spec, **case.stated})


def _save_again(case: Case, folder: Path) -> None:
    """Change what was saved, in the form that is asked for."""
    tensors: Tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(path)
        path.unlink()
    for path in folder.glob("*.index.json"):
        path.unlink()
    path = folder / "config.json"
    config = parse_object(path.read_bytes())
    if case.change is not None:
        case.change(tensors, config)
    path.write_text(json.dumps(config))
    stem, write = (
        ("pytorch_model", lambda part: saved(dict(part)))
        if ".bin" in case.form
        else ("model", lambda part: save(part, {"format": "pt"}))
    )
    suffix = ".bin" if ".bin" in case.form else ".safetensors"
    if "sharded" not in case.form:
        (folder / f"{stem}{suffix}").write_bytes(write(tensors))
        return
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
        shard = f"{stem}-0000{number}-of-00002{suffix}"
        (folder / shard).write_bytes(write({name: tensors[name] for name in part}))
        weight_map |= dict.fromkeys(part, shard)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / f"{stem}{suffix}.index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    print(table(), crossed_table(), sep="\n", end="")
