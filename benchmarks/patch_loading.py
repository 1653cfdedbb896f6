"""How many training patches one core makes in a second, without a network.

First the recipe that most problems have (D4 and RandomBrightnessContrast), cut out of images of 360 x 480 pixels: ours
next to the same transforms as albumentations applies them; both make the same bits, in turns. Then patches centered on
foreground next to patches cut anywhere, out of larger and larger images, and the first look at a mask.

    taskset -c 0 python -m benchmarks.patch_loading
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from unet_segmentation.data.store.packed_arrays import PackedSamples, pack
from unet_segmentation.parameters import AugmentationParameters
from unet_segmentation.training.augmentation import A, compose_recipe
from unet_segmentation.training.foreground_sampler import ForegroundSampler, ForegroundSampling
from unet_segmentation.training.patch_dataset import PatchDataset

TRANSFORMS = [{"name": "D4"}, {"name": "RandomBrightnessContrast", "parameters": {"p": 0.5}}]
BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--largest", type=int, default=10_000, help="side of the largest image, in pixels")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = compose_recipe(AugmentationParameters.model_validate({"transforms": TRANSFORMS}), channels=3)
    with tempfile.TemporaryDirectory() as name:
        packed = make_samples(Path(name) / "small", 64, 360, 480)
        print("patch  ours  as albumentations does it  (us each, medians)  ratio")
        for size in (128, 256):
            ours, plain = (PatchDataset(packed, packed.sample_ids, recipe, size, 0) for _ in range(2))
            plain.augmenter.compose = A.Compose([A.D4(), A.RandomBrightnessContrast(p=0.5)], strict=True)
            mine, theirs = in_turns([ours, plain], options)
            print(f"{size:5}  {mine:4.0f}  {theirs:25.0f}  {theirs / mine:26.2f}")
        print("\nimage  anywhere  centered  (us a patch of 256 px)  first look (ms a mask, one class; eleven)")
        for side in (512, 2048, options.largest):
            packed = make_samples(Path(name) / str(side), 2 if side > 4096 else 8, side, side)
            sampling = (ForegroundSampling(share=share, class_ids=(3,)) for share in (0.0, 1.0))
            anywhere, centered = (PatchDataset(packed, packed.sample_ids, recipe, 256, 0, each) for each in sampling)
            without, given = in_turns([anywhere, centered], options)
            looks = [first_look(packed, classes) for classes in ([3], list(range(11)))]
            print(f"{side:5}  {without:8.0f}  {given:7.0f}  {looks[0]:30.2f}  {looks[1]:.2f}", flush=True)


def make_samples(folder: Path, count: int, height: int, width: int) -> PackedSamples:
    generator = np.random.default_rng(0)
    samples = {}
    for number in range(count):
        blocks = generator.integers(0, 12, (height // 16 + 1, width // 16 + 1), dtype=np.uint8)
        mask = blocks.repeat(16, axis=0).repeat(16, axis=1)[:height, :width]
        image = generator.integers(0, 255, (height, width, 3), dtype=np.uint8)
        samples[f"{number:03d}"] = image, mask
    return pack(folder, samples)


def in_turns(variants: list[PatchDataset], options: argparse.Namespace) -> list[float]:
    """Microseconds a patch of each, median over the rounds."""
    for patches in variants:
        load(patches, len(patches))
    rounds = [[load(patches, options.batches) for patches in variants] for _ in range(options.rounds)]
    return [1e6 * statistics.median(column) for column in zip(*rounds, strict=True)]


def load(patches: PatchDataset, batches: int) -> float:
    keys = [(0, number % len(patches), number // len(patches)) for number in range(batches * BATCH)]
    start = time.perf_counter()
    for first in range(0, len(keys), BATCH):
        patches.__getitems__(keys[first : first + BATCH])
    return (time.perf_counter() - start) / len(keys)


def first_look(packed: PackedSamples, classes: list[int]) -> float:
    """Milliseconds to count the classes of one mask."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        ForegroundSampler(packed, classes).draw(packed.sample_ids[0], np.random.default_rng(0))
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


if __name__ == "__main__":
    main()
