"""At equal wall-clock time, does the default recipe score above the plain loop of smp's documentation?

A cell is a data set, a time, a seed and a method. `ours` is `kedro run` with `training.max_minutes`, whose budget
counts from the first measurement of its preflight to the last epoch; `plain` is a U-Net with the same encoder trained
as a user would write it: float32, NCHW, decoding left out (in its favour), resize to a square, flips, Adam 2e-4 with
cosine over 750 steps, Dice loss, Lightning's defaults, no workers. Imports and evaluation count for neither. Both are
scored on the test split by global counts: on masks of the original size (`native`), and on masks resized to the plain
loop's square by nearest neighbour (`resized`).

Cells that are finished stay in the results file: stop it whenever, and go on later. The data must have been prepared:

    kedro run --env wbc --pipelines acquisition,preparation,planning,augmentation
    python -m benchmarks.equal_time --data wbc --minutes 1,2,5 --seeds 0,1,2
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.chaos import make_project
from benchmarks.memory_growth import ROOT

SQUARE = {"wbc": 128, "cells": 128}  # of the plain loop; others 256
PREPARED = ("01_raw", "02_intermediate", "03_primary", "04_feature", "05_model_input")
METHODS = ("plain", "ours")

Array = np.ndarray[Any, Any]


def main() -> None:
    """Run the cells that are missing, then compare."""
    options = arguments()
    if options.plain is not None:
        print(json.dumps(plain(*options.plain)))
        return
    known = results(options.results)
    cells = [
        (data, float(minutes), int(seed), method)
        for data in options.data.split(",")
        for minutes in options.minutes.split(",")
        for seed in options.seeds.split(",")
        for method in METHODS
    ]
    for cell in cells:
        if cell not in known:
            known[cell] = ours(*cell[:3]) if cell[3] == "ours" else in_a_process(*cell[:3])
            names = ("data", "minutes", "seed", "method")
            line = json.dumps(dict(zip(names, cell, strict=True)) | known[cell])
            options.results.parent.mkdir(parents=True, exist_ok=True)
            with options.results.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            print(line, flush=True)
    compare({cell: known[cell] for cell in cells})


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="wbc,isbi2012")
    parser.add_argument("--minutes", default="1,2,5")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--results", type=Path, default=ROOT / "data" / "equal_time.jsonl")
    parser.add_argument("--plain", nargs=3, help=argparse.SUPPRESS)  # data, minutes, seed: what a process is to do
    return parser.parse_args()


def results(path: Path) -> dict[tuple[str, float, int, str], dict[str, float]]:
    """Read the cells that are finished."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = [json.loads(line) for line in lines]
    return {(row["data"], row["minutes"], row["seed"], row["method"]): row for row in rows}


def compare(cells: dict[tuple[str, float, int, str], dict[str, float]]) -> None:
    """Print the means over seeds, and a line of JSON."""
    print("\ndata        minutes  seeds   plain    ours    difference (native dice/mean)")
    differences = {}
    for data, minutes in dict.fromkeys(cell[:2] for cell in cells):
        found = {m: [row["native"] for cell, row in cells.items() if cell[:2] + cell[3:] == (data, minutes, m)]
                 for m in METHODS}  # fmt: skip
        plain_mean, ours_mean = (statistics.mean(found[method]) for method in METHODS)
        differences[f"{data} {minutes:g} min"] = round(ours_mean - plain_mean, 5)
        seeds = len(found["ours"])
        print(f"{data:10}  {minutes:7g}  {seeds:5}  {plain_mean:.4f}  {ours_mean:.4f}  {ours_mean - plain_mean:+.4f}")
    print(json.dumps(differences))


# -- ours


def ours(data: str, minutes: float, seed: int) -> dict[str, float]:
    """Train by `kedro run` within the time, on a copy of the project that shares the prepared data."""
    with tempfile.TemporaryDirectory() as name:
        project = make_project(Path(name) / "project")
        for layer in PREPARED:
            if (ROOT / "data" / layer / data).is_dir():
                (project / "data" / layer).mkdir(parents=True)
                (project / "data" / layer / data).symlink_to(ROOT / "data" / layer / data)
        command = [str(Path(sys.executable).parent / "kedro"), "run", "--env", data, "--pipelines"]
        command += ["training,evaluation", "--params", f"training.max_minutes={minutes},training.seed={seed},"]
        command[-1] += "training.minimum_steps=auto,tracking.enabled=false"
        environment = os.environ | {"PYTHONPATH": str(project / "src")}
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        models = project / "data" / "06_models" / data
        plan = json.loads((models / "plan.json").read_text(encoding="utf-8"))
        history = pd.read_csv(project / "data" / "08_reporting" / data / "training_history.csv")
        predictions = project / "data" / "07_model_output" / data / "predictions"
        return scores(data, lambda sample_id, _: read_mask(predictions / f"{sample_id}.png")) | {
            "steps": plan["epochs"] * plan["steps_per_epoch"],
            "seconds": round(float(history["train/seconds"].sum()), 1),
        }


def read_mask(path: Path) -> Array:
    """Read a mask of class ids."""
    from PIL import Image

    with Image.open(path) as image:
        return np.array(image)


# -- plain


def in_a_process(data: str, minutes: float, seed: int) -> dict[str, float]:
    """Run the plain loop in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.equal_time", "--plain", data, str(minutes), str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def plain(data: str, minutes: str, seed: str) -> dict[str, float]:
    """Train the plain loop for so many minutes, and score it."""
    import logging
    import warnings

    warnings.filterwarnings("ignore")
    import lightning as L
    import torch
    from PIL import Image

    from benchmarks.training_throughput import PlainModule
    from unet_segmentation.learning.augmentation import A

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    samples, packed, classes = prepared(data)
    side = SQUARE.get(data, 256)
    transform = A.Compose([A.Resize(side, side), A.HorizontalFlip(), A.VerticalFlip()])

    class Samples(torch.utils.data.Dataset[Any]):
        def __init__(self) -> None:
            self.ids = samples[samples["split"] == "train"]["sample_id"].tolist()

        def __len__(self) -> int:
            return len(self.ids)

        def __getitem__(self, index: int) -> tuple[Array, Array]:
            pair = transform(image=rgb(packed.image(self.ids[index])), mask=packed.mask(self.ids[index]))
            return pair["image"].transpose(2, 0, 1), pair["mask"].astype(np.int64)

    L.seed_everything(int(seed), verbose=False)
    module = PlainModule("resnet18", len(classes))
    loader = torch.utils.data.DataLoader(Samples(), 16 if side <= 128 else 4, shuffle=True, drop_last=True)
    trainer = L.Trainer(
        max_time={"seconds": 60 * float(minutes)},
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    began = time.perf_counter()
    trainer.fit(module, loader)
    seconds = time.perf_counter() - began
    module.eval()

    def predict(_: str, image: Array) -> Array:
        small = A.Resize(side, side)(image=rgb(image))["image"].transpose(2, 0, 1)
        with torch.no_grad():
            pixels = (torch.from_numpy(small)[None].float() / 255.0 - module.mean) / module.std
            mask = module.network(pixels).argmax(1)[0].numpy().astype(np.uint8)
        return np.array(Image.fromarray(mask).resize(image.shape[1::-1], Image.Resampling.NEAREST))

    return scores(data, predict) | {"steps": trainer.global_step, "seconds": round(seconds, 1)}


def rgb(image: Array) -> Array:
    """Repeat a grey channel three times."""
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


# -- scores


def prepared(data: str) -> tuple[pd.DataFrame, Any, list[str]]:
    """Give the samples, the packed pixels and the classes of a problem that was prepared."""
    from unet_segmentation.samples.packing import PackedSamples

    folder = ROOT / "data" / "03_primary" / data
    profile = json.loads(next((ROOT / "data").glob(f"*/{data}/profile.json")).read_text(encoding="utf-8"))
    newest = max(folder.glob("packed/*/packed.json"), key=lambda path: path.stat().st_mtime)
    return pd.read_parquet(folder / "samples.parquet"), PackedSamples(newest.parent), list(profile["class_shares"])


def scores(data: str, predict: Callable[[str, Array], Array]) -> dict[str, float]:
    """Score predictions of the test split: mean Dice from global counts, at both sizes."""
    from PIL import Image

    samples, packed, classes = prepared(data)
    side, count = SQUARE.get(data, 256), len(classes)
    native, resized = np.zeros((2, count, count), np.int64)
    for sample_id in samples[samples["split"] == "test"]["sample_id"]:
        truth, found = packed.mask(sample_id), predict(sample_id, packed.image(sample_id))
        native += confusion(truth, found, count)
        small = [
            np.array(Image.fromarray(mask).resize((side, side), Image.Resampling.NEAREST)) for mask in (truth, found)
        ]
        resized += confusion(*small, count)
    return {name: round(mean_dice(matrix), 5) for name, matrix in (("native", native), ("resized", resized))}


def confusion(truth: Array, found: Array, classes: int) -> Array:
    """Count pixels by truth and prediction, ignored ones left out."""
    counted = truth != 255
    cells = classes * truth[counted].astype(np.int64) + found[counted]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def mean_dice(matrix: Array) -> float:
    """Give the unweighted mean of 2 TP / (2 TP + FP + FN) over the classes that occur."""
    total = matrix.sum(0) + matrix.sum(1)
    return float((2 * np.diag(matrix)[total > 0] / total[total > 0]).mean())


if __name__ == "__main__":
    main()
