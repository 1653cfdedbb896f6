"""`kedro mlflow`: MLflow's pages, and what its server has missed."""

from __future__ import annotations

import os
import subprocess
import sys

import click
from kedro.framework.cli.utils import env_option

from unet_segmentation.cli.base import Command
from unet_segmentation.cli.session import project_root, read_settings
from unet_segmentation.errors import ProjectError


@click.group("mlflow")
def mlflow_group() -> None:
    """MLflow: show all runs, send what a server has missed."""


@mlflow_group.command("ui", cls=Command)
@env_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=5000, show_default=True, help="Port to listen at.")
def ui(env: str | None, host: str, port: int) -> None:
    """Show all runs in the browser: MLflow's pages over the project's store."""
    from unet_segmentation.tracking.settings import check_store, is_server, store_uri

    root, settings = project_root(), read_settings(env)
    uri = store_uri(settings, root)
    check_store(uri, settings.timeout_seconds)
    page = "/#/experiments?workflowType=machine_learning"
    if is_server(uri):
        click.echo(f"The runs are on a server already: {uri}{page}")
        return
    click.echo(f"MLflow starts at http://{host}:{port}{page} (Ctrl-C ends it)")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--default-artifact-root", (root / "mlartifacts").as_uri(), "--host", host, "--port", str(port)]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    try:
        process = subprocess.run([*command, "--workers", "1"], check=False, env={**os.environ, **environment})
    except KeyboardInterrupt:
        return
    sys.exit(process.returncode)


@mlflow_group.command("sync", cls=Command)
@env_option
def sync(env: str | None) -> None:
    """Send to MLflow what earlier runs could not, because its server was away."""
    from unet_segmentation.tracking.settings import configure_mlflow

    configure_mlflow(read_settings(env).timeout_seconds)
    from unet_segmentation.tracking.uploader import upload_pending  # MLflow reads its settings when it is imported

    complete, waiting = upload_pending(project_root())
    if waiting:
        raise ProjectError(f"{waiting} of {complete + waiting} runs could not be sent: their MLflow server is away.")
    click.echo(f"Sent what {complete} runs had left." if complete else "Nothing is left to send.")
