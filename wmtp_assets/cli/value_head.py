"""``wmtp value-head``: record a trained value head beside a checkpoint."""

from __future__ import annotations

import click

from wmtp_assets.cli.common import Document, one_name, over_store, print_line
from wmtp_assets.operations.value_head import set_value_head
from wmtp_assets.storage.store import Store


@click.command("value-head", short_help="Record a trained value head beside a checkpoint.")
@one_name
@click.option("--stage1-checkpoint-id", help="The run and step of stage 1 that trained it.")
@click.option("--forget", is_flag=True, help="Record that there is none; no file is touched.")
@over_store
def value_head(store: Store, name: str, stage1_checkpoint_id: str | None, forget: bool) -> Document:
    """Record safetensors/value_head.safetensors of a model in its metadata.json.

    NAME is the asset key or the folder of the model. The file is checked: one tensor of shape
    [hidden_size, 1]. From then on wmtp verify compares its SHA-256.
    """
    path, recorded = set_value_head(store, name, stage1_checkpoint_id, forget=forget)
    said = (
        "no longer recorded; training initialises a value head"
        if forget
        else f"recorded with SHA-256 {recorded['sha256']}"
    )
    print_line(f"{path}: {said}")
    return recorded
