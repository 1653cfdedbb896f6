"""Runs in a real store, told by the project's own means, but without a training and a process beside it."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from unet_segmentation.metrics.confusion_matrix import confusion_matrix, confusion_table
from unet_segmentation.parameters import serialization
from unet_segmentation.tracking.journal import Operation, RunHeader
from unet_segmentation.tracking.mlflow_client import MlflowRunClient

CLASSES = ["background", "cell"]


def tables(images: int, error: float, seed: int = 0, names: str = "s") -> dict[str, pd.DataFrame]:
    """Counts of images whose masks depend on nothing, and whose predictions are wrong at a share of the pixels."""
    masks, errors = np.random.default_rng(99), np.random.default_rng(seed)
    ids = [f"{names}{number:03d}" for number in range(images)]
    truths = [masks.integers(0, 2, (16, 16)) for _ in ids]
    predictions = [np.where(errors.random((16, 16)) < error, 1 - truth, truth) for truth in truths]
    pairs = list(zip(ids, truths, predictions, strict=True))
    soft = [(name, float((t == p).sum()), float(t.size), float(t.size)) for name, t, p in pairs]
    return {
        "confusion": confusion_table((name, confusion_matrix(t, p, 2)) for name, t, p in pairs),
        "soft": pd.DataFrame(soft, columns=["sample_id", "intersection", "truth", "prediction"]),
        "samples": pd.DataFrame({"sample_id": ids, "group": None, "split": "test"}),
    }


def dice_of(confusion: pd.DataFrame) -> float:
    """Mean Dice over the classes, from the definition."""
    count = confusion.pivot_table(index="truth", columns="prediction", values="count", aggfunc="sum").to_numpy()
    return float(np.mean([2 * count[c, c] / (count[c].sum() + count[:, c].sum()) for c in range(2)]))


def values(name: str, entries: dict, **arguments: float) -> Operation:
    """An operation as a journal holds it."""
    return Operation(name=name, time=0.0, arguments={"values": entries, **arguments})


def tell(
    root,
    name: str,
    *,
    result: dict[str, pd.DataFrame] | None = None,
    classes: list[str] | None = None,
    split: str = "test",
    problem: str = "cells",
    status: str = "FINISHED",
    intervals: bool = False,
    plan: str = "",
    **tags: str,
) -> str:
    """Tell MLflow a run, and give its id."""
    parameters = {
        "problem": problem,
        "classes": classes or CLASSES,
        "evaluation": {"split": split},
        "model": {"architecture": "unet", "encoder": "resnet18"},
        "training": {"epochs": 12, "seed": 3, "resume": True},
    }
    uri = f"sqlite:///{root / 'mlflow.db'}"
    store = MlflowRunClient.create(
        RunHeader(uri=uri, experiment=problem, started=time.time(), run_name=name, tags={"problem": problem, **tags})
    )
    store.log_values([values("log_params", serialization.flatten(parameters))])
    (root / "parameters.yml").write_bytes(serialization.dump_parameters_yaml(parameters))
    store.log_artifact(root / "parameters.yml", "code")
    for table, rows in (result or {}).items():
        rows.to_parquet(root / f"{table}.parquet")
        store.log_artifact(root / f"{table}.parquet", "data" if table == "samples" else "evaluation/tables")
    if result:
        score = {"test/dice/mean": dice_of(result["confusion"])}
        store.log_values([values("log_metrics", score, step=0, time=time.time())])
    if intervals:
        (root / "intervals.csv").write_text("score,value,low,high\ndice/mean,0.9,0.85,0.95\n")
        store.log_artifact(root / "intervals.csv", "evaluation")
    if plan:
        (root / "plan.json").write_text(plan)
        store.log_artifact(root / "plan.json", "training")
    store.close(status, None, time.time())
    return store.run_id
