"""``wmtp sign``: signing what is released, and verifying what was signed.

Signed are the release and each artifact that it freezes: every file of its manifest, the manifest
itself, and a value head that it records. So what is signed of an artifact is what is published of
it. Documents are not signed: they change when others appear, and are compared with what they say.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmtp_assets.base.errors import (
    CorruptArtifact,
    MissingArtifact,
    PublishError,
    SpecError,
    WmtpError,
)
from wmtp_assets.base.progress import Say, silent
from wmtp_assets.base.settings import project_folder
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.operations.publish import committed_files
from wmtp_assets.operations.verify import Verdict, findings_of, verify
from wmtp_assets.rules.apply import ABSENT, is_committed
from wmtp_assets.rules.findings import Report
from wmtp_assets.storage.mounts import resolved
from wmtp_assets.storage.signatures import (
    Trust,
    make_signature,
    read_signature,
)
from wmtp_assets.storage.store import Store

PRIVATE = stat.S_IRWXG | stat.S_IRWXO
"""Rights that nobody but the owner of a private key should have."""

SIGN = "sign it, if it is what must be released: wmtp sign"


@dataclass(frozen=True)
class Signed:
    """An artifact that was signed.

    Attributes:
        signer: who believes the signature: a name of ``trust/signers.yaml``.
    """

    artifact: str
    files: int
    signer: str
    path: str


def is_signed(artifact: Artifact) -> bool:
    """Whether a release's signer signs it: the release, and what it freezes."""
    return artifact.kind == "release" or not artifact.is_generated


def signed_ones(artifacts: Sequence[Artifact], say: Say) -> list[Artifact]:
    """Those that are signed; the others are said.

    Raises:
        PublishError: if there is none.
    """
    others = [artifact.key for artifact in artifacts if not is_signed(artifact)]
    if others:
        say(f"left out, as no document is signed: {', '.join(others)}")
    if len(others) == len(artifacts):
        raise PublishError(f"nothing was fetched: no document is signed, such as {others[0]}")
    return [artifact for artifact in artifacts if is_signed(artifact)]


def sign(store: Store, config: Any, trust: Trust, say: Say = silent) -> list[Signed]:
    """Sign the release and what it freezes, after every byte was compared with the release.

    Args:
        config: of ``model_signing.signing``, with a signer.
        trust: must believe the signer, or nothing is written.

    Raises:
        CorruptArtifact: if something is not what was released, or changes while it is read, or
            nobody would believe the signature.
        WmtpError: if it cannot be signed.
    """
    (release,) = store.catalogue.of_kind("release")
    if not is_committed(store, release):
        raise MissingArtifact(
            f"nothing is released under {store.root}: there is nothing to sign. Release it first: "
            f"dagster asset materialize --select '{release.key}'"
        )
    artifacts = [item for item in store.catalogue if is_signed(item) and is_committed(store, item)]
    before = {item.key: committed_files(store, item)[1] for item in artifacts}
    # what was released and is gone, the rule "release" finds
    wrong = findings_of(verify(store, artifacts, say=say, only=("release", "sha256")))
    if wrong:
        raise CorruptArtifact(
            f"nothing was signed: {wrong[0]} (and {len(wrong) - 1} more). See: "
            "wmtp verify --release"
        )
    made: list[tuple[Artifact, bytes, str]] = []
    for artifact in artifacts:
        files = committed_files(store, artifact)[1]
        if files != before[artifact.key]:
            raise CorruptArtifact(
                f"nothing was signed: {artifact.key} was committed again while this ran. Run again"
            )
        try:
            data = make_signature(config, files, artifact.key)
        except Exception as error:  # of the library, and of those it asks
            raise WmtpError(f"nothing was signed: {error or type(error).__name__}") from error
        try:
            made.append((artifact, data, trust.verify(data, files, artifact.signature)))
        except CorruptArtifact as error:
            raise CorruptArtifact(
                f"nothing was signed, for nobody would believe it: {error}. Add the signer to "
                f"{trust.folder}/signers.yaml first"
            ) from error
    for artifact, data, _ in made:
        store.write_at_root(artifact.signature, data)
    return [
        Signed(artifact.key, len(before[artifact.key]), name, artifact.signature)
        for artifact, _, name in made
    ]


def require_private(store: Store, key: Path, say: Say) -> None:
    """Refuse a private key that lies where it would be published; warn of one that others can read.

    Raises:
        SpecError: if it lies below the storage root or the project's checkout, or is not there.
    """
    try:
        mode = key.stat().st_mode
    except OSError as error:
        raise SpecError(f"{key} cannot be read: {error.strerror}") from error
    checkout = project_folder()
    for folder in (store.root, *([checkout] if (checkout / "workspace.yaml").exists() else [])):
        if resolved(key).is_relative_to(resolved(folder)):
            raise SpecError(
                f"{key} lies below {folder}, which is copied and published: a private key there is "
                "none. Move it elsewhere, and make a new one if it may have been copied"
            )
    if mode & PRIVATE:
        say(f"{key} can be read by others than its owner: chmod 600 {key}")


def verify_signatures(
    store: Store,
    artifacts: Iterable[Artifact],
    trust: Trust,
    told: Callable[[Verdict], None] = lambda verdict: None,
) -> list[Verdict]:
    """Compare the manifest of each artifact that is signed with its signature.

    That its bytes are those of the manifest, the rule ``sha256`` says.
    """
    verdicts = []
    for artifact in filter(is_signed, artifacts):
        report = Report("signature", artifact.key, SIGN)
        if not is_committed(store, artifact):
            if artifact.optional:
                report.skip(ABSENT)
            else:
                manifest = f"{artifact.base}/{artifact.manifest}"
                expected = "a committed artifact"
                report.add(manifest, expected=expected, found="nothing", problem="missing")
        else:
            _compare(store, artifact, trust, report)
        verdicts.append(Verdict(artifact.key, "signature", report.outcome))
        told(verdicts[-1])
    return verdicts


def _compare(store: Store, artifact: Artifact, trust: Trust, report: Report) -> None:
    expected = "a signature of exactly these files, by somebody who is believed"
    try:
        data = read_signature(store, artifact)
        if data is None:
            report.add(artifact.signature, expected=expected, found="nothing", problem="missing")
            return
        files = committed_files(store, artifact)[1]
        report.note(files=len(files), signer=trust.verify(data, files, artifact.signature))
    except (CorruptArtifact, MissingArtifact) as error:
        report.add(artifact.signature, expected=expected, found=error)
    except OSError as error:
        report.add(
            artifact.signature, expected="readable", found=error.strerror, problem="unreadable"
        )
