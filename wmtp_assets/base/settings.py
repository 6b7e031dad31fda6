"""What the environment decides, the time too: every variable is declared and read here.

``docs/settings.md`` is made from it, by :mod:`wmtp_assets.operations.describe_settings`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from wmtp_assets.base.cpus import usable_cpus
from wmtp_assets.base.errors import SpecError

Source = Literal["sample", "hub"]


class Variable(str):
    """The name of an environment variable, with what people must know about it.

    Attributes:
        meaning, default, where: sentence, value and place of use, in Markdown.
    """

    meaning: str
    default: str
    where: str

    def __new__(cls, name: str, meaning: str, default: str, where: str) -> Variable:
        self = super().__new__(cls, name)
        self.meaning, self.default, self.where = meaning, default, where
        return self

    def read(self, environment: Mapping[str, str] = os.environ) -> str:
        """Its value; empty: not set. To set it to nothing is to unset it."""
        return environment.get(self, "")


SOURCE_VARIABLE = Variable(
    "WMTP_SOURCE",
    "Where raw bytes come from: `sample` (generated, offline) or `hub` (the Hugging Face Hub).",
    "`sample`",
    "everywhere",
)
ROOT_VARIABLE = Variable(
    "WMTP_STORAGE_ROOT",
    "The storage root itself. A relative path is below the project folder.",
    "`storage/sample`, or `storage` for the hub",
    "everywhere",
)
WORKERS_VARIABLE = Variable(
    "WMTP_WORKERS",
    "How many processes convert one dataset, 1 to 256; and how many threads hash files, and "
    "processes, up to 4, apply the rules of a large artifact.",
    "one per CPU that the process may use: affinity and cgroup limits count",
    "making `<dataset>_processed`, checks, `wmtp verify`",
)
STEPS_VARIABLE = Variable(
    "WMTP_CONVERSION_STEPS",
    "In how many steps each dataset is converted, 0 to 64. They can run on as many hosts, and a "
    "last step joins their results. 0: in one step.",
    "`0`",
    "Dagster",
)
VERIFY_VARIABLE = Variable(
    "WMTP_VERIFY_AT_ONCE",
    "How many rules the processes of one user apply at the same time on one host, 1 to 256; "
    "others wait. They take turns by locks in the host's temporary folder (`TMPDIR`).",
    "no limit",
    "checks, `wmtp verify`",
)
RATE_VARIABLE = Variable(
    "WMTP_READ_RATE",
    "How many bytes per second the rule `sha256` reads at most, each time it is applied, 1000000 "
    "to 1000000000000.",
    "no limit",
    "checks, `wmtp verify`",
)
LOCK_VARIABLE = Variable(
    "WMTP_LOCK",
    "The file that pins the commit of each repository. A relative path is below the project "
    "folder.",
    "`wmtp.lock`",
    "downloads, `wmtp lock`, `wmtp plan`",
)
TRUST_VARIABLE = Variable(
    "WMTP_TRUSTED_ENDPOINT",
    "URL of a mirror that may be sent your token; it must equal `HF_ENDPOINT`, or, for `gs://` and "
    "`az://`, `--endpoint-url`.",
    "no mirror gets it",
    "downloads, `wmtp doctor`, `wmtp publish`, `wmtp pull`",
)
TRUST_FOLDER_VARIABLE = Variable(
    "WMTP_TRUST",
    "The folder that says whose signatures are believed. A relative path is below the project "
    "folder.",
    "`trust`",
    "`wmtp sign`, `wmtp verify --signed`, `wmtp pull --signed`",
)
PUBLISH_VARIABLE = Variable(
    "WMTP_PUBLISH_URL",
    "Where the assets of the group `published` send to, as `wmtp publish --to` takes it.",
    "they fail, and say so",
    "Dagster",
)
CREATE_VARIABLE = Variable(
    "WMTP_PUBLISH_CREATE",
    "`1`: as `wmtp publish --create`, a repository or branch that the hub does not have is made, "
    "and it is private.",
    "it must be there",
    "Dagster",
)
ACCEPT_VARIABLE = Variable(
    "WMTP_PUBLISH_ACCEPT_LICENCE",
    "`1`: as `wmtp publish --accept-licence`, you keep to the conditions of upstream's licences.",
    "what has conditions is not published to the hub",
    "Dagster",
)
CHECKSUM_VARIABLE = Variable(
    "WMTP_S3_CHECKSUM",
    "How an S3 server knows the SHA-256 of a body: from `x-amz-checksum-sha256`, which it keeps "
    "beside the object (`sha256`), or, for servers that do not know that header, from the "
    "signature of the request (`signature`).",
    "`sha256`",
    "`wmtp publish`, `wmtp pull`",
)
PYTHON_VARIABLE = Variable(
    "WMTP_VESSL_PYTHON",
    "The Python interpreter that has the `vessl` package.",
    "`vessl://` is refused",
    "`wmtp publish`, `wmtp pull`",
)
WEBHOOK_VARIABLE = Variable(
    "WMTP_WEBHOOK_URL",
    "Where failed runs are posted as JSON, with a `text` as Slack and Mattermost show it. The "
    "address is a secret: it appears in no log and in no error.",
    "nothing is posted",
    "Dagster",
)
AUTOMATION_VARIABLE = Variable(
    "WMTP_AUTOMATION",
    "`1`: derived assets are made again when what they are made from changes.",
    "off",
    "Dagster",
)
HOSTS_VARIABLE = Variable(
    "WMTP_UI_HOSTS",
    "Host names under which the web UI is reached through a proxy or tunnel, as the browser shows "
    "them, with commas: `wmtp.example.org,localhost:8000`.",
    "127.0.0.1, localhost and [::1], with the port",
    "the web UI",
)
ENGINE_VARIABLE = Variable(
    "WMTP_ENGINE",
    "What runs the steps of a run: `in_process`, `multiprocess`, `slurm`, `ray` or `k8s` "
    "([clusters](clusters.md)).",
    "`in_process`",
    "Dagster",
)
SBATCH_VARIABLE = Variable(
    "WMTP_SBATCH",
    "Options of `sbatch` for the job of every step, such as `--account=nlp --partition=cpu`. Those "
    "of an asset come after them.",
    "none",
    "Dagster, with `WMTP_ENGINE=slurm`",
)
DATABASE_VARIABLE = Variable(
    "WMTP_DATABASE_URL",
    "The PostgreSQL database of the Dagster instance, `postgresql://user@host:5432/name`, for "
    "engines of many hosts. Its password is a secret: it appears in no log and in no error.",
    "SQLite",
    "`source activate.sh`, Dagster",
)
FAULTS_VARIABLE = Variable(
    "WMTP_FAULTS",
    "`full`: the tests inject every fault, not a part of them.",
    "a part",
    "tests",
)
VARIABLES = (
    SOURCE_VARIABLE,
    ROOT_VARIABLE,
    WORKERS_VARIABLE,
    STEPS_VARIABLE,
    VERIFY_VARIABLE,
    RATE_VARIABLE,
    LOCK_VARIABLE,
    TRUST_VARIABLE,
    TRUST_FOLDER_VARIABLE,
    PUBLISH_VARIABLE,
    CREATE_VARIABLE,
    ACCEPT_VARIABLE,
    CHECKSUM_VARIABLE,
    PYTHON_VARIABLE,
    WEBHOOK_VARIABLE,
    AUTOMATION_VARIABLE,
    HOSTS_VARIABLE,
    ENGINE_VARIABLE,
    SBATCH_VARIABLE,
    DATABASE_VARIABLE,
    FAULTS_VARIABLE,
)
"""Every variable of this project."""

ENDPOINT_VARIABLE = Variable(
    "HF_ENDPOINT",
    "A mirror of the hub; https, or http on this machine.",
    "`https://huggingface.co`",
    "downloads",
)
TOKEN_VARIABLES = (
    Variable(
        "HF_TOKEN",
        "The token for gated repositories. It is sent to the official hub and to the trusted "
        "mirror only.",
        "the login of `hf auth login`",
        "downloads",
    ),
    Variable(
        "HUGGING_FACE_HUB_TOKEN", "The older name of `HF_TOKEN`.", "see `HF_TOKEN`", "downloads"
    ),
)
EMULATOR_VARIABLE = Variable(
    "STORAGE_EMULATOR_HOST",
    "An emulator of Google Cloud Storage on this machine. It is sent no credentials.",
    "Google's servers",
    "`gs://`",
)
AZURE_VARIABLES = {
    name: Variable(f"AZURE_STORAGE_{name}", meaning, default, "`az://`")
    for name, meaning, default in (
        (
            "CONNECTION_STRING",
            "Account, key and endpoint in one. It goes before all others.",
            "see `AZURE_STORAGE_ACCOUNT`",
        ),
        ("ACCOUNT", "The name of the account.", "`az://` is refused"),
        ("KEY", "Its key.", "see `AZURE_STORAGE_SAS_TOKEN`"),
        (
            "SAS_TOKEN",
            "A shared access signature.",
            "the login of `az login`, or the machine's identity",
        ),
    )
}
"""What is behind ``AZURE_STORAGE_`` → the variable, as Azure's own command has them."""
EPOCH_VARIABLE = Variable(
    "SOURCE_DATE_EPOCH",
    "The time to write into manifests, in seconds since 1970.",
    "now",
    "everything that is made",
)
HOME_VARIABLE = Variable(
    "DAGSTER_HOME",
    "The folder of `dagster.yaml`. `source activate.sh` sets it.",
    "the working directory",
    "Dagster, `wmtp doctor`",
)
HONOURED = (
    *TOKEN_VARIABLES,
    ENDPOINT_VARIABLE,
    Variable("HF_HUB_OFFLINE", "`1`: nothing is asked or downloaded.", "off", "downloads"),
    Variable("HTTPS_PROXY", "The proxy for https; `HTTP_PROXY` for http.", "none", "downloads"),
    Variable(
        "ALL_PROXY",
        "The proxy for both; one of `socks5://` needs the library `socksio`.",
        "none",
        "downloads",
    ),
    Variable(
        "SSL_CERT_FILE",
        "Certificates of the authorities to trust, in PEM.",
        "those of `certifi`",
        "downloads, alerts",
    ),
    Variable(
        "AWS_PROFILE",
        "The profile with credentials, region and endpoint; or `AWS_ACCESS_KEY_ID`, "
        "`AWS_SECRET_ACCESS_KEY`, `AWS_DEFAULT_REGION` and `AWS_ENDPOINT_URL_S3`.",
        "as `boto3` has it",
        "`s3://`",
    ),
    Variable(
        "GOOGLE_APPLICATION_CREDENTIALS",
        "The file with the credentials of an account.",
        "the login of `gcloud auth application-default login`, or the machine's account",
        "`gs://`",
    ),
    EMULATOR_VARIABLE,
    *AZURE_VARIABLES.values(),
    Variable(
        "VESSL_DEFAULT_ORGANIZATION",
        "The organization that has the storage.",
        "that of `vessl configure`",
        "`vessl://`",
    ),
    HOME_VARIABLE,
    EPOCH_VARIABLE,
    Variable(
        "_WMTP_COMPLETE",
        "Prints the completion of a shell, such as `bash_source`.",
        "off",
        "shells",
    ),
)
"""Variables of others that this project or its libraries read."""


@dataclass(frozen=True)
class Settings:
    """Where raw bytes come from, and where artifacts are kept (an absolute path)."""

    source: Source
    root: Path


def project_folder() -> Path:
    """The checkout this package is run from, or the working directory where it is installed."""
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "workspace.yaml").is_file() else Path.cwd()


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read ``WMTP_SOURCE`` (``sample``, the default, or ``hub``) and ``WMTP_STORAGE_ROOT``.

    The root defaults to ``storage/sample`` for the sample and ``storage`` for the hub; a relative
    one is below the project folder, from wherever the command is called.

    Raises:
        SpecError: for another source.
    """
    source = SOURCE_VARIABLE.read(environment) or "sample"
    if source not in get_args(Source):
        raise SpecError(
            f"{SOURCE_VARIABLE}={source!r} is not a source; use 'sample' (offline, generated) "
            "or 'hub' (the Hugging Face Hub)"
        )
    default = "storage" if source == "hub" else "storage/sample"
    root = project_folder() / Path(ROOT_VARIABLE.read(environment) or default).expanduser()
    return Settings("hub" if source == "hub" else "sample", root)


def read_workers(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes one materialization may use: ``WMTP_WORKERS``, else one per usable CPU.

    Raises:
        SpecError: for what is not a number from 1 to 256.
    """
    return _number(WORKERS_VARIABLE, "processes", 1, 256, environment) or usable_cpus()


def read_conversion_steps(environment: Mapping[str, str] = os.environ) -> int:
    """In how many steps a dataset is converted; 0: in one, which joins too.

    Raises:
        SpecError: for what is not a number from 0 to 64.
    """
    return _number(STEPS_VARIABLE, "steps", 0, 64, environment) or 0


def read_verify_at_once(environment: Mapping[str, str] = os.environ) -> int | None:
    """How many artifacts are verified at the same time on one host; None: there is no bound.

    Raises:
        SpecError: for what is not a number from 1 to 256.
    """
    return _number(VERIFY_VARIABLE, "verifications", 1, 256, environment)


def read_rate(environment: Mapping[str, str] = os.environ) -> int | None:
    """How many bytes a second a verification reads at most; None: there is no bound.

    Raises:
        SpecError: for what is not a number from 10**6 to 10**12.
    """
    return _number(RATE_VARIABLE, "bytes a second", 10**6, 10**12, environment)


def require_numbers(environment: Mapping[str, str] = os.environ) -> None:
    """See to it that every setting that is a number is one.

    Raises:
        SpecError: for the first that is not.
    """
    for read in (read_workers, read_conversion_steps, read_verify_at_once, read_rate):
        read(environment)


def _number(
    variable: Variable, what: str, least: int, most: int, environment: Mapping[str, str]
) -> int | None:
    """The number that a variable says; None: it is not set."""
    text = variable.read(environment)
    if not text:
        return None
    is_number = text.isascii() and text.isdigit() and len(text) <= max(len(str(most)), 3)
    if not (is_number and least <= int(text) <= most):
        raise SpecError(f"{variable}={text!r} is not a number of {what}, {least} to {most}")
    return int(text)


def read_engine(environment: Mapping[str, str] = os.environ) -> str:
    """What runs the steps of a run: ``WMTP_ENGINE``, a module of ``components/engines/``."""
    return ENGINE_VARIABLE.read(environment) or "in_process"


def utc_now() -> datetime:
    """Now, or ``SOURCE_DATE_EPOCH`` (seconds since 1970) when that is set.

    Raises:
        SpecError: if it is set to something else.
    """
    epoch = EPOCH_VARIABLE.read()
    if not epoch:
        return datetime.now(UTC)
    try:
        return datetime.fromtimestamp(int(epoch), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise SpecError(
            f"SOURCE_DATE_EPOCH={epoch!r} is not a number of seconds: {error}"
        ) from error


def timestamp() -> str:
    """:func:`utc_now` in whole seconds, ISO 8601: ``2026-01-31T12:00:00Z``."""
    return utc_now().strftime("%Y-%m-%dT%H:%M:%SZ")
