"""Names for the shell's completion: asset keys and folder names."""

from __future__ import annotations

import click


def complete_names(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Asset keys and folder names that begin with what was typed; none where a spec is malformed.

    Names that are on the line already are left out.
    """
    from wmtp_assets.base.errors import SpecError
    from wmtp_assets.kinds.registry import load_catalogue

    try:
        catalogue = load_catalogue()
    except SpecError:
        return []
    names = {artifact.key: None for artifact in catalogue}
    names |= {artifact.unit.split("/")[-1]: None for artifact in catalogue}
    given = context.params.get(parameter.name or "") or ()
    there = {given} if isinstance(given, str) else {*given}
    return [name for name in names if name.startswith(typed) and name not in there]
