"""A sweep and a search of the `test` problem through the real command line, killed and run again."""

import sqlite3
from collections import Counter

import pandas as pd
import pytest

from tests.conftest import Project
from tests.end_to_end.conftest import kill_at, succeeded

pytestmark = pytest.mark.slow

CONFIGURATION = """
sweep:
  variants: {plain: {}, wide: {model.base_channels: 8}}
  seeds: [0, 1]
search:
  space: {training.optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}}
  n_trials: 3
training: {epochs: 4}
"""
PREPARATION = ("--to-nodes", "training.propose_plan")
FAILING = "sweep.variants.deep.model.encoder_depth=6,sweep.variants.deep.training.patch_size=32"


@pytest.fixture(scope="module")
def project(make_project) -> Project:
    """A project with prepared data, and something to sweep."""
    project = make_project("sweep", with_store=True)
    (project.path / "conf" / "local" / "parameters.yml").write_text(CONFIGURATION)
    succeeded(project.kedro("run", "--env", "test", *PREPARATION))
    return project


def children(project: Project, prefix: str) -> Counter:
    """How many MLflow runs below another one there are of each name."""
    query = "select name from runs join tags on tags.run_uuid = runs.run_uuid where key = 'mlflow.parentRunId'"
    with sqlite3.connect(project.path / "mlflow.db") as store:
        return Counter(name for (name,) in store.execute(query) if name.startswith(prefix))


def parents(project: Project, pipeline: str) -> int:
    """How many MLflow runs there are of a pipeline, those below them not counted."""
    query = (
        "select count(*) from tags where key = 'pipelines' and value = ? and run_uuid not in "
        "(select run_uuid from tags where key = 'mlflow.parentRunId')"
    )
    with sqlite3.connect(project.path / "mlflow.db") as store:
        return int(store.execute(query, (pipeline,)).fetchone()[0])


def report(project: Project, name: str):
    return project.path / "data" / "08_reporting" / "test" / name


def test_a_sweep_that_was_killed_goes_on_and_comes_to_the_same(project, make_project):
    kill_at(project, "wide, seed 0: dice", "sweep", "--env", "test")  # the second one is finished
    output = succeeded(project.kedro("sweep", "--env", "test"))
    assert output.count("finished before") == 2
    assert "VARIANT" in output
    assert output.count("Traceback") == output.count("Warning") == 0
    undisturbed = make_project("undisturbed")
    (undisturbed.path / "conf" / "local" / "parameters.yml").write_text(CONFIGURATION)
    untracked = "mlflow.enabled=false"
    prepare = ("run", "--env", "test", *PREPARATION)
    succeeded(undisturbed.kedro(*prepare, "--params", untracked))
    succeeded(undisturbed.kedro("sweep", "--env", "test", "--params", untracked))
    for name in ("sweep_runs.csv", "sweep_leaderboard.csv"):
        assert report(project, name).read_bytes() == report(undisturbed, name).read_bytes()
    assert parents(project, "sweep") == 1
    assert children(project, "") == {f"{name}, seed {seed}": 1 for name in ("plain", "wide") for seed in (0, 1)}
    assert not (undisturbed.path / "mlflow.db").exists()


def test_the_report_of_the_problem_shows_its_sweep(project):
    train = ("run", "--env", "test", "--pipelines", "augmentation,training,evaluation")
    succeeded(project.kedro(*train))
    output = succeeded(project.kedro("sweep", "--env", "test"))
    again = "kedro run --env test --nodes evaluation.report"
    assert f"report.html shows this, too, once it is written again: {again}" in output
    succeeded(project.kedro(*again.split()[1:]))
    section = report(project, "report.html").read_text().split('<section id="variants">')[1].split("</section>")[0]
    values = pd.read_csv(report(project, "sweep_leaderboard.csv"))["value"]
    assert len(values) == 2
    assert all(f">{value:.4f}<" in section for value in values)
    assert "on other data" not in section


def test_a_variant_that_fails_stops_no_other_and_the_exit_status_says_so(project):
    answer = project.kedro("sweep", "--env", "test", "--params", FAILING)
    assert answer.returncode == 1
    assert "2 of 6 training runs failed" in answer.stdout
    assert answer.stdout.count("finished before") == 4
    assert "Traceback" not in answer.stdout
    runs = pd.read_csv(report(project, "sweep_runs.csv"))
    assert Counter(runs["status"]) == {"finished": 4, "failed": 2}


def test_a_wrong_variant_is_refused_before_anything_is_trained(project):
    answer = project.kedro("sweep", "--env", "test", "--params", "sweep.variants.odd.model.base_chanels=3")
    assert answer.returncode == 1
    assert "did you mean 'base_channels'" in answer.stdout
    assert "epoch" not in answer.stdout


def test_a_search_that_was_killed_queues_its_trial_again_and_leaves_a_problem(project):
    kill_at(project, "epoch 2/4", "search", "--env", "test")
    output = succeeded(project.kedro("search", "--env", "test"))
    assert "trial 0 was killed: it is queued again" in output
    assert "resuming after epoch" in output
    assert parents(project, "search") == 1
    trials = pd.read_csv(report(project, "search_trials.csv"))
    assert trials["state"].tolist()[0] == "killed"
    assert len(trials) == 4
    assert (project.path / "conf" / "test_best" / "parameters.yml").is_file()
    best = float(pd.to_numeric(trials["value"]).max())
    succeeded(project.kedro("run", "--env", "test_best"))
    history = pd.read_csv(project.path / "data" / "08_reporting" / "test_best" / "training_history.csv")
    assert history["validation/dice/mean"].max() == best
