"""transformers itself, on the folders that are shipped, each from its one path.

The client runs as a program of its own. ``WMTP_TRANSFORMERS_PYTHON`` names another interpreter for
it, of an environment with another version of transformers: it needs transformers and torch.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from wmtp_assets.base.settings import project_folder
from wmtp_assets.checkpoints.fast_tokenizer import read_model, texts_of
from wmtp_assets.checkpoints.tokenizer import load_processor
from wmtp_assets.sample.tokenizer import MODEL_PATH
from wmtp_assets_tests.quick import quick, thinned

CLIENT = "wmtp_assets_tests.clients.transformers_folder"
PYTHON = os.environ.get("WMTP_TRANSFORMERS_PYTHON", sys.executable)


@cache
def texts() -> list[tuple[str, list[int]]]:
    """Texts, and the ids that sentencepiece makes of them: those that the file was compared on."""
    data = MODEL_PATH.read_bytes()
    processor = load_processor(data, "x")
    return [(text, processor.encode(text)) for text in texts_of(read_model(data, "x"))]


def asked(tmp_path: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the client on a folder."""
    file = tmp_path / "texts.json"
    file.write_text(json.dumps(texts()))
    return subprocess.run(
        [PYTHON, "-m", CLIENT, str(folder), str(file), *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(project_folder())},
        capture_output=True,
        text=True,
    )


def said(tmp_path: Path, folder: Path, *options: str) -> dict[str, Any]:
    """What the client says of a folder that it finds nothing wrong with."""
    done = asked(tmp_path, folder, *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


FOLDERS = {
    "ref-sheared-llama-2.7b/safetensors": (),
    "starling-rm-7b/safetensors": ("--unexpected", "v_head.weight"),
    "micro-ref/safetensors": (),
    "micro-ref-untied/safetensors": (),
    "meta-llama-mtp/tokenizer": (),
    "starling-rm-7b/tokenizer": (),
    "micro-mtp/tokenizer": (),
}
"""What is loaded, and the keys that only a reward model has."""

QUICK = ("micro-ref/safetensors", "meta-llama-mtp/tokenizer")


@pytest.mark.parametrize(
    "name", quick(thinned(FOLDERS, [*QUICK, "starling-rm-7b/safetensors"]), QUICK)
)
def test_one_path_is_enough(good_root: Path, tmp_path: Path, name: str) -> None:
    """Config, weights, tokenizer, generation and pipeline, as a stranger calls them: no argument
    but the path, no network, no key too many or too few, every text as sentencepiece reads it.

    The path has ``storage`` in it, of which version 4.57 took the middle for the model's type.
    """
    folder = good_root / "models_v2" / name
    assert "storage" in str(folder)
    found = said(tmp_path, folder, *FOLDERS[name])
    assert found["texts"] == len(texts()) > 2000
    assert found["model"] == ("LlamaForCausalLM" if "safetensors" in name else None)


def copied(source: Path, target: Path) -> Path:
    """A copy of a folder that may be damaged."""
    return Path(shutil.copytree(source, target))


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("tokenizer.json", '"fuse_unk":true', '"fuse_unk":false', None),
        ("tokenizer.json", '{"type":"Prepend","prepend":"▁"},', "", "is .* and not"),
        ("tokenizer_config.json", "PreTrainedTokenizerFast", "LlamaTokenizer", None),
    ],
    ids=["harmless", "no prefix", "class of Llama"],
)
@pytest.mark.long
def test_the_client_sees_what_is_wrong(
    good_root: Path, tmp_path: Path, name: str, old: str, new: str, message: str | None
) -> None:
    """A client that passes on everything proves nothing.

    The class ``LlamaTokenizer`` is right in version 4 and loses spaces in version 5, which is why
    the file names another.
    """
    folder = copied(good_root / "models_v2/meta-llama-mtp/tokenizer", tmp_path / "storage")
    path = folder / name
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    done = asked(tmp_path, folder)
    if new == "LlamaTokenizer":
        version = subprocess.run(
            [PYTHON, "-c", "import transformers; print(transformers.__version__)"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert (done.returncode == 0) == version.startswith("4."), done.stderr
    else:
        assert (done.returncode == 0) == (message is None), done.stderr
