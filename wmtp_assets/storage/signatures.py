"""Signatures of artifacts: who says that these are the files, and whom to believe.

A signature is a Sigstore bundle, as the OpenSSF library ``model-signing`` writes it: an in-toto
statement with the SHA-256 of each file of one artifact, in a signed DSSE envelope. It lies in
``<root>/signatures/<asset>.sig``, outside what is signed. Whose signatures are believed says a
folder outside the storage, ``trust/``: whoever can write to the storage cannot write there.

The library hashes a folder by itself; here it is given the hashes that a rule compared with the
bytes, so that no byte is read twice. Its own command, ``model_signing verify``, reads them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from wmtp_assets.base.errors import CorruptArtifact, InvalidInput, SpecError
from wmtp_assets.base.model import AssetName, RelativePath, StrictModel
from wmtp_assets.base.settings import TRUST_FOLDER_VARIABLE, project_folder
from wmtp_assets.base.strict_json import open_waiting_for_none, parse_object
from wmtp_assets.base.yaml_file import read_model
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.storage.manifest import FileRecord
from wmtp_assets.storage.store import Store

MAX_SIZE = 1 << 20
"""Bytes of a signature; one of ten files has 3 kB."""
MAX_REASON = 300
"""Characters of the library's reason, which may quote the signature."""

LIST = "signers.yaml"

Files = Mapping[str, FileRecord]


class Signer(StrictModel):
    """Somebody whose signatures are believed: exactly one of a key, certificates, an identity.

    Attributes:
        key: file below ``trust/`` with a public key (PEM; curves P-256, P-384 or P-521).
        certificates: files there with certificates (PEM) that a signing certificate leads up to.
        identity: whom Sigstore says it was, such as a mail address or the URL of a workflow.
        issuer: who told Sigstore so: the URL of the OpenID provider.
        revoked: why the signatures are believed no longer; empty: they are.
    """

    key: RelativePath | None = None
    certificates: list[RelativePath] = Field(default_factory=list)
    identity: str = ""
    issuer: str = ""
    revoked: str = ""

    @model_validator(mode="after")
    def _is_one(self) -> Signer:
        if bool(self.key) + bool(self.certificates) + bool(self.identity) != 1 or (
            bool(self.identity) != bool(self.issuer)
        ):
            raise ValueError("must have a key, certificates, or an identity with its issuer")
        return self


class _List(StrictModel):
    signers: dict[AssetName, Signer] = Field(default_factory=dict)


class Trust:
    """Whose signatures are believed: what ``trust/signers.yaml`` says.

    Raises:
        SpecError: if that file is missing or malformed, or ``model-signing`` is not installed.
    """

    def __init__(self, folder: Path) -> None:
        require_library()
        self.folder = folder
        path = folder / LIST
        try:
            self.signers = read_model(path, _List).signers
        except InvalidInput as error:
            raise SpecError(
                f"{error}. It says whose signatures are believed; {TRUST_FOLDER_VARIABLE} names "
                "the folder it is in"
            ) from error

    def verify(self, data: bytes, files: Files, where: str) -> str:
        """The name of the signer who signed exactly these files.

        Args:
            data: the signature; ``where`` names it.

        Raises:
            CorruptArtifact: if it is not a signature, of other files, or of nobody who is believed.
            SpecError: if a file below ``trust/`` is not what ``signers.yaml`` says.
        """
        form = _form(data, where)
        asked = {name: it for name, it in self.signers.items() if _form_of(it) == form}
        said: list[str] = []
        # a key that is revoked under one name is not believed under another
        for name in sorted(asked, key=lambda name: not asked[name].revoked):
            problem = self._refusal(asked[name], data, files)
            if asked[name].revoked and (problem is None or problem.startswith(_MISMATCH)):
                raise CorruptArtifact(
                    f"{where} was made by {name}, whose signatures are believed no longer: "
                    f"{asked[name].revoked}. Have it signed by another signer, or fetch it anew"
                )
            if problem is None:
                return name
            if problem.startswith(_MISMATCH):
                raise CorruptArtifact(
                    f"{where} was made by {name} and is of other files: {_difference(data, files)}"
                )
            said.append(f"{name}: {problem}")
        raise CorruptArtifact(
            f"{where} is the signature of nobody in {self.folder / LIST}: "
            + ("; ".join(said) or f"that names no signer with {form}")
        )

    def _refusal(self, signer: Signer, data: bytes, files: Files) -> str | None:
        """Why a signature is not one of a signer over these files; None: it is."""
        from model_signing import verifying

        config = verifying.Config()
        try:
            if signer.key:
                config.use_elliptic_key_verifier(public_key=self.folder / signer.key)
            elif signer.certificates:
                paths = [self.folder / path for path in signer.certificates]
                config.use_certificate_verifier(certificate_chain=paths)
            else:
                config.use_sigstore_verifier(identity=signer.identity, oidc_issuer=signer.issuer)
        except (OSError, ValueError, TypeError) as error:
            raise SpecError(f"{self.folder / LIST}: {error}") from error
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "signature")
            path.write_bytes(data)
            try:
                config.set_hashing_config(_known(files)).verify(path, path)
            except Exception as error:  # of five libraries, over what anybody may have written
                text = str(error) or type(error).__name__
                return "".join(c if c.isprintable() else " " for c in text)[:MAX_REASON]
        return None


def _difference(data: bytes, files: Files) -> str:
    """Where the files are not those of a signature."""
    signed, there = signed_files(data), hashes_of(files)
    name = next((n for n in sorted({*signed, *there}) if signed.get(n) != there.get(n)), "a file")
    was, now = (f"SHA-256 {it[name]}" if name in it else "none" for it in (signed, there))
    return f"of {name}, it has {was}, and here is {now}"


_MISMATCH = "Signature mismatch"
"""How the library begins to say that a signature is right and the files are others."""

_FORMS = {
    "publicKey": "a key",
    "x509CertificateChain": "certificates",
    "certificate": "an identity",
}
"""What a bundle says it was signed with → what a signer has who is asked about it."""


def _form_of(signer: Signer) -> str:
    return "a key" if signer.key else "certificates" if signer.certificates else "an identity"


def _form(data: bytes, where: str) -> str:
    try:
        material = parse_object(data, MAX_SIZE)["verificationMaterial"]
        return next(form for key, form in _FORMS.items() if key in material)
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise CorruptArtifact(f"{where} is not a signature of model-signing") from error


def _known(files: Files) -> Any:
    """A hashing configuration of the library that knows the hashes already."""
    from model_signing import hashing, manifest
    from model_signing._hashing.hashing import Digest

    kind = manifest.SerializationType.from_args(
        {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
    )
    items = [
        kind.new_item(name, Digest("sha256", bytes.fromhex(files[name].sha256)))
        for name in sorted(files)
    ]

    class Known(hashing.Config):
        def hash(self, model_path: Any, *, files_to_hash: Any = None) -> manifest.Manifest:
            return manifest.Manifest(Path(model_path).name, items, kind)

    return Known()


def key_config(
    key: Path, password: bytes | None, certificate: Path | None, chain: Sequence[Path]
) -> Any:
    """A configuration that signs with a private key, and a certificate where one is given.

    Raises:
        SpecError: if one of them cannot be read, or is something else.
    """
    require_library()
    from model_signing import signing

    try:
        if certificate is None:
            return signing.Config().use_elliptic_key_signer(
                private_key=key,
                password=password,  # pyright: ignore[reportArgumentType]  (it wants bytes)
            )
        # the library refuses an empty chain; the certificate itself adds nothing to it
        return signing.Config().use_certificate_signer(
            private_key=key,
            signing_certificate=certificate,
            certificate_chain=chain or (certificate,),
        )
    except (OSError, ValueError, TypeError) as error:
        raise SpecError(f"{key} cannot be signed with: {error}") from error


def sigstore_config() -> Any:
    """A configuration that signs by Sigstore: as a workflow, where it runs in one that Sigstore
    knows, else as whoever logs in in a browser. It needs the network."""
    require_library()
    from model_signing import signing

    return signing.Config().use_sigstore_signer(use_ambient_credentials=True)


def make_signature(config: Any, files: Files, name: str) -> bytes:
    """A signature over files.

    Args:
        config: of ``model_signing.signing``, with a signer.
        name: of what is signed, for people.

    Raises:
        Whatever the library does where it cannot sign.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "signature")
        config.set_hashing_config(_known(files)).sign(name, path)
        return path.read_bytes()


def signed_files(data: bytes) -> dict[str, str]:
    """File → SHA-256 as a signature has them, whoever made it; empty: it is none.

    Nothing is proven by it, and no library is needed.
    """
    try:
        envelope = parse_object(data, MAX_SIZE)["dsseEnvelope"]
        statement = json.loads(base64.b64decode(envelope["payload"], validate=True))
        return {item["name"]: item["digest"] for item in statement["predicate"]["resources"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def hashes_of(files: Files) -> dict[str, str]:
    """File → SHA-256."""
    return {name: record.sha256 for name, record in files.items()}


def read_signature(store: Store, artifact: Artifact) -> bytes | None:
    """The signature of an artifact; None: there is none.

    Raises:
        OSError: if it cannot be read.
    """
    try:
        with open_waiting_for_none(store.root / artifact.signature) as file:
            return file.read(MAX_SIZE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None


def record_of(data: bytes) -> FileRecord:
    """Size and SHA-256."""
    return FileRecord(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def trust_folder() -> Path:
    """Where it is said whose signatures are believed; a relative path is below the project."""
    return project_folder() / Path(TRUST_FOLDER_VARIABLE.read() or "trust").expanduser()


def require_library() -> None:
    """Require what signatures are made and verified with.

    Raises:
        SpecError: saying how to install it.
    """
    if find_spec("model_signing") is None:
        raise SpecError(
            "signatures need the library model-signing: pip install 'wmtp_assets[signing]'"
        )
