"""A VESSL volume as a destination: VESSL gives credentials that expire, S3 does the rest.

The ``vessl`` package has pins that are not ours. It runs in an interpreter of its own, which
:data:`PYTHON_VARIABLE` names, and is asked through ``vessl_helper.py``.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from wmtp_assets.base.errors import PublishError, SpecError
from wmtp_assets.base.model import StrictModel, first_error
from wmtp_assets.base.progress import human_bytes
from wmtp_assets.base.settings import PYTHON_VARIABLE
from wmtp_assets.base.strict_json import parse_object
from wmtp_assets.destinations.destination import ORDINARY, Access, Location
from wmtp_assets.destinations.journal import Journal
from wmtp_assets.destinations.s3 import BUCKET, S3
from wmtp_assets.destinations.s3_client import import_boto3, make_client, read_checksum
from wmtp_assets.rules.findings import as_text
from wmtp_assets.storage.files import PART
from wmtp_assets.storage.store import Store
from wmtp_assets.transfer.bounds import Meter, Unbounded, deadline

FORM = "vessl://storage/volume/path"

MAKE = (
    "Make one: python3 -m venv ~/.vessl-venv && ~/.vessl-venv/bin/pip install vessl && "
    f"~/.vessl-venv/bin/vessl configure; then export {PYTHON_VARIABLE}="
    "$HOME/.vessl-venv/bin/python"
)
"""How an environment of its own is made: the package's pins would break ours."""

HELPER = Path(__file__).with_name("vessl_helper.py")
SECONDS = 120
"""How long VESSL may take to answer."""

MAX_SIZE = 1 << 20
"""Bytes of the answer; it has some hundred."""

REGION = "ap-northeast-2"
"""Where a volume is that says nothing, as the package has it."""

ADVISORY, MANDATORY = 15 * 60, 10 * 60
"""Seconds before credentials expire from which on new ones are asked for, and waited for; of
credentials that live shorter, a quarter and an eighth of their time."""


def _with_zone(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)


class Volume(StrictModel):
    """A volume's place, and credentials for it, as the helper prints them.

    Attributes:
        path: the volume's prefix in the bucket.
        endpoint: URL of the S3 server; empty: Amazon's.
        path_style: put the bucket into the path of URLs.
        expiry_time: without a zone it is UTC; None: the credentials do not expire.
    """

    bucket: str = Field(min_length=1)
    path: str
    region: str | None
    endpoint: str | None
    path_style: bool
    access_key: str = Field(repr=False)
    secret_key: str = Field(repr=False)
    token: str | None = Field(repr=False)
    expiry_time: Annotated[datetime, AfterValidator(_with_zone)] | None

    def place(self) -> tuple[str, str, str | None]:
        """What must not change while something is sent there."""
        return self.bucket, self.path, self.endpoint

    def metadata(self) -> dict[str, str | None]:
        """As ``botocore`` takes credentials that expire."""
        return {
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "token": self.token,
            "expiry_time": self.expiry_time.isoformat() if self.expiry_time else None,
        }


def ask(location: Location, kind: str = "write") -> Volume:
    """Ask VESSL for credentials of a volume.

    Args:
        kind: ``read`` or ``write``.

    Raises:
        SpecError: if no interpreter is named.
        PublishError: if it cannot be run, has no ``vessl``, or VESSL refuses.
    """
    python = PYTHON_VARIABLE.read()
    if not python:
        raise SpecError(
            f"{PYTHON_VARIABLE} names no Python with the vessl package, whose pins are not ours. "
            f"{MAKE}"
        )
    command = [python, "-I", str(HELPER), location.host, location.path.partition("/")[0], kind]
    try:
        document = parse_object(_said(command))
    except Unbounded:
        raise PublishError(
            f"{location}: VESSL does not answer within {SECONDS} s, or with more than "
            f"{human_bytes(MAX_SIZE)}"
        ) from None
    except OSError as error:
        raise PublishError(f"{PYTHON_VARIABLE}={python} cannot be run: {error.strerror}") from error
    except ValueError as error:
        raise PublishError(
            f"{PYTHON_VARIABLE}={python} did not answer as {HELPER.name} does: {error}"
        ) from error
    if "error" in document:
        raise PublishError(_explain(location, python, document))
    try:
        return Volume.model_validate(document)
    except ValidationError as error:
        place, why = first_error(error)
        raise PublishError(
            f"{location}: VESSL's answer about the volume has no good {place}: {why}"
        ) from None


def _said(command: Sequence[str]) -> bytes:
    """What a program writes to its standard output, within bounds.

    Raises:
        Unbounded: if it writes too much, or takes too long; it is killed, with its children.
        OSError: if it cannot be run.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # it may quote requests
        start_new_session=True,
    ) as process:

        def kill() -> None:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)

        try:
            with deadline(kill, seconds=SECONDS):
                said = iter(lambda: process.stdout.read1(1 << 16), b"")  # type: ignore[union-attr]
                return b"".join(Meter(MAX_SIZE).pieces(said))
        except BaseException:
            kill()
            raise


def _explain(location: Location, python: str, document: dict[str, Any]) -> str:
    match document["error"]:
        case "ModuleNotFoundError" | "ImportError":
            return (
                f"{PYTHON_VARIABLE}={python} has no package vessl. It needs an environment of its "
                f"own, for its pins are not ours. {MAKE}"
            )
        case "NoS3":
            return (
                f"{location} is a volume of the type {as_text(document.get('kind'))} without S3 "
                "credentials; only volumes on S3 can be published to"
            )
        case kind:
            return (
                f"{location}: VESSL refuses ({as_text(kind)}): look at "
                f"{Path(python).parent}/vessl whoami, at the names of storage and volume, and "
                "whether the account may write there"
            )


def _credentials(first: Volume, renew: Callable[[], Volume]) -> Any:
    """Credentials for ``botocore``, which are renewed before they expire."""
    from botocore.credentials import Credentials, RefreshableCredentials

    if first.expiry_time is None:
        return Credentials(first.access_key, first.secret_key, first.token)
    left = max((first.expiry_time - datetime.now(UTC)).total_seconds(), 1)

    def refresh() -> dict[str, str | None]:
        try:
            again = renew()
        except SpecError as error:  # the environment changed since the first time
            raise PublishError(f"credentials cannot be renewed: {error}") from error
        if again.place() != first.place():
            raise PublishError("VESSL says now that the volume is elsewhere; run again")
        if again.expiry_time is None or again.expiry_time <= datetime.now(UTC):
            raise PublishError(
                "VESSL gives credentials that have expired, or says no more when they do. Look at "
                "this machine's clock, and run again: what was sent is kept"
            )
        return again.metadata()

    return RefreshableCredentials.create_from_metadata(
        first.metadata(),
        refresh_using=refresh,
        method="vessl",
        advisory_timeout=min(ADVISORY, left / 4),
        mandatory_timeout=min(MANDATORY, left / 8),
    )


def problem(location: Location) -> str:
    """What a URL of this scheme lacks; empty: nothing."""
    if not BUCKET.fullmatch(location.host):
        return "names no storage"
    return "" if location.path else "names no volume"


def connect(
    store: Store,
    location: Location,
    access: Access = ORDINARY,
    part_size: int = PART,
) -> S3:
    """The destination ``vessl://storage/volume/path``.

    Raises:
        SpecError, PublishError: as :func:`ask` and
            :func:`wmtp_assets.destinations.s3_client.make_client`.
    """
    boto3, checksum = import_boto3(), read_checksum()
    kind = "read" if access.is_read else "write"
    volume = ask(location, kind)
    from botocore.credentials import CredentialProvider, CredentialResolver
    from botocore.session import get_session

    credentials = _credentials(volume, lambda: ask(location, kind))

    class Provider(CredentialProvider):
        METHOD = CANONICAL_NAME = "vessl"

        def load(self) -> Any:
            return credentials

    session = get_session()
    session.register_component("credential_provider", CredentialResolver([Provider()]))
    region = volume.region or REGION
    client = make_client(
        boto3.Session(botocore_session=session),
        volume.endpoint or f"https://s3.{region}.amazonaws.com",
        checksum,
        region=region,
        path_style=volume.path_style,
    )
    prefix = "/".join(filter(None, (volume.path.strip("/"), location.path.partition("/")[2])))
    return S3(
        client,
        volume.bucket,
        prefix,
        str(location),
        Journal.of(store, str(location)),
        part_size,
        checksum,
    )
