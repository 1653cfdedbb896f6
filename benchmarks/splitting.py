"""Is a remembered, greedy split worth its file? And what do 100,000 samples cost?

Three ways to cut the same samples (gamma-distributed pixels of five classes, most of them in few samples): by a hash of
the name, greedily again each time, and greedily from what is remembered. Samples are added twenty times, ten at a time.
What counts is how far class shares are from the wanted ones, and how many samples change sides. Then 100,000 samples of
20 classes in a process of its own, for three splits and for five folds.

    make bench NAME=splitting
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from unet_segmentation.data.split.split import split_samples
from unet_segmentation.parameters.data import SplitParameters

SHARES = {"train": 0.65, "validation": 0.15, "test": 0.2}
START, STEP, ADDITIONS, SETS = 60, 10, 20, 20
MANY, CLASSES = 100_000, 20


def made_up(count: int, classes: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    pixels = random.gamma(0.3, 1000, (count, classes)).astype(np.int64)
    pixels[:, 0] += 1000
    names = [f"s{number:06d}" for number in random.permutation(count)]
    columns = dict.fromkeys(["sample_id", "image", "image_sha256", "mask_sha256", "pixel_key"], names)
    rest = {"masks": [[name] for name in names], "roi": "", "group": None, "split": None}
    sizes = {"height": 8, "width": 8, "channels": 3, "dtype": "uint8", "class_pixels": list(pixels)}
    return pd.DataFrame(columns | rest | sizes)


def split(table: pd.DataFrame, folder: Path | None = None, **parameters: int) -> pd.Series:
    everything = pd.Series(True, index=table.index)
    samples, _ = split_samples(table, everything, SplitParameters(**parameters), folder)
    return samples.set_index("sample_id")["split"]


def by_hash(table: pd.DataFrame) -> pd.Series:
    numbers = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64 for name in table["sample_id"]]
    sides = np.array(list(SHARES))[np.searchsorted(np.cumsum(list(SHARES.values())), numbers)]
    return pd.Series(sides, index=table["sample_id"])


def deviation(table: pd.DataFrame, sides: pd.Series) -> float:
    """Return the mean over splits and classes of |share of the class's pixels - wanted share|, in points."""
    pixels = np.array(table["class_pixels"].tolist())
    side = sides[table["sample_id"]].to_numpy()
    off = [np.abs(pixels[side == name].sum(axis=0) / pixels.sum(axis=0) - share) for name, share in SHARES.items()]
    return 100 * float(np.mean(off))


def grow(seed: int, way: str, folder: Path) -> tuple[float, float, int]:
    """Return the deviation at first and in the end, and the number of changes of side on the way."""
    table = made_up(START + STEP * ADDITIONS, 5, seed)
    cut = {"hash": by_hash, "greedy": split, "remembered": lambda now: split(now, folder)}[way]
    before = cut(table.iloc[:START])
    first, moves = deviation(table.iloc[:START], before), 0
    for count in range(START + STEP, len(table) + 1, STEP):
        now = cut(table.iloc[:count])
        moves += int((now[before.index] != before).sum())
        before = now
    return first, deviation(table, before), moves


def many(folds: int) -> None:
    table = made_up(MANY, CLASSES, 0)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            begin = time.perf_counter()
            split(table, Path(folder), **({"folds": folds} if folds else {}))
            print(f"{time.perf_counter() - begin:.2f}", end=" ")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - base:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--many", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.many is not None:
        many(arguments.many)
        return
    table = Table("way", f"deviation, {START} samples", f"{START + STEP * ADDITIONS} samples", "changes of side")
    for way in ("hash", "greedy", "remembered"):
        with tempfile.TemporaryDirectory() as folder:
            results = np.array([grow(seed, way, Path(folder) / str(seed)) for seed in range(SETS)])
        first, last, moves = results.mean(axis=0)
        table.add_row(way, f"{first:.2f} points", f"{last:.2f} points", f"{moves:.0f}")
    Console().print(table)
    for folds in (0, 5):
        command = [sys.executable, "-m", "benchmarks.splitting", "--many", str(folds)]
        first, again, memory = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        what = f"{folds} folds" if folds else "three splits"
        print(f"{MANY:,} samples, {what}: {first} s, again {again} s, peak memory + {memory} MiB")


if __name__ == "__main__":
    main()
