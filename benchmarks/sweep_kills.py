"""Killed again and again, does a sweep end where the undisturbed one ended, and does a kill cost at most an epoch?

On temporary copies of the project, `kedro sweep` of the `test` problem is killed with SIGKILL at a random moment, and
started again, ten times over; then it may finish. Compared with a sweep that nobody disturbed: the tables of the runs
and the leaderboard, byte for byte; in MLflow one run of the command, one below it for each training, and every epoch
once. For each kill it prints how many epochs that had been reported before were trained again.

    make bench NAME=sweep_kills
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.chaos import copy, make_project, start

VARIANTS = """
sweep: {variants: {plain: {}, wide: {model.base_channels: 8}}, seeds: [0, 1]}
training: {epochs: 6, num_threads: 1}
"""
TABLES = ("sweep_runs.csv", "sweep_leaderboard.csv")
KEDRO = str(Path(sys.executable).parent / "kedro")
SWEEP = [KEDRO, "sweep", "--env", "test"]
Done = dict[str, int]  # epochs by training


def main() -> None:
    """Disturb, compare, print a line per kill and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        disturbed = make_project(Path(name) / "disturbed")
        (disturbed / "conf" / "local").mkdir(exist_ok=True)
        (disturbed / "conf" / "local" / "parameters.yml").write_text(VARIANTS)
        finish([KEDRO, "run", "--env", "test", "--to-nodes", "training.propose_plan"], disturbed)
        whole = copy(disturbed, Path(name) / "undisturbed")
        began = time.perf_counter()
        lines = finish(SWEEP, whole)
        seconds = time.perf_counter() - began
        print(f"undisturbed: {seconds:.0f} s\n", flush=True)
        known: Done = {}
        worst = 0
        for number in range(options.kills):
            said = kill(disturbed, generator.uniform(0.0, seconds / 10))
            lost = lost_epochs(known, said)
            worst = max(worst, lost)
            known = reported_epochs(said) or known
            if any("Done in" in line for line in said):
                print("it came to its end before the kill", flush=True)
                break
            print(f"{number + 1:3}  {last_word(said):70} {lost} reported epochs were trained again", flush=True)
        lines = finish(SWEEP, disturbed)
        worst = max(worst, lost_epochs(known, lines))
        faults = compare(disturbed, whole)
    print(json.dumps({"kills": options.kills, "most_epochs_lost": worst, "faults": faults}))


def finish(command: list[str], project: Path) -> list[str]:
    """Run a command to its end; return its lines."""
    words, _ = (process := start(command, project, OMP_NUM_THREADS="1", PYTHONUNBUFFERED="1")).communicate()
    if process.returncode:
        raise SystemExit(words[-2000:])
    return words.splitlines()


def kill(project: Path, moment: float) -> list[str]:
    """Start the sweep, kill it some seconds after it has begun with the first variant; return its lines."""
    process = start(SWEEP, project, OMP_NUM_THREADS="1", PYTHONUNBUFFERED="1")
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        said.append(line.rstrip())
        if "variant 1/" in line:
            break
    time.sleep(moment)
    os.killpg(process.pid, signal.SIGKILL)
    said += [line.rstrip() for line in process.stdout]
    process.wait()
    return said


def reported_epochs(said: list[str]) -> Done:
    """Describe how many epochs of each training had been reported, those of earlier processes counted."""
    done: Done = {}
    training = ""
    for line in said:
        if found := re.search(r"variant \d+/\d+: (.*)$", line):
            training = found[1]
        elif found := re.search(r"epoch +(\d+)/\d+ |continuing after epoch (\d+) of", line):
            done[training] = int(found[1] or found[2])
        elif "finished before" in line or "dice/mean" in line:
            done[training] = 10**6
    return done


def lost_epochs(before: Done, said: list[str]) -> int:
    """Count the most reported epochs that were trained again."""
    lost = 0
    training = ""
    began: set[str] = set()
    for line in said:
        if found := re.search(r"variant \d+/\d+: (.*)$", line):
            training = found[1]
        elif (found := re.search(r"epoch +(\d+)/\d+ ", line)) and training in before and training not in began:
            began.add(training)
            lost = max(lost, before[training] - int(found[1]) + 1)
    return lost


def last_word(said: list[str]) -> str:
    """Return what a killed sweep said last."""
    return said[-1][:70] if said else "nothing"


def compare(disturbed: Path, whole: Path) -> list[str]:
    """Name what differs."""
    faults = []
    for name in TABLES:
        one, other = (project / "data" / "08_reporting" / "test" / name for project in (disturbed, whole))
        if one.read_bytes() != other.read_bytes():
            faults.append(name)
    found, expected = mlflow_runs(disturbed), mlflow_runs(whole)
    if found != expected:
        faults.append(f"MLflow: {found} and not {expected}")
    faults += [str(path.relative_to(disturbed)) for path in (disturbed / "data").rglob("*partial*")]
    return faults


def mlflow_runs(project: Path) -> dict[str, Counter[str]]:
    """Count the runs of the sweep with the children of each, and the points of each child's loss."""
    with sqlite3.connect(project / "mlflow.db") as store:
        parents = store.execute(
            "select runs.status from runs join tags on tags.run_uuid = runs.run_uuid where key = 'pipelines' and value "
            "= 'sweep' and runs.run_uuid not in (select run_uuid from tags where key = 'mlflow.parentRunId')"
        )
        points = store.execute(
            "select name || ' ' || status from runs join metrics on metrics.run_uuid = runs.run_uuid "
            "where key = 'train/loss'"
        )
        return {
            "sweeps": Counter(status for (status,) in parents),
            "epochs": Counter(name for (name,) in points),
        }


if __name__ == "__main__":
    main()
