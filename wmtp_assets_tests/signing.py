"""Keys, certificates and a ``trust/`` of a test's own."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make_key(path: Path, password: bytes | None = None) -> ec.EllipticCurvePrivateKey:
    """Write a private key that only its owner can read."""
    key = ec.generate_private_key(ec.SECP256R1())
    encryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )
    path.chmod(0o600)
    return key


def public(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public key in PEM."""
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def certify(
    name: str, key: ec.EllipticCurvePrivateKey, by: tuple[str, ec.EllipticCurvePrivateKey]
) -> bytes:
    """A certificate of a key, in PEM; of an authority, where it is its own."""

    def called(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    is_authority = by[1] is key
    begin = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(called(name))
        .issuer_name(called(by[0]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(by[1], hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


class TrustFolder:
    """A folder of signers, and their private keys beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.keys = folder / "trust", folder / "private"
        self.folder.mkdir(parents=True)
        self._lines: dict[str, dict[str, str]] = {}
        self._write()

    def add(self, name: str) -> Path:
        """A signer with a new key; where the private key is."""
        path = self.keys / f"{name}.pem"
        key = make_key(path)
        (self.folder / f"{name}.pub").write_bytes(public(key))
        self.say(name, key=f"{name}.pub")
        return path

    def say(self, name: str, **fields: str) -> None:
        """Set fields of a signer."""
        self._lines.setdefault(name, {}).update(fields)
        self._write()

    def forget(self, name: str) -> None:
        del self._lines[name]
        self._write()

    def _write(self) -> None:
        text = "signers:\n" if self._lines else "signers: {}\n"
        for name, fields in self._lines.items():
            text += f"  {name}:\n"
            text += "".join(f"    {key}: {value}\n" for key, value in fields.items())
        (self.folder / "signers.yaml").write_text(text)
