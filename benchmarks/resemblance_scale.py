"""Does the search for near-identical images and better-fitting masks cost the same per image at any number of images?

Signatures are made up: smooth random pictures and masks that follow them, a tenth of the pictures a mirrored, shifted,
noisy copy of another one far off. The hard case is one video: all frames nearly the same. They lie in a memory-mapped
file, as in the project; each case runs in a process of its own, which samples its anonymous memory (RssAnon).

    make bench NAME=resemblance_scale

The last line is JSON: ratios of the cost per image and of the growth of memory, many to few.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from unet_segmentation.data.audit import near_duplicates
from unet_segmentation.data.audit.thumbnails import SIDE, SIGNATURE

CHUNK = 1000
THRESHOLD = 0.96


def anonymous_megabytes() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


@contextmanager
def watched(peaks: list[float]) -> Iterator[None]:
    """Append by how many MiB anonymous memory rose at its peak."""
    before, done = anonymous_megabytes(), threading.Event()
    seen = [before]

    def watch() -> None:
        while not done.wait(0.01):
            seen.append(anonymous_megabytes())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        peaks.append(max(seen) - before)


def pictures(random: np.random.Generator, count: int) -> np.ndarray:
    """Smooth random fields, 0 to 255."""
    fields = ndimage.gaussian_filter(random.standard_normal((count, SIDE, SIDE), np.float32), (0, 2, 2))
    low, high = fields.min((1, 2), keepdims=True), fields.max((1, 2), keepdims=True)
    return (fields - low) / (high - low) * 255


def write(file: Path, count: int, video: bool) -> None:
    """Write that many signatures; the last tenth are copies of the first tenth, unless it is a video."""
    random = np.random.default_rng(0)
    records = np.lib.format.open_memmap(file, "w+", SIGNATURE, (count,))
    scene = pictures(random, 1)
    for start in range(0, count, CHUNK):
        number = min(CHUNK, count - start)
        gray = (
            scene.repeat(number, 0) + random.normal(0, 3, (number, SIDE, SIDE)) if video else pictures(random, number)
        )
        part = records[start : start + number]
        part["classes"] = ndimage.gaussian_filter(gray, (0, 1, 1)) > gray.mean((1, 2), keepdims=True)
        part["gray"] = gray.clip(0, 255)
        part["color"] = random.integers(0, 256, part["color"].shape)
        part["height"] = part["width"] = 256
    if not video:
        copied = count // 10
        shifted = ndimage.shift(
            records["gray"][:copied, :, ::-1].astype(np.float32), (0, 0.2, 0.2), order=1, mode="nearest"
        )
        noise = random.normal(0, 2, shifted.shape)
        records["gray"][-copied:] = (shifted + noise).clip(0, 255)
    records.flush()


def measure(count: int, video: bool) -> dict[str, float]:
    """Time both searches on that many signatures, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "signatures.npy"
        write(file, count, video)
        records, rows = np.load(file, mmap_mode="r"), np.arange(count)
        few = rows[:200]
        near_duplicates.find_near_duplicates(records, few, THRESHOLD)  # libraries are loaded, threads started
        near_duplicates.find_mismatched_masks(records, few)
        peaks: list[float] = []
        start = time.perf_counter()
        with watched(peaks):
            pairs = near_duplicates.find_near_duplicates(records, rows, THRESHOLD)
        middle = time.perf_counter()
        with watched(peaks):
            told = near_duplicates.find_mismatched_masks(records, rows)
        end = time.perf_counter()
    copied = count // 10
    right = sum(second - first == count - copied for first, second, _ in pairs)
    return {
        "near_ms": (middle - start) / count * 1e3,
        "fit_ms": (end - middle) / count * 1e3,
        "near_mib": peaks[0],
        "fit_mib": peaks[1],
        "pairs": len(pairs),
        "recall": float("nan") if video else right / copied,
        "told": len(told),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", type=int, default=1000)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--video", type=int, default=20_000)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        kind, count = arguments.one.split(":")
        print(json.dumps(measure(int(count), kind == "video")))
        return
    cases = [
        ("pictures", arguments.few),
        ("pictures", arguments.many),
        ("video", arguments.few),
        ("video", arguments.video),
    ]
    table = Table(
        "signatures", "number", "pairs", "copies found", "near-identical, ms/image", "MiB", "fit, ms/image", "MiB"
    )
    results = []
    for kind, count in cases:
        command = [sys.executable, "-m", "benchmarks.resemblance_scale", "--one", f"{kind}:{count}"]
        ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        result = json.loads(ended.stdout.splitlines()[-1])
        results.append(result)
        found = "" if kind == "video" else f"{result['recall']:.1%}"
        figures = [
            f"{result[key]:.3f}" if key.endswith("ms") else f"{result[key]:.0f}"
            for key in ("near_ms", "near_mib", "fit_ms", "fit_mib")
        ]
        table.add_row(kind, f"{count:,}", f"{result['pairs']:,}", found, *figures)
    Console(width=120).print(table)
    few, many, few_video, video = results
    ratios = {
        "near_identical_cost": many["near_ms"] / few["near_ms"],
        "near_identical_cost_of_a_video": video["near_ms"] / few_video["near_ms"],
        "better_fitting_cost": many["fit_ms"] / few["fit_ms"],
        "copies_found": many["recall"],
        "bytes_per_image": max(many["near_mib"], many["fit_mib"]) * 2**20 / arguments.many,
    }
    print(json.dumps({name: round(value, 3) for name, value in ratios.items()}))


if __name__ == "__main__":
    main()
