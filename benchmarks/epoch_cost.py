"""What do validation and checkpoints cost of an epoch of `cells`, the embedded problem, with its own recipe?

On a temporary copy of the project, `kedro run` is called as a user would; the times are those of its checkpoint: when
each epoch ended, and how fast its steps were.

    make bench NAME=epoch_cost
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.chaos import make_project, start


def main() -> None:
    """Measure, print a line per round and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--params", default="mlflow.enabled=true", help="for kedro run")
    options = parser.parse_args()
    shares = []
    with tempfile.TemporaryDirectory() as name:
        project = make_project(Path(name) / "project")
        for number in range(options.rounds):
            kedro = str(Path(sys.executable).parent / "kedro")
            process = start([kedro, "run", "--params", options.params], project)
            said = process.communicate()[0]
            if process.returncode:
                raise subprocess.CalledProcessError(process.returncode, "kedro run", said)
            shares.append(overhead_of_steps(project / "data/06_models/cells"))
            print(f"round {number + 1}: {shares[-1]:.3f} of an epoch next to its steps", flush=True)
    print(json.dumps({"overhead_of_steps": round(statistics.median(shares), 4)}))


def overhead_of_steps(models: Path) -> float:
    """Share of the time between the ends of the first and the last epoch that was no training step."""
    plan = json.loads((models / "plan.json").read_text(encoding="utf-8"))
    epochs = torch.load(models / "last.ckpt", weights_only=True)["callbacks"]["history"]
    images = plan["steps_per_epoch"] * plan["batch_size"]
    steps = sum(images / row["train/throughput"] for row in epochs["rows"][1:])
    return 1 - steps / (epochs["end_times"][-1] - epochs["end_times"][0])


if __name__ == "__main__":
    main()
