"""The list of rules for ``docs/rules.md``: ``python -m wmtp_assets.operations.describe_rules``."""

from __future__ import annotations

from collections.abc import Iterator

from wmtp_assets.catalogue.artifact import Catalogue
from wmtp_assets.kinds.registry import all_kinds, all_rules, kinds_of, load_catalogue, rules_of
from wmtp_assets.operations.verify import EXIT_CODES

_EXIT_CODES = """### Exit codes of `wmtp verify`

| problem | code |
|---|---|"""


def describe_rules(catalogue: Catalogue) -> str:
    """A table per kind of artifact, and the exit codes, as Markdown."""
    codes = (f"| {problem} | {code} |" for problem, code in EXIT_CODES.items())
    return "\n".join([*_tables(catalogue), _EXIT_CODES, *codes, ""])


def _tables(catalogue: Catalogue) -> Iterator[str]:
    for kind in all_kinds():
        artifacts = catalogue.of_kind(kind)
        yield f"### {kind}\n"
        yield f"{', '.join(f'`{artifact.key}`' for artifact in artifacts)}.\n"
        yield "| rule | what must hold | otherwise |\n|---|---|---|"
        for rule in (rule for rule in all_rules() if kind in kinds_of(rule)):
            holding = [item for item in artifacts if rule in rules_of(item)]
            only = f" Only: {', '.join(item.key for item in holding)}." * (holding != artifacts)
            effect = "blocks downstream" if rule.blocking else "warns"
            yield f"| `{rule.name}` | {rule.statement}{only} | {effect} |"
        yield ""


if __name__ == "__main__":
    print(describe_rules(load_catalogue()), end="")
