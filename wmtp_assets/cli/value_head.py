"""``wmtp value-head``: record a trained value head beside a checkpoint."""

from __future__ import annotations

import click

from wmtp_assets.cli.common import json_option, one_name, open_store, print_json, print_line
from wmtp_assets.operations.value_head import set_value_head


@click.command("value-head")
@one_name
@click.option("--stage1-checkpoint-id", help="The run and step of stage 1 that trained it.")
@click.option("--forget", is_flag=True, help="Record that there is none; no file is touched.")
@json_option
def value_head(name: str, stage1_checkpoint_id: str | None, forget: bool, as_json: bool) -> None:
    """Record safetensors/value_head.safetensors of a model in its metadata.json.

    NAME is the asset key or the folder of the model. The file is checked: one tensor of shape
    [hidden_size, 1]. From then on wmtp verify compares its SHA-256.
    """
    store = open_store()
    path, recorded = set_value_head(store, name, stage1_checkpoint_id, forget=forget)
    if as_json:
        print_json(store.settings, **recorded)
    elif forget:
        print_line(f"{path}: no longer recorded; training initialises a value head")
    else:
        print_line(f"{path}: recorded with SHA-256 {recorded['sha256']}")
