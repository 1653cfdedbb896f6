"""Where decoded samples should lie: flat files behind memory maps, zarr, blosc2, or the PNG files themselves.

Measures, for each storage, images/s of random square crops (image and mask) and of whole reads, and its size on disk.
Every read is checked against the truth. One thread; the files are in the operating system's cache, as they are from
the second epoch on.

    make bench NAME=packed_storage

zarr and blosc2 are no dependencies of the project and are left out where they are not installed; to compare them:

    .venv/bin/python -m pip install --target /tmp/storage zarr blosc2
    PYTHONPATH=/tmp/storage make bench NAME=packed_storage

The last line is JSON: images/s by storage and read, megabytes by storage, and ratios of memmap to the best other.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from unet_segmentation.data.store.packed_arrays import pack

ROUNDS = 5
Samples = dict[str, tuple[np.ndarray, np.ndarray]]
Reader = Callable[[str, slice, slice], tuple[np.ndarray, np.ndarray]]


def draw_samples(count: int, height: int, width: int) -> Samples:
    """Draw pictures that compress about as photographs do: smooth shapes plus a little noise."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width]
    samples = {}
    for number in range(count):
        image = np.full((height, width, 3), random.integers(60, 200), dtype=np.float32)
        mask = np.zeros((height, width), np.uint8)
        for _ in range(12):
            y, x, radius = random.integers(height), random.integers(width), random.integers(10, height // 3)
            disc = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
            mask[disc] = random.integers(1, 11)
            image[disc] += random.normal(0, 40, 3)
        image += random.normal(0, 4, image.shape) + rows[..., None] / height * 30
        samples[f"s{number}"] = (image.clip(0, 255).astype(np.uint8), mask)
    return samples


def store_memmap(folder: Path, samples: Samples) -> Reader:
    packed = pack(folder, samples)
    return lambda name, rows, columns: (packed.image(name, rows, columns), packed.mask(name, rows, columns))


def store_png(folder: Path, samples: Samples) -> Reader:
    folder.mkdir()
    for name, arrays in samples.items():
        for part, pixels in zip("im", arrays, strict=True):
            Image.fromarray(pixels).save(folder / f"{name}{part}.png")

    def read(name: str, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        image, mask = (np.asarray(Image.open(folder / f"{name}{part}.png"))[rows, columns] for part in "im")
        return image.copy(), mask.copy()

    return read


def store_zarr(zarr: ModuleType, folder: Path, samples: Samples, chunk: int = 128) -> Reader:
    """One array per image and mask, chunks of 128 x 128, the library's own compression."""
    root = zarr.open_group(str(folder), mode="w")
    for name, arrays in samples.items():
        for part, pixels in zip("im", arrays, strict=True):
            chunks = (chunk, chunk, 3)[: pixels.ndim]
            root.create_array(f"{name}{part}", shape=pixels.shape, dtype=pixels.dtype, chunks=chunks)[:] = pixels
    arrays = {f"{name}{part}": root[f"{name}{part}"] for name in samples for part in "im"}
    return lambda name, rows, columns: (arrays[f"{name}i"][rows, columns], arrays[f"{name}m"][rows, columns])


def store_blosc2(blosc2: ModuleType, folder: Path, samples: Samples, chunk: int = 128) -> Reader:
    """One b2nd file per image and mask, chunks of 128 x 128, zstd at level 5, opened memory-mapped."""
    folder.mkdir()
    blosc2.set_nthreads(1)
    for name, arrays in samples.items():
        for part, pixels in zip("im", arrays, strict=True):
            chunks = tuple(min(side, chunk) for side in pixels.shape[:2]) + pixels.shape[2:]
            blosc2.asarray(pixels, urlpath=str(folder / f"{name}{part}.b2nd"), chunks=chunks)

    def read(name: str, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        image, mask = (blosc2.open(str(folder / f"{name}{part}.b2nd"), mode="r", mmap_mode="r") for part in "im")
        return image[rows, columns], mask[rows, columns]

    return read


def images_per_second(read: Reader, samples: Samples, side: int | None, seconds: float, seed: int) -> float:
    """Read random samples for that many seconds, crops of `side` pixels or whole, after checking some."""
    random = np.random.default_rng(seed)
    names = list(samples)

    def draw() -> tuple[str, slice, slice]:
        name = names[random.integers(len(names))]
        height, width = samples[name][1].shape
        if side is None:
            return name, slice(None), slice(None)
        top, left = random.integers(height - side + 1), random.integers(width - side + 1)
        return name, slice(top, top + side), slice(left, left + side)

    for _ in range(5):
        name, rows, columns = draw()
        for pixels, truth in zip(read(name, rows, columns), samples[name], strict=True):
            np.testing.assert_array_equal(pixels, truth[rows, columns])
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        read(*draw())
        count += 1
    return count / elapsed


def megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def optional(name: str) -> ModuleType | None:
    try:
        return import_module(name)
    except ImportError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--width", type=int, default=480)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each storage and kind of read")
    arguments = parser.parse_args()
    console = Console(width=110)
    samples = draw_samples(arguments.samples, arguments.height, arguments.width)
    stores: dict[str, Callable[[Path, Samples], Reader]] = {"memmap": store_memmap}
    for name, store in (("zarr", store_zarr), ("blosc2", store_blosc2)):
        library = optional(name)
        if library is None:
            console.print(f"{name} is not installed and left out: pip install --target /tmp/storage {name}")
        else:
            stores[name] = lambda folder, samples, store=store, library=library: store(library, folder, samples)
    stores["png"] = store_png
    reads = {"crop 128": 128, "crop 256": 256, "whole": None}
    rates: dict[str, dict[str, float]] = {name: {} for name in stores}
    with tempfile.TemporaryDirectory() as folder:
        readers = {name: store(Path(folder) / name, samples) for name, store in stores.items()}
        sizes = {name: megabytes(Path(folder) / name) for name in stores}
        # Storages take turns, so that whatever else the machine does falls on all of them; the median counts.
        for kind, side in reads.items():
            seconds = arguments.seconds / ROUNDS
            turns = [
                {name: images_per_second(read, samples, side, seconds, turn) for name, read in readers.items()}
                for turn in range(ROUNDS)
            ]
            for name in stores:
                rates[name][kind] = float(np.median([turn[name] for turn in turns]))
    size = f"{arguments.samples} samples of {arguments.width} x {arguments.height}"
    table = Table("storage", *(f"{kind} (1/s)" for kind in reads), "MB on disk", title=f"Image and mask, {size}")
    for name in stores:
        table.add_row(name, *(f"{rates[name][kind]:,.0f}" for kind in reads), f"{sizes[name]:.1f}")
    console.print(table)
    others = [name for name in stores if name != "memmap"]
    ratios = {kind: rates["memmap"][kind] / max(rates[name][kind] for name in others) for kind in reads}
    result = {
        "images_per_second": {
            name: {kind: round(rate) for kind, rate in kinds.items()} for name, kinds in rates.items()
        },
        "megabytes": {name: round(size, 1) for name, size in sizes.items()},
        "memmap_to_best_other": {kind: round(ratio, 1) for kind, ratio in ratios.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
