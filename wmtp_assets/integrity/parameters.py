"""The rule of the parameter snapshot: it says what the models say now."""

from __future__ import annotations

import yaml

from wmtp_assets.checkpoints.snapshot import DEFAULTS, defaults_bytes, models_there
from wmtp_assets.integrity.findings import Report, Subject
from wmtp_assets.integrity.yaml_file import read_yaml
from wmtp_assets.layout import Artifact


def check_current(subject: Subject, report: Report) -> None:
    """``defaults.yaml`` equals, byte for byte, one made again from the models that are there."""

    def read(model: Artifact, name: str) -> bytes:
        return report.reads(subject, name, model).read_bytes()

    expected = defaults_bytes(subject.store, subject.artifact, read)
    path = report.reads(subject, DEFAULTS)
    report.note(models=[model.key for model in models_there(subject.store, subject.artifact)])
    if path.read_bytes() == expected:
        return
    file = subject.file(DEFAULTS)
    before = len(report.outcome.findings)
    report.require(file, expected=yaml.safe_load(expected), found=read_yaml(path))
    if len(report.outcome.findings) == before:
        report.add(file, expected="the file as it is made", found="the same values, edited by hand")
