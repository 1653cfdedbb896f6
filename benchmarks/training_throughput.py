"""How fast training steps run: against their ceiling, and against the loop that a user would write.

Three things take turns in one process, on the same machine state:

* ours: `run_training` as the pipeline calls it: packed samples, augmentation, validation, checkpoints, logging;
* ceiling: the same network, loss, precision, memory format, optimizer and threads on one batch that never changes;
* plain: the loop of segmentation-models-pytorch's documentation: float32, NCHW, files decoded in every epoch, flips,
  Adam, Dice loss, Lightning's defaults, no workers.

The third ratio is the time of an epoch besides its steps (validation, checkpoints, logging), as a share of the steps'.

    python -m benchmarks.training_throughput --rounds 5 --encoder resnet18 --size 128

Several encoders and sizes, separated by commas, take turns within each round; the last line is all medians as JSON.

    python -m benchmarks.training_throughput --encoder resnet18,resnet34,vgg16_bn,efficientnet-b0 --size 128,256
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from PIL import Image

from benchmarks.plain import PlainModule, PlainSamples, train_plainly
from tests.data.fabricated_statistics import statistics_of
from unet_segmentation.data.store.packed_arrays import pack
from unet_segmentation.models.factory import build_model, resolve_model_spec
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters import (
    AugmentationParameters,
    ModelParameters,
    OptimizerParameters,
    TrainingParameters,
)
from unet_segmentation.training.augmentation import compose_recipe
from unet_segmentation.training.composite_loss import CompositeLoss
from unet_segmentation.training.lightning_module import make_optimizer
from unet_segmentation.training.plan import TrainingPlan, resolve_plan
from unet_segmentation.training.plan_rules import default_plan_values
from unet_segmentation.training.trainer import run_training
from unet_segmentation.training.training_inputs import TrainingInputs

CLASSES = ["background", "cytoplasm", "nucleus"]
TRANSFORMS = [
    {"name": "D4"},
    {"name": "Affine", "parameters": {"rotate": [-20, 20], "scale": [0.85, 1.15], "p": 0.5}},
    {"name": "RandomBrightnessContrast", "parameters": {"p": 0.5}},
]
VALIDATION = 32


RATIOS = ("of_ceiling", "of_plain_loop", "overhead_of_steps")


@dataclass
class Case:
    """One encoder at one size, and its ratios of each round."""

    encoder: str
    size: int
    specification: ModelSpec
    plan: TrainingPlan
    inputs: TrainingInputs
    files: list[tuple[Path, Path]]
    ratios: list[tuple[float, float, float]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Encoder and size."""
        return f"{self.encoder}, {self.size} px"

    @property
    def medians(self) -> dict[str, float]:
        """Of the ratios, over the rounds."""
        columns = zip(*self.ratios, strict=True)
        return {name: statistics.median(column) for name, column in zip(RATIOS, columns, strict=True)}


def main() -> None:
    warnings.filterwarnings("ignore")
    options = arguments()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = [case for size in options.size for case in make_cases(folder / str(size), size, options)]
        torch.set_num_threads(cases[0].plan.hardware.num_threads)
        print_header(cases, options)
        for number in range(options.rounds):
            for case in cases:
                label = case.name if len(cases) > 1 else ""
                print(f"{number + 1:5}  {measure(case, folder / 'models', options)}  {label}".rstrip(), flush=True)
    print_medians(cases)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="of an epoch")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=lambda text: [int(size) for size in text.split(",")], default=[128])
    parser.add_argument("--encoder", type=lambda text: text.split(","), default=["resnet18"])
    parser.add_argument("--workers", default="auto")
    parser.add_argument("--threads", default="auto")
    return parser.parse_args()


def make_cases(folder: Path, size: int, options: argparse.Namespace) -> list[Case]:
    """All encoders at one size, on the same samples."""
    data = make_samples(options.steps * options.batch + VALIDATION, size)
    packed = pack(folder / "packed", data)
    files = write_files(folder / "files", data)
    ids = packed.sample_ids
    side = {"minimum": size, "median": size, "maximum": size}
    profile = statistics_of(
        {
            "mean": [128.0] * 3,
            "std": [40.0] * 3,
            "data_sha256": "random",
            "height": side,
            "width": side,
            "class_shares": dict.fromkeys(CLASSES, 1 / 3),
        }
    )
    recipe = compose_recipe(AugmentationParameters.model_validate({"transforms": TRANSFORMS}), channels=3)
    workers, threads = (value if value == "auto" else int(value) for value in (options.workers, options.threads))
    training = TrainingParameters(
        epochs=2,
        batch_size=options.batch,
        patch_size=size,
        min_steps_per_epoch=1,
        num_workers=workers,
        num_threads=threads,
    )
    splits = ["train"] * (len(ids) - VALIDATION) + ["validation"] * VALIDATION
    samples = pd.DataFrame({"sample_id": ids, "split": splits, "masks": [["mask"]] * len(ids)})
    cases = []
    for encoder in options.encoder:
        specification = resolve_model_spec(ModelParameters(encoder=encoder), CLASSES, profile)
        torch.manual_seed(0)
        weights = build_model(specification).state_dict()
        values = default_plan_values(training, profile)
        inputs = TrainingInputs(specification, weights, packed, recipe, samples, profile, values)
        cases.append(Case(encoder, size, specification, resolve_plan(training, inputs), inputs, files))
    return cases


def measure(case: Case, models: Path, options: argparse.Namespace) -> str:
    """One round of a case, in which the three take turns; gives its row."""
    ceiling = run_ceiling(case, options)
    ours, overhead = run_ours(case, models)
    plain = run_plain(case, options)
    case.ratios.append((ours / ceiling, ours / plain, overhead))
    return f"{ours:5.1f}  {ceiling:7.1f}  {plain:5.1f}              {overhead:6.3f}"


def print_header(cases: list[Case], options: argparse.Namespace) -> None:
    plan, names = cases[0].plan, "; ".join(case.name for case in cases)
    print(
        f"{names}, batch {options.batch}, {plan.hardware.accelerator} {plan.hardware.precision}, "
        f"{plan.hardware.num_threads} threads, "
        f"{plan.hardware.num_workers} workers\n\nround   ours  ceiling  plain  (images/s)  overhead"
    )


def print_medians(cases: list[Case]) -> None:
    """The medians, then all of them in one line of JSON: by the cases' names, where there are several."""
    found = {case.name: {name: round(value, 4) for name, value in case.medians.items()} for case in cases}
    if len(cases) == 1:
        ratios = found[cases[0].name]
        ceiling, plain, overhead = ratios.values()
        print(f"\nmedians: {ceiling:.3f} of the ceiling, {plain:.2f} times the plain loop, {overhead:.3f} over steps")
        print(json.dumps(ratios))
        return
    print(f"\n{'medians':26}  of ceiling  of plain loop  over steps")
    for name, ratios in found.items():
        ceiling, plain, overhead = ratios.values()
        print(f"{name:26}  {ceiling:10.3f}  {plain:13.2f}  {overhead:12.3f}")
    print(json.dumps(found))


def make_samples(count: int, size: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    generator = np.random.default_rng(0)
    samples = {}
    for number in range(count):
        mask = np.kron(generator.integers(0, 3, (size // 16, size // 16)), np.ones((16, 16))).astype(np.uint8)
        image = (60 * mask[..., None] + generator.integers(0, 100, (size, size, 3))).astype(np.uint8)
        samples[f"{number:05d}"] = image, mask
    return samples


def write_files(folder: Path, samples: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[tuple[Path, Path]]:
    folder.mkdir(parents=True)
    files = []
    for name, (image, mask) in samples.items():
        pair = folder / f"{name}_image.png", folder / f"{name}_mask.png"
        for path, pixels in zip(pair, (image, mask), strict=True):
            Image.fromarray(pixels).save(path)
        files.append(pair)
    return files[:-VALIDATION]


def run_ours(case: Case, folder: Path) -> tuple[float, float]:
    """The second of two epochs: images/s of its steps, and the share of time besides them."""
    ends: list[float] = []
    folder.mkdir(exist_ok=True)
    directory = run_training(case.plan, case.inputs, folder, on_epoch_saved=lambda *_: ends.append(time.perf_counter()))
    speed = float(pd.read_csv(directory.history)["train/throughput"].iloc[-1])
    steps = case.plan.steps_per_epoch * case.plan.batch_size / speed
    return speed, (ends[1] - ends[0] - steps) / steps


def run_ceiling(case: Case, options: argparse.Namespace) -> float:
    plan, size = case.plan, case.size
    device = torch.device(plan.hardware.accelerator)
    torch.manual_seed(0)
    network = build_model(case.specification).to(device, memory_format=torch.channels_last).train()
    loss = CompositeLoss().to(device)
    optimizer = make_optimizer(network, OptimizerParameters(), fused=plan.hardware.precision != "16-mixed")
    images = torch.randint(0, 255, (options.batch, 3, size, size), dtype=torch.uint8, device=device)
    images = images.to(memory_format=torch.channels_last)
    masks = torch.randint(0, 3, (options.batch, size, size), dtype=torch.uint8, device=device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=plan.hardware.precision == "bf16-mixed"):
            value = loss(network(images), masks)
        value.backward()
        optimizer.step()

    return timed(step, options, device)


def timed(step: Any, options: argparse.Namespace, device: torch.device) -> float:
    for _ in range(3):
        step()
    synchronize(device)
    start = time.perf_counter()
    for _ in range(options.steps):
        step()
    synchronize(device)
    return options.steps * options.batch / (time.perf_counter() - start)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


class Clock(L.Callback):
    """Times the second epoch."""

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:  # noqa: D102
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:  # noqa: D102
        self.seconds = time.perf_counter() - self.start


def run_plain(case: Case, options: argparse.Namespace) -> float:
    L.seed_everything(0, verbose=False)
    clock = Clock()
    module, samples = PlainModule(case.encoder, len(CLASSES)), PlainSamples(case.files, case.size)
    train_plainly(module, samples, options.batch, max_epochs=2, callbacks=[clock])
    return options.steps * options.batch / clock.seconds


if __name__ == "__main__":
    main()
