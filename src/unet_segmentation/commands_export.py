"""The command that exports a model. Kedro imports this at every command: nothing heavy."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.utils import env_option

from unet_segmentation.commands_release import _Command, params_option


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
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    from unet_segmentation.cli import _project_root

    root = _project_root()
    bootstrap_project(root)
    given = {
        "model": str(Path(model).absolute()) if model and model.endswith(".safetensors") else model,
        "int8": int8 or None,
        "output": str(Path(output).absolute()) if output else None,
    }
    asked = {**params.get("export", {}), **{name: value for name, value in given.items() if value is not None}}
    with KedroSession.create(project_path=root, env=env, runtime_params={**params, "export": asked}) as session:
        logging.getLogger("kedro.runner").setLevel(logging.ERROR)  # a refusal is nothing to resume from
        context = session.load_context()  # type: ignore[attr-defined]
        session.run(pipeline_names=["export"])  # type: ignore[call-arg]
        folder = root / context.catalog["exported_model"]._path
    click.echo(f"Exported   {folder}" + (f" and {asked['output']}" if asked.get("output") else ""))


export.params += [params_option]
