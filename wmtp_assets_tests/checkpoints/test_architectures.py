"""Architectures that transformers knows: saved by its own class, converted, and loaded again."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from wmtp_assets import load_state_dict
from wmtp_assets.base.errors import InvalidInput, SpecError
from wmtp_assets.base.settings import Settings
from wmtp_assets.catalogue.artifact import VALUE_HEAD
from wmtp_assets.catalogue.specs import DatasetSpec, load_specs
from wmtp_assets.checkpoints import architecture
from wmtp_assets.checkpoints.architecture import keys_document
from wmtp_assets.checkpoints.rules import checkpoint as rules
from wmtp_assets.datasets.tokens import counter_of
from wmtp_assets.datasets.twin import TEXTS, TOKENS, twin_file
from wmtp_assets.kinds.registry import expand, rules_of
from wmtp_assets.operations.materialize import materialize
from wmtp_assets.operations.value_head import set_value_head
from wmtp_assets.operations.verify import verify
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.checkpoints import architectures, tiny
from wmtp_assets_tests.checkpoints.architectures import (
    ARCHITECTURES,
    CASES,
    READ,
    REFUSED,
    Case,
    crossed,
    make,
)
from wmtp_assets_tests.checkpoints.tiny import SAFETENSORS, TOKENIZER
from wmtp_assets_tests.datasets import contests
from wmtp_assets_tests.quick import quick, thinned
from wmtp_assets_tests.rules.cases import apply
from wmtp_assets_tests.trees import damage, reseal

DOCS = Path(__file__).parents[2] / "docs/adding-a-model.md"

transformers = pytest.importorskip("transformers")


def test_the_docs_have_this_table() -> None:
    """A table that is written by hand is true on the day it is written."""
    text = DOCS.read_text()
    assert architectures.table() in text
    assert architectures.crossed_table() in text


def store_of(case: Case, tmp_path: Path) -> tuple[Store, Path]:
    """A store with the raw files of a case, and the folder that they came from."""
    folder = tmp_path / "upstream"
    made = make(case, folder)
    store = tiny.store_of(tmp_path / "storage", made.spec)
    wanted = store.catalogue["tiny_raw"].spec.files
    names = (*wanted.all(), *(name for name in wanted.extras if name in made.files))
    tiny.commit_files(store, {name: made.files[name] for name in names})
    return store, folder


def check_rules(store: Store, *keys: str) -> None:
    """Every rule of these artifacts passes."""
    for key in keys:
        for rule in rules_of(store.catalogue[key]):
            outcome = apply(store, store.catalogue[key], rule.name)
            assert not outcome.findings, (key, rule.name, outcome.findings)


def loaded(model_class: Any, folder: Path, **options: Any) -> Any:
    """The model in a folder; no key is missing or unexpected."""
    model, told = model_class.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(told.values()), told
    return model.eval()


CONVERTED = {"GPT2LMHeadModel", "GPTNeoXForCausalLM", "MixtralForCausalLM"}
"""Their names on disk are not those in memory."""

QUICK_READ = [case for case in READ if case.model in ("Qwen 3", "Gemma 2, tied", "Phi 3")]


@pytest.mark.parametrize(
    "case", quick(thinned(READ, [*QUICK_READ, *READ[::6]]), QUICK_READ), ids=str
)
def test_is_read(case: Case, tmp_path: Path) -> None:
    """Logits are those of upstream's own weights, rounded to the same dtype: one that went to the
    wrong place, or was made up, would show."""
    store, folder = store_of(case, tmp_path)
    tiny.make(store, TOKENIZER, SAFETENSORS)
    check_rules(store, TOKENIZER, SAFETENSORS)
    ours = store.folder(store.catalogue[SAFETENSORS])
    document = store.manifest(store.catalogue[SAFETENSORS]).document
    names = {path.name for path in (ours / "configs").iterdir()}
    assert names == {"config.json"}
    assert document["files"].keys() == {"checkpoint", "tokenizer", "config"}
    kept = load_file(ours / "safetensors/model.safetensors")
    assert {str(tensor.dtype) for tensor in kept.values()} == {f"torch.{case.dtype}"}
    if case.family == "any":
        assert "architecture" not in document
        upstream = [load_file(path) for path in folder.glob("*.safetensors")]
        theirs = {name: t for part in upstream for name, t in part.items()}
        dtype = getattr(torch, case.dtype)
        tiny.assert_same_bits(kept, {name: t.to(dtype) for name, t in theirs.items()})
        return
    assert ("taken_over" in document["conversion"]) == case.is_taken_over
    if case.is_taken_over:
        assert (
            tiny.checkpoint_path(store, SAFETENSORS).read_bytes()
            == (folder / "model.safetensors").read_bytes()
        )
    proof = document["architecture"]
    assert (proof["class"], proof["keys"]) == (case.made_by, len(kept))
    model_class = getattr(transformers, case.made_by)
    mine = loaded(model_class, ours / "safetensors")
    if case.made_by not in CONVERTED:
        mine.load_state_dict(load_state_dict(ours / "safetensors/model.safetensors"), strict=True)
    dtype = getattr(torch, case.dtype)
    if "strip_prefix" not in str(case.stated):
        theirs = model_class.from_pretrained(folder, dtype=dtype).eval()
        assert mine.dtype == theirs.dtype == dtype
        ids = torch.arange(3, 40)[None]
        with torch.no_grad():
            assert torch.equal(mine(ids).logits, theirs(ids).logits)
    embedding = mine.get_input_embeddings().weight
    assert tuple(kept[proof["embedding"]].shape) == tuple(embedding.shape)
    generation = json.loads((ours / "safetensors/generation_config.json").read_bytes())
    upstream = folder / "generation_config.json"
    if upstream.is_file():
        assert generation == json.loads(upstream.read_bytes())
    else:
        assert generation["eos_token_id"] == 2


@pytest.mark.long
@pytest.mark.parametrize("architecture", thinned(ARCHITECTURES, ARCHITECTURES[:1]), ids=str)
def test_every_form_with_every_tokenizer(architecture: Case, tmp_path: Path) -> None:
    """None of them depends on what the others are; each is loaded, and computes the same."""
    for number, case in enumerate(crossed(architecture)):
        store, folder = store_of(case, tmp_path / str(number))
        tiny.make(store, TOKENIZER, SAFETENSORS)
        ours = store.folder(store.catalogue[SAFETENSORS]) / "safetensors"
        model_class = getattr(transformers, case.made_by)
        theirs = model_class.from_pretrained(folder, dtype=getattr(torch, case.dtype)).eval()
        ids = torch.arange(3, 40)[None]
        with torch.no_grad():
            assert torch.equal(loaded(model_class, ours)(ids).logits, theirs(ids).logits), case
        tokenizer = transformers.AutoTokenizer.from_pretrained(ours)
        assert tokenizer.vocab_size == architectures.PIECES[case.tokens]
        shutil.rmtree(tmp_path / str(number))


QUICK_REFUSED = [case for case in REFUSED if case.model.startswith(("code", "a tensor too few"))]


@pytest.mark.parametrize("case", quick(REFUSED, QUICK_REFUSED), ids=str)
def test_is_refused(case: Case, tmp_path: Path) -> None:
    """With the reason, and nothing left half-written."""
    store, _ = store_of(case, tmp_path)
    tiny.make(store, TOKENIZER)
    with pytest.raises(InvalidInput, match=case.refused) as refused:
        tiny.make(store, SAFETENSORS)
    assert str(refused.value).isprintable()
    assert str(store.root) in str(refused.value)
    assert tiny.staged_left(store) == []
    assert store.find_manifest(store.catalogue[SAFETENSORS]) is None


def test_cases_differ() -> None:
    """Each row of the table means another thing, and every form and tokenizer is among them."""
    assert len({*map(str, CASES)}) == len(CASES)
    assert {case.form for case in READ} == {
        "one .safetensors",
        "sharded .safetensors",
        "one .bin",
        "sharded .bin",
    }
    assert {case.tokens for case in READ} == {*architectures.PIECES}


# -- what the manifest recorded ------------------------------------------------------------------


QWEN = next(case for case in READ if case.model == "Qwen 3")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A converted Qwen 3 with a tokenizer.json of its own."""
    store, _ = store_of(QWEN, tmp_path_factory.mktemp("qwen"))
    tiny.make(store, TOKENIZER, SAFETENSORS)
    return store


@pytest.fixture
def store(good: Store, tmp_path: Path) -> Store:
    """A copy of :func:`good`."""
    return tiny.copy_of(good, tmp_path / "storage")


def renamed(path: Path) -> None:
    """Give one tensor another name; all numbers stay."""
    tensors = load_file(path)
    tensors["model.other"] = tensors.pop("model.norm.weight")
    metadata = {"dtype": "bfloat16", "format": "pt", "model_name": "tiny-model"}
    path.unlink()
    save_file(tensors, path, metadata)


@pytest.mark.parametrize("has_transformers", [True, False])
def test_renamed_tensor_is_found(
    store: Store, monkeypatch: pytest.MonkeyPatch, has_transformers: bool
) -> None:
    """A training node without transformers verifies what was recorded; one that has it asks the
    class again."""
    artifact = store.catalogue[SAFETENSORS]
    if not has_transformers:
        monkeypatch.setattr(rules, "find_spec", lambda name: None)
        monkeypatch.setattr(rules, "prove", None)
    assert not apply(store, artifact, "parameters").findings
    renamed(tiny.checkpoint_path(store, SAFETENSORS))
    tensors = load_file(tiny.checkpoint_path(store, SAFETENSORS))
    listed = {
        name: {"dtype": "bfloat16", "shape": list(tensor.shape)} for name, tensor in tensors.items()
    }
    reseal(store, artifact, checkpoint={"tensors": listed})
    found = apply(store, artifact, "parameters").findings
    assert found
    assert any("names and shapes" in finding.place for finding in found) or has_transformers


def test_a_changed_config_is_found(store: Store) -> None:
    """``config.json`` decides which model the weights are: it is upstream's but for the dtype."""
    artifact = store.catalogue[SAFETENSORS]
    path = store.path(artifact, "configs/config.json")
    damage(path, lambda data: data.replace(b'"rope_theta": 10000.0', b'"rope_theta": 20000.0'))
    reseal(store, artifact)
    found = apply(store, artifact, "parameters").findings
    assert any("20000" in str(f.found) for f in found if f.file.endswith("configs/config.json"))


def test_digest_is_of_names_and_shapes(good: Store) -> None:
    """It is computed by ``sha256`` of JSON alone, as a reader elsewhere would."""
    proof = good.manifest(good.catalogue[SAFETENSORS]).document["architecture"]
    tensors = load_state_dict(tiny.checkpoint_path(good, SAFETENSORS))
    shapes = {name: [*tensor.shape] for name, tensor in sorted(tensors.items())}
    text = json.dumps(shapes, separators=(",", ":"))
    assert proof["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert keys_document(shapes) == {"keys": len(shapes), "sha256": proof["sha256"]}
    assert proof["transformers"] == transformers.__version__


@pytest.mark.parametrize("change", [{"num_hidden_layers": 10**9}, {"hidden_size": 2**40}])
def test_absurd_sizes_end_at_once(good: Store, change: dict[str, int]) -> None:
    """A config of a stranger's is built; it must not take the machine with it."""
    header = load_file(tiny.checkpoint_path(good, SAFETENSORS))
    shapes = {name: tuple(tensor.shape) for name, tensor in header.items()}
    config = json.loads(good.read(good.catalogue["tiny_raw"], "raw/config.json")) | change
    with pytest.raises(InvalidInput):
        architecture.prove(config, shapes, "x", "config.json")


def test_no_code_of_a_config_is_loaded(good: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of kernels and modules in a ``config.json`` are not followed; nothing is fetched."""
    import socket

    def connect(*arguments: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", connect)
    header = load_file(tiny.checkpoint_path(good, SAFETENSORS))
    shapes = {name: tuple(tensor.shape) for name, tensor in header.items()}
    config = json.loads(good.read(good.catalogue["tiny_raw"], "raw/config.json"))
    hostile: dict[str, Any] = {
        "attn_implementation": "somebody/kernel",
        "_attn_implementation": "somebody/kernel",
        "experts_implementation": "somebody/kernel",
        "auto_map": {"AutoModelForCausalLM": "evil.Evil"},
    }
    proof = architecture.prove(config | hostile, shapes, "x", "config.json")
    assert proof.model_class == "Qwen3ForCausalLM"


# -- tokenizers ----------------------------------------------------------------------------------


def test_upstreams_tokenizer_is_kept(store: Store) -> None:
    """Byte for byte, and counted with: a file that is made anew may read a text otherwise."""
    from tokenizers import Tokenizer

    folder = store.folder(store.catalogue[TOKENIZER])
    data = (folder / "tokenizer.json").read_bytes()
    assert data == architectures.tokenizer_json()
    beside = store.folder(store.catalogue[SAFETENSORS]) / "safetensors/tokenizer.json"
    assert beside.read_bytes() == data
    text = "  def f(a):\n\treturn é </s>"
    expected = len(Tokenizer.from_str(data.decode()).encode(text, add_special_tokens=False).ids)
    assert counter_of(data, "x/tokenizer.json").count([text, ""]) == [expected, 0]
    theirs = transformers.AutoTokenizer.from_pretrained(beside.parent)
    assert len(theirs(text, add_special_tokens=False)["input_ids"]) == expected
    assert theirs.eos_token_id == 2


def changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[Store], None]:
    def apply_it(store: Store) -> None:
        artifact = store.catalogue[TOKENIZER]
        damage(store.path(artifact, name), change)
        reseal(store, artifact)

    return apply_it


@pytest.mark.parametrize(
    ("damaged", "rule"),
    [
        (
            changed("tokenizer.json", lambda data: data.replace(b'"</s>"', b'"</t>"')),
            "model_folder",
        ),
        (changed("tokenizer.json", lambda data: data[:-9]), "fast_tokenizer"),
        (
            changed("tokenizer_config.json", lambda data: data.replace(b"</s>", b"</t>")),
            "tokenizer",
        ),
    ],
    ids=["another", "cut off", "config"],
)
def test_a_changed_tokenizer_is_found(
    store: Store, damaged: Callable[[Store], None], rule: str
) -> None:
    """Resealed, so that no hash of the manifest tells."""
    owner = SAFETENSORS if rule == "model_folder" else TOKENIZER
    assert not apply(store, store.catalogue[owner], rule).findings
    damaged(store)
    assert apply(store, store.catalogue[owner], rule).findings


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer_beside": ["x/vocab.txt"]}, "vocab.txt is none of"),
        ({"tokenizer_beside": ["tokenizer.json"]}, "appears twice|twice"),
    ],
)
def test_files_beside_a_tokenizer(files: dict[str, Any], message: str) -> None:
    """A name that nothing reads, or two files of one name, is a mistake in the spec."""
    from pydantic import ValidationError

    from wmtp_assets.catalogue.specs import ModelFiles

    with pytest.raises(ValidationError, match=message):
        ModelFiles.model_validate({"checkpoint": "a.bin", "tokenizer": "a/tokenizer.json", **files})


# -- with the rest of the project ----------------------------------------------------------------


@pytest.mark.long
def test_in_the_child_process(tmp_path: Path) -> None:
    """As the command does it: the child's bound of memory leaves room for the library."""
    store, _ = store_of(QWEN, tmp_path)
    for key in (TOKENIZER, SAFETENSORS):
        materialize(store, store.catalogue[key])
    verdicts = verify(store, [store.catalogue[key] for key in (TOKENIZER, SAFETENSORS)])
    assert len(verdicts) > 10
    assert not [verdict for verdict in verdicts if verdict.outcome.findings]


@pytest.mark.long
def test_nothing_asks_for_transformers_but_what_proves(tmp_path: Path) -> None:
    """It takes seconds to import: not for the specs, and not for the rules of a family that is
    known here. What makes a model of that family does ask."""
    opened = """
import sys
from pathlib import Path
from wmtp_assets_tests.checkpoints import tiny
from wmtp_assets_tests.rules.cases import apply
store = tiny.llama_store(Path(sys.argv[1]))
"""
    make = """
tiny.commit_files(store, tiny.llama_files())
tiny.make(store, tiny.TOKENIZER, tiny.SAFETENSORS)
"""
    look = """
assert not apply(store, store.catalogue[tiny.SAFETENSORS], "parameters").findings
"""
    said = 'print("transformers" in sys.modules)'
    root = str(tmp_path / "storage")
    assert tiny.run_python(opened + make + said, root) == "True\n"
    assert tiny.run_python(opened + look + said, root) == "False\n"


def test_card_says_what_was_proven(store: Store) -> None:
    """Who loads the folder reads which class takes it; nobody is told of files that it has not."""
    tiny.make(store, "tiny_card")
    card = store.read(store.catalogue["tiny_card"], "README.md").decode()
    version = transformers.__version__
    assert f"| taken by | `Qwen3ForCausalLM` of transformers {version} |" in card
    assert "library_name: transformers" in card
    assert "| tokenizer.json | upstream's |" in card
    assert 'pipeline("text-generation", model="safetensors")' in card
    assert not apply(store, store.catalogue["tiny_card"], "current").findings


PADDED = next(case for case in READ if case.padded)
ANY = next(case for case in READ if case.family == "any")


def test_card_says_what_upstream_padded(tmp_path: Path) -> None:
    """Who adds tokens to the vocabulary wants to know which rows are free."""
    store, _ = store_of(PADDED, tmp_path)
    tiny.make(store, TOKENIZER, SAFETENSORS, "tiny_card")
    card = store.read(store.catalogue["tiny_card"], "README.md").decode()
    assert (
        f"| rows of the embedding | {PADDED.rows}, for {PADDED.rows - PADDED.padded} pieces" in card
    )


def test_card_claims_nothing_of_any(tmp_path: Path) -> None:
    """Nor does the snapshot of all parameters, which has nothing to say about it."""
    store, _ = store_of(ANY, tmp_path)
    tiny.make(store, TOKENIZER, SAFETENSORS, "tiny_card")
    card = store.read(store.catalogue["tiny_card"], "README.md").decode()
    assert "nothing is claimed about the architecture" in card
    assert "taken by" not in card and "pipeline(" not in card
    with pytest.raises(SpecError, match="is not a model that takes a value head"):
        set_value_head(store, SAFETENSORS, None)


@pytest.mark.parametrize("width", [32, 31])
def test_value_head_has_the_width_of_the_embedding(store: Store, width: int) -> None:
    """The hidden size is that of the embedding that was proven."""
    artifact = store.catalogue[SAFETENSORS]
    path = store.path(artifact, VALUE_HEAD)
    save_file({"v_head.weight": torch.ones(width, 1)}, path)
    if width == 32:
        _, recorded = set_value_head(store, SAFETENSORS, "run-1")
        assert recorded["path"] == VALUE_HEAD
        assert not apply(store, artifact, "value_head").findings
    else:
        with pytest.raises(InvalidInput, match=r"\[32, 1\]"):
            set_value_head(store, SAFETENSORS, "run-1")


def test_variant_and_shared_tokenizer(tmp_path: Path) -> None:
    """A second model with the same ``tokenizer.json``, in two dtypes; another file of as many ids
    is another tokenizer."""
    made = make(QWEN, tmp_path / "upstream")
    files = made.spec["files"]
    other = made.spec | {
        "name": "other",
        "folder": "other",
        "variants": ["float32"],
        "files": {k: v for k, v in files.items() if not k.startswith("tokenizer")},
        "tokenizer": {"shared_with": "tiny"},
    }
    store = tiny.store_of(tmp_path / "storage", made.spec, other)
    names = [*store.catalogue["tiny_raw"].spec.files.all()]
    tiny.commit_files(store, {name: made.files[name] for name in names})
    names = [*store.catalogue["other_raw"].spec.files.all()]
    tiny.commit_files(store, {name: made.files[name] for name in names}, "other_raw")
    tiny.make(store, TOKENIZER, "other_tokenizer", "other_safetensors", "other_fp32")
    check_rules(store, "other_tokenizer", "other_safetensors", "other_fp32")
    stated = store.manifest(store.catalogue["other_tokenizer"])
    assert stated.document["tokenizer_shared_with"] == "tiny-model"
    assert {"tokenizer.json", "tokenizer_config.json"} <= stated.files.keys()
    loaded(transformers.Qwen3ForCausalLM, store.folder(store.catalogue["other_fp32"]))
    artifact = store.catalogue["other_tokenizer"]
    path = store.path(artifact, "tokenizer.json")
    damage(path, lambda data: data.replace(b'"</s>"', b'"</t>"'))
    reseal(store, artifact)
    assert apply(store, artifact, "tokenizer").findings


def test_dataset_counts_with_it(good: Store, tmp_path: Path) -> None:
    """Exact counts decide which rows are cut: the twin's are those of ``tokenizers`` itself."""
    import pyarrow.parquet as pq
    from tokenizers import Tokenizer

    dataset = next(spec for spec in load_specs() if spec.name == "codecontests")
    changed = dataset.model_dump() | {"tokenizer": TOKENIZER}
    model = good.catalogue["tiny_raw"].spec
    root = tmp_path / "storage"
    tiny.copy_of(good, root)
    catalogue = expand([model, DatasetSpec.model_validate(changed)])
    store = Store(Settings("sample", root), catalogue)
    contests.commit_raw(store, contests.small_repository())
    contests.make(store)
    tokenizer = Tokenizer.from_str(architectures.tokenizer_json().decode())
    rows = 0
    for split in ("train", "test"):
        table = pq.read_table(contests.processed_path(store, twin_file(split)))
        for text, tokens in zip(TEXTS, TOKENS, strict=True):
            found = [
                len(tokenizer.encode(value, add_special_tokens=False).ids)
                for value in table[text].to_pylist()
            ]
            assert table[tokens].to_pylist() == found
        rows += table.num_rows
    assert rows > 3
    processed = store.catalogue["codecontests_processed"]
    assert not apply(store, processed, "token_length").findings
    recorded = store.manifest(processed).document["tokenizer"]["sha256"]
    assert recorded == hashlib.sha256(architectures.tokenizer_json()).hexdigest()


def test_micro_model_of_a_llama_with_a_tokenizer_json(tmp_path: Path) -> None:
    """What can be cut stays so, whichever file its tokenizer is."""
    tokenizer = architectures.tokenizer_json()
    spec = tiny.LLAMA_MODEL | {
        "files": {**tiny.LLAMA_FILES, "tokenizer": "tokenizer.json"},
        "tokenizer": {"vocab_size": 290},
    }
    store = tiny.store_of(tmp_path / "storage", spec, tiny.micro_spec(), tiny.SNAPSHOT)
    config = tiny.CONFIG | {"vocab_size": 290}
    files = tiny.llama_files(config=config) | {"tokenizer.json": tokenizer}
    del files["tokenizer.model"]
    tiny.commit_files(store, files)
    tiny.make(store, TOKENIZER, SAFETENSORS, tiny.MICRO, "snapshot")
    check_rules(store, TOKENIZER, SAFETENSORS, tiny.MICRO, "snapshot")
    snapshot = store.read(store.catalogue["snapshot"], "defaults.yaml").decode()
    assert "models_v2/tiny-model/tokenizer/tokenizer.json" in snapshot
