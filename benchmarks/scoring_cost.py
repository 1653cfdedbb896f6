"""What the scores cost besides plain prediction, and whether memory grows with the number of images.

Plain prediction sends images of 512 x 512 pixels through a U-Net with a ResNet-18 and takes the most probable class.
Beside it, in turns in one process: the same with what the evaluation adds (confusion matrices, the article's and the
calibration's sums, the foreground's histogram where there are two classes, prediction files written and read back).
Weights are random, which changes no time. Each part's own cost per image is timed apart, that of objects and boundary
scores too, which are no part of the promise. The memory is that of the pass over few and over many images, their
probabilities ready made.

Processor time tells more than the clock where other processes are at work; both are printed.

    make bench NAME=scoring_cost
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.memory_growth import anonymous_bytes
from tests.data.fabricated_statistics import statistics_of
from unet_segmentation.data.store.packed_arrays import PackedSamples, pack
from unet_segmentation.inference.backends.pytorch import EagerBackend
from unet_segmentation.inference.predict_split import predict_split
from unet_segmentation.inference.predictor import Predictor
from unet_segmentation.inference.sliding_window import argmax_mask
from unet_segmentation.metrics.boundary import MEASURES, measure_boundaries
from unet_segmentation.metrics.calibration import calibration_sums
from unet_segmentation.metrics.confusion_matrix import confusion_matrix, confusion_table
from unet_segmentation.metrics.object_recall import count_objects
from unet_segmentation.metrics.prediction_masks import read_prediction, write_prediction
from unet_segmentation.metrics.soft_overlap import soft_overlap_sums
from unet_segmentation.metrics.thresholds import foreground_histogram
from unet_segmentation.models.factory import build_model, resolve_model_spec
from unet_segmentation.parameters import ModelParameters, PredictorParameters

SIDE = 512
CELL = 32  # side of the squares that masks and probabilities are made of, in pixels
PROMISE = 1.10


class Ready:
    """A predictor whose probabilities are there already."""

    device = "memory"

    def __init__(self, probabilities: np.ndarray) -> None:
        self.classes = [str(number) for number in range(len(probabilities))]
        self._probabilities = probabilities

    def predict_many(self, images: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Return the same for every image."""
        for image in images:
            yield self._probabilities[:, : image.shape[0], : image.shape[1]]


class Repeated:
    """So many samples, made of a few."""

    def __init__(self, packed: PackedSamples, count: int) -> None:
        self.sample_ids = [f"{number:06d}" for number in range(count)]
        self._packed = packed

    def __getattr__(self, name: str) -> Callable[[str], Any]:
        method, few = getattr(self._packed, name), self._packed.sample_ids
        return lambda sample_id: method(few[int(sample_id) % len(few)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as many as it takes by itself")
    parser.add_argument("--few", type=int, default=200, help="images, for the memory")
    parser.add_argument("--many", type=int, default=2000)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    answers = []
    with tempfile.TemporaryDirectory() as name:
        for classes in (2, 20):
            folder = Path(name) / str(classes)
            answers.append({"classes": classes, **ratios(folder, classes, options), **parts(folder, classes)})
        show(answers)
        growth = memory(Path(name) / "memory", options.few, options.many)
    Console().print(f"memory of the pass, 20 classes: {growth}", highlight=False)
    print(json.dumps({"answers": answers, "memory": growth}))


def scene(classes: int, seed: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Make probabilities (classes, side, side) with noise, and a mask that they mostly meet."""
    random = np.random.default_rng(seed)
    cells = side // CELL + 1
    squares = random.integers(0, classes, (cells, cells), dtype=np.uint8)
    mask = squares.repeat(CELL, axis=0).repeat(CELL, axis=1)[:side, :side]
    logits = torch.from_numpy(random.normal(0, 1, (classes, side, side)).astype(np.float32))
    logits += 4 * torch.nn.functional.one_hot(torch.from_numpy(np.roll(mask, 3, 1)).long(), classes).permute(2, 0, 1)
    return torch.softmax(logits, dim=0).numpy(), mask


def samples(folder: Path, classes: int, count: int, side: int = SIDE) -> PackedSamples:
    random = np.random.default_rng(1)
    image = random.integers(0, 255, (side, side, 3), dtype=np.uint8)
    return pack(folder / "packed", {f"{n:05d}": (image, scene(classes, n, side)[1]) for n in range(count)})


def ratios(folder: Path, classes: int, options: argparse.Namespace) -> dict[str, float]:
    """Time plain prediction and all of it in turns: milliseconds per image, and the ratio, of the fastest rounds."""
    packed = samples(folder, classes, options.images)
    names = [str(number) for number in range(classes)]
    parameters = ModelParameters(architecture="unet", encoder="resnet18")
    specification = resolve_model_spec(parameters, names, statistics_of({"mean": [120.0] * 3, "std": [60.0] * 3}))
    predictor = Predictor(specification, EagerBackend(build_model(specification)), PredictorParameters())
    predictions = folder / "predictions"
    predictions.mkdir()

    def plain() -> None:
        for probabilities in predictor.predict_many(packed.image(name) for name in packed.sample_ids):
            argmax_mask(probabilities)

    def everything() -> None:
        predict_split(predictor, packed, packed.sample_ids, predictions)
        confusion_table(
            (name, confusion_matrix(packed.mask(name), read_prediction(predictions, name), classes))
            for name in packed.sample_ids
        )

    plain()
    rounds = [(timed(plain), timed(everything)) for _ in range(options.rounds)]
    found = {}
    for place, clock in enumerate(("wall", "processor")):
        first, second = (min(times[place] for times in column) for column in zip(*rounds, strict=True))
        found[f"plain_{clock}_ms"] = 1e3 * first / options.images
        found[f"ratio_{clock}"] = second / first
    return found


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def parts(folder: Path, classes: int) -> dict[str, float]:
    """Milliseconds of the processor for each part, per image."""
    probabilities, mask = scene(classes, 0)
    prediction, confidence = argmax_mask(probabilities), probabilities.max(axis=0)
    work: dict[str, Callable[[], object]] = {
        "article's sums": lambda: soft_overlap_sums(mask, probabilities),
        "calibration": lambda: calibration_sums(mask, prediction, probabilities.max(axis=0)),
        "prediction file": lambda: write_prediction(folder, "part", prediction),
        "read back": lambda: read_prediction(folder, "part"),
        "confusion": lambda: confusion_matrix(mask, prediction, classes),
        "objects": lambda: count_objects(mask, prediction, classes),
        **{m: lambda m=m: measure_boundaries(mask, prediction, classes, [m], 2) for m in MEASURES},
        "all boundary scores": lambda: measure_boundaries(mask, prediction, classes, MEASURES, 2),
    }
    if classes == 2:
        work["histogram"] = lambda: foreground_histogram(mask, confidence)
    return {f"{name} ms": 1e3 * min(timed(part)[1] for _ in range(7)) for name, part in work.items()}


def show(answers: list[dict[str, float]]) -> None:
    table = Table("", *(f"{answer['classes']} classes" for answer in answers), title="per image of 512 x 512 pixels")
    for name in dict.fromkeys(name for answer in answers for name in answer if name != "classes"):
        cells = [f"{answer[name]:.3f}" if name in answer else "" for answer in answers]
        table.add_row(name.replace("_", " "), *cells)
    Console().print(table)
    worst = max(answer["ratio_processor"] for answer in answers)
    print(f"the scores add {worst - 1:.1%} at most; promised are {PROMISE - 1:.0%}")


def memory(folder: Path, few: int, many: int, side: int = SIDE) -> dict[str, float]:
    """Peak of the anonymous memory of the pass, in MB, with few and with many images, after a first pass."""
    packed = samples(folder, 20, 50, side)
    predictor = Ready(scene(20, 0, side)[0])
    folder = folder / "predictions"
    folder.mkdir()

    def run(count: int) -> float:
        repeated = Repeated(packed, count)
        return peak(lambda: predict_split(predictor, repeated, repeated.sample_ids, folder))

    run(few)
    found = {"few": few, "many": many, "few_mb": run(few), "many_mb": run(many)}
    found["kb_per_image"] = 1e3 * (found["many_mb"] - found["few_mb"]) / (many - few)
    return found


def peak(work: Callable[[], object]) -> float:
    import psutil

    highest, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            highest[0] = max(highest[0], anonymous_bytes(psutil.Process()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return highest[0] / 1e6


if __name__ == "__main__":
    main()
