"""The rule of the parameter snapshot: it says what the models say now."""

from __future__ import annotations

import yaml

from wmtp_assets.base.yaml_file import read_yaml
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import SnapshotSpec
from wmtp_assets.checkpoints.snapshot import DEFAULTS, defaults_bytes, models_there
from wmtp_assets.rules.findings import Report, Rule, Subject


def check_current(subject: Subject[SnapshotSpec], report: Report) -> None:
    """``defaults.yaml`` equals, byte for byte, one made again from the models that are there."""
    store = subject.store

    def read(model: Artifact, name: str) -> bytes:
        path = report.reads(subject, name, model)
        data = store.read(model, name)
        read_yaml(path)
        return data

    for model in models_there(store, subject.artifact):
        report.reads(subject, model.manifest, model)
        store.manifest(model)
    expected = defaults_bytes(store, subject.artifact, read)
    path = report.reads(subject, DEFAULTS)
    report.note(models=[model.key for model in models_there(store, subject.artifact)])
    if path.stat().st_size == len(expected) and path.read_bytes() == expected:
        return
    file = subject.file(DEFAULTS)
    before = len(report.outcome.findings)
    report.require(file, expected=yaml.safe_load(expected), found=read_yaml(path))
    if len(report.outcome.findings) == before:
        report.add(file, expected="the file as it is made", found="the same values, edited by hand")


RULES = (
    Rule(
        "current",
        "The snapshot holds the parameters of every model that is there, as they are now.",
        ("parameters",),
        check_current,
    ),
)
