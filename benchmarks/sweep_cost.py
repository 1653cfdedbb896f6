"""What does a sweep cost beside training and predicting?

On a temporary copy of the project, `kedro sweep` trains variants of `cells`. Of each, the seconds of its epochs (with
their validation) and of predicting, counting and scoring its test split are set against the seconds of the whole
variant. The rest is the sweep's own: the network built, memory and speed tried, checkpoints, tables, MLflow.

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

VARIANTS = "comparison: {grid: {network.width: [8, 16]}, seeds: [0, 1]}\nnetwork: {architecture: paper_unet}\n"


def main() -> None:
    """Measure, print a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--variants", default=VARIANTS, help="parameters in YAML")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        project = make_project(Path(name) / "project")
        (project / "conf" / "local").mkdir(exist_ok=True)
        (project / "conf" / "local" / "parameters.yml").write_text(options.variants)
        kedro = str(Path(sys.executable).parent / "kedro")
        prepare = [kedro, "run", "--env", "cells", "--pipelines", "acquisition,preparation,planning"]
        sweep = [kedro, "sweep", "--env", "cells", "--params", f"training.epochs={options.epochs}"]
        for command in (prepare, sweep):
            words, _ = (process := start(command, project)).communicate()
            if process.returncode:
                raise SystemExit(words[-2000:])
        costs = pd.read_csv(project / "data" / "08_reporting" / "cells" / "comparison_costs.csv")
    costs["own"] = costs["seconds"] - costs["training_seconds"] - costs["evaluation_seconds"]
    costs["share"] = costs["own"] / costs["seconds"]
    print(costs[["variant", "seed", "seconds", "training_seconds", "evaluation_seconds", "own", "share"]].to_string())
    print(json.dumps({"own_share_median": round(float(costs["share"].median()), 4), "epochs": options.epochs}))


if __name__ == "__main__":
    main()
