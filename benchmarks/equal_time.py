"""Which is better after the same time: this project's default recipe, or the plain loop of `benchmarks.plain`?

Both train the network that `conf/` names on the training split of prepared data, and are scored on its test split, on
the same machine. The time of `ours` begins before the preflight measures anything and ends when the training does
(`training.max_time_minutes` turns it into epochs); that of `plain-128` (squares of 128 px) is Lightning's. Imports,
preparation and scoring count for neither. The validation split chooses our epoch; the plain loop does not use it.

Two protocols, both from one confusion matrix over the whole split:

* native: against the masks as they are; logits of the plain loop are resized to them, bilinearly;
* resized: against masks resized to the plain loop's square (nearest), as its users score; ours is resized alike.

The last column is our longest training run as a share of its time budget: epochs are fixed before the first step, so a
machine that gets busier afterwards lets it take longer, and such a cell is not a fair one.

Every cell of the table runs in a fresh process and is kept, so that the benchmark can be stopped and goes on later:

    kedro run --env wbc --pipelines data_ingestion,data_preparation
    make bench NAME=equal_time ARGS="--data wbc --minutes 1,2,5 --seeds 0,1,2 --sizes 128"

With --folds 5 every labeled sample is held out once, as `kedro run --pipelines cross_validation` does it: so many
trainings for each cell of the table, each given the whole time, and one confusion matrix over all of them:

    make bench NAME=equal_time ARGS="--data isbi2012 --minutes 1 --seeds 0 --folds 5"
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
PLAIN_BATCH = 16
SCORES = ("dice/mean", "iou/mean", "accuracy/pixel")

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Cell:
    """One training: which data, how long, which seed, whose loop (``ours``, or ``plain-SIZE``), on which fold."""

    data: str
    minutes: float
    seed: int
    method: str
    fold: int = 0  # from 1; 0: the data's own split


def main() -> None:
    """Run what is not there yet, then print the table."""
    options = arguments()
    if options.cell:
        print(json.dumps(run(Cell(**json.loads(options.cell)), options)))
        return
    methods = ["ours", *(f"plain-{size}" for size in options.sizes)]
    folds = range(1, options.folds + 1) if options.folds else [0]
    cells = [Cell(*key) for key in product(options.data, options.minutes, options.seeds, methods, folds)]
    done = finished(options)
    for number, cell in enumerate(cells, 1):
        if cell in done:
            continue
        print(f"{number} of {len(cells)}: {asdict(cell)}", flush=True)
        done[cell] = in_fresh_process(cell, options)
        keep(options.results, done[cell])
    print_table({cell: done[cell] for cell in cells})


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=several(str), default=["wbc", "isbi2012"], help="problems of conf/")
    parser.add_argument("--minutes", type=several(float), default=[1.0, 2.0, 5.0])
    parser.add_argument("--seeds", type=several(int), default=[0, 1, 2])
    parser.add_argument("--sizes", type=several(int), default=[128], help="squares of the plain loop, px")
    parser.add_argument("--prepared", type=Path, default=ROOT / "data/03_primary", help="what the preparation made")
    parser.add_argument("--conf", type=Path, default=ROOT / "conf")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/equal_time.jsonl")
    parser.add_argument("--training", type=json.loads, default={}, help="JSON: other parameters than conf/ says")
    parser.add_argument("--folds", type=int, default=0, help="0: the data's own split")
    parser.add_argument("--split", choices=["test", "validation"], default="test", help="what is scored")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    return parser.parse_args()


def several(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """Read a list separated by commas."""
    return lambda text: [kind(part) for part in text.split(",")]


# -- cells that were run are kept


def finished(options: argparse.Namespace) -> dict[Cell, dict[str, Any]]:
    """Read the results of the cells that were run as the options say; a line that a kill cut off is none."""
    lines = options.results.read_text(encoding="utf-8").splitlines() if options.results.is_file() else []
    results = {}
    for line in lines:
        try:
            result = json.loads(line)
        except ValueError:
            continue
        cell = Cell(**result["cell"])
        sizes = map(str, options.sizes if cell.method == "ours" else ())
        if result["as_asked"] == as_asked(options) and set(sizes) <= set(result["resized"]):
            results[cell] = result
    return results


def as_asked(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options, besides the cell, that change its result."""
    return {"split": options.split, "training": options.training} | ({"folds": options.folds} if options.folds else {})


def keep(path: Path, result: dict[str, Any]) -> None:
    """Append a line, after whatever a kill cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            file.write(b"" if file.read() == b"\n" else b"\n")
        file.write(json.dumps(result).encode() + b"\n")


def in_fresh_process(cell: Cell, options: argparse.Namespace) -> dict[str, Any]:
    """Run one cell as a command of its own."""
    command = [sys.executable, "-m", "benchmarks.equal_time", "--cell", json.dumps(asdict(cell))]
    command += ["--sizes", ",".join(map(str, options.sizes)), "--split", options.split]
    command += ["--training", json.dumps(options.training), "--folds", str(options.folds)]
    command += ["--prepared", str(options.prepared), "--conf", str(options.conf)]
    process = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if process.returncode:
        raise SystemExit(f"{asdict(cell)} failed")
    return json.loads(process.stdout.splitlines()[-1])


# -- one cell


class Problem:
    """Prepared data of a problem, and its parameters with the cell's seed and time."""

    def __init__(self, cell: Cell, options: argparse.Namespace) -> None:
        import pandas as pd

        from unet_segmentation.config_loader import ProblemConfigLoader
        from unet_segmentation.data.statistics import DatasetStatistics, labeled_ids_by_split
        from unet_segmentation.data.store.packed_arrays import PackedSamples
        from unet_segmentation.parameters import validate_parameters
        from unet_segmentation.settings import CONFIG_LOADER_ARGS

        folder = options.prepared / cell.data
        if not (folder / "packed_dataset.json").is_file():
            raise SystemExit(
                f"No prepared data in {folder}. First: kedro run --env {cell.data} --pipelines data_preparation"
            )
        training = {"seed": cell.seed, "max_time_minutes": cell.minutes}
        parameters = {"training": training | options.training}
        loader = ProblemConfigLoader(options.conf, cell.data, runtime_params=parameters, **CONFIG_LOADER_ARGS)
        self.parameters = validate_parameters(loader["parameters"])
        self.samples = pd.read_parquet(folder / "samples.parquet")
        self.profile = DatasetStatistics.model_validate_json((folder / "dataset_statistics.json").read_bytes())
        pointer = json.loads((folder / "packed_dataset.json").read_text(encoding="utf-8"))
        self.packed = PackedSamples(folder / pointer["folder"])
        self.classes = self.parameters.classes
        if cell.fold:
            self.take_fold(cell.fold, options)
        split = labeled_ids_by_split(self.samples)
        self.train, self.scored = split["train"], split[options.split]
        self.sizes = options.sizes

    def take_fold(self, fold: int, options: argparse.Namespace) -> None:
        """Split the samples as the cross-validation of all labeled ones does; what is held out is `test`."""
        import pandas as pd

        from unet_segmentation.data.split.kfold import assign_folds, samples_of_fold
        from unet_segmentation.data.statistics import compute_statistics

        folder = options.prepared.parent / "02_intermediate" / self.parameters.problem
        inspected = pd.read_parquet(folder / "inspected_samples.parquet")
        everywhere = {"folds": options.folds, "splits": ["train", "validation", "test"]}
        parameters = self.parameters.cross_validation.model_copy(update=everywhere)
        folds = assign_folds(self.samples, inspected, parameters, self.parameters.split)
        self.samples = samples_of_fold(self.samples, folds, fold)
        statistics = compute_statistics(self.samples, inspected, self.classes, self.parameters.images)
        self.profile = statistics


def run(cell: Cell, options: argparse.Namespace) -> dict[str, Any]:
    """Train and score one cell."""
    warnings.filterwarnings("ignore")
    import torch

    problem = Problem(cell, options)
    if cell.method == "ours":
        result = run_ours(problem)
    else:
        result = run_plain(problem, int(cell.method.removeprefix("plain-")), cell)
    return {"cell": asdict(cell), "as_asked": as_asked(options), "num_threads": torch.get_num_threads()} | result


def run_ours(problem: Problem) -> dict[str, Any]:
    """Plan and train as `kedro run` does: with the nodes of its pipelines."""
    from safetensors.torch import save_file

    from unet_segmentation.inference.predictor import Predictor
    from unet_segmentation.pipelines.augmentation.nodes import compose_augmentation
    from unet_segmentation.pipelines.training.nodes import build_model, preflight, propose_plan, train

    parameters, profile, packed = problem.parameters, problem.profile, problem.packed
    training = parameters.training
    recipe = compose_augmentation(parameters.augmentation, profile)
    proposal = propose_plan(profile, parameters.model, training, problem.classes)
    network, weights = build_model(parameters.model, training, proposal, problem.classes, profile)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        initial = folder / "initial.safetensors"
        save_file(weights, initial)
        began = time.perf_counter()
        inputs = network, initial, problem.samples, packed, recipe, profile, proposal
        plan = preflight(*inputs, training, folder)
        best, _, history = train(*inputs, plan, training, folder)
        seconds = time.perf_counter() - began
        predictor = Predictor.from_file(
            best, parameters.predictor, "cpu" if plan.hardware.accelerator == "cpu" else "auto"
        )
        masks = [predictor.predict(packed.image(sample_id)) for sample_id in problem.scored]
    score = history[f"validation/{training.monitor}"]
    return {
        "seconds": round(seconds, 1),
        "steps": plan.epochs * plan.steps_per_epoch,
        "epochs": plan.epochs,
        "batch": plan.batch_size,
        "patch": plan.patch_size,
        "best_epoch": int(score.argmax()) + 1,
        "native": score_masks(problem, masks),
        "resized": {str(size): score_masks(problem, masks, size) for size in problem.sizes},
    }


def run_plain(problem: Problem, size: int, cell: Cell) -> dict[str, Any]:
    """Train with the plain loop."""
    import lightning as L
    from torch.nn.functional import interpolate

    from benchmarks.plain import PlainModule, PlainSamples, logits_of, train_plainly
    from unet_segmentation.training.runtime import quiet_lightning

    with tempfile.TemporaryDirectory() as name, quiet_lightning():
        train, scored = (write_files(Path(name), problem, ids) for ids in (problem.train, problem.scored))
        L.seed_everything(cell.seed, verbose=False)
        module = PlainModule(problem.parameters.model.encoder, len(problem.classes))
        limit = {"max_time": {"seconds": 60 * cell.minutes}, "max_epochs": -1}
        began = time.perf_counter()
        trainer = train_plainly(module, PlainSamples(train, size), PLAIN_BATCH, **limit)
        seconds = time.perf_counter() - began
        native, square = [], []
        for sample_id, logits in zip(
            problem.scored, logits_of(module, PlainSamples(scored, size, flip=False)), strict=True
        ):
            shape = problem.packed.shape(sample_id)[:2]
            native.append(most_probable(interpolate(logits, shape, mode="bilinear")))
            square.append(most_probable(logits))
    return {
        "seconds": round(seconds, 1),
        "steps": trainer.global_step,
        "native": score_masks(problem, native),
        "resized": {str(size): score_masks(problem, square, size)},
    }


def write_files(folder: Path, problem: Problem, sample_ids: Sequence[str]) -> list[tuple[Path, Path]]:
    """Write images and masks (class ids) as files, for a loop that reads files."""
    from PIL import Image

    files = []
    for sample_id in sample_ids:
        pixels = problem.packed.image(sample_id).squeeze(), problem.packed.mask(sample_id)
        pair = folder / f"{sample_id}.image.png", folder / f"{sample_id}.mask.png"
        for path, array in zip(pair, pixels, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)  # ids may hold folders
            Image.fromarray(array).save(path, compress_level=1)
        files.append(pair)
    return files


def most_probable(logits: Any) -> Mask:  # (1, classes, height, width)
    """Return the class of every pixel."""
    return logits.argmax(dim=1)[0].numpy().astype(np.uint8)


def score_masks(problem: Problem, masks: Iterable[Mask], size: int | None = None) -> dict[str, Any]:
    """Score predicted masks of the scored split, all pixels in one matrix, which is given with the scores.

    Args:
        problem: with the truth.
        masks: in the order of `problem.scored`.
        size: of the square that truth and masks of another size are resized to; None: the truth's own size.
    """
    from unet_segmentation.metrics.confusion_matrix import confusion_matrix
    from unet_segmentation.metrics.definitions import global_scores

    count = len(problem.classes)
    matrix = np.zeros((count, count), np.int64)
    for sample_id, mask in zip(problem.scored, masks, strict=True):
        matrix += confusion_matrix(resized(problem.packed.mask(sample_id), size), resized(mask, size), count)
    found = global_scores(matrix, problem.classes)
    return {name: round(float(found[name]), 5) for name in SCORES} | {"matrix": matrix.tolist()}


def resized(mask: Mask, size: int | None) -> Mask:
    """Resize to a square by the nearest pixel, as albumentations does."""
    import cv2

    return mask if size is None else cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST)


# -- the table


def print_table(results: dict[Cell, dict[str, Any]]) -> None:
    """Print means over the seeds, differences and wins; then all of it as one line of JSON."""
    rows = list(compare(results))
    heads = f"{'mean Dice':12} {'min':>4} {'baseline':>10} {'protocol':>9} {'ours':>8} {'plain':>8} {'more':>8}"
    print(f"\n{heads}  wins    of the time")
    for row in rows:
        print(
            f"{row['data']:12} {row['minutes']:4g} {row['baseline']:>10} {row['protocol']:>9} {row['ours']:8.4f} "
            f"{row['plain']:8.4f} {row['ours'] - row['plain']:+8.4f}  {row['wins']} of {row['seeds']}"
            f"  {row['of_the_time']:.2f}"
        )
    print(json.dumps(rows))


def compare(results: dict[Cell, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Compare ours with every plain method: a row for each protocol."""
    groups = dict.fromkeys((cell.data, cell.minutes, cell.method) for cell in results if cell.method != "ours")
    for data, minutes, method in groups:
        cells = [cell for cell in results if (cell.data, cell.minutes, cell.method) == (data, minutes, method)]
        size = method.removeprefix("plain-")
        longest = max(results[replace(cell, method="ours")]["seconds"] for cell in cells)
        for protocol in ("native", "resized"):
            by_seed = [
                [cell for cell in cells if cell.seed == seed] for seed in dict.fromkeys(cell.seed for cell in cells)
            ]
            ours, plain = (
                [dice([results[replace(cell, method=name)] for cell in folds], protocol, size) for folds in by_seed]
                for name in ("ours", method)
            )
            yield {
                "data": data,
                "minutes": minutes,
                "baseline": method,
                "protocol": protocol,
                "ours": round(statistics.mean(ours), 5),
                "plain": round(statistics.mean(plain), 5),
                "wins": sum(mine > theirs for mine, theirs in zip(ours, plain, strict=True)),
                "seeds": len(by_seed),
                "of_the_time": round(longest / 60 / minutes, 3),
            }


def dice(folds: Sequence[dict[str, Any]], protocol: str, size: str) -> float:
    """Return the mean Dice of a result, or of those of all folds, their matrices summed."""
    from unet_segmentation.metrics.definitions import global_scores

    found = [result["native"] if protocol == "native" else result["resized"][size] for result in folds]
    if len(found) == 1:
        return found[0]["dice/mean"]
    matrix = np.sum([scores["matrix"] for scores in found], axis=0)
    return global_scores(matrix, [str(number) for number in range(len(matrix))])["dice/mean"]


if __name__ == "__main__":
    main()
