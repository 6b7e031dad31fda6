"""Who approved the completion report, and which content of it."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from wmtp_assets.base.errors import InvalidInput
from wmtp_assets.base.model import Sha256, StrictModel, first_problem

MAX_NAME = 100
MAX_NOTE = 1000


def plain_text(text: str) -> str:
    """Return ``text`` if it is something to read on one line.

    Raises:
        ValueError: if it is blank, begins or ends with white space, or holds a character that is
            invisible, or no character at all.
    """
    if not text or text != text.strip():
        raise ValueError("it is blank, or white space stands around it")
    for letter in text:
        if unicodedata.category(letter)[0] == "C" or (letter.isspace() and letter != " "):
            raise ValueError(f"it holds the character {letter!a}")
    return text


PlainText = Annotated[str, AfterValidator(plain_text)]


class Approval(StrictModel):
    """One approval.

    Attributes:
        at: UTC time.
        sha256: of the report that was approved, without its approvals.
    """

    by: PlainText = Field(max_length=MAX_NAME)
    at: str = Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")
    sha256: Sha256
    note: Annotated[str, AfterValidator(lambda text: text and plain_text(text))] = Field(
        default="", max_length=MAX_NOTE
    )


_APPROVALS = TypeAdapter(list[Approval])


def parse_approvals(stated: Any, where: str) -> list[Approval]:
    """The approvals that the manifest of a report has; none where it says nothing.

    Raises:
        InvalidInput: if it says something else; ``where`` names the manifest.
    """
    try:
        return _APPROVALS.validate_python([] if stated is None else stated, strict=False)
    except ValidationError as error:
        raise InvalidInput(
            f"{where}: {first_problem(error, 'approvals')}; to begin without approvals, take the "
            "file away and make the report again"
        ) from error
