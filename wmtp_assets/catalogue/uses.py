"""What each dataset may be used for, as its ``defs.yaml`` says."""

from __future__ import annotations

from typing import get_args

from wmtp_assets.base.errors import SpecError
from wmtp_assets.catalogue.specs import DatasetSpec, Use, load_specs


def usable_for(use: str, dataset: str | None = None) -> tuple[str, ...]:
    """The datasets that may be used for something.

    Args:
        use: ``verifiable_critic`` (training that reads is_correct), ``baseline`` or ``rho_1``
            (training that does not), or ``evaluation``.
        dataset: one that must be among them.

    Raises:
        SpecError: for an unknown use or dataset, or if ``dataset`` must not be used for it.
    """
    if use not in get_args(Use):
        raise SpecError(f"{use!r} is no use of a dataset; those are: {', '.join(get_args(Use))}")
    specs = {spec.name: spec for spec in load_specs() if isinstance(spec, DatasetSpec)}
    names = tuple(name for name, spec in specs.items() if use in spec.uses)
    if dataset is not None and dataset not in specs:
        raise SpecError(f"{dataset!r} is no dataset; known: {', '.join(specs)}")
    if dataset is not None and dataset not in names:
        raise SpecError(
            f"{dataset} must not be used for {use}: it is for {', '.join(specs[dataset].uses)}. "
            f"Use one of: {', '.join(names) or 'none yet'}"
        )
    return names
