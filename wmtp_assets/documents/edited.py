"""The YAML files that people edit, beside the ``defs.yaml`` of the document that reads them.

``changelog.yaml`` of the README, ``action_items.yaml`` and ``notes.yaml`` of the migration notes. A
document is made from them as from manifests: the rule ``current`` finds one that is out of date.
"""

from __future__ import annotations

import unicodedata
from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from wmtp_assets.base.model import StrictModel
from wmtp_assets.base.yaml_file import read_model
from wmtp_assets.catalogue.artifact import Catalogue
from wmtp_assets.catalogue.specs import DocumentSpec


def plain_text(text: str) -> str:
    """Return ``text`` if it is something to read on one line.

    Raises:
        ValueError: if it is blank, begins or ends with white space, or holds a character that is
            invisible, or no character at all.
    """
    if not text or text != text.strip():
        raise ValueError("it is blank, or it has white space around it")
    for letter in text:
        if unicodedata.category(letter)[0] == "C" or (letter.isspace() and letter != " "):
            raise ValueError(f"it holds the character {letter!a}")
    return text


Text = Annotated[str, AfterValidator(plain_text)]


class Change(StrictModel):
    """What changed in the artifacts with a version; ``date`` is the day it was released."""

    version: str = Field(pattern=r"^v\d+\.\d+\.\d+$")
    date: date
    changes: tuple[Text, ...] = Field(min_length=1)


class Changelog(StrictModel):
    """``changelog.yaml``: versions of the artifacts, the newest first."""

    versions: tuple[Change, ...]

    @model_validator(mode="after")
    def _newest_first(self) -> Changelog:
        days = [change.date for change in self.versions]
        names = [change.version for change in self.versions]
        if days != sorted(days, reverse=True) or len({*names}) < len(names):
            raise ValueError("versions: each once, the newest first")
        return self


class ActionItem(StrictModel):
    """Something that somebody has to do.

    Attributes:
        closed: the day it was done; a closed item stays, with its day.
        blocks_next_phase: whether phase 2 cannot begin before it is closed.
    """

    title: Text
    owner: Text
    state: Literal["open", "closed"]
    opened: date
    closed: date | None = None
    blocks_next_phase: bool = False

    @model_validator(mode="after")
    def _has_its_day(self) -> ActionItem:
        if (self.state == "closed") != (self.closed is not None):
            raise ValueError("a closed item says when it was closed, and an open one does not")
        if self.closed is not None and self.closed < self.opened:
            raise ValueError("closed before it was opened")
        return self


class ActionItems(StrictModel):
    """``action_items.yaml``."""

    action_items: tuple[ActionItem, ...]


class Risk(StrictModel):
    """What may go wrong, what that would do, and how it is met."""

    risk: Text
    effect: Text
    met_by: Text


class Quote(StrictModel):
    """How many rows of a dataset a document says there are: ``rows`` in its own words, by split."""

    document: Text
    dataset: Text
    rows: dict[str, Text] = Field(min_length=1)


class Notes(StrictModel):
    """``notes.yaml``: what is known of the migration besides what manifests say."""

    risks: tuple[Risk, ...]
    quoted_counts: tuple[Quote, ...]


def action_items(catalogue: Catalogue) -> tuple[ActionItem, ...]:
    """What has to be done, in the order of the file, which lies beside the migration notes; nothing
    where nobody declares those.

    Raises:
        InvalidInput: naming file, line and field.
    """
    for spec in catalogue.specs:
        if isinstance(spec, DocumentSpec) and spec.document == "migration":
            return read_model(spec.beside("action_items.yaml"), ActionItems).action_items
    return ()
