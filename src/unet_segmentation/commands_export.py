"""The command that exports a model. Kedro imports this at every command: nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.utils import env_option

from unet_segmentation.commands_release import _Command, params_option
from unet_segmentation.sessions import open_session, project_root, run_pipeline


def register(cli: click.Group) -> None:
    """Add the command to the project's."""
    cli.add_command(export)


@click.command("export", cls=_Command)
@env_option
@click.option("--model", help="champion, an MLflow run, or a safetensors file. Else: the network that lies in data/.")
@click.option("--int8", is_flag=True, help="Also write an ONNX file of 8 bits, for CPUs; its loss is measured.")
@click.option("--output", help="A folder that gets a copy of what is published.")
def export(env: str | None, model: str | None, int8: bool, output: str | None, params: dict[str, Any]) -> None:
    """Write a trained network as ONNX and torch.export, if the files do what the network does.

    Exit status 1 where they do not: the message says by how much, and in which image.
    """
    given = {
        "model": str(Path(model).absolute()) if model and model.endswith(".safetensors") else model,
        "int8": int8 or None,
        "output": str(Path(output).absolute()) if output else None,
    }
    asked = {**params.get("export", {}), **{name: value for name, value in given.items() if value is not None}}
    with open_session(env, {**params, "export": asked}) as session:
        catalog = session.load_context().catalog
        run_pipeline(session, "export")
    folder = project_root() / catalog["exported_model"]._path
    click.echo(f"Exported   {folder}" + (f" and {asked['output']}" if asked.get("output") else ""))


export.params += [params_option]
