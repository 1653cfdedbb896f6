"""A real MLflow server that is killed in the middle of a run and started again."""

from __future__ import annotations

import subprocess
import sys
import time

import mlflow
import pytest

from tests.conftest import PATIENCE
from tests.tracking.test_run import begin
from unet_segmentation.errors import TrackingError
from unet_segmentation.tracking.spool import FOLDER

pytestmark = pytest.mark.slow
EPOCHS = range(1, 31)


SEND = """
import sys
from pathlib import Path
from unet_segmentation.tracking.sender import prepare_environment, send_leftovers
prepare_environment(2)
print(send_leftovers(Path(sys.argv[1])))
"""


def send(root):
    """Send what is left, as `kedro tracking send` does, in a process of its own."""
    command = [sys.executable, "-c", SEND, str(root)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout.strip()


def history(client, run_id):
    points = client.get_metric_history(run_id, "train/loss")
    return [(point.step, point.value, point.timestamp) for point in sorted(points, key=lambda point: point.step)]


def test_a_server_that_goes_away_and_comes_back_has_everything_once(root, server, tmp_path):
    server.start()
    note = tmp_path / "note.txt"
    run = begin(root, uri=server.uri, system_metrics=True, system_metrics_seconds=0.5, timeout_seconds=3)
    run_id = run.run_id
    said, longest = [], 0.0
    for epoch in EPOCHS:
        if epoch == 8:
            server.kill()
        if epoch == 22:
            server.start()
        now = time.time()
        began = time.perf_counter()
        run.log_metrics({"train/loss": 1 / epoch}, step=epoch, time=now)
        note.write_text(f"epoch {epoch}")
        run.log_artifact(note, f"notes/{epoch}")
        longest = max(longest, time.perf_counter() - began)
        said.append((epoch, 1 / epoch, int(now * 1000)))
        time.sleep(0.1)
    assert longest < 0.2, "a server that is away must not be felt"
    outcome = run.finish("FINISHED")
    assert outcome.message is None
    assert outcome.link.startswith(f"{server.uri}/#/experiments/")
    assert not (root / FOLDER).exists()
    client = mlflow.MlflowClient(server.uri)
    assert history(client, run_id) == said
    assert {item.path for item in client.list_artifacts(run_id, "notes")} == {f"notes/{epoch}" for epoch in EPOCHS}
    stored = client.get_run(run_id)
    assert stored.info.status == "FINISHED"
    system = client.get_metric_history(run_id, "system/cpu_utilization_percentage")
    assert len({point.step for point in system}) == len(system) >= 3


def test_what_a_lost_server_missed_is_sent_later(root, server):
    server.start()
    run = begin(root, uri=server.uri, upload_timeout_seconds=1, timeout_seconds=2)
    run_id = run.run_id
    run.log_metrics({"train/loss": 1.0}, step=1, time=1_700_000_000)
    while mlflow.MlflowClient(server.uri).get_run(run_id).data.metrics.get("train/loss") is None:
        time.sleep(0.05)
    time.sleep(1)  # until the answer has come back and is noted: what is not noted is sent, and counted, once more
    server.kill()
    run.log_metrics({"train/loss": 0.5}, step=2, time=1_700_000_001)
    began = time.perf_counter()
    outcome = run.finish("FAILED", "masks/a.png: undeclared value 7")
    assert time.perf_counter() - began < 15
    assert "does not answer: 2 entries are kept" in outcome.message
    assert "kedro tracking send" in outcome.message
    assert send(root) == "(0, 1)"
    server.start()
    assert send(root) == "(1, 0)"
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
