"""What is read back of runs is what was told, from a real store."""

from __future__ import annotations

import mlflow
import pytest
import yaml

from tests.tracking.stored import CLASSES, tables, tell
from unet_segmentation.errors import TrackingError
from unet_segmentation.tracking import run_queries
from unet_segmentation.tracking.model_registry import CHAMPION
from unet_segmentation.tracking.settings import is_local


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A store with five runs: the root, its address, and the ids by what they are."""
    from tests.toy_project import empty_store

    root = tmp_path_factory.mktemp("told") / "my project"
    root.mkdir()
    (root / "mlflow.db").write_bytes(empty_store())
    ids = {
        "first": tell(root, "unet a", result=tables(12, 0.1), **{"data.sha256": "d" * 64}),
        "twin": tell(root, "unet b", result=tables(12, 0.2)),
        "namesake": tell(root, "unet b"),
        "other": tell(root, "unet a", problem="camvid"),
        "failed": tell(root, "broken", status="FAILED"),
    }
    return root, f"sqlite:///{root / 'mlflow.db'}", ids


def test_a_run_is_found_by_id_by_its_beginning_and_by_name(told):
    _, uri, ids = told
    first = ids["first"]
    for text in (first, first[:10], first[:10].upper(), "unet a"):
        run = run_queries.find_run(uri, text, "cells")
        assert run.run_id == first
    assert (run.name, run.problem, run.status) == ("unet a", "cells", "FINISHED")
    assert run.parameters["training.epochs"] == "12"
    assert run.metrics["test/dice/mean"] > 0.8
    assert run.tags["data.sha256"] == "d" * 64
    assert run.link.endswith(f"/runs/{first}?workflowType=machine_learning")
    assert first[:8] in str(run)


def test_a_name_that_several_runs_have_is_answered_with_all_of_them(told):
    _, uri, ids = told
    with pytest.raises(TrackingError, match="may be 2 runs") as error:
        run_queries.find_run(uri, "unet b", "cells")
    assert ids["twin"][:12] in str(error.value)
    assert ids["namesake"][:12] in str(error.value)
    assert ids["other"][:12] not in str(error.value)


def test_a_run_that_is_not_there_is_answered_with_what_is_near(told):
    _, uri, ids = told
    with pytest.raises(TrackingError, match="Near it:") as error:
        run_queries.find_run(uri, "brokn", "cells")
    assert ids["failed"][:12] in str(error.value)
    with pytest.raises(TrackingError, match="The newest:"):
        run_queries.find_run(uri, "zzzzzzzz", "cells")
    with pytest.raises(TrackingError, match="There is no run of wbc in"):
        run_queries.find_run(uri, "unet a", "wbc")


def test_finished_runs_of_a_problem_come_newest_first(told):
    _, uri, ids = told
    assert [run.run_id for run in run_queries.finished_runs(uri, "cells")] == [
        ids["namesake"],
        ids["twin"],
        ids["first"],
    ]
    assert [run.run_id for run in run_queries.finished_runs(uri, "camvid")] == [ids["other"]]
    assert run_queries.finished_runs(uri, 'a "quoted" name') == []


def test_the_counts_come_back_as_they_were(told):
    _, uri, ids = told
    left = run_queries.load_evaluation(uri, ids["first"])
    before = tables(12, 0.1)
    assert left.tables.confusion.equals(before["confusion"])
    assert left.tables.soft.equals(before["soft"])
    assert left.samples["sample_id"].tolist() == before["samples"]["sample_id"].tolist()
    assert (left.classes, left.split) == (CLASSES, "test")


def test_an_artifact_that_is_not_there_is_named(told):
    _, uri, ids = told
    with pytest.raises(TrackingError, match=r"has no artifact evaluation/tables/confusion\.parquet"):
        run_queries.load_evaluation(uri, ids["namesake"])


def test_all_parameters_are_kept_as_the_file_they_could_come_from(told, tmp_path):
    _, uri, ids = told
    kept = yaml.safe_load(run_queries.fetch(uri, ids["first"], run_queries.PARAMETERS, tmp_path).read_text())
    assert kept == run_queries.load_parameters(uri, ids["first"])
    assert kept["training"] == {"epochs": 12, "seed": 3}  # how it began is no parameter of the result
    assert "problem" not in kept


def test_the_champion_is_the_run_of_the_released_version(told):
    root, uri, ids = told
    assert run_queries.champion_of(uri, "cells") is None
    client = mlflow.MlflowClient(uri)
    client.create_registered_model("cells")
    assert run_queries.champion_of(uri, "cells") is None
    (root / "model").mkdir()
    client.create_model_version("cells", (root / "model").as_uri(), run_id=ids["twin"])
    client.set_registered_model_alias("cells", CHAMPION, "1")
    champion = run_queries.champion_of(uri, "cells")
    assert champion is not None
    assert champion.run_id == ids["twin"]


def test_a_store_that_is_not_there_is_not_made(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert is_local(uri)
    with pytest.raises(TrackingError, match="There are no runs yet"):
        run_queries.finished_runs(uri, "cells")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_server_that_is_away_is_named(server):
    with pytest.raises(TrackingError, match=f"{server.uri} cannot be read"):
        run_queries.finished_runs(server.uri, "cells")
