"""`kedro search`: hyperparameter search."""

from __future__ import annotations

import click
from kedro.framework.cli.utils import env_option

from unet_segmentation.cli.base import Command, params_option
from unet_segmentation.cli.session import open_session, run_pipeline


@click.command("search", cls=Command)
@env_option
def search(env: str | None, params: dict[str, object]) -> None:
    """Search the declared space (search in the problem's parameters.yml) for the best validation score.

    Run again it resumes; several may run at once. The best parameters become conf/<problem>_best.
    """
    with open_session(env, params) as session:
        run_pipeline(session, "search")


search.params += [params_option]
