"""Commands that release a model and take it back. Kedro imports this at every command: nothing heavy."""

from __future__ import annotations

from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import env_option

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.sessions import open_session, run_pipeline

params_option = next(option for option in kedro_run.params if option.name == "params")


class _Command(click.Command):
    """A command whose errors end as one message, and whose tracked run is closed when it is interrupted."""

    def invoke(self, context: click.Context) -> Any:  # noqa: ANN401 - whatever the command returns
        from unet_segmentation.cli import _interruptible, _use_project_logging, plain_errors

        _use_project_logging(None)
        with plain_errors(), _interruptible():
            return super().invoke(context)


def register(cli: click.Group) -> None:
    """Add the commands to the project's."""
    for command in (release, rollback):
        cli.add_command(command)


@click.command("release", cls=_Command)
@env_option
@click.option("--run", help="An MLflow run: its id, the beginning of one, or its name. Else: the model in data/.")
@click.option("--force", is_flag=True, help="Release whatever the gate says; --reason is kept with the release.")
@click.option("--reason", help="The reason, with --force.")
def release(env: str | None, run: str | None, force: bool, reason: str | None, params: dict[str, Any]) -> None:
    """Make a trained model the released one (MLflow's alias `champion`), if the gate lets it through.

    Exit status 1 where it does not: the message says which condition is not met, with the figures.
    """
    if force and not (reason or "").strip():
        raise ConfigurationError("--force: say why, with --reason TEXT: the reason is kept with the release.")
    if reason and not force:
        raise ConfigurationError("--reason is the reason of --force: without it the gate decides, and says why itself.")
    given = {"run": run, "force": force or None, "reason": reason}
    asked = {**params.get("release", {}), **{name: value for name, value in given.items() if value is not None}}
    with open_session(env, {**params, "release": asked}) as session:
        run_pipeline(session, "release")


release.params += [params_option]


@click.command("rollback", cls=_Command)
@env_option
@click.option("--reason", help="The reason; kept with the version that is taken back.")
def rollback(env: str | None, reason: str | None) -> None:
    """Make the version that was released before the champion again; once more undoes it."""
    from unet_segmentation.cli import problem_store
    from unet_segmentation.tracking.run_metadata import user

    _, uri, problem = problem_store(env)
    from unet_segmentation.tracking.model_registry import Registry  # MLflow reads its settings when it is imported

    champion, previous = Registry(uri, problem).roll_back(user(), reason)
    click.echo(f"The champion of {problem} is version {champion.number} again (run {champion.run_id}).")
    click.echo(f"Version {previous.number} (run {previous.run_id}) is the previous one now; once more puts it back.")
