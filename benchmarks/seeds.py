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

import pandas as pd

from benchmarks.chaos import make_project, start

SCORE = "dice/mean"
ONE_CLASS_LESS = """
classes: [background, cell]
masks: {encoding: index, values: {0: background, 1: cell, 2: cell}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=7)
    parser.add_argument("--first", type=int, default=0, help="seed")
    parser.add_argument("--margin", type=float, default=0.025)
    parser.add_argument("--folder", type=Path, help="keep the project there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        project = folder / "project"
        if not project.exists():
            make_project(project)
        found = measure(project, range(options.first, options.first + options.seeds), options.margin)
    print(json.dumps(found))


def measure(project: Path, seeds: range, margin: float) -> dict[str, object]:
    from unet_segmentation.experiments.run_comparison import compare_evaluations, find_score_row
    from unet_segmentation.tracking.run_queries import finished_runs, load_evaluation

    uri = f"sqlite:///{project / 'mlflow.db'}"
    of_seeds = [f"seed {seed}" for seed in seeds]
    released = []
    for seed, name in zip(seeds, of_seeds, strict=True):
        run(project, name, f"training.seed={seed}")
        released.append(release(project))
    keep_a_tenth(project)
    run(project, "a tenth", "training.min_steps_per_epoch=1", "--pipelines", "training,evaluation")
    released.append(release(project))
    tested = [record for record in finished_runs(uri, "cells") if f"test/{SCORE}" in record.metrics]
    runs = {record.name: load_evaluation(uri, record.run_id) for record in tested}
    scores = {record.name: record.metrics[f"test/{SCORE}"] for record in tested}
    verdicts: Counter[str] = Counter()
    for one, other in [*combinations(of_seeds, 2), (of_seeds[0], "a tenth")]:
        row = find_score_row(compare_evaluations(runs[one], runs[other], margin), SCORE)
        verdicts[row["verdict"]] += other != "a tenth"
        print(f"{one} and {other}: {row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}] {row['verdict']}")
    (project / "conf/local").mkdir()
    (project / "conf/local/parameters.yml").write_text(ONE_CLASS_LESS, encoding="utf-8")
    run(project, "one class less", "training.seed=0")
    released.append(release(project))
    values = [scores[name] for name in of_seeds]
    return {
        "pairs": sum(verdicts.values()),
        "verdicts": verdicts,
        "spread": round(statistics.stdev(values), 5),
        "largest": round(max(values) - min(values), 5),
        "margin": margin,
        "tenth": row["verdict"],
        "released": released,
    }


def keep_a_tenth(project: Path) -> None:
    """Leave a tenth of the training samples; those that are tested stay the same.

    They are passed over as often as all are, so that the training takes a sixth of the steps. With as many steps, a
    tenth is no worse here: augmentation makes much of few pictures.
    """
    file = project / "data/03_primary/cells/samples.parquet"
    samples = pd.read_parquet(file)
    train = samples.index[samples["split"] == "train"]
    samples.drop(index=train.difference(train[::10])).to_parquet(file, index=False)


def run(project: Path, name: str, params: str, *arguments: str) -> None:
    """Run the main job; a name in MLflow tells the runs apart."""
    said, status = call(project, "run", "--params", f"{params},mlflow.run_name={name}", *arguments)
    if status:
        raise subprocess.CalledProcessError(status, "kedro run", said)
    print(f"{name}: {next(line for line in said.splitlines() if line.startswith('Done in'))}", flush=True)


def release(project: Path) -> bool:
    """Ask for release; show what the gate says."""
    _, status = call(project, "release")
    decision = (project / "data/08_reporting/cells/release/decision.md").read_text(encoding="utf-8")
    print(f"    {decision.splitlines()[0]}", flush=True)
    return status == 0


def call(project: Path, *arguments: str) -> tuple[str, int]:
    process = start([str(Path(sys.executable).parent / "kedro"), *arguments], project)
    said = process.communicate()[0]
    return said, process.returncode


if __name__ == "__main__":
    main()
