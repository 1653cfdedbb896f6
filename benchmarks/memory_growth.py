"""Does memory grow with the number of images? Anonymous memory of preparation and training at 200 and 5,000 images.

Runs the real command line on a temporary copy of the project (the tiny network of the `test` problem, images of the
embedded generator) and samples RssAnon, the memory that is not backed by files, of all its processes. Mapped files are
left out: the kernel drops them whenever memory is needed.

    make bench NAME=memory_growth
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
STAGES = ("data_ingestion", "data_preparation", "augmentation,training", "evaluation")


def anonymous_bytes(process: psutil.Process) -> int:
    """RssAnon of a process and all its descendants, in bytes."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            status = Path(f"/proc/{member.pid}/status").read_text()
        except OSError:
            continue  # it has ended meanwhile
        total += sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))
    return total


def peak_of(command: list[str], cwd: Path) -> int:
    """Run a command and give the peak of its anonymous memory, in bytes."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "KEDRO"))}
    process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    peak, watched = 0, psutil.Process(process.pid)
    drain = threading.Thread(target=lambda: log.append(process.stdout.read()))
    log: list[bytes] = []
    drain.start()
    while process.poll() is None:
        try:
            peak = max(peak, anonymous_bytes(watched))
            process.wait(timeout=0.1)
        except (subprocess.TimeoutExpired, psutil.NoSuchProcess):
            pass
    drain.join()
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{log[0].decode()[-3000:]}")
    return peak


def measure(images: int, size: int) -> dict[str, int]:
    """Run the stages one by one on that many images; peak of each, in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        shutil.copytree(ROOT / "conf", project / "conf", ignore=shutil.ignore_patterns("local"))
        shutil.copytree(ROOT / "src", project / "src", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", ".telemetry"):
            shutil.copy(ROOT / name, project / name)
        parameters = f"source.generator.images={images},source.generator.size={size},training.epochs=1"
        kedro = [str(Path(sys.executable).parent / "kedro"), "run", "--env", "test", "--params", parameters]
        return {stage: peak_of([*kedro, "--pipelines", stage], project) for stage in STAGES}


def main() -> None:
    """Measure, print a table and a line of JSON."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--few", type=int, default=200)
    arguments.add_argument("--many", type=int, default=5000)
    arguments.add_argument("--size", type=int, default=64)
    given = arguments.parse_args()
    few, many = measure(given.few, given.size), measure(given.many, given.size)
    table = Table(title=f"Peak anonymous memory, MiB ({given.size} px images)")
    for column in ("stage", f"{given.few} images", f"{given.many} images", "growth, MiB", "ratio"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in STAGES:
        growth = (many[stage] - few[stage]) / 2**20
        ratio = many[stage] / few[stage]
        table.add_row(
            stage, f"{few[stage] / 2**20:.0f}", f"{many[stage] / 2**20:.0f}", f"{growth:+.0f}", f"{ratio:.2f}"
        )
    Console().print(table)
    print(json.dumps({stage: round(many[stage] / few[stage], 3) for stage in STAGES}))


if __name__ == "__main__":
    main()
