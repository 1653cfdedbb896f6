from __future__ import annotations

import io
import logging

import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline

from tests.data.fabricated_statistics import statistics_of
from unet_segmentation import tracking
from unet_segmentation.datasets import (
    JSONDataset,
    ModelDataset,
    OptionalJSONDataset,
    PlotlyDataset,
    WorkingFolderDataset,
)
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.hooks import ConsoleHooks, SayOnce, TrackingHooks, _origin, check_inputs, duration, goes_on
from unet_segmentation.tracking import NullRun


class Recorder(NullRun):
    """A run that writes down what it is told."""

    enabled = True

    def __init__(self):
        self.said = []

    def log_metrics(self, values, step=0, time=None):
        self.said.append(("metrics", values))

    def log_artifact(self, path, folder=None):
        self.said.append(("artifact", path.name, folder))

    def log_figure_html(self, figure, folder=None):
        self.said.append(("figure", figure.name, folder))

    def set_tags(self, tags):
        self.said.append(("tags", tags))


@pytest.fixture
def recorder():
    run = Recorder()
    tracking.set_current(run)
    yield run
    tracking.set_current(None)


def saved(catalog, name, data):
    hooks = TrackingHooks()
    hooks.after_catalog_created(catalog)
    catalog[name].save(data)
    hooks.after_dataset_saved(name, data)


def test_the_catalog_says_what_is_logged(tmp_path, recorder):
    import plotly.graph_objects as go

    def entry(kind, name, **mlflow):
        return kind(filepath=str(tmp_path / f"{name}.json"), metadata={"mlflow": mlflow} if mlflow else None)

    catalog = DataCatalog(
        {
            "metrics": entry(JSONDataset, "metrics", artifact="evaluation", metrics="test"),
            "curves": entry(PlotlyDataset, "curves", artifact="figures"),
            "dataset_statistics": ModelDataset(
                filepath=str(tmp_path / "dataset_statistics.json"),
                model="unet_segmentation.data.statistics.DatasetStatistics",
            ),
        }
    )
    saved(catalog, "metrics", {"dice/mean": 0.9, "iou/class/rare": None, "note": "text", "ok": True, "images": 5})
    saved(catalog, "curves", go.Figure())
    saved(catalog, "dataset_statistics", statistics_of({"data_sha256": "ab12"}))
    assert recorder.said == [
        ("metrics", {"test/dice/mean": 0.9, "test/images": 5.0}),
        ("artifact", "metrics.json", "evaluation"),
        ("figure", "curves.json", "figures"),
        ("tags", {"data.sha256": "ab12"}),
    ]


def test_what_a_partial_run_starts_from_is_logged_once(tmp_path, recorder, monkeypatch):
    monkeypatch.setattr(TrackingHooks, "_open", lambda self: None)
    entries = {
        "audit_result": {"artifact": "data"},
        "audit": {"artifact": "data"},
        "metrics": {"artifact": "evaluation"},
    }
    catalog = DataCatalog(
        {
            name: JSONDataset(filepath=str(tmp_path / f"{name}.json"), metadata={"mlflow": wanted})
            for name, wanted in entries.items()
        }
    )
    for name in entries:
        catalog[name].save({})
    pipeline = Pipeline([Node(lambda *_: None, ["audit_result", "metrics"], None, name="report")])
    hooks = TrackingHooks()
    hooks.after_catalog_created(catalog)
    hooks.before_pipeline_run({}, pipeline)
    for name in ("audit_result", "metrics", "audit_result", "audit"):
        hooks.after_dataset_loaded(name, {})
    assert recorder.said == [("artifact", "audit_result.json", "data")]


def test_tracking_that_fails_stops_nothing(tmp_path, recorder, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorder, "log_artifact", full)
    dataset = JSONDataset(filepath=str(tmp_path / "a.json"), metadata={"mlflow": {"artifact": "x"}})
    saved(DataCatalog({"a": dataset}), "a", {})
    assert "a was not tracked" in caplog.text


def test_a_partial_run_says_which_pipeline_makes_what_is_missing(tmp_path, monkeypatch):
    from kedro.framework import project

    def work(*_):
        return None

    preparation = Pipeline([Node(work, "raw", "dataset_statistics", name="dataset_statistics")])
    training = Pipeline([Node(work, ["dataset_statistics", "folder", "sweep", "params:seed"], "model", name="train")])

    class Pipelines(dict):
        def set_requested(self, names):
            pass

    monkeypatch.setattr(project, "pipelines", Pipelines(__default__=preparation, data_preparation=preparation))
    file = tmp_path / "dataset_statistics.json"
    catalog = DataCatalog(
        {
            "dataset_statistics": JSONDataset(filepath=str(file)),
            "folder": WorkingFolderDataset(path=str(tmp_path / "work")),
            "sweep": OptionalJSONDataset(filepath=str(tmp_path / "sweep.json")),
        }
    )
    with pytest.raises(ConfigurationError) as error:
        check_inputs(training, catalog, "camvid")
    assert str(file) in str(error.value)
    assert "sweep" not in str(error.value)
    assert "kedro run --pipelines data_preparation --env camvid" in str(error.value)
    file.write_text("{}")
    check_inputs(training, catalog, "camvid")


@pytest.mark.parametrize("made", [True, False])
def test_the_last_lines_name_the_report_only_where_the_run_has_made_it(tmp_path, capsys, made):
    report = JSONDataset(filepath=str(tmp_path / "report.json"))
    report.save({"of": "an earlier run"})
    hooks = ConsoleHooks()
    hooks.before_pipeline_run({"only_missing_outputs": True}, Pipeline([]), DataCatalog({"report": report}))
    if made:
        hooks.after_dataset_saved("report", {})
    hooks.after_pipeline_run()
    assert ("report.json" in capsys.readouterr().out.replace("\n", "")) is made


@pytest.mark.parametrize(
    ("source", "address"),
    [
        ({"archives": [{"url": "https://example.org/a.zip"}]}, "https://example.org/a.zip"),
        ({"archives": [{"url": "https://example.org/a.zip"}], "archive": "/tmp/a.zip"}, "/tmp/a.zip"),
        ({"folder": "/data"}, "/data"),
        ({"generator": {"name": "cells"}}, "generator:cells"),
    ],
)
def test_the_origin_of_the_data_is_one_address(source, address):
    assert _origin(source) == address


@pytest.mark.parametrize(("seconds", "words"), [(8.31, "8.3 s"), (125, "2 min 5 s"), (4320, "1 h 12 min")])
def test_durations_are_written_as_people_say_them(seconds, words):
    assert duration(seconds) == words


def test_what_holds_for_all_trainings_of_a_run_is_said_once():
    shown, root, once = io.StringIO(), logging.getLogger(), SayOnce()
    handler = logging.StreamHandler(shown)
    root.addHandler(handler)
    try:
        for _ in range(2):  # runs
            once.begin()
            for number in range(3):  # trainings
                root.error("epochs is 8", extra={"once": "epochs 8"})
                root.error("training %d", number)
    finally:
        root.removeHandler(handler)
        for other in root.handlers:
            other.removeFilter(once)
    run = ["epochs is 8", "training 0", "training 1", "training 2"]
    assert shown.getvalue().splitlines() == run * 2


@pytest.mark.parametrize(
    ("namespace", "kept"), [("inference", True), ("article_claims", True), ("data_preparation", False)]
)
def test_an_interrupted_run_says_whether_it_goes_on(namespace, kept):
    pipeline = Pipeline(
        [Node(lambda a: a, "a", "b", name="one")], namespace=namespace, prefix_datasets_with_namespace=False
    )
    TrackingHooks().before_pipeline_run({"only_missing_outputs": True}, pipeline)
    assert goes_on() is kept
