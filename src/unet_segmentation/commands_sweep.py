"""Commands that train many times: variants side by side, and a search. Nothing heavy is imported at the top."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.utils import env_option

from unet_segmentation.commands_release import _Command, params_option
from unet_segmentation.sessions import open_session, run_pipeline


def register(cli: click.Group) -> None:
    """Add the commands to the project's."""
    for command in (sweep, search):
        cli.add_command(command)


@click.command("sweep", cls=_Command)
@env_option
def sweep(env: str | None, params: dict[str, Any]) -> None:
    """Train the declared variants of a problem (comparison in its parameters.yml), and hold them against each other.

    What was finished before is not trained again; what was killed goes on. Exit status 1 where a variant failed.
    """
    began = time.time()
    with open_session(env, params) as session:
        context = session.load_context()
        catalog = context.catalog
        try:
            run_pipeline(session, "sweep")
        finally:
            if _is_new(catalog, "sweep_page", began):
                _show_leaderboard(catalog)
                if catalog.exists("report"):
                    again = f"kedro run --env {context.params['problem']} --nodes evaluation.report"
                    click.echo(f"\nreport.html shows this, too, once it is written again: {again}")


sweep.params += [params_option]


@click.command("search", cls=_Command)
@env_option
def search(env: str | None, params: dict[str, Any]) -> None:
    """Search the declared space (search in the problem's parameters.yml) for the best validation score.

    Run again it goes on; several may run at once. The best parameters become conf/<problem>_best.
    """
    with open_session(env, params) as session:
        run_pipeline(session, "search")


search.params += [params_option]


def _is_new(catalog: Any, name: str, began: float) -> bool:  # noqa: ANN401 - a Kedro catalog
    path = Path(str(catalog[name]._filepath))
    return path.is_file() and path.stat().st_mtime >= began


def _show_leaderboard(catalog: Any) -> None:  # noqa: ANN401 - a Kedro catalog
    from unet_segmentation.cli import _show_table
    from unet_segmentation.experiments.sweep.report_page import COST_TITLES, SCORE_TITLES, cost_lines, score_lines

    leaderboard, costs = catalog.load("sweep_leaderboard"), catalog.load("sweep_costs")
    _show_table(tuple(title.upper() for title in SCORE_TITLES), score_lines(leaderboard))
    click.echo()
    _show_table(tuple(title.upper() for title in COST_TITLES), cost_lines(leaderboard, costs))
