from __future__ import annotations

import io
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline
from kedro.runner import ParallelRunner
from safetensors.numpy import save_file

from unet_segmentation import tracking
from unet_segmentation.datasets import (
    FileDataset,
    JSONDataset,
    OptionalJSONDataset,
    PlotlyDataset,
    WorkingFolderDataset,
)
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.hooks import ConsoleHooks, MlflowHooks
from unet_segmentation.hooks.console import OnceFilter, format_duration
from unet_segmentation.hooks.input_check import check_inputs
from unet_segmentation.hooks.mlflow import dataset_source
from unet_segmentation.models.model_file import weights_sha256
from unet_segmentation.tracking import Run


class Recorder(Run):
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

    def log_dataset(self, samples, name, source):
        self.said.append(("dataset", len(samples), name, source))


@pytest.fixture
def recorder():
    run = Recorder()
    tracking.set_active_run(run)
    yield run
    tracking.set_active_run(None)


def mlflow_hooks(catalog=None):
    hooks = MlflowHooks()
    source = {"folder": "/data"}
    params, settings = {"problem": "cells", "source": source}, {"mlflow": {"enabled": False}}
    hooks.after_context_created(SimpleNamespace(params=params, project_path=".", config_loader=settings))
    hooks.after_catalog_created(DataCatalog({}) if catalog is None else catalog)
    return hooks


def saved(catalog, name, data):
    hooks = mlflow_hooks(catalog)
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
            "dataset_statistics": entry(JSONDataset, "dataset_statistics", tags={"data.sha256": "data_sha256"}),
            "samples": entry(JSONDataset, "samples", input=True),
            "best_model": entry(FileDataset, "best_model", weights_tag="weights.sha256"),
        }
    )
    saved(catalog, "metrics", {"dice/mean": 0.9, "iou/class/rare": None, "note": "text", "ok": True, "images": 5})
    saved(catalog, "curves", go.Figure())
    saved(catalog, "dataset_statistics", {"data_sha256": "ab12"})
    saved(catalog, "samples", ["a", "b"])
    save_file({"w": np.zeros(1, np.float32)}, tmp_path / "weights")
    saved(catalog, "best_model", tmp_path / "weights")
    assert recorder.said == [
        ("metrics", {"test/dice/mean": 0.9, "test/images": 5.0}),
        ("artifact", "metrics.json", "evaluation"),
        ("figure", "curves.json", "figures"),
        ("tags", {"data.sha256": "ab12"}),
        ("dataset", 2, "cells", "/data"),
        ("tags", {"weights.sha256": weights_sha256(tmp_path / "weights")}),
    ]


def test_what_a_partial_run_starts_from_is_logged_once(tmp_path, recorder, monkeypatch):
    monkeypatch.setattr(MlflowHooks, "_open", lambda self: None)
    entries = {
        "audit_result": {"artifact": "data"},
        "audit": {"artifact": "data"},
        "metrics": {"artifact": "evaluation"},
    }
    catalog = DataCatalog(
        {
            name: JSONDataset(filepath=str(tmp_path / f"{name}.json"), metadata={"mlflow": expected})
            for name, expected in entries.items()
        }
    )
    for name in entries:
        catalog[name].save({})
    pipeline = Pipeline([Node(lambda *_: None, ["audit_result", "metrics"], None, name="report")])
    hooks = mlflow_hooks(catalog)
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
    report = JSONDataset(filepath=str(tmp_path / "report.json"), metadata={"console": {"page": "Report"}})
    report.save({"of": "an earlier run"})
    catalog = DataCatalog({"report": report})
    hooks = ConsoleHooks(mlflow_hooks(catalog))
    hooks.before_pipeline_run(Pipeline([]))
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
    assert dataset_source(source) == address


@pytest.mark.parametrize(("seconds", "words"), [(8.31, "8.3 s"), (125, "2 min 5 s"), (4320, "1 h 12 min")])
def test_durations_are_written_as_people_say_them(seconds, words):
    assert format_duration(seconds) == words


def test_what_holds_for_all_trainings_of_a_run_is_said_once():
    shown, root, once = io.StringIO(), logging.getLogger(), OnceFilter()
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
    hooks = mlflow_hooks()
    hooks.before_pipeline_run({"only_missing_outputs": True}, pipeline)
    assert hooks.state.is_resumable is kept


@pytest.mark.parametrize(
    ("names", "expected"), [(None, "__default__"), ([], "__default__"), (["evaluation"], "evaluation")]
)
def test_the_run_knows_which_pipelines_were_requested(names, expected):
    hooks = mlflow_hooks()
    hooks.before_pipeline_run({"pipeline_names": names}, Pipeline([]))
    assert hooks.state.pipeline_names == [expected]


def test_a_typo_in_the_catalogs_metadata_is_refused(tmp_path):
    dataset = JSONDataset(filepath=str(tmp_path / "a.json"), metadata={"mlflow": {"artefact": "x"}})
    hooks = mlflow_hooks(DataCatalog({"a": dataset}))
    pipeline = Pipeline([Node(lambda: 1, None, "a", name="one")])
    with pytest.raises(ConfigurationError, match=r"entry a, metadata\.mlflow: (.|\n)*artefact"):
        hooks.before_pipeline_run({}, pipeline)


def test_a_runner_of_processes_is_refused_in_one_sentence():
    with pytest.raises(ConfigurationError, match=r"^--runner ParallelRunner: .*ThreadRunner, or none$"):
        mlflow_hooks().before_pipeline_run({"runner": str(ParallelRunner())}, Pipeline([]))
