"""How fast inspection packs, next to decoding alone; and how fast it finds that nothing has changed.

Three things take turns in one process, with as many threads as there are cores and files in the system's cache:

* decoding: every image and mask is read and decoded with Pillow, and forgotten;
* inspection: the same files are read, decoded, hashed, measured, checked, compared and packed;
* again: inspection of the same files, when nothing has changed.

    make bench NAME=packing_speed
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from unet_segmentation.data.data_source import DataSource
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.layout.layout import Layout, find_samples, samples_table
from unet_segmentation.data.preparation.inspect_and_pack import inspect_samples
from unet_segmentation.parameters import InspectionParameters

CLASSES = ["background", "cytoplasm", "nucleus"]
SIZE = (360, 480)


def main() -> None:
    """Measure both formats, print a table and a line of JSON."""
    logging.disable(logging.INFO)
    options = arguments()
    results = {}
    print(
        f"{options.images} images of {SIZE[1]} x {SIZE[0]}, {os.cpu_count()} threads; medians of "
        f"{options.rounds} rounds\n"
    )
    print("images  decoding, 1/s  inspection, 1/s  of decoding  again, s  times as fast")
    for ending in ("jpg", "png"):
        with tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder) / "data", options.images, ending)
            speeds = [measure(Path(folder), ending) for _ in range(options.rounds)]
        of_decoding = statistics.median(decoding / inspection for decoding, inspection, _ in speeds)
        again = statistics.median(inspection / second for _, inspection, second in speeds)
        decoding, inspection, second = (statistics.median(column) for column in zip(*speeds, strict=True))
        rates = options.images / decoding, options.images / inspection
        print(f"{ending:6}  {rates[0]:13.0f}  {rates[1]:15.0f}  {of_decoding:11.2f}  {second:8.3f}  {again:13.1f}")
        results |= {f"of_decoding_{ending}": round(of_decoding, 3), f"second_start_{ending}": round(again, 1)}
    print(json.dumps(results))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def write_files(folder: Path, count: int, ending: str) -> None:
    """Draw pictures with structure at every scale, as photographs have, and masks of blobs."""
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        octaves = [
            ndimage.zoom(random.standard_normal((SIZE[0] // s, SIZE[1] // s, 3)), (s, s, 1), order=1) * s
            for s in (2, 6, 20, 60)
        ]
        image = 128 + 2.5 * sum(octaves)
        mask = np.digitize(ndimage.gaussian_filter(image[..., 0], 12), (115, 150)).astype(np.uint8)
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(
            folder / f"images/{number:05d}.{ending}", quality=90
        )
        Image.fromarray(mask).save(folder / f"masks/{number:05d}.png")


def measure(folder: Path, ending: str) -> tuple[float, float, float]:
    """Seconds of decoding alone, of inspection, and of inspection again."""
    data, packing = folder / "data", folder / "packed"
    shutil.rmtree(packing, ignore_errors=True)
    packing.mkdir()
    storage, layout = FileStore(data), Layout(f"images/{{id}}.{ending}", "masks/{id}.png")
    indexed = samples_table(find_samples(storage.walk(), layout, str(data)), None, str(data))
    source = DataSource(storage, layout, CLASSES)

    def inspect() -> float:
        begin = time.perf_counter()
        _, findings, packed = inspect_samples(indexed, source, InspectionParameters(), packing)
        assert len(packed) == len(indexed), findings[findings["severity"] == "error"]
        return time.perf_counter() - begin

    begin = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(decode, sorted(data.rglob("*.*"))):
            pass
    return time.perf_counter() - begin, inspect(), inspect()


def decode(file: Path) -> int:
    """Read and decode one file with Pillow."""
    with Image.open(io.BytesIO(file.read_bytes())) as picture:
        return np.asarray(picture).size


if __name__ == "__main__":
    main()
