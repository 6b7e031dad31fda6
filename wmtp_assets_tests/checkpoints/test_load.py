"""The reader that the training code uses: names complete, memory shared, nothing else changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import wmtp_assets
from wmtp_assets.checkpoints.families import load_state_dict
from wmtp_assets_tests.checkpoints import tiny

META = tiny.random_tensors(tiny.params(), torch.float16)
LLAMA = tiny.llama_tensors(torch.float16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_is_exported() -> None:
    """The training code imports it from the package."""
    assert wmtp_assets.load_state_dict is load_state_dict


@pytest.mark.parametrize("as_text", [False, True])
def test_tied_file_gets_its_output_matrix(path: Path, as_text: bool) -> None:
    """The strict loader wants the name; the memory must be the embedding's, not a second 131 MB."""
    tied = {name: tensor for name, tensor in META.items() if name != "output.weight"}
    save_file(tied, path)
    found = load_state_dict(str(path) if as_text else path)
    assert_same(found, tied | {"output.weight": META["tok_embeddings.weight"]})
    embedding, output = found["tok_embeddings.weight"], found["output.weight"]
    assert output.shape == (48, 32)
    assert output.data_ptr() == embedding.data_ptr()
    output[0, 0] = 7
    assert embedding[0, 0] == 7


def test_untied_file_is_left_alone(path: Path) -> None:
    """An output matrix of its own must never be replaced by the embedding."""
    save_file(META, path)
    found = load_state_dict(path)
    assert_same(found, META)
    assert_same(found, load_file(path))
    assert found["output.weight"].data_ptr() != found["tok_embeddings.weight"].data_ptr()
    assert not torch.equal(found["output.weight"], found["tok_embeddings.weight"])


def test_tied_file_of_the_other_family_gets_its_output_matrix(path: Path) -> None:
    """transformers' names: the same promise, under the names that its strict loader wants."""
    tied = {name: tensor for name, tensor in LLAMA.items() if name != "lm_head.weight"}
    save_file(tied, path)
    found = load_state_dict(path)
    assert_same(found, tied | {"lm_head.weight": LLAMA["model.embed_tokens.weight"]})
    assert found["lm_head.weight"].data_ptr() == found["model.embed_tokens.weight"].data_ptr()


def test_untied_file_of_the_other_family_is_left_alone(path: Path) -> None:
    """Nothing but what the library reads, and no memory shared."""
    save_file(LLAMA, path)
    found = load_state_dict(path)
    assert_same(found, load_file(path))
    assert found["lm_head.weight"].data_ptr() != found["model.embed_tokens.weight"].data_ptr()


def test_foreign_file_is_left_alone(path: Path) -> None:
    """A lone output matrix of either family, a value head: there is nothing to untie."""
    for tensors in (
        {"output.weight": torch.ones(4, 2)},
        {"lm_head.weight": torch.ones(4, 2), "model.norm.weight": torch.ones(2)},
        {"v_head.weight": torch.ones(1, 2), "steps": torch.tensor(3)},
    ):
        save_file(tensors, path)
        assert_same(load_state_dict(path), tensors)


def test_errors_are_the_librarys(path: Path) -> None:
    """Documented as such: the caller handles them as he does for ``load_file``."""
    with pytest.raises(FileNotFoundError):
        load_state_dict(path)
    path.write_bytes(b"no safetensors file")
    with pytest.raises(SafetensorError):
        load_state_dict(path)
