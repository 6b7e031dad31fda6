"""``wmtp sign``: sign what is released."""

from __future__ import annotations

from pathlib import Path

import click

from wmtp_assets.cli.common import Document, over_store, print_line, progress
from wmtp_assets.operations.sign import require_private, sign
from wmtp_assets.storage.signatures import Trust, key_config, sigstore_config, trust_folder
from wmtp_assets.storage.store import Store

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("sign", short_help="Sign the release, and each artifact that it freezes.")
@click.option("--key", type=_FILE, help="A private key: PEM, of an elliptic curve.")
@click.option("--certificate", type=_FILE, help="The certificate of the key, in PEM.")
@click.option(
    "--chain", type=_FILE, multiple=True, help="Certificates between it and the one in trust/."
)
@click.option("--sigstore", is_flag=True, help="Sign by Sigstore, which needs the network.")
@over_store
def sign_command(
    store: Store,
    key: Path | None,
    certificate: Path | None,
    chain: tuple[Path, ...],
    sigstore: bool,
) -> Document:
    """Sign the release, and each artifact that it freezes, once all is what was released.

    Signatures lie in signatures/ below the root. Whose signatures are believed says trust/ in the
    repository; a signature that nobody would believe is not written. The private key is read once,
    here, and lies neither in the repository nor below the storage root.

    Exits with 0 when all is signed, 1 when something is not what was released or the signer is
    unknown, 64 for wrong usage.
    """
    if (key is None) != sigstore or (sigstore and (certificate or chain)):
        raise click.UsageError("sign with --key, and maybe its --certificate, or with --sigstore")
    if chain and certificate is None:
        raise click.UsageError("--chain belongs to a --certificate")
    trust = Trust(trust_folder())
    with progress() as say:
        if key is None:
            config = sigstore_config()
        else:
            require_private(store, key, say)
            is_encrypted = certificate is None and b"ENCRYPTED" in key.read_bytes()
            password = click.prompt(f"Password of {key}", hide_input=True) if is_encrypted else ""
            config = key_config(key, password.encode() or None, certificate, chain)
        signed = sign(store, config, trust, say)
    for item in signed:
        print_line(f": {item.files} files, signed by {item.signer}", (item.artifact, ""))
    print_line(f"{len(signed)} artifacts signed; publish them: wmtp publish --to URL")
    return {"signed": signed}
