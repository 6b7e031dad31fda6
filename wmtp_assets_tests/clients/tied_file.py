"""What loaders that are strict about names say of a tied file.

A program of its own that imports nothing of this project; it needs accelerate, safetensors, torch
and torchtune::

    python -m wmtp_assets_tests.clients.tied_file ROOT

One line of JSON on stdout: loader → what it says.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path


def said(load: Callable[[], object]) -> str:
    """The error of a loader; exit code 1 where there is none."""
    try:
        load()
    except (RuntimeError, NotImplementedError) as error:
        return str(error)
    sys.exit(f"{load.__name__} accepted a tied file")


def main(root: Path) -> None:
    """Try each loader."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from accelerate import init_empty_weights, load_checkpoint_and_dispatch
    from safetensors.torch import load_file, save_file
    from torchtune.models.llama2 import llama2
    from torchtune.training import FullModelHFCheckpointer
    from transformers import AutoModelForCausalLM

    meta = root / "models_v2/micro-mtp/safetensors/model.safetensors"
    folder = root / "models_v2/micro-ref/safetensors"
    tensors = load_file(meta)
    vocab, dim = tensors["tok_embeddings.weight"].shape

    def of_meta() -> torch.nn.Module:
        return torch.nn.ModuleDict(
            {
                "tok_embeddings": torch.nn.Embedding(vocab, dim),
                "output": torch.nn.Linear(dim, vocab, bias=False),
            }
        )

    def strict() -> None:
        model = of_meta()
        ours = {name: tensors[name] for name in model.state_dict() if name in tensors}
        model.load_state_dict(ours, strict=True)

    def torchtune() -> None:
        with tempfile.TemporaryDirectory() as out:
            files = FullModelHFCheckpointer(
                str(folder), ["model.safetensors"], model_type="LLAMA2", output_dir=out
            )
            config = json.loads((folder / "config.json").read_text())
            model = llama2(
                vocab_size=config["vocab_size"],
                num_layers=config["num_hidden_layers"],
                num_heads=config["num_attention_heads"],
                num_kv_heads=config["num_key_value_heads"],
                embed_dim=config["hidden_size"],
                intermediate_dim=config["intermediate_size"],
                max_seq_len=2048,
            )
            model.load_state_dict(files.load_checkpoint()["model"])

    def accelerate() -> None:
        with init_empty_weights():
            model = of_meta()
        load_checkpoint_and_dispatch(model, str(meta), device_map={"": "cpu"})

    def save() -> None:
        model = AutoModelForCausalLM.from_pretrained(folder)
        with tempfile.TemporaryDirectory() as out:
            save_file(model.state_dict(), Path(out, "model.safetensors"))

    loaders = (strict, torchtune, accelerate, save)
    print(json.dumps({load.__name__: said(load) for load in loaders}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
