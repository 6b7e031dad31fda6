"""The page ``docs/settings.md``: ``python -m wmtp_assets.operations.describe_settings``."""

from __future__ import annotations

from wmtp_assets.base.settings import HONOURED, VARIABLES, Variable


def describe_settings() -> str:
    """The whole page, as Markdown."""
    return (
        "# Settings\n\n"
        "All settings are environment variables. An empty variable counts as not set.\n"
        "This page is generated: `python -m wmtp_assets.operations.describe_settings`.\n\n"
        f"{_table(VARIABLES)}\n"
        "## Variables of other programs\n\n"
        "These are read by this project or by the libraries it uses.\n\n"
        f"{_table(HONOURED)}"
    )


def _table(variables: tuple[Variable, ...]) -> str:
    rows = (f"| `{item}` | {item.meaning} | {item.default} | {item.where} |" for item in variables)
    head = "| variable | meaning | when it is not set | used by |", "|---|---|---|---|"
    return "".join(f"{line}\n" for line in (*head, *rows))


if __name__ == "__main__":
    print(describe_settings(), end="")
