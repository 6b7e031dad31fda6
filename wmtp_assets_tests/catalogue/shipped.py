"""The artifacts of one spec among those that are shipped."""

from __future__ import annotations

from typing import Any

from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import Spec, load_specs
from wmtp_assets.kinds.registry import expand


def artifacts_of(spec: Spec) -> list[Artifact[Any]]:
    """The artifacts of ``spec``, which takes the place of the shipped one of its name."""
    others = [other for other in load_specs() if other.name != spec.name]
    return [artifact for artifact in expand([*others, spec]) if artifact.spec is spec]
