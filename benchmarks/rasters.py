"""Rasters larger than memory: peak memory and time, and what the overlap of the tiles costs and brings.

First: predicts a raster of 40,000 x 40,000 pixels (and lower ones) with a network of one layer, with overlay and
polygons, in a process of its own, and samples RssAnon, the memory that is not backed by files. With --keeping: the same
raster with and without keeping finished rows. Then: predicts a large picture of the embedded generator with a trained
network at several overlaps, and holds the result against the network applied to the whole picture, and against the
truth.

    make bench NAME=rasters ARGS="--model data/06_models/cells/best.safetensors"
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window
from rich.console import Console
from rich.table import Table

from benchmarks.memory_growth import anonymous_bytes
from unet_segmentation.data.synthetic.cells import draw_sample
from unet_segmentation.inference.predictor import Predictor
from unet_segmentation.inference.rasters.predict_raster import RasterFiles, predict_raster
from unet_segmentation.inference.rasters.tiling import place_tiles
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters import PredictorParameters
from unet_segmentation.parameters.data import ImageParameters

DEFAULT = ("overlay", "polygons", "kept")  # what `kedro predict` writes next to the mask of a raster
EVERYTHING = (*DEFAULT, "probabilities")
OVERLAPS = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
BLOCK = 512


def write_raster(path: Path, height: int, width: int) -> None:
    """Write a tiled RGB raster: one picture of cells, again and again, with fewer gray values to be quick."""
    picture, _ = draw_sample(0, seed=0, size=BLOCK)
    row = np.tile(np.moveaxis(picture & 0xF0, -1, 0), (1, 1, -(-width // BLOCK)))[:, :, :width]
    shape = {"driver": "GTiff", "height": height, "width": width, "count": 3, "dtype": "uint8", "crs": "EPSG:32632"}
    blocks = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate", "zlevel": 1}
    place = {"transform": from_origin(500_000, 5_000_000, 0.5, 0.5), "bigtiff": "IF_SAFER"}
    with rasterio.open(path, "w", **shape, **blocks, **place) as file:
        for top in range(0, height, BLOCK):
            rows = min(BLOCK, height - top)
            file.write(row[:, :rows], window=Window(0, top, width, rows))


def predict_one(source: str, classes: int, outputs: Sequence[str]) -> None:
    """Predict a raster with a network of one layer on smaller images; what the measured process does."""
    import torch
    from torch import nn

    from unet_segmentation.inference.backends.pytorch import EagerBackend
    from unet_segmentation.utils.memory import tune_malloc

    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, classes, 3, padding=1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            small = nn.functional.avg_pool2d(images.float() / 255, 8)  # cheap, and gives regions instead of noise
            return nn.functional.interpolate(self.layer(small - 0.5), scale_factor=8, mode="bilinear")

    tune_malloc()
    torch.manual_seed(0)
    names = tuple(f"class {number}" for number in range(classes))
    spec = ModelSpec(architecture="tiny", in_channels=3, classes=names, mean=(100.0,) * 3, std=(50.0,) * 3)
    predictor = Predictor(spec, EagerBackend(Tiny(), "cpu"), PredictorParameters())
    folder = Path(source).parent
    summary = predict_raster(
        predictor,
        Path(source),
        RasterFiles(
            folder / "mask.tif",
            folder / "probabilities.tif" if "probabilities" in outputs else None,
            folder / "overlay.jpg" if "overlay" in outputs else None,
            folder / "polygons.geojson" if "polygons" in outputs else None,
        ),
        images=ImageParameters(),
        key="benchmark" if "kept" in outputs else None,
    )
    with rasterio.open(folder / "mask.tif") as file:
        assert int(summary.pixels.sum()) == file.height * file.width


def measured(source: Path, classes: int, outputs: Sequence[str]) -> tuple[float, int]:
    """Return the seconds that a raster takes, and the peak of the process's anonymous memory in bytes."""
    command = [sys.executable, "-m", "benchmarks.rasters", "--child", str(source), "--classes", str(classes)]
    started, peak = time.perf_counter(), 0
    process = subprocess.Popen([*command, "--outputs", *outputs])
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, anonymous_bytes(watched))
            process.wait(timeout=0.05)
        except (subprocess.TimeoutExpired, psutil.NoSuchProcess):
            pass
    if process.returncode:
        sys.exit("the measured process failed")
    return time.perf_counter() - started, peak


def memory(side: int, cases: Sequence[tuple[int, int, Sequence[str]]]) -> None:
    """Print time and memory of rasters that many pixels wide; cases are height, classes, and what is written."""
    table = Table(title=f"Rasters {side} pixels wide, network of one layer on the CPU")
    for name in ("height", "classes", "next to the mask", "minutes", "Mpx/s", "peak RssAnon, MiB"):
        table.add_column(name, justify="right")
    for height, classes, outputs in cases:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "raster.tif"
            write_raster(source, height, side)
            seconds, peak = measured(source, classes, outputs)
        rate = height * side / 1e6 / seconds
        words = [height, classes, ", ".join(outputs), f"{seconds / 60:.1f}", f"{rate:.1f}"]
        table.add_row(*map(str, words), f"{peak / 2**20:.0f}")
        print(*words, round(peak / 2**20), flush=True)
    Console().print(table)


def keeping(side: int, rounds: int) -> None:
    """Print what it costs to be able to continue: with and without by turns, on the same raster."""
    with tempfile.TemporaryDirectory() as folder:
        source, wall, processor = Path(folder) / "raster.tif", [], []
        write_raster(source, side // 4, side)
        for _ in range(rounds):
            before = children_seconds()
            without = measured(source, 3, DEFAULT[:2])[0]
            between = children_seconds()
            kept = measured(source, 3, DEFAULT)[0]
            wall.append(kept / without)
            processor.append((children_seconds() - between) / (between - before))
            print(f"{without:.1f} s without, {kept:.1f} s with kept rows; processor x {processor[-1]:.3f}", flush=True)
    print(f"kept rows, medians of {rounds}: time x {np.median(wall):.3f}, processor x {np.median(processor):.3f}")


def children_seconds() -> float:
    """Return the processor's time that finished processes of this one took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def mean_dice(mask: np.ndarray, truth: np.ndarray, classes: int) -> float:
    """Return the Dice coefficient, 2 |A and B| / (|A| + |B|), mean over the classes."""
    scores = []
    for number in range(classes):
        found, real = mask == number, truth == number
        scores.append(2 * (found & real).sum() / max(1, found.sum() + real.sum()))
    return float(np.mean(scores))


def tiling_overhead(length: int, tile: int, overlap: float) -> float:
    """Return work done over work needed along one side; of a raster it is the product of both sides'."""
    return sum(span.size for span in place_tiles(length, tile, overlap, 32)) / length


def overlaps(model: Path, side: int, tile: int) -> None:
    """Print what overlaps cost and bring."""
    image, truth = draw_sample(1, seed=99, size=side)
    whole = Predictor.from_file(model, PredictorParameters(max_pixels=side * side)).probabilities(image)
    best, classes = whole.argmax(axis=0), len(whole)
    rows = []
    for overlap in OVERLAPS:
        inference = PredictorParameters(tile_size=tile, raster_overlap=overlap)
        with tempfile.TemporaryDirectory() as folder:
            source, target, apart = (Path(folder) / name for name in ("a.tif", "b.tif", "c.tif"))
            shape = {"driver": "GTiff", "height": side, "width": side, "count": 3, "dtype": "uint8"}
            with rasterio.open(source, "w", **shape, transform=from_origin(0, side, 1, 1)) as file:
                file.write(np.moveaxis(image, -1, 0))
            predictor = Predictor.from_file(model, inference)
            predict_raster(predictor, source, RasterFiles(target, apart), images=ImageParameters())
            with rasterio.open(target) as file:
                mask = file.read(1)
            with rasterio.open(apart) as file:
                difference = np.abs(file.read() / 254 - whole)
        here = tiling_overhead(side, tile, overlap) ** 2
        worst = max(tiling_overhead(n, tile, overlap) for n in range(8 * tile, 40 * tile)) ** 2
        rows.append((overlap, here, worst, mask, difference))
    table = Table(
        title=f"{side} x {side} pixels, tiles of {tile}; the whole: Dice {mean_dice(best, truth, classes):.4f}"
    )
    names = ("overlap", "work", "work, worst", "other class", "largest difference", "Dice", "loss against 1/2")
    for name in names:
        table.add_column(name, justify="right")
    half = mean_dice(rows[-1][3], truth, classes)
    for overlap, here, worst, mask, difference in rows:
        dice = mean_dice(mask, truth, classes)
        other = f"{(mask != best).mean():.4%}"
        table.add_row(
            f"{overlap:.4f}",
            f"{here:.3f}",
            f"{worst:.3f}",
            other,
            f"{difference.max():.3f}",
            f"{dice:.4f}",
            f"{half - dice:+.4f}",
        )
    Console(width=110).print(table)


def main() -> None:
    """Measure and print tables."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--side", type=int, default=40_000, help="of the large raster, in pixels; 0: none")
    arguments.add_argument("--model", type=Path, help="a model of the problem cells")
    arguments.add_argument("--picture", type=int, default=4096, help="side of the picture, in pixels")
    arguments.add_argument("--tile", type=int, nargs="+", default=[512, 256])
    arguments.add_argument("--child", help=argparse.SUPPRESS)
    arguments.add_argument("--classes", type=int, default=3, help="of a raster of --height rows")
    arguments.add_argument(
        "--outputs", nargs="*", default=DEFAULT, help="next to the mask, of a raster of --height rows"
    )
    arguments.add_argument("--height", type=int, help="measure only a raster of that many rows")
    arguments.add_argument(
        "--keeping", type=int, default=0, help="rounds that compare kept rows with none, and nothing else"
    )
    given = arguments.parse_args()
    if given.child:
        predict_one(given.child, given.classes, given.outputs)
        return
    side = given.side
    if given.keeping:
        keeping(side, given.keeping)
    elif side and given.height:
        memory(side, [(given.height, given.classes, given.outputs)])
    elif side:
        low, rows = side // 20, side // 10
        memory(side, [(low, 3, DEFAULT), (rows, 3, DEFAULT), (rows, 20, DEFAULT), (rows, 20, EVERYTHING)])
        memory(side, [(side, 3, DEFAULT), (side, 20, DEFAULT)])
    if given.model:
        for tile in given.tile:
            overlaps(given.model, given.picture, tile)


if __name__ == "__main__":
    main()
