"""Commands that read runs back: `kedro compare`, `kedro leaderboard`, `kedro reproduce`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from kedro.framework.cli.utils import env_option

from unet_segmentation.cli.base import Command, show_table
from unet_segmentation.cli.session import open_store, read_parameters
from unet_segmentation.errors import ConfigurationError, ProjectError

if TYPE_CHECKING:
    import pandas as pd

    from unet_segmentation.parameters import BootstrapParameters
    from unet_segmentation.tracking.run_queries import RunRecord

SCORE = "dice/mean"  # as in experiments.run_comparison, which is heavy to import
ENDINGS = {".csv", ".html"}

score_option = click.option("--score", default=SCORE, show_default=True, help="The score that decides.")
margin_option = click.option(
    "--margin",
    type=click.FloatRange(min=0),
    help="Differences within it are equivalent.  [default: release.noninferiority_margin of the problem]",
)


def _comparison_parameters(environment: str | None, margin: float | None) -> tuple[float, BootstrapParameters]:
    """Return the margin, else that of the problem's releases, and how its intervals are computed."""
    from unet_segmentation.parameters import validate_parameters

    parameters = validate_parameters(read_parameters(environment))
    return parameters.release.noninferiority_margin if margin is None else margin, parameters.bootstrap


@click.command("compare", cls=Command)
@click.argument("runs", nargs=-1, required=True, metavar="RUN [RUN ...]")
@env_option
@score_option
@margin_option
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Also write FILE.csv or FILE.html.")
def compare(runs: tuple[str, ...], env: str | None, score: str, margin: float | None, output: Path | None) -> None:
    """Compare runs image by image: which is better, and is the difference more than chance?

    The first RUN (an id, the beginning of one, or a name) is the reference, each other one is compared with it. A
    single RUN is compared with the problem's champion.
    """
    from unet_segmentation.experiments.run_comparison import (
        compare_evaluations,
        count_units,
        find_score_row,
        small_sample_warning,
    )
    from unet_segmentation.tracking.run_queries import load_evaluation

    if output is not None and output.suffix.lower() not in ENDINGS:
        raise ConfigurationError(f"--output {output}: give a file that ends in .csv or .html")
    _, uri, _ = open_store(env)
    reference, *others = _chosen(uri, env, runs)
    margin, bootstrap = _comparison_parameters(env or reference.problem, margin)
    first = load_evaluation(uri, reference.run_id, reference.parent_run_id)
    tables = []
    for other in others:
        try:
            table = compare_evaluations(
                first, load_evaluation(uri, other.run_id, other.parent_run_id), margin, bootstrap
            )
        except ProjectError as error:
            raise type(error)(f"{other} cannot be compared with {reference}: {error}") from error
        find_score_row(table, score)  # there is such a score
        tables.append((other, table))
    for other, table in tables:
        _show(reference, other, table, score, margin)
    remark = small_sample_warning(count_units(first))
    if remark:
        click.echo(f"{remark}\n")
    if output is not None:
        _write(output, reference, tables, score, margin, remark)
        click.echo(f"Written    {output}")


def _chosen(uri: str, problem: str | None, texts: tuple[str, ...]) -> list[RunRecord]:
    """Find the runs, the reference first: the champion, where only one is given.

    Raises:
        ConfigurationError: there is nothing to compare with, or a run with itself.
    """
    from unet_segmentation.tracking.run_queries import champion_of, find_run

    records = [find_run(uri, text, problem) for text in texts]
    if len(records) == 1:
        champion = champion_of(uri, records[0].problem)
        if champion is None:
            raise ConfigurationError(
                f"{records[0].problem} has no champion to compare {records[0]} with: nothing was released yet. Give "
                "a second run: kedro compare REFERENCE RUN (kedro leaderboard lists them)."
            )
        records.insert(0, champion)
    if len({run.run_id for run in records}) < len(records):
        raise ConfigurationError(f"A run cannot be compared with itself: {', '.join(map(str, records))}.")
    return records


def _show(reference: RunRecord, other: RunRecord, table: pd.DataFrame, score: str, margin: float) -> None:
    from unet_segmentation.reporting.run_comparison import HEADER, format_lines, sentence

    click.echo(f"Reference  {reference}  {reference.when}  {reference.link}")
    click.echo(f"Other      {other}  {other.when}  {other.link}\n")
    show_table(HEADER, format_lines(table, score))
    click.echo(f"\n{sentence(table, score, str(reference), str(other), margin)}\n")


def _write(
    output: Path,
    reference: RunRecord,
    tables: list[tuple[RunRecord, pd.DataFrame]],
    score: str,
    margin: float,
    remark: str | None,
) -> None:
    import pandas as pd

    from unet_segmentation.reporting.run_comparison import comparison_page
    from unet_segmentation.utils.atomic_io import atomic_write

    with atomic_write(output) as temporary:
        if output.suffix.lower() == ".csv":
            parts = [table.assign(reference=reference.run_id, other=other.run_id) for other, table in tables]
            everything = pd.concat(parts).rename(columns={"champion": "reference_value", "challenger": "other_value"})
            everything.to_csv(temporary, index=False)
        else:
            compared = [(str(other), other.when, table) for other, table in tables]
            page = comparison_page(reference.problem, (str(reference), reference.when), compared, score, margin, remark)
            temporary.write_text(page, encoding="utf-8")


@click.command("leaderboard", cls=Command)
@env_option
@score_option
@margin_option
def leaderboard(env: str | None, score: str, margin: float | None) -> None:
    """List all finished runs of a problem, the best first, each compared with the best image by image."""
    from unet_segmentation.experiments.run_comparison import leaderboard as rank
    from unet_segmentation.experiments.run_comparison import small_sample_warning
    from unet_segmentation.reporting.run_comparison import format_number, interval

    _, uri, problem = open_store(env)
    table = rank(uri, problem, score, *_comparison_parameters(env, margin))
    left = ("RUN", "ID", "WHEN", score.upper(), "INTERVAL", "TO THE BEST", "INTERVAL", "VERDICT")
    header = (*left, "NETWORK", "EPOCHS", "SEED", "DATA")
    rows = [
        (
            *(row["run"], row["run_id"][:8], row["started"]),
            *(format_number(row["value"]), interval(row["low"], row["high"])),
            *(format_number(row["difference"], "+"), interval(row["difference_low"], row["difference_high"], "+")),
            *(row["verdict"], row["encoder"], row["epochs"], row["seed"], row["data"][:8]),
        )
        for row in table.to_dict("records")
    ]
    show_table(header, rows)
    units = int(table["units"].iloc[0])  # 0, where no run left its counts
    if units and (remark := small_sample_warning(units)):
        click.echo(f"\n{remark}")


@click.command("reproduce", cls=Command)
@click.argument("run_id", metavar="RUN_ID")
@env_option
def reproduce(run_id: str, env: str | None) -> None:
    """Make a run again from what MLflow holds of it, and say whether scores and weights are the same.

    Exit status 0 if they are, 1 if not.
    """
    from unet_segmentation.experiments.reproduce.reproduce import reproduce as make_again
    from unet_segmentation.tracking.run_queries import find_run

    root, uri, _ = open_store(env)
    run = find_run(uri, run_id, env)
    try:
        verdict = make_again(uri, run, root, click.echo)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Nothing of the second run is left.") from None
    click.echo()
    for title, sentence in verdict.lines:
        click.echo(f"{title:<11}{sentence}")
    click.echo(f"\n{run} {'was reproduced' if verdict.same else 'was not reproduced'}.")
    sys.exit(0 if verdict.same else 1)
