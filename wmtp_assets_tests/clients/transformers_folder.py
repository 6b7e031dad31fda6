"""What transformers makes of a model folder, or of a tokenizer's alone, from its path.

A program of its own that imports transformers and torch, and nothing of this project: it runs in
any environment that has them::

    python -m wmtp_assets_tests.clients.transformers_folder FOLDER TEXTS.json

``TEXTS.json`` is a list of pairs: a text, and the ids that sentencepiece makes of it. Without a
``config.json`` the folder is a tokenizer's. Exit code 1 and a line on stderr: something is not as
it must be. Otherwise one line of JSON on stdout says what was used.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

SPACE = "▁"
PROMPT = "def f(x):\n    return"


def require(holds: bool, *what: object) -> None:
    """End the program, saying what does not hold."""
    if not holds:
        sys.exit(" ".join(map(str, what)))


def check_tokenizer(folder: str, texts: list[tuple[str, list[int]]]) -> Any:
    """``AutoTokenizer`` reads and writes every text as sentencepiece does, and has its tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    require(tokenizer.is_fast, "not a fast tokenizer:", type(tokenizer))
    for text, ids in texts:
        found = tokenizer(text, add_special_tokens=False)["input_ids"]
        require(found == ids, repr(text), "is", found, "and not", ids)
        if SPACE not in text:  # it is a space afterwards, as with sentencepiece
            decoded = tokenizer.decode(ids)
            require(decoded == text, repr(text), "comes back as", repr(decoded))
    facts = json.loads(Path(folder, "tokenizer_config.json").read_bytes())
    for name in ("bos", "eos", "unk", "pad"):
        found, expected = getattr(tokenizer, f"{name}_token_id"), facts[f"{name}_id"]
        require(found == expected, f"{name} is {found}, not {expected}")
    require(len(tokenizer) == facts["vocab_size"], len(tokenizer), "tokens")
    encoded = tokenizer("x", return_tensors="pt")
    require(encoded["input_ids"][0, 0].item() == facts["bos_id"], "no begin token:", encoded)
    require({*encoded} == {"input_ids", "attention_mask"}, "more than a Llama takes:", encoded)
    ends = tokenizer("x</s>", add_special_tokens=False)["input_ids"]
    require(ends[-1] == facts["eos_id"], "</s> is not the end token:", ends)
    return tokenizer


def check_model(folder: str, tokenizer: Any, unexpected: set[str]) -> Any:
    """Config, weights and generation from the same path; no key is missing or left over."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, pipeline

    config = AutoConfig.from_pretrained(folder)
    require(config.model_type == "llama", "model_type", config.model_type)
    require(config.vocab_size == len(tokenizer), config.vocab_size, "rows,", len(tokenizer))
    model, told = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    extra = {*told.pop("unexpected_keys")}
    require(extra == unexpected, "unexpected keys:", extra)
    require(not any(told.values()), "not loaded whole:", told)
    for name in ("bos_token_id", "eos_token_id"):
        ids = [getattr(owner, name) for owner in (config, model.generation_config, tokenizer)]
        require(len({*ids}) == 1, name, "of config, generation and tokenizer:", ids)
    inputs = tokenizer(PROMPT, return_tensors="pt")
    made = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    require(bool(torch.isfinite(model(**inputs).logits).all()), "logits are not finite")
    require(made.shape[1] > inputs["input_ids"].shape[1], "nothing was generated:", made)
    generate = pipeline("text-generation", model=folder)
    text = generate(PROMPT, max_new_tokens=3)[0]["generated_text"]
    require(text.startswith(PROMPT), "the prompt comes back as", repr(text))
    return model


def main() -> None:
    """Check one folder."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import tokenizers
    import transformers

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("texts", type=Path)
    parser.add_argument("--unexpected", action="append", default=[], help="a key of the file")
    options = parser.parse_args()
    texts = json.loads(options.texts.read_bytes())
    require(bool(texts), "no texts")
    tokenizer = check_tokenizer(options.folder, texts)
    model = None
    if Path(options.folder, "config.json").exists():
        model = check_model(options.folder, tokenizer, {*options.unexpected})
    said = {
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "tokenizer": type(tokenizer).__name__,
        "model": type(model).__name__ if model is not None else None,
        "texts": len(texts),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
