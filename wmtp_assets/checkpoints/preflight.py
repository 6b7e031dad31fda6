"""Judging a checkpoint before it is downloaded, by its small files and excerpts of its large ones.

The same functions judge that would judge the whole files, in the same order. So what is refused
here would be refused then, with the same words. What is not refused here may still be: no weight
was seen. Nothing that is read here is recorded or used again.
"""

from __future__ import annotations

from pathlib import Path

from wmtp_assets.base.excerpts import Excerpts, Hole
from wmtp_assets.base.progress import Say
from wmtp_assets.catalogue.artifact import Artifact
from wmtp_assets.catalogue.specs import ModelSpec
from wmtp_assets.checkpoints.convert import intended
from wmtp_assets.checkpoints.params import parse_parameters
from wmtp_assets.checkpoints.tokenizer import check_identity, is_fast
from wmtp_assets.checkpoints.torch_zip import Verify, trust
from wmtp_assets.checkpoints.upstream import read_file, read_upstream, wanted
from wmtp_assets.storage.store import Store


def judge(store: Store, raw: Artifact[ModelSpec], excerpts: Excerpts, say: Say) -> list[Hole]:
    """What must be known besides to judge a model's raw files; nothing: they are not refused.

    What the small files say is judged first, before anything of the large ones is asked for.

    Args:
        raw: its files, under the paths that they would have, are those of ``excerpts``.

    Raises:
        InvalidInput: with which the tokenizer or the checkpoint would be refused.
        Hole: if the content of a small file is not among the excerpts.
        FileNotFoundError: if not all that is needed is among the excerpts.
    """
    spec = raw.spec

    def path_of(name: str) -> Path:
        return store.path(raw, f"raw/{name}")

    def whole(name: str) -> bytes:
        return excerpts.read(path_of(name))

    def open_raw(name: str) -> tuple[Path, Verify]:
        return path_of(name), trust  # what is not whole cannot be verified

    facts = store.catalogue.tokenizer(spec)
    if spec.files.tokenizer is not None and not is_fast(spec.files.tokenizer):
        where = str(path_of(spec.files.tokenizer))
        check_identity(whole(spec.files.tokenizer), facts, store.settings.source, where)
    data = whole(spec.parameters_file) if spec.parameters_file is not None else b""
    if spec.parameters_file is not None and spec.has_params:
        any_rows = facts.vocab_size  # where the file leaves them open
        parse_parameters(spec, data, str(path_of(spec.parameters_file)), any_rows)
    holes: list[Hole] = []
    for name in spec.files.shards or (spec.files.checkpoint,):
        try:
            read_file(*open_raw(name), wanted(spec), excerpts.open)
        except Hole as hole:
            holes.append(hole)
    if holes:
        return holes
    upstream = read_upstream(spec.files, open_raw, wanted(spec), excerpts.open)
    intended(store, raw, upstream, data)
    return []
