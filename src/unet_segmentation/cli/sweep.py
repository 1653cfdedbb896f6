"""`kedro sweep`: declared variants of a problem, trained and compared."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.cli.utils import env_option

from unet_segmentation.cli.base import Command, params_option, show_table
from unet_segmentation.cli.session import open_session, run_pipeline

if TYPE_CHECKING:
    from kedro.io import CatalogProtocol


@click.command("sweep", cls=Command)
@env_option
def sweep(env: str | None, params: dict[str, object]) -> None:
    """Train the declared variants of a problem (sweep in its parameters.yml), and compare them.

    What was finished before is not trained again; what was killed is resumed. Exit status 1 where a variant failed.
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


def _is_new(catalog: CatalogProtocol[Any, Any], name: str, began: float) -> bool:
    from unet_segmentation.hooks.state import path_of

    path = path_of(catalog[name])
    return path is not None and path.is_file() and path.stat().st_mtime >= began


def _show_leaderboard(catalog: CatalogProtocol[Any, Any]) -> None:
    from unet_segmentation.experiments.sweep.report_page import COST_TITLES, SCORE_TITLES, cost_lines, score_lines

    leaderboard, costs = catalog.load("sweep_leaderboard"), catalog.load("sweep_costs")
    show_table(tuple(title.upper() for title in SCORE_TITLES), score_lines(leaderboard))
    click.echo()
    show_table(tuple(title.upper() for title in COST_TITLES), cost_lines(leaderboard, costs))
