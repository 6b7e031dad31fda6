"""``wmtp value-head``: record a trained value head beside a checkpoint."""

from __future__ import annotations

import click

from wmtp_assets.base.errors import SpecError
from wmtp_assets.catalogue.artifact import VALUE_HEAD
from wmtp_assets.checkpoints.configs import files_of
from wmtp_assets.checkpoints.params import parse_params
from wmtp_assets.checkpoints.value_head import forget_value_head, record_value_head
from wmtp_assets.cli.common import json_option, open_store, print_json
from wmtp_assets.cli.complete import complete_names


@click.command("value-head")
@click.argument("name", shell_complete=complete_names)
@click.option("--stage1-checkpoint-id", help="The run and step of stage 1 that trained it.")
@click.option("--forget", is_flag=True, help="Record that there is none; no file is touched.")
@json_option
def value_head(name: str, stage1_checkpoint_id: str | None, forget: bool, as_json: bool) -> None:
    """Record safetensors/value_head.safetensors of a model in its metadata.json.

    NAME is the asset key or the folder of the model. The file is checked: one tensor of shape
    [hidden_size, 1]. From then on wmtp verify compares its SHA-256.
    """
    store = open_store()
    models = [item for item in store.catalogue.select(name) if VALUE_HEAD in item.guests]
    if not models:
        raise SpecError(f"{name} is no model that a value head lies beside")
    (model,) = models
    if forget:
        manifest = forget_value_head(store, model)
    else:
        params_name = files_of(model).params
        params = parse_params(store.read(model, params_name), str(store.path(model, params_name)))
        manifest = record_value_head(store, model, params.dim, stage1_checkpoint_id)
    recorded = manifest.document["value_head"]
    path = store.path(model, VALUE_HEAD)
    if as_json:
        print_json(recorded)
    elif forget:
        click.echo(f"{path}: no longer recorded; training initialises a value head")
    else:
        click.echo(f"{path}: recorded with SHA-256 {recorded['sha256']}")
