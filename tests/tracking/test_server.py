"""An MLflow server that is away in the middle of a run, and comes back."""

from __future__ import annotations

import time

import mlflow
import pytest

from tests.tracking.runs import begin, wait_until
from unet_segmentation.errors import TrackingError
from unet_segmentation.tracking.journal import FOLDER
from unet_segmentation.tracking.uploader import upload_pending

pytestmark = pytest.mark.slow
EPOCHS = range(1, 31)


def history(client, run_id):
    points = client.get_metric_history(run_id, "train/loss")
    return [(point.step, point.value, point.timestamp) for point in sorted(points, key=lambda point: point.step)]


def test_a_server_that_goes_away_and_comes_back_has_everything_once(root, server, tmp_path):
    server.open()
    note = tmp_path / "note.txt"
    run = begin(root, uri=server.uri, system_metrics=True, system_metrics_seconds=0.5, timeout_seconds=3)
    run_id = run.run_id
    output, longest = [], 0.0
    for epoch in EPOCHS:
        if epoch == 8:
            server.close()
        if epoch == 22:
            server.open()
        now = time.time()
        began = time.perf_counter()
        run.log_metrics({"train/loss": 1 / epoch}, step=epoch, time=now)
        note.write_text(f"epoch {epoch}")
        run.log_artifact(note, f"notes/{epoch}")
        longest = max(longest, time.perf_counter() - began)
        output.append((epoch, 1 / epoch, int(now * 1000)))
        time.sleep(0.1)
    assert longest < 0.2, "a server that is away must not be felt"
    outcome = run.finish("FINISHED")
    assert outcome.message is None
    assert outcome.link.startswith(f"{server.uri}/#/experiments/")
    assert not (root / FOLDER).exists()
    client = mlflow.MlflowClient(server.uri)
    assert history(client, run_id) == output
    assert {item.path for item in client.list_artifacts(run_id, "notes")} == {f"notes/{epoch}" for epoch in EPOCHS}
    stored = client.get_run(run_id)
    assert stored.info.status == "FINISHED"
    system = client.get_metric_history(run_id, "system/cpu_utilization_percentage")
    assert len({point.step for point in system}) == len(system) >= 3


def test_what_a_lost_server_missed_is_sent_later(root, server):
    server.open()
    run = begin(root, uri=server.uri, upload_timeout_seconds=1, timeout_seconds=2)
    run_id = run.run_id
    run.log_metrics({"train/loss": 1.0}, step=1, time=1_700_000_000)
    wait_until(lambda: not any(run._journal.pending()))
    server.close()
    run.log_metrics({"train/loss": 0.5}, step=2, time=1_700_000_001)
    began = time.perf_counter()
    outcome = run.finish("FAILED", "masks/a.png: undeclared value 7")
    assert time.perf_counter() - began < 15
    assert "does not answer: 2 entries are kept" in outcome.message
    assert "kedro mlflow sync" in outcome.message
    assert upload_pending(root) == (0, 1)
    server.open()
    assert upload_pending(root) == (1, 0)
    assert not (root / FOLDER).exists()
    client = mlflow.MlflowClient(server.uri)
    assert history(client, run_id) == [(1, 1.0, 1_700_000_000_000), (2, 0.5, 1_700_000_001_000)]
    assert client.get_run(run_id).info.status == "FAILED"


def test_a_server_that_is_not_there_is_said_within_seconds(root, server):
    began = time.perf_counter()
    with pytest.raises(TrackingError, match=rf"{server.uri} cannot be reached: connection refused"):
        begin(root, uri=server.uri)
    assert time.perf_counter() - began < 5
    assert not (root / FOLDER).exists()
