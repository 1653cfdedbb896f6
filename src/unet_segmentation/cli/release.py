"""`kedro release` and `kedro rollback`."""

from __future__ import annotations

import click
from kedro.framework.cli.utils import env_option

from unet_segmentation.cli.base import Command, params_option
from unet_segmentation.cli.session import open_session, open_store, run_pipeline, with_options
from unet_segmentation.errors import ConfigurationError


@click.command("release", cls=Command)
@env_option
@click.option("--run", help="An MLflow run: its id, the beginning of one, or its name. Else: the model in data/.")
@click.option("--force", is_flag=True, help="Release whatever the gate says; --reason is kept with the release.")
@click.option("--reason", help="The reason, with --force.")
def release(
    env: str | None, run: str | None, force: bool, reason: str | None, params: dict[str, dict[str, object]]
) -> None:
    """Make a trained model the released one (MLflow's alias `champion`), if the gate lets it through.

    Exit status 1 where it does not: the message says which condition is not met, with the figures.
    """
    if force and not (reason or "").strip():
        raise ConfigurationError("--force: say why, with --reason TEXT: the reason is kept with the release.")
    if reason and not force:
        raise ConfigurationError("--reason is the reason of --force: without it the gate decides, and says why itself.")
    options = {"run": run, "force": force or None, "reason": reason}
    with open_session(env, with_options(params, "release", options)) as session:
        run_pipeline(session, "release")


release.params += [params_option]


@click.command("rollback", cls=Command)
@env_option
@click.option("--reason", help="The reason; kept with the version that is taken back.")
def rollback(env: str | None, reason: str | None) -> None:
    """Make the version that was released before the champion again; once more undoes it."""
    from unet_segmentation.tracking.run_metadata import user

    _, uri, problem = open_store(env)
    from unet_segmentation.tracking.model_registry import Registry  # MLflow reads its settings when it is imported

    champion, previous = Registry(uri, problem).roll_back(user(), reason)
    click.echo(f"The champion of {problem} is version {champion.number} again (run {champion.run_id}).")
    click.echo(f"Version {previous.number} (run {previous.run_id}) is the previous one now; once more puts it back.")
