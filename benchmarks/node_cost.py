"""What does the training node cost inside `kedro run`, over the same training called as a plain function?

On a temporary copy of the project, `kedro run` trains `cells` for that many epochs, tracked as always; then a fresh
process calls `run_training` with the very plan, data and weights of that run, and tells nobody. Rounds take turns.
The node's time is that between the lines of the log that begin and end it: loading, training, tracking and saving.

    make bench NAME=node_cost
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
from pathlib import Path

from benchmarks.chaos import TRAINING, make_project, start

PLAIN = """
import json, sys, time, torch
from pathlib import Path
from safetensors.torch import load_file
from unet_segmentation.parameters import AugmentationRecipe
from unet_segmentation.training.plan import TrainingPlan
from unet_segmentation.training.training_inputs import TrainingSetup
from unet_segmentation.training.trainer import run_training
from unet_segmentation.data.store.packed_arrays import PackedSamples
data = Path("data")
plan = TrainingPlan.model_validate_json((data / "06_models/cells/plan.json").read_text())
specification = json.loads((data / "06_models/cells/model_spec.json").read_text())
recipe = AugmentationRecipe.model_validate_json((data / "05_model_input/cells/augmentation_recipe.json").read_text())
begin = time.perf_counter()
weights = load_file(data / "06_models/cells/initial.safetensors")
packed = PackedSamples(next((data / "03_primary/cells").glob("packed/*/packed.json")).parent)
run_training(plan, TrainingSetup(specification, weights, packed, recipe), Path(sys.argv[1]))
print(time.perf_counter() - begin)
"""


def main() -> None:
    """Measure, print a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ratios = []
    print("round  node, s  function, s  ratio")
    with tempfile.TemporaryDirectory() as name:
        project = make_project(Path(name) / "project")
        for number in range(options.rounds):
            node, plain = node_seconds(project, options.epochs), plain_seconds(project, Path(name) / "plain")
            ratios.append(node / plain)
            print(f"{number + 1:5}  {node:7.1f}  {plain:11.1f}  {node / plain:5.3f}", flush=True)
    print(json.dumps({"node_over_function": round(statistics.median(ratios), 4), "rounds": options.rounds}))


def node_seconds(project: Path, epochs: int) -> float:
    """Seconds of the training node inside a run."""
    process = start(
        [str(Path(sys.executable).parent / "kedro"), "run", "--params", f"training.epochs={epochs}"], project
    )
    assert process.stdout is not None
    began = ended = 0.0
    for line in process.stdout:
        if line.rstrip().endswith(TRAINING):
            began = time.perf_counter()
        elif f"{TRAINING} took" in line:
            ended = time.perf_counter()
    if process.wait():
        raise SystemExit("the run failed")
    return ended - began


def plain_seconds(project: Path, folder: Path) -> float:
    """Seconds of the same training as a function."""
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(project / "src")}
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(folder)],
        cwd=project,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
