"""The leaderboard's nodes: from a real store to the table and the plot."""

from __future__ import annotations

import json

import pytest

from tests.toy_project import empty_store
from tests.tracking.stored import tables, tell
from unet_segmentation import tracking
from unet_segmentation.datasets import CSVDataset
from unet_segmentation.errors import TrackingError
from unet_segmentation.parameters import BootstrapParameters, ReleaseParameters
from unet_segmentation.pipelines.leaderboard import nodes
from unet_segmentation.tracking import Run


def test_without_tracking_there_is_nothing_to_read():
    with pytest.raises(TrackingError, match="tracking is off"):
        nodes.rank("cells", ReleaseParameters(), BootstrapParameters())


@pytest.mark.slow
def test_from_the_store_to_the_plot(tmp_path, monkeypatch):
    (tmp_path / "mlflow.db").write_bytes(empty_store())
    ids = [tell(tmp_path, name, result=tables(5, error)) for name, error in (("0012", 0.3), ("better", 0.1))]

    class OwnRun(Run):
        uri, run_id = f"sqlite:///{tmp_path / 'mlflow.db'}", "own"

    monkeypatch.setattr(tracking, "_active", OwnRun())
    monkeypatch.setattr(OwnRun, "enabled", True)
    table = nodes.rank("cells", ReleaseParameters(), BootstrapParameters())
    assert list(table["run_id"]) == ids[::-1]
    dataset = CSVDataset(filepath=str(tmp_path / "leaderboard.csv"), load_args={"dtype": {"run": str, "run_id": str}})
    dataset.save(table)
    figure = nodes.plot_ranks(dataset.load())
    labels = [label.replace("<br>", " · ") for trace in figure.data for label in trace.y]
    assert sorted(labels) == sorted([f"0012 · {ids[0][:6]}", f"better · {ids[1][:6]}"])
    assert "NaN" not in json.dumps(json.loads(figure.to_json()))
