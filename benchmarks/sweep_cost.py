"""What does a sweep cost besides training and predicting?

On a temporary copy of the project, `kedro sweep` trains variants of `cells`, short ones and longer ones. Of each, the
seconds of its epochs (with their validation) and of predicting, counting and scoring its test split are set against the
seconds of the whole variant. The rest is the sweep's own: the network built and counted, checkpoints, tables, MLflow.
Each trains on one thread: on a machine that is shared, many threads wait for one another.

    make bench NAME=sweep_cost
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import pandas as pd

from benchmarks.chaos import make_project, start

VARIANTS = """
sweep: {grid: {model.base_channels: [4, 8]}, seeds: [0, 1]}
model: {architecture: unet_original}
training: {num_threads: 1}
"""


def main() -> None:
    """Measure, print a table for each number of epochs, and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--variants", default=VARIANTS, help="parameters in YAML")
    options = parser.parse_args()
    shares = {}
    with tempfile.TemporaryDirectory() as name:
        project = make_project(Path(name) / "project")
        (project / "conf" / "local").mkdir(exist_ok=True)
        (project / "conf" / "local" / "parameters.yml").write_text(options.variants)
        run(project, "run", "--to-nodes", "training.propose_plan")
        for epochs in options.epochs:
            run(project, "sweep", "--params", f"training.epochs={epochs}")
            costs = pd.read_csv(project / "data" / "08_reporting" / "cells" / "sweep_costs.csv")
            costs["own"] = costs["seconds"] - costs["training_seconds"] - costs["evaluation_seconds"]
            costs["share"] = costs["own"] / costs["seconds"]
            shown = ["variant", "seed", "seconds", "training_seconds", "evaluation_seconds", "own", "share"]
            print(f"{epochs} epochs\n{costs[shown].round(3).to_string(index=False)}\n", flush=True)
            shares[epochs] = round(float(costs["share"].median()), 4)
    print(json.dumps({"own_share_median_by_epochs": shares}))


def run(project: Path, command: str, *arguments: str) -> None:
    """Call kedro for `cells`."""
    kedro = str(Path(sys.executable).parent / "kedro")
    words, _ = (process := start([kedro, command, "--env", "cells", *arguments], project)).communicate()
    if process.returncode:
        raise SystemExit(words[-2000:])


if __name__ == "__main__":
    main()
