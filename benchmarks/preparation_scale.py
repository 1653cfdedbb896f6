"""Does preparation scale? Time and anonymous memory per image at 1,000 and at 100,000 images.

Runs the real command line (acquisition and preparation: index, decode, pack, look for near-duplicates, split, audit) on
a folder of small fabricated images, on a temporary copy of the project, and samples RssAnon, the memory that is not
backed by files, of all its processes. Then once more, when nothing has changed, and once more with another split.

    make bench NAME=preparation_scale
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from benchmarks.memory_growth import ROOT, peak_of

YAML = """
source: {{folder: {folder}, images: "images/**/{{id}}.png", masks: "masks/**/{{id}}.png"}}
classes: [background, object]
inspection: {{workers: 0}}
"""
A_FOLDER = 1000  # files


def main() -> None:
    """Measure, print a table and a line of JSON."""
    options = arguments()
    rows = {}
    for count in (options.few, options.many):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            rows[count] = measure(Path(folder), count, options.size, kill=count == options.many)
    print(f"\n{options.size} px images, {os.cpu_count()} cores\n")
    print("images    first, s  ms/image  killed at, s  then, s  again, s  other split, s  memory, MiB")
    for count, (first, killed, rest, again, split, memory) in rows.items():
        print(
            f"{count:7}  {first:9.1f}  {1000 * first / count:8.2f}  {killed:12.1f}  {rest:7.1f}  {again:8.1f}  "
            f"{split:14.1f}  {memory / 2**20:11.0f}"
        )
    many = rows[options.many]

    def cost(count: int) -> float:  # of an image, next to what the commands cost when nothing has changed
        return (rows[count][0] - rows[count][3]) / count

    result = {
        "cost_per_image": cost(options.many) / cost(options.few),
        "memory_mib": many[5] / 2**20,
        "second_start": many[0] / many[3],
    }
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--folder", default=None, help="where the temporary files go")
    return parser.parse_args()


def measure(folder: Path, count: int, size: int, kill: bool) -> tuple[float, ...]:
    """Seconds of the first run, until it was killed, of the run after that, of one more, of another split; memory."""
    project = make_project(folder, count, size)
    kedro = [str(Path(sys.executable).parent / "kedro"), "run", "--env", "scale", "--pipelines"]
    kedro += ["data_ingestion,data_preparation"]
    begin = time.perf_counter()
    memory = peak_of(kedro, project)
    first = time.perf_counter() - begin
    killed = rest = 0.0
    if kill:
        shutil.rmtree(project / "data")
        killed = run_and_kill([*kedro], project, after=first / 2)
        rest = timed([*kedro], project)
    again = timed([*kedro], project)
    return first, killed, rest, again, timed([*kedro, "--params", "split.seed=1"], project), memory


def make_project(folder: Path, count: int, size: int) -> Path:
    """Copy the project, and write the images."""
    project = folder / "project"
    shutil.copytree(ROOT / "conf", project / "conf", ignore=shutil.ignore_patterns("local"))
    shutil.copytree(ROOT / "src", project / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / name, project / name)
    (project / "conf/scale").mkdir()
    (project / "conf/scale/parameters.yml").write_text(YAML.format(folder=folder / "files"), encoding="utf-8")
    for start in range(0, count, A_FOLDER):
        for name in ("images", "masks"):
            (folder / "files" / name / f"{start // A_FOLDER:04d}").mkdir(parents=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda number: write_sample(folder / "files", number, size), range(count)))
    return project


def write_sample(folder: Path, number: int, size: int) -> None:
    """Draw one image of smooth noise, whose bright parts are the object."""
    random = np.random.default_rng(number)
    field = ndimage.zoom(random.standard_normal((size // 8, size // 8)), 8, order=1)
    image = np.clip(128 + 50 * field[..., None] + random.normal(0, 6, (size, size, 3)), 0, 255).astype(np.uint8)
    name = f"{number // A_FOLDER:04d}/{number:06d}.png"
    Image.fromarray(image).save(folder / "images" / name, compress_level=1)
    Image.fromarray((field > 0.5).astype(np.uint8)).save(folder / "masks" / name, compress_level=1)


def timed(command: list[str], cwd: Path) -> float:
    """Run a command; its seconds."""
    begin = time.perf_counter()
    subprocess.run(command, cwd=cwd, check=True, capture_output=True)
    return time.perf_counter() - begin


def run_and_kill(command: list[str], cwd: Path, after: float) -> float:
    """Start a command and kill it with SIGKILL, as a power cut would."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    time.sleep(after)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
