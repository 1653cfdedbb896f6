"""What intervals and a paired comparison cost, next to scoring each resample by itself; and whether they hold.

10,000 resamples of 1,000 images with 20 classes: all scores at once, as a product of weights with the table of sums,
next to the plain way (the drawn images' tables put together and scored; a few of them, extrapolated). Memory is the
peak that grew meanwhile. With --coverage also: how often the interval held the truth, for populations that are made up
(sizes lognormal, hits beta) and, with --confusion, for one that is the images of a run's confusion_counts.parquet.

    make bench NAME=intervals
    make bench NAME=intervals ARGS="--coverage --confusion data/07_model_output/cells/confusion_counts.parquet"
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from unet_segmentation.metrics.bootstrap import Resampling, bootstrap, bootstrap_draws, confidence_limits, left_out
from unet_segmentation.metrics.confusion_matrix import confusion_matrices, confusion_table
from unet_segmentation.metrics.evaluation_tables import EvaluationTables
from unet_segmentation.metrics.paired_comparison import compare
from unet_segmentation.metrics.scores import compute_scores
from unet_segmentation.metrics.sufficient_statistics import UnitSums

TRIALS = 1000
SHOWN = ("dice/mean", "dice/per_image_mean")  # and the Dice of the last class


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--confusion", type=Path, action="append", default=[])
    options = parser.parse_args()
    measure_speed(options.images, options.classes)
    if options.coverage:
        for name, draw, classes in populations(options.confusion):
            for images in (30, 100, 1000):
                for method in ("percentile", "bca"):
                    measure_coverage(name, draw, classes, images, method)


# -- speed


def measure_speed(images: int, count: int) -> None:
    generator = np.random.default_rng(0)
    classes = [f"class {number}" for number in range(count)]
    runs = [scored(made_up(generator, images, count)) for _ in range(2)]
    runs[1] = EvaluationTables({"confusion": runs[0].confusion, "soft": runs[1].soft})
    resampling = Resampling()
    seconds = timed(lambda: bootstrap(UnitSums.of(runs[0], classes), resampling))
    tracemalloc.start()
    bootstrap(UnitSums.of(runs[0], classes), resampling)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    plain = timed(lambda: [one_by_one(runs[0], classes, seed) for seed in range(5)]) / 5 * resampling.resamples
    compared = timed(lambda: compare(*runs, classes, margin=0.01))
    print(
        f"{images} images, {count} classes, {resampling.resamples} resamples: {seconds:.2f} s ({peak:.0f} MiB); "
        f"one by one {plain:.0f} s; compared with a permutation test {compared:.2f} s"
    )
    found = {"seconds": round(seconds, 3), "of_one_by_one": round(plain / seconds), "mebibytes": round(peak)}
    print(json.dumps(found))


def made_up(generator: np.random.Generator, images: int, classes: int) -> np.ndarray:
    matrices = generator.integers(0, 50, (images, classes, classes))
    matrices[:, range(classes), range(classes)] += generator.integers(0, 3000, (images, classes))
    return matrices


def scored(matrices: np.ndarray) -> EvaluationTables:
    names = [f"{number:06d}" for number in range(len(matrices))]
    pixels = matrices.sum(axis=(1, 2)).astype(float)
    soft = pd.DataFrame({"sample_id": names, "intersection": 0.9 * pixels, "truth": pixels, "prediction": pixels})
    return EvaluationTables({"confusion": confusion_table(zip(names, matrices, strict=True)), "soft": soft})


def one_by_one(run: EvaluationTables, classes: list[str], seed: int) -> dict[str, float]:
    """Put the tables of the drawn images together, and score them."""
    drawn = np.random.default_rng(seed).integers(0, len(run.soft), len(run.soft))
    soft = run.soft.iloc[drawn].reset_index(drop=True)
    names = [f"{number} {name}" for number, name in enumerate(soft["sample_id"])]
    by_image = dict(list(run.confusion.groupby("sample_id")))
    parts = [
        by_image[old].assign(sample_id=name)
        for old, name in zip(soft["sample_id"], names, strict=True)
        if old in by_image
    ]
    tables = {"confusion": pd.concat(parts, ignore_index=True), "soft": soft.assign(sample_id=names)}
    return compute_scores(EvaluationTables(tables), classes)


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


# -- coverage

Draw = Callable[[np.random.Generator, int], np.ndarray]  # (images, columns) of sums


def populations(files: list[Path]) -> list[tuple[str, Draw, list[str]]]:
    three = ["background", "body", "nucleus"]
    found: list[tuple[str, Draw, list[str]]] = [
        (f"beta({a}, {b})", lambda generator, count, a=a, b=b: sums_of(cells(generator, count, a, b), three), three)  # type: ignore[misc]
        for a, b in ((20, 2), (8, 1.5))
    ]
    for file in files:
        table = pd.read_parquet(file)
        classes = [f"class {number}" for number in range(int(table[["truth", "prediction"]].max().max()) + 1)]
        whole = sums_of(confusion_matrices(table, len(classes)), classes)
        found.append(
            (str(file), lambda generator, count, whole=whole: whole[generator.integers(0, len(whole), count)], classes)
        )  # type: ignore[misc]
    return found


def cells(generator: np.random.Generator, count: int, a: float, b: float) -> np.ndarray:
    """Cells whose size varies, and of which more is found the larger they are."""
    cell = generator.lognormal(7, 0.5, count)
    nucleus = cell * generator.beta(4, 8, count)
    hits = generator.beta(a, b, (count, 2)) * (0.9 + 0.1 * (cell / (cell + 500)))[:, None]
    matrices = np.zeros((count, 3, 3))
    for number, size in ((1, cell - nucleus), (2, nucleus)):
        matrices[:, number, number] = size * hits[:, number - 1]
        matrices[:, number, 0] = matrices[:, 0, number] = size * (1 - hits[:, number - 1])
    matrices[:, 0, 0] = 16_384 - cell
    return np.rint(matrices).astype(np.int64)


def sums_of(matrices: np.ndarray, classes: list[str]) -> np.ndarray:
    return UnitSums.of(scored(matrices), classes).table


def measure_coverage(name: str, draw: Draw, classes: list[str], images: int, method: str) -> None:
    scorer = UnitSums.of(scored(np.ones((1, len(classes), len(classes)), np.int64)), classes)
    shown = [*SHOWN, scorer.names[scorer.names.index(f"dice/class/{classes[0].replace(' ', '_')}") + len(classes) - 1]]
    places = [scorer.names.index(score) for score in shown]
    generator = np.random.default_rng(1)
    truth = scorer.scores(draw(np.random.default_rng(0), 300_000).sum(axis=0))[places]
    resampling = Resampling(method, resamples=1000)  # type: ignore[arg-type]
    held = np.zeros(len(places))
    for _ in range(TRIALS):
        table = draw(generator, images)
        weights = bootstrap_draws(images, range(resampling.resamples), int(generator.integers(1 << 30)))
        value, drawn, jackknifed = (
            scorer.scores(sums)[..., places] for sums in (table.sum(axis=0), weights @ table, left_out(table))
        )
        low, high = confidence_limits(value, drawn, jackknifed, resampling)
        held += (low <= truth) & (truth <= high)
    rates = "  ".join(f"{score} {share:.3f}" for score, share in zip(shown, held / TRIALS, strict=True))
    print(f"{name}, {images} images, {method:10}  {rates}", flush=True)


if __name__ == "__main__":
    main()
