"""Runs as `kedro run` opens and closes them, and what MLflow holds of them afterwards."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from functools import partial

import mlflow

from tests.conftest import PATIENCE
from unet_segmentation.deployment.serving.model_packaging import package_model
from unet_segmentation.tracking.resume import claim_training
from unet_segmentation.tracking.run import start_run
from unet_segmentation.tracking.settings import TrackingSettings

PARAMETERS = {"problem": "cells", "training": {"epochs": 12, "seed": 0}, "model": {"encoder": "resnet18"}}
STARTED = 1_700_000_000  # stored times of the epochs count from here


def begin(root, parameters=PARAMETERS, problem="cells", claim=None, **settings):
    settings = TrackingSettings(**{"system_metrics": False, "upload_timeout_seconds": 20, **settings})
    return start_run(settings, root=root, problem=problem, parameters=parameters, command="kedro run", claim=claim)


def begin_training(root, parameters=PARAMETERS, **settings):
    claim = claim_training(folder_of(root), parameters, "kedro run")
    return begin(root, parameters, claim=claim, **settings), claim


def folder_of(root):
    return root / "data" / "06_models" / "cells"


def train(run, first, last):
    for epoch in range(first, last + 1):
        run.log_metrics({"train/loss": 1 / epoch, "validation/loss": 2 / epoch}, step=epoch, time=STARTED + epoch)


def finish(run, claim, status="FINISHED", reason=None):
    result = run.finish(status, reason)
    claim.finish(status)
    return result


def log_model(run, weights, inference, metrics, step, example):
    build = partial(package_model, model=weights, inference=inference, example=example)
    return run.log_model(build, metrics, step)


def wait_until(condition):
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def in_a_killed_process(work):
    """Call a function in a process of its own, which is killed afterwards; return what it returns (a text)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, (work() or "").encode())
        finally:
            os.kill(os.getpid(), 9)
    os.close(writing)
    with open(reading) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return text


def killed_training(root, how="sent", **settings):
    """Start a training in a process of its own, and kill it."""

    def work():
        run, _ = begin_training(root, **settings)
        if how != "at once":
            if how != "inconclusive":
                run.decide_resumption(True)
            train(run, 1, 4)
            run.log_metrics({"test/dice/mean": 0.5})
            run.log_metrics({"odd/nan": float("nan")}, step=1)
        if how == "sent":
            wait_until(lambda: not any(run._journal.pending()))
        return run.run_id

    return in_a_killed_process(work)


def client_of(root):
    return mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")


def runs_of(client):
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return sorted(client.search_runs(experiments), key=lambda run: run.info.start_time)


def steps_of(client, run_id, name="train/loss"):
    return Counter(point.step for point in client.get_metric_history(run_id, name))


def marker(root):
    return json.loads((folder_of(root) / "run.json").read_text())
