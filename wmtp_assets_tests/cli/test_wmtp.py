"""``wmtp`` as people and scripts call it: tables, JSON, exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from wmtp_assets.layout import INTERNAL
from wmtp_assets.store import Store
from wmtp_assets_tests.trees import damage, flip, tree

Wmtp = Callable[..., subprocess.CompletedProcess[str]]

BLOCKED = ["dagster", "torch", "datasets", "pyarrow", "numpy", "sentencepiece", "safetensors"]


def _wmtp(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "WMTP_STORAGE_ROOT": str(root), "WMTP_SOURCE": "", **variables}
    return subprocess.run(
        [Path(sys.executable).with_name("wmtp"), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.fixture
def wmtp(root: Path) -> Wmtp:
    """Run ``wmtp`` over a copy of the good tree."""
    return lambda *arguments, **variables: _wmtp(root, *arguments, **variables)


def test_status_shows_every_artifact(wmtp: Wmtp, root: Path) -> None:
    """One line per artifact with what the issue of a run needs to name; verified or not."""
    before = tree(root)
    done = wmtp("status")
    assert done.returncode == 0
    title, *rows, last = done.stdout.splitlines()
    assert " ".join(title.split()) == ("name kind size dtype rows source revision verified problem")
    micro = next(row for row in rows if row.startswith("micro_mtp "))
    assert re.fullmatch(
        r"micro_mtp micro 50.4 MB float16 - facebook/multi-token-prediction [0-9a-f]{8} - "
        r"not verified",
        " ".join(micro.split()),
    )
    assert last.startswith(f"{root} (sample): 13 of 13 artifacts, 4 of 4 optional ones, ")
    assert tree(root) == before


def test_status_json_is_complete(wmtp: Wmtp) -> None:
    """Scripts read the same facts; names are never cut off."""
    document = json.loads(wmtp("status", "--json").stdout)
    rows = {row["name"]: row for row in document["artifacts"]}
    assert document["source"] == "sample"
    assert rows["humaneval_processed"]["rows"] == 164
    assert rows["meta_llama_mtp_safetensors"]["dtype"] == "float16"
    assert len(rows["micro_mtp"]["revision"]) == 40


def test_status_after_verify_says_when(wmtp: Wmtp) -> None:
    """People ask when a file was last read, not whether somebody has a schedule."""
    assert wmtp("verify", "humaneval_small").returncode == 0
    (row,) = json.loads(wmtp("status", "humaneval_small", "--json").stdout)["artifacts"]
    assert row["verified_at"].endswith("Z")
    assert (row["state"], row["problem"]) == ("committed", "")


def test_verify_good_tree(wmtp: Wmtp, root: Path) -> None:
    """Exit code 0 means that every rule was applied to every byte and holds; nothing is written."""
    before = {path: row for path, row in tree(root).items() if not path.startswith(INTERNAL)}
    done = wmtp("verify")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "54 rules applied, 0 failed")
    assert {p: row for p, row in tree(root).items() if not p.startswith(INTERNAL)} == before


def test_verify_names_what_is_damaged(wmtp: Wmtp, store: Store) -> None:
    """Exit code 1; file, tensor, both hashes and the remedy, as text and as JSON."""
    artifact = store.catalogue["micro_mtp"]
    damage(store.path(artifact, "safetensors/model.safetensors"), flip(-1))
    done = wmtp("verify", "micro-mtp", "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    (finding,) = document["findings"]
    assert document["exit_code"] == 1
    assert finding["file"] == "models_v2/micro-mtp/safetensors/model.safetensors"
    assert finding["place"] == "tensor tok_embeddings.weight"
    assert finding["remedy"] == "dagster asset materialize --select 'micro_mtp'"
    text = wmtp("verify", "micro_mtp")
    assert text.returncode == 1
    assert "micro_mtp sha256: FAILED" in text.stdout
    assert f"remedy: {finding['remedy']}" in text.stdout


def test_exit_codes_add_up(wmtp: Wmtp, store: Store) -> None:
    """1 corrupt + 2 missing: a script sees both."""
    damage(store.path(store.catalogue["humaneval_raw"], "raw.metadata.json"), flip(20))
    store.path(store.catalogue["micro_mtp"], "configs/config.json").unlink()
    assert wmtp("verify").returncode == 3


def test_stray_file_is_found(wmtp: Wmtp, root: Path) -> None:
    """A forgotten copy beside the artifacts is not what anybody verified: exit code 2."""
    (root / "models_v2/micro-mtp/model.old.safetensors").write_bytes(b"x")
    done = wmtp("verify")
    assert done.returncode == 2
    assert "models_v2/micro-mtp/model.old.safetensors" in done.stdout


def test_empty_root(tmp_path: Path) -> None:
    """Nothing there is not «all good»: exit code 2, and status says what is missing."""
    done = _wmtp(tmp_path, "verify")
    assert done.returncode == 2
    assert "dagster asset materialize --select 'micro_mtp'" in done.stdout
    assert "0 of 13 artifacts, 0 of 4 optional ones, 0 B" in _wmtp(tmp_path, "status").stdout


@pytest.mark.parametrize("command", ["status", "verify"])
def test_root_of_the_other_source_is_refused(wmtp: Wmtp, command: str) -> None:
    """Sample weights must not be shown as real ones; 1 would mean that they are corrupt."""
    done = wmtp(command, WMTP_SOURCE="hub")
    assert done.returncode == 64
    assert "holds artifacts of the source 'sample'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (("verify", "nonsense"), {}, "neither an asset nor a folder"),
        (("status", "--wrong"), {}, "No such option"),
        (("frobnicate",), {}, "No such command"),
        (("status",), {"WMTP_SOURCE": "huggingface"}, "is not a source"),
    ],
)
def test_wrong_usage(
    wmtp: Wmtp, arguments: tuple[str, ...], variables: dict[str, str], message: str
) -> None:
    """64, and one sentence on standard error, so that a script can tell it from a bad artifact."""
    done = wmtp(*arguments, **variables)
    assert done.returncode == 64
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_version(wmtp: Wmtp) -> None:
    """Asking for help is no error; the exit codes stand there."""
    assert wmtp("--version").stdout.startswith("wmtp, version ")
    done = wmtp("verify", "-h")
    assert done.returncode == 0
    assert "1 corrupt" in done.stdout


def test_base_package_verifies(root: Path) -> None:
    """On a training machine without Dagster, torch or sentencepiece every file is still verified;
    the rules that count tokens are skipped, and say what to install."""
    script = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {BLOCKED}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import importlib.util as u\n"
        "real = u.find_spec\n"
        f"u.find_spec = lambda n, p=None: None if n in {BLOCKED} else real(n, p)\n"
        "from wmtp_assets.cli.main import main\n"
        "main()\n"
    )
    environment = {**os.environ, "WMTP_STORAGE_ROOT": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", script, "verify"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    skipped = [line for line in done.stdout.splitlines() if ": skipped" in line]
    assert len(skipped) == 11
    assert all("pip install sentencepiece" in line for line in skipped)
    assert "micro_mtp sha256: ok" in done.stdout
