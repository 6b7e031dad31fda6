"""How rules read small files of any artifact, and which libraries they do without."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.strict_json import MAX_SIZE, parse_object, read_small
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import Spec
from wmtp_assets.rules.findings import Report, Subject
from wmtp_assets.storage.manifest import Document

NEEDS = {
    "sentencepiece": "sentencepiece is not installed: pip install sentencepiece",
    "pyarrow": "needs pyarrow: pip install 'wmtp_assets[platform]'",
}
"""What a rule says that is skipped for want of a library."""


def has_library(report: Report, name: Literal["sentencepiece", "pyarrow"]) -> bool:
    """Whether a library is installed; where not, the rule is skipped."""
    if find_spec(name) is None:
        report.skip(NEEDS[name])
        return False
    return True


def read_file(
    subject: Subject[Spec],
    report: Report,
    name: str,
    of: Artifact[Spec] | None = None,
    max_size: int = MAX_SIZE,
) -> bytes:
    """A small file of the subject, unless another artifact is given.

    Raises:
        InvalidInput: if it is larger than ``max_size`` bytes.
    """
    path = report.reads(subject, name, of)
    try:
        return read_small(path, max_size)
    except ValueError as error:
        raise InvalidInput(f"{name}: {error}") from error


def read_document(
    subject: Subject[Spec], report: Report, name: str, of: Artifact[Spec] | None = None
) -> Document:
    """A JSON file of the subject, unless another artifact is given.

    Raises:
        InvalidInput: if it is none.
    """
    path = report.reads(subject, name, of)
    try:
        return parse_object(read_small(path))
    except ValueError as error:
        raise InvalidInput(f"not JSON: {error}") from error
