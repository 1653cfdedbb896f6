"""`kedro export`: a trained network as ONNX and torch.export."""

from __future__ import annotations

from pathlib import Path

import click
from kedro.framework.cli.utils import env_option

from unet_segmentation.cli.base import Command, params_option
from unet_segmentation.cli.session import open_session, project_root, run_pipeline, with_options


@click.command("export", cls=Command)
@env_option
@click.option("--model", help="champion, an MLflow run, or a safetensors file. Else: the network that lies in data/.")
@click.option("--int8", is_flag=True, help="Also write an ONNX file of 8 bits, for CPUs; its loss is measured.")
@click.option("--output", help="A folder that gets a copy of what is published.")
def export(
    env: str | None, model: str | None, int8: bool, output: str | None, params: dict[str, dict[str, object]]
) -> None:
    """Write a trained network as ONNX and torch.export, if the files do what the network does.

    Exit status 1 where they do not: the message says by how much, and in which image.
    """
    from unet_segmentation.hooks.state import path_of

    options = {
        "model": str(Path(model).absolute()) if model and model.endswith(".safetensors") else model,
        "int8": int8 or None,
        "output": str(Path(output).absolute()) if output else None,
    }
    params = with_options(params, "export", options)
    with open_session(env, params) as session:
        catalog = session.load_context().catalog
        run_pipeline(session, "export")
    folder = project_root() / (path_of(catalog["exported_model"]) or "")
    click.echo(f"Exported   {folder}" + (f" and {copy}" if (copy := params["export"].get("output")) else ""))


export.params += [params_option]
