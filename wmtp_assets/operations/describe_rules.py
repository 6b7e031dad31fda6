"""The list of rules for ``docs/rules.md``: ``python -m wmtp_assets.operations.describe_rules``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from wmtp_assets.catalogue.layout import Catalogue, Kind
from wmtp_assets.operations.verify import EXIT_CODES
from wmtp_assets.rules.apply import RULES, rules_of


def describe_rules(catalogue: Catalogue) -> str:
    """A table per kind of artifact, and the exit codes, as Markdown."""
    return "\n".join([*_tables(catalogue), *_exit_codes(), ""])


def _tables(catalogue: Catalogue) -> Iterator[str]:
    for kind in get_args(Kind):
        artifacts = [artifact for artifact in catalogue if artifact.kind == kind]
        yield f"### {kind}"
        yield ""
        yield f"{', '.join(f'`{artifact.key}`' for artifact in artifacts)}."
        yield ""
        yield "| rule | what holds | when it does not |"
        yield "|---|---|---|"
        for rule in RULES:
            if kind not in rule.kinds:
                continue
            holding = [item for item in artifacts if rule in rules_of(item)]
            only = f" Only: {', '.join(item.key for item in holding)}." * (holding != artifacts)
            effect = "stops what is downstream" if rule.blocking else "warns"
            yield f"| `{rule.name}` | {rule.statement}{only} | {effect} |"
        yield ""


def _exit_codes() -> Iterator[str]:
    yield "### Exit codes of `wmtp verify`"
    yield ""
    yield "| problem | code |"
    yield "|---|---|"
    for problem, code in EXIT_CODES.items():
        yield f"| {problem} | {code} |"


if __name__ == "__main__":
    print(describe_rules(Catalogue.load()), end="")
