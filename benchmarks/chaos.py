"""Killed at any moment, does the next start end where the undisturbed run ended?

On temporary copies of the project, `kedro run` of the `test` problem (with more epochs) is killed with SIGKILL at a
random moment: half of the times anywhere in the run, half of them while it trains. Then the same command is started
again, and compared with a run that nobody disturbed: weights of the best and the last epoch bit for bit, scores, the
curves in MLflow (each epoch once), files that are not whole, and the number of MLflow runs.

    make bench NAME=chaos
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.memory_growth import ROOT

TRAINING = "training.train"


@dataclass(frozen=True)
class Left:
    """What a finished run leaves."""

    weights: str
    metrics: str
    runs: list[str]
    points: dict[str, int]  # epochs by curve
    partial: list[str]


def main() -> None:
    """Disturb, compare, print a line per kill and a line of JSON."""
    options = arguments()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        project = make_project(folder / "clean")
        whole = copy(project, folder / "undisturbed")
        command = [str(Path(sys.executable).parent / "kedro"), "run", "--env", "test"]
        command += ["--params", f"training.epochs={options.epochs},training.checkpoint.every_n_train_steps=1"]
        begin, training = time.perf_counter(), [0.0, 0.0]
        for line, seconds in lines_of(command, whole, begin):
            if TRAINING in line:
                training[0] = seconds
            elif training[0] and not training[1] and " evaluation.predict" in line:
                training[1] = seconds
        total = time.perf_counter() - begin
        expected = look(whole)
        print(f"undisturbed: {total:.1f} s, training from {training[0]:.1f} to {training[1]:.1f} s\n", flush=True)
        generator = random.Random(options.seed)
        moments = [generator.uniform(0.3, total) for _ in range(options.kills // 2)]
        moments += [generator.uniform(0.0, training[1] - training[0]) for _ in range(options.kills - len(moments))]
        trials = [(number, moment, number >= options.kills // 2) for number, moment in enumerate(moments)]
        with ThreadPoolExecutor(options.together) as pool:
            answers = list(pool.map(lambda trial: disturb(project, folder, command, expected, *trial), trials))
    good = sum(not faults for faults in answers)
    nodes = collections.Counter(fault for faults in answers for fault in faults)
    print(json.dumps({"kills": len(answers), "as_undisturbed": good, "faults": nodes}))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--together", type=int, default=2, help="trials at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", default=None, help="where the temporary files go")
    return parser.parse_args()


def make_project(folder: Path) -> Path:
    """Copy the project, without data and runs."""
    folder.mkdir()
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def copy(project: Path, target: Path) -> Path:
    """Copy the clean project."""
    shutil.copytree(project, target)
    return target


def lines_of(command: list[str], project: Path, begin: float) -> Iterator[tuple[str, float]]:
    """Run a command; yield what it says, and when."""
    process = start(command, project, OMP_NUM_THREADS="1")
    assert process.stdout is not None
    for line in process.stdout:
        yield line, time.perf_counter() - begin
    if process.wait():
        raise SystemExit("the undisturbed run failed")


def start(command: list[str], project: Path, **variables: str) -> subprocess.Popen[str]:
    """Start a command in a process group of its own."""
    environment = os.environ | {"PYTHONPATH": str(project / "src")} | variables
    return subprocess.Popen(
        command,
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=environment,
    )


def disturb(
    project: Path,
    folder: Path,
    command: list[str],
    expected: Left,
    number: int,
    moment: float,
    in_training: bool,
) -> list[str]:
    """Kill a run, start it again, and name what differs from the undisturbed one."""
    place = copy(project, folder / f"kill-{number}")
    last = kill(command, place, moment, in_training)
    again = start(command, place, OMP_NUM_THREADS="1")
    said = again.communicate(timeout=600)[0]
    faults = [] if again.returncode == 0 else ["did not finish"]
    faults += compare(look(place), expected) if not faults else []
    print(f"{number + 1:3}  killed in {last:32} {', '.join(faults) or 'as undisturbed'}", flush=True)
    if faults:
        print("\n".join(f"       {line}" for line in said.splitlines()[-6:]), flush=True)
    shutil.rmtree(place)
    return faults


def kill(command: list[str], project: Path, moment: float, in_training: bool) -> str:
    """Start a run and kill it; name the node that was at work."""
    process = start(command, project, OMP_NUM_THREADS="1")
    said: list[str] = []
    trains = threading.Event()

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if TRAINING in line:
                trains.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    if in_training:
        trains.wait(120)
    time.sleep(moment)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    nodes = [match[1] for line in said if (match := re.search(r" \d+/\d+ (\w+\.\w+)$", line.rstrip()))]
    return nodes[-1] if nodes else "the start"


def look(project: Path) -> Left:
    """Take down what a finished run left."""
    models = project / "data/06_models/test"
    weights = hashlib.sha256()
    for tensors in (
        load_file(models / "best.safetensors"),
        torch.load(models / "last.ckpt", weights_only=True)["state_dict"],
    ):
        for name in sorted(tensors):
            weights.update(tensors[name].contiguous().numpy().tobytes())
    with sqlite3.connect(project / "mlflow.db") as store:
        runs = [status for (status,) in store.execute("select status from runs")]
        rows = store.execute("select key, count(*) from metrics where key like 'validation/%' or key like 'test/%' or "
                             "key = 'train/loss' group by key")  # fmt: skip
        points = dict(rows.fetchall())
    metrics = (project / "data/08_reporting/test/metrics.json").read_text()
    partial = [str(path.relative_to(project)) for path in (project / "data").rglob("*partial*")]
    return Left(weights.hexdigest(), metrics, runs, points, partial)


def compare(left: Left, expected: Left) -> list[str]:
    """Name what differs."""
    faults = {
        "weights": left.weights != expected.weights,
        "metrics": left.metrics != expected.metrics,
        f"{len(left.runs)} MLflow runs": len(left.runs) != 1,
        "run not FINISHED": "FINISHED" not in left.runs,
        "curves": left.points != expected.points,
        " ".join(left.partial): bool(left.partial),
    }
    return [fault for fault, there in faults.items() if there]


if __name__ == "__main__":
    main()
