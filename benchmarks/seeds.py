"""Does the comparison tell chance from a difference, and does the gate hold? On `cells`, through the real command line.

On a temporary copy of the project, with its own MLflow store: runs that differ in the seed alone, each pair compared
image by image; a run that had a tenth of the training images; and a run that knows one class less. The first seed is
released; then every other run asks for release.

A tie is an interval of the difference within the margin, and a margin makes sense only if it is no smaller than what
seeds differ by: that spread is printed, too.

    make bench NAME=seeds
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from itertools import combinations
from pathlib import Path

from benchmarks.chaos import make_project, start

SCORE = "dice/mean"
# Of 200 pictures, 5 are left to learn from instead of 48; the same 140 are tested on, and as many steps are taken.
TENTH = "split.validation=0.276,training.minimum_steps=12"
ONE_CLASS_LESS = "classes=[background,cell],masks.values={0: background, 1: cell, 2: cell}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=7)
    parser.add_argument("--margin", type=float, default=0.01)
    parser.add_argument("--folder", type=Path, help="keep the project there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        project = folder / "project"
        if not project.exists():
            make_project(project)
        found = measure(project, options.seeds, options.margin)
    print(json.dumps(found))


def measure(project: Path, seeds: int, margin: float) -> dict[str, object]:
    from unet_segmentation.tracking.comparing import compare_evaluations, row_of
    from unet_segmentation.tracking.runs import evaluation_of, finished_runs

    uri = f"sqlite:///{project / 'mlflow.db'}"
    gate = []
    for seed in range(seeds):
        run(project, f"training.seed={seed}", f"seed {seed}")
        gate.append(release(project, f"seed {seed}"))
    run(project, TENTH, "a tenth")
    gate.append(release(project, "a tenth of the training images"))
    runs = {record.name: evaluation_of(uri, record.run_id) for record in finished_runs(uri, "cells")}
    scores = {record.name: record.metrics[f"test/{SCORE}"] for record in finished_runs(uri, "cells")}
    of_seeds = [f"seed {seed}" for seed in range(seeds)]
    verdicts: Counter[str] = Counter()
    for one, other in combinations(of_seeds, 2):
        row = row_of(compare_evaluations(runs[one], runs[other], margin), SCORE)
        verdicts[row["verdict"]] += 1
        print(f"{one} and {other}: {row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}] {row['verdict']}")
    fewer = row_of(compare_evaluations(runs["seed 0"], runs["a tenth"], margin), SCORE)
    print(f"a tenth: {fewer['difference']:+.4f} [{fewer['low']:+.4f}, {fewer['high']:+.4f}] {fewer['verdict']}")
    run(project, ONE_CLASS_LESS, "one class less")
    gate.append(release(project, "one class less"))
    values = [scores[name] for name in of_seeds]
    return {
        "pairs": sum(verdicts.values()),
        "verdicts": verdicts,
        "spread": round(statistics.stdev(values), 5),
        "largest": round(max(values) - min(values), 5),
        "margin": margin,
        "tenth": fewer["verdict"],
        "released": gate,
    }


def run(project: Path, params: str, name: str) -> None:
    """Run the main job; a name in MLflow tells the runs apart."""
    said, status = call(project, "run", "--params", f"{params},tracking.run_name={name}")
    if status:
        raise subprocess.CalledProcessError(status, "kedro run", said)
    print(f"{name}: {next(line for line in said.splitlines() if line.startswith('Done in'))}", flush=True)


def release(project: Path, name: str) -> bool:
    """Ask for release; show what the gate says."""
    said, status = call(project, "release")
    words = [line for line in said.splitlines() if line and not line[:1].isdigit()]
    print("\n".join(f"    {line}" for line in words), flush=True)
    return status == 0


def call(project: Path, *arguments: str) -> tuple[str, int]:
    process = start([str(Path(sys.executable).parent / "kedro"), *arguments], project)
    said = process.communicate()[0]
    return said, process.returncode


if __name__ == "__main__":
    main()
