"""A root of trust outside the storage: what is signed, by whom, and what a signature finds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("model_signing", reason="needs the extra signing")

from click.testing import CliRunner, Result

from wmtp_assets.base.errors import CorruptArtifact, SpecError
from wmtp_assets.base.settings import project_folder
from wmtp_assets.checkpoints.beside import MODEL_FILES
from wmtp_assets.cli.main import cli
from wmtp_assets.documents.of_storage.release import parse_release
from wmtp_assets.operations.sign import is_signed, sign, verify_signatures
from wmtp_assets.operations.verify import exit_code, findings_of, verify, verify_release
from wmtp_assets.storage import manifest, signatures
from wmtp_assets.storage.signatures import Trust, key_config
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.destinations.trees import (
    DATASET,
    MODEL,
    OTHER,
    RELEASE,
    commit,
    make_store,
    release,
)
from wmtp_assets_tests.signing import TrustFolder, certify, make_key, public
from wmtp_assets_tests.trees import damage, flip, hash_once, reseal


@pytest.fixture
def trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrustFolder:
    """Nobody is believed yet."""
    trust = TrustFolder(tmp_path / "outside")
    monkeypatch.setenv("WMTP_TRUST", str(trust.folder))
    return trust


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A model and a data set that are released, of which the environment knows."""
    small = release(make_store(tmp_path / "storage", 30_000), "v2.0.0")
    monkeypatch.setenv("WMTP_SOURCE", "sample")
    monkeypatch.setenv("WMTP_STORAGE_ROOT", str(small.root))
    return small


def sign_as(store: Store, trust: TrustFolder, name: str) -> list[str]:
    """Sign with the key of a signer; the assets that were."""
    config = key_config(trust.keys / f"{name}.pem", None, None, ())
    signed = sign(store, config, Trust(trust.folder))
    assert {item.signer for item in signed} == {name}
    return [item.artifact for item in signed]


def found(store: Store, trust: TrustFolder) -> dict[str, str]:
    """Asset → what is wrong with its signature."""
    there = [it for it in store.catalogue if store.manifest_path(it).exists()]
    verdicts = verify_signatures(store, there, Trust(trust.folder))
    return {item.artifact: f"{item.file}: {item.found}" for item in findings_of(verdicts)}


def wmtp(*arguments: str, typed: str = "") -> Result:
    """Run the command in this process; its errors pass."""
    return CliRunner().invoke(
        cli, arguments, input=typed, catch_exceptions=False, standalone_mode=False
    )


def test_release_and_what_it_freezes_are_signed(small: Store, trust: TrustFolder) -> None:
    """All files of each, its manifest too; below signatures/, where it changes nothing."""
    trust.add("one")
    before = {it.key: hash_once(small.manifest_path(it)) for it in signed_of(small)}
    assert sign_as(small, trust, "one") == [MODEL, DATASET, RELEASE]
    assert {it.key: hash_once(small.manifest_path(it)) for it in signed_of(small)} == before
    assert found(small, trust) == {}
    names = signatures.signed_files((small.root / f"signatures/{MODEL}.sig").read_bytes())
    assert {*names} == {"raw/7B_1T_4/consolidated.pth", "raw/empty", "raw.metadata.json"}
    assert {path.name for path in (small.root / "signatures").iterdir()} == {
        f"{key}.sig" for key in (MODEL, DATASET, RELEASE)
    }


def signed_of(store: Store) -> list:
    return [it for it in store.catalogue if is_signed(it) and store.manifest_path(it).exists()]


def test_consistent_edit_of_everything_is_found(store: Store, trust: TrustFolder) -> None:
    """A tensor, pieces, SHA256SUMS, manifest and RELEASE.json, all resealed: every hash in the
    storage is right, and nothing that lies there can show it."""
    trust.add("one")
    sign_as(store, trust, "one")
    micro, about = store.catalogue["micro_mtp"], store.catalogue[RELEASE]
    checkpoint, sums = MODEL_FILES.checkpoint, "safetensors/SHA256SUMS"
    damage(store.path(micro, checkpoint), flip(-1))
    old = store.manifest(micro).files[checkpoint].sha256
    new = hash_once(store.path(micro, checkpoint)).sha256
    damage(store.path(micro, sums), lambda data: data.replace(old.encode(), new.encode()))
    reseal(store, micro)
    assert [item.rule for item in findings_of(verify_release(store, lambda verdict: None))] == [
        "release"
    ]

    files = store.manifest(micro).files

    def seal(data: bytes) -> bytes:
        document = parse_release(data, "RELEASE.json").model_dump()
        document["artifacts"]["micro_mtp"]["content_sha256"] = manifest.content_sha256(files)
        return manifest.render(document)

    damage(store.path(about, "RELEASE.json"), seal)
    damage(store.root / "RELEASE.json", seal)
    reseal(store, about)
    assert exit_code(verify_release(store, lambda verdict: None)) == 0
    assert exit_code(verify(store, [micro, about], only=("sha256", "dtype", "release"))) == 0
    wrong = found(store, trust)
    assert {*wrong} == {"micro_mtp", RELEASE}
    assert (
        "signatures/storage_release.sig was made by one and is of other files: of RELEASE."
        in (wrong[RELEASE])
    )


def test_any_change_is_found(small: Store, trust: TrustFolder) -> None:
    """Of a file, with the manifest; of what the manifest says; of the signature itself; an exchange
    of two signatures; a signature that is gone."""
    trust.add("one")
    sign_as(small, trust, "one")
    artifact = small.catalogue[DATASET]
    path = small.root / artifact.signature
    good, manifest_bytes = path.read_bytes(), small.manifest_path(artifact).read_bytes()

    damage(small.path(artifact, "raw/LICENSE"), flip(0))
    reseal(small, artifact)
    assert "of other files: of raw.metadata.json, it has SHA-256" in found(small, trust)[DATASET]
    damage(small.path(artifact, "raw/LICENSE"), flip(0))
    reseal(small, artifact, license="yours")
    assert {*found(small, trust)} == {DATASET}
    damage(small.manifest_path(artifact), lambda data: manifest_bytes)
    assert found(small, trust) == {}

    document = json.loads(good)
    envelope = document["dsseEnvelope"]
    for change in (
        lambda: envelope["signatures"][0].update(sig=envelope["signatures"][0]["sig"][4:]),
        lambda: envelope.update(payload=envelope["payload"].replace("a", "b")),
        lambda: envelope.update(payloadType="text/plain"),
        lambda: envelope.update(signatures=[]),
        lambda: document["verificationMaterial"]["publicKey"].update(hint="0" * 64),
        lambda: document["verificationMaterial"].pop("publicKey"),
        document.clear,
    ):
        change()
        path.write_text(json.dumps(document))
        assert {*found(small, trust)} == {DATASET}
    for data in (b"", b"{", good[:-1], b"[" * 100_000, bytes(2 << 20)):
        path.write_bytes(data)
        assert {*found(small, trust)} == {DATASET}
    path.write_bytes((small.root / f"signatures/{MODEL}.sig").read_bytes())
    assert {*found(small, trust)} == {DATASET}
    path.unlink()
    assert found(small, trust) == {DATASET: f"{artifact.signature}: nothing"}
    assert exit_code(verify_signatures(small, [artifact], Trust(trust.folder))) == 2


@pytest.mark.long
def test_the_librarys_own_command_verifies_a_folder(small: Store, trust: TrustFolder) -> None:
    """Whoever has model-signing and a public key needs none of our code."""
    trust.add("one")
    sign_as(small, trust, "one")
    for artifact in signed_of(small):
        done = model_signing(small, trust, artifact.signature, artifact.base)
        assert done.returncode == 0, done.stderr
    damage(small.path(small.catalogue[DATASET], "raw/LICENSE"), flip(0))
    done = model_signing(small, trust, f"signatures/{DATASET}.sig", "datasets_v2/humaneval")
    assert done.returncode != 0
    assert "Hash mismatch for 'raw/LICENSE'" in done.stdout + done.stderr


def model_signing(
    store: Store, trust: TrustFolder, signature: str, base: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "model_signing", "verify", "key", base]
    command += ["--signature", signature, "--public_key", str(trust.folder / "one.pub")]
    command += ["--ignore_unsigned_files"]
    return subprocess.run(command, cwd=store.root, capture_output=True, text=True, check=False)


# -- whom to believe -------------------------------------------------------------------------------


def test_who_is_not_believed_signs_nothing(small: Store, trust: TrustFolder) -> None:
    """A signature that nobody could verify would only look like one."""
    trust.add("one")
    make_key(trust.keys / "stranger.pem")
    with pytest.raises(CorruptArtifact, match="for nobody would believe it: signatures/meta_llama"):
        sign_as(small, trust, "stranger")
    assert not (small.root / "signatures").exists()


def test_rotation(small: Store, trust: TrustFolder) -> None:
    """A second key is added; what the first signed stays signed until it is taken away."""
    trust.add("first")
    sign_as(small, trust, "first")
    trust.add("second")
    assert found(small, trust) == {}
    sign_as(small, trust, "second")
    trust.forget("first")
    assert found(small, trust) == {}


def test_revocation(small: Store, trust: TrustFolder) -> None:
    """What was signed with a key that was stolen is believed no longer, with the reason; also where
    the same key has a second name."""
    trust.add("first")
    sign_as(small, trust, "first")
    trust.add("second")
    trust.say("first", revoked="stolen on 1 May")
    wrong = found(small, trust)
    assert {*wrong} == {MODEL, DATASET, RELEASE}
    assert "by first, whose signatures are believed no longer: stolen on 1 May" in wrong[MODEL]
    trust.say("again", key="first.pub")
    assert {*found(small, trust)} == {MODEL, DATASET, RELEASE}
    with pytest.raises(CorruptArtifact, match="nothing was signed"):
        sign_as(small, trust, "first")
    sign_as(small, trust, "second")
    assert found(small, trust) == {}


def test_certificate(small: Store, trust: TrustFolder) -> None:
    """Of an authority that trust/ names; that of another authority of this name is none."""
    root, leaf = make_key(trust.keys / "root.pem"), make_key(trust.keys / "leaf.pem")
    chain = trust.keys / "leaf.crt"
    chain.write_bytes(certify("leaf", leaf, ("root", root)))
    (trust.folder / "root.crt").write_bytes(certify("root", root, ("root", root)))
    trust.say("lab", certificates="[root.crt]")
    config = key_config(trust.keys / "leaf.pem", None, chain, ())
    assert {item.signer for item in sign(small, config, Trust(trust.folder))} == {"lab"}
    assert found(small, trust) == {}
    other = make_key(trust.keys / "other.pem")
    (trust.folder / "root.crt").write_bytes(certify("root", other, ("root", other)))
    assert {*found(small, trust)} == {MODEL, DATASET, RELEASE}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "signers.yaml:1: "),
        ("signers:\n  one: {}\n", "must have a key, certificates, or an identity"),
        ("signers:\n  one: {identity: a@b}\n", "must have a key, certificates, or an identity"),
        ("signers:\n  one: {key: ../k.pub}\n", "not a plain relative path"),
        ("signers:\n  one: {key: a, kind: b}\n", "unknown field"),
        ("signers:\n  one: {key: a}\n  one: {key: b}\n", "duplicate key"),
    ],
)
def test_malformed_list_of_signers_is_refused(trust: TrustFolder, text: str, message: str) -> None:
    """With file and line; nobody is believed by mistake."""
    (trust.folder / "signers.yaml").write_text(text)
    with pytest.raises(SpecError) as error:
        Trust(trust.folder)
    assert message in str(error.value)
    assert "whose signatures are believed" in str(error.value)


def test_missing_key_file_is_a_mistake_of_the_list(small: Store, trust: TrustFolder) -> None:
    """And no damage of the storage."""
    trust.add("one")
    sign_as(small, trust, "one")
    (trust.folder / "one.pub").write_text("no key")
    with pytest.raises(SpecError, match=r"signers\.yaml"):
        found(small, trust)
    (trust.folder / "one.pub").unlink()
    with pytest.raises(SpecError, match=r"signers\.yaml"):
        found(small, trust)


def test_the_repository_has_a_list() -> None:
    """It is read as it is shipped."""
    Trust(project_folder() / "trust")


# -- what is refused -------------------------------------------------------------------------------


def test_what_is_not_as_released_is_not_signed(small: Store, trust: TrustFolder) -> None:
    """A signature says that a release is right: a damaged file, other content, nothing released."""
    trust.add("one")
    path = small.path(small.catalogue[DATASET], "raw/LICENSE")
    damage(path, flip(0))
    with pytest.raises(CorruptArtifact, match="nothing was signed: datasets_v2/humaneval/raw/LIC"):
        sign_as(small, trust, "one")
    damage(path, flip(0))
    commit(small, OTHER, {"raw/data.parquet": b"new"})
    with pytest.raises(CorruptArtifact, match="nothing was signed: docs/RELEASE"):
        sign_as(small, trust, "one")


def test_private_key_in_a_place_that_is_copied(
    small: Store, trust: TrustFolder, tmp_path: Path
) -> None:
    """Below the root it would be published, in the checkout it would be pushed."""
    trust.add("one")
    (small.root / "key.pem").write_bytes((trust.keys / "one.pem").read_bytes())
    for path in (small.root / "key.pem", project_folder() / "README.md"):
        with pytest.raises(SpecError, match="which is copied and published"):
            wmtp("sign", "--key", str(path))
    (small.root / "key.pem").unlink()
    with pytest.raises(SpecError, match="cannot be read"):
        wmtp("sign", "--key", str(tmp_path / "nothing"))
    (tmp_path / "text").write_text("no key")
    with pytest.raises(SpecError, match="cannot be signed with"):
        wmtp("sign", "--key", str(tmp_path / "text"))


def test_without_the_library(
    small: Store, trust: TrustFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training node has the base package: it is told what to install."""
    del trust
    monkeypatch.setattr(signatures, "find_spec", lambda name: None)
    for command in (("verify", "--signed"), ("sign", "--key", "k")):
        with pytest.raises(SpecError, match=r"pip install 'wmtp_assets\[signing\]'"):
            wmtp(*command)
    del small


# -- as people type it -----------------------------------------------------------------------------


def test_command(small: Store, trust: TrustFolder) -> None:
    """Sign, verify, damage, verify; a key that others can read is said."""
    key = trust.add("one")
    key.chmod(0o644)
    done = wmtp("sign", "--key", str(key))
    assert "meta_llama_mtp_raw: 3 files, signed by one\n" in done.stdout
    assert f"{key} can be read by others than its owner: chmod 600" in done.stderr
    named = wmtp("verify", "--signed", DATASET)
    assert named.return_value == 0
    assert f"{DATASET} sha256: ok\n{DATASET} signature: ok\n" in named.stdout
    assert f"signed by one: {DATASET}\n" in named.stdout
    damage(small.path(small.catalogue[DATASET], "raw/LICENSE"), flip(0))
    assert wmtp("verify", "--signed", DATASET).return_value == 1
    reseal(small, small.catalogue[DATASET])
    named = json.loads(wmtp("verify", "--signed", DATASET, "--json").stdout)
    assert [item["rule"] for item in named["findings"]] == ["signature"]


def test_password_is_asked_for(small: Store, trust: TrustFolder) -> None:
    """A key may be encrypted."""
    key = make_key(trust.keys / "safe.pem", b"secret")
    (trust.folder / "safe.pub").write_bytes(public(key))
    trust.say("safe", key="safe.pub")
    path = str(trust.keys / "safe.pem")
    done = wmtp("sign", "--key", path, typed="secret\n")
    assert "3 artifacts signed" in done.stdout
    assert "secret" not in done.stdout + done.stderr
    with pytest.raises(SpecError, match="cannot be signed with"):
        wmtp("sign", "--key", path, typed="wrong\n")
    assert found(small, trust) == {}


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--key", "k", "--sigstore"),
        ("--sigstore", "--certificate", "c"),
        ("--key", "k", "--chain", "c"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], small: Store) -> None:
    """One way to sign at a time."""
    del small
    run: Callable[..., Result] = CliRunner().invoke
    assert run(cli, ["sign", *arguments]).exit_code == 2


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_key_made_as_the_page_says(small: Store, trust: TrustFolder) -> None:
    """The commands of ``trust/README.md``, with a password for its prompt."""
    page = (project_folder() / "trust/README.md").read_text()
    block = page.partition("## A key\n\n```bash\n")[2].partition("```")[0]
    commands = block.replace("~/", f"{trust.keys}/").replace("trust/keys/", f"{trust.folder}/")
    commands = commands.replace("-topk8", "-topk8 -passout pass:secret")
    commands = commands.replace("openssl ec ", "openssl ec -passin pass:secret ")
    trust.keys.mkdir()
    subprocess.run(["sh", "-ec", commands], check=True, capture_output=True)
    trust.say("release_2026", key="release_2026.pub")
    key = trust.keys / "release_2026.pem"
    assert "signed by release_2026" in wmtp("sign", "--key", str(key), typed="secret\n").stdout
    assert found(small, trust) == {}
