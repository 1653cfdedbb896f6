"""The embedded problem: stained cells under a microscope, drawn from a seed.

A picture is made as a microscope makes it. Cells, their nuclei, debris and a wash of stain are fields of optical
density; densities add where things lie over each other; light passes by Beer and Lambert's law, I = I0 10^-D, with one
density per color; the lamp is uneven, the lens blurs, the sensor adds noise. The mask is drawn from the same outlines,
before the lens, so it is exact to the pixel.

What makes it a problem and not a toy is the overlap of the classes in color: stains vary between pictures and cells,
debris has the nucleus's color, and the wash has the cytoplasm's. Shape, edges and surroundings tell them apart.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from unet_segmentation.parameters.source import GeneratorParameters

BACKGROUND, CYTOPLASM, NUCLEUS = 0, 1, 2

Array = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
RGB = npt.NDArray[np.float64]

# Optical density per color (R, G, B) of the two dyes: haematoxylin, blue, and eosin, pink (after Ruifrok and
# Johnston 2001, eosin somewhat less pure).
HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.16, 0.80, 0.30])

ANGLES = 256  # steps around an outline
WASH = 22  # pixels, size of the clouds of stain on the glass
SIDE = 128  # pixels; numbers of things are per field of this side


@dataclass(frozen=True)
class Outline:
    """A closed curve around a center: an ellipse with a few waves, so that its radius is a function of the angle."""

    row: float
    column: float
    radius: float
    elongation: float
    turn: float
    waves: tuple[tuple[int, float, float], ...]  # (number around the curve, share of the radius, phase)

    @cached_property
    def radii(self) -> Array:
        """Return the radius at ANGLES equal steps around the center, in pixels."""
        angle = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False) - self.turn
        ellipse = np.sqrt((np.cos(angle) / self.elongation) ** 2 + (np.sin(angle) * self.elongation) ** 2)
        number, share, phase = np.array(self.waves).T[..., None]
        wave = 1 + (share * np.cos(number * angle + phase)).sum(axis=0)
        return (self.radius * wave / ellipse).astype(np.float32)

    @property
    def reach(self) -> float:
        """Radius that holds the whole curve."""
        return float(self.radii.max())

    def depth(self, rows: Array, columns: Array) -> Array:
        """Compute how far inside the curve points lie, along the radius, in pixels; negative outside."""
        y, x = rows - np.float32(self.row), columns - np.float32(self.column)
        step = np.rint(np.arctan2(y, x) * np.float32(ANGLES / (2 * np.pi))).astype(np.intp)
        return self.radii[step % ANGLES] - np.hypot(y, x)


class Field:
    """A canvas: density for each color, and the class of each pixel."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.density = np.zeros((size, size, 3), np.float32)
        self.mask = np.zeros((size, size), np.uint8)

    def window(self, outline: Outline, margin: float = 3.0) -> tuple[tuple[slice, slice], Array, Array] | None:
        """Return the part of the field that an outline reaches, and its coordinates; None where it lies outside."""
        reach = outline.reach + margin
        top, left = max(0, int(outline.row - reach)), max(0, int(outline.column - reach))
        bottom = min(self.size, int(outline.row + reach) + 1)
        right = min(self.size, int(outline.column + reach) + 1)
        if top >= bottom or left >= right:
            return None
        rows = np.arange(top, bottom, dtype=np.float32)[:, None]
        columns = np.arange(left, right, dtype=np.float32)[None, :]
        return (slice(top, bottom), slice(left, right)), rows, columns


def draw_sample(index: int, seed: int, size: int, cells: int | None = None) -> tuple[Bytes, Bytes]:
    """Draw one image and its mask.

    Args:
        index: of the sample; its randomness hangs on ``(seed, index)`` alone.
        seed: of the data set.
        size: side in pixels.
        cells: how many of them, as far as there is room; by default sparse or dense, as it comes.

    Returns:
        The image, (size, size, 3) uint8 RGB, and the mask, (size, size) uint8: 0 background, 1 cytoplasm, 2 nucleus.
    """
    rng = np.random.default_rng([seed, index])
    field = Field(size)
    dyes = _dyes(rng)
    grain = _noise(rng, size, 1.2)
    for cell in _place_cells(rng, size, cells):
        _draw_cell(rng, field, cell, dyes, grain)
    _draw_debris(rng, field, dyes)
    field.density += _wash(rng, size, dyes)
    return _photograph(rng, field.density), field.mask


def write_archive(parameters: GeneratorParameters, path: Path) -> None:
    """Draw the data set into a zip: ``cells/images/0000.png`` and ``cells/masks/0000.png`` for each sample.

    The same parameters give the same bytes (with the same versions of NumPy, SciPy and Pillow): times, permissions
    and order are fixed. The caller writes the file atomically.
    """
    digits = max(4, len(str(parameters.images - 1)))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for index in range(parameters.images):
            image, mask = draw_sample(index, parameters.seed, parameters.size)
            for folder, pixels in (("images", image), ("masks", mask)):
                entry = zipfile.ZipInfo(f"cells/{folder}/{index:0{digits}d}.png", date_time=(1980, 1, 1, 0, 0, 0))
                entry.create_system = 3  # Unix, wherever it is written
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, _png(pixels))


def _png(pixels: Bytes) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


@dataclass(frozen=True)
class Dyes:
    """The stain of one picture: density per color of what nuclei and cytoplasm absorb."""

    nucleus: RGB
    cytoplasm: RGB


def _dyes(rng: np.random.Generator) -> Dyes:
    """Every slide is stained a little differently: stronger or weaker, bluer or pinker."""
    strength = rng.uniform(0.65, 1.35)
    nucleus = strength * (HAEMATOXYLIN + rng.uniform(0.0, 0.35) * EOSIN) * rng.uniform(0.9, 1.1, 3)
    blue = rng.uniform(0.15, 0.75)
    cytoplasm = strength * (blue * HAEMATOXYLIN + (1 - blue) * EOSIN) * rng.uniform(0.9, 1.1, 3)
    return Dyes(nucleus, cytoplasm)


def _outline(
    rng: np.random.Generator, row: float, column: float, radius: float, longest: float, rough: float
) -> Outline:
    waves = tuple((n, rng.normal(0, rough / n), rng.uniform(0, 2 * np.pi)) for n in range(2, 6))
    return Outline(row, column, radius, rng.uniform(1.0, longest), rng.uniform(0, 2 * np.pi), waves)


def _place_cells(rng: np.random.Generator, size: int, count: int | None) -> list[Outline]:
    """Cells of a field, sparse or dense, some cut off by its border; many lie against a neighbor, few over one."""
    if count is None:
        count = max(1, rng.poisson(rng.uniform(0.6, 4.8) * (size / SIDE) ** 2))
    cells: list[Outline] = []
    for _ in range(4 * count):
        if len(cells) >= count:
            break
        radius = rng.uniform(14.5, 21.0)
        row, column = rng.uniform(-0.4 * radius, size + 0.4 * radius, 2)
        if cells and rng.random() < 0.4:  # next to an existing one
            other = cells[rng.integers(len(cells))]
            angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.9, 1.05) * (radius + other.radius)
            row, column = other.row + distance * np.sin(angle), other.column + distance * np.cos(angle)
        apart = (np.hypot(row - cell.row, column - cell.column) / (radius + cell.radius) for cell in cells)
        if min(apart, default=1.0) >= 0.85:
            cells.append(_outline(rng, row, column, radius, 1.25, 0.12))
    return cells


def _draw_cell(rng: np.random.Generator, field: Field, cell: Outline, dyes: Dyes, grain: Array) -> None:
    angle, way = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.22) * cell.radius
    center = cell.row + way * np.sin(angle), cell.column + way * np.cos(angle)
    nucleus = _outline(rng, *center, rng.uniform(0.46, 0.59) * cell.radius, 1.25, 0.08)
    pale, dark = rng.uniform(0.22, 0.6), rng.uniform(0.4, 0.9)
    bluish = rng.uniform(0.0, 0.65)
    focus = rng.uniform(0.7, 1.4)
    if (window := field.window(cell)) is None:
        return
    part, rows, columns = window
    inside = cell.depth(rows, columns)
    kernel = np.minimum(nucleus.depth(rows, columns), inside - 2.5)  # a nucleus never reaches its cell's membrane
    texture = grain[part]
    body = _edge(inside, focus) * pale * (1 + 0.22 * texture)
    core = _edge(kernel, focus) * dark * (1 + 0.25 * texture)
    color = (1 - bluish) * dyes.cytoplasm + bluish * dyes.nucleus
    field.density[part] += _dye(body, color) + _dye(core, dyes.nucleus)
    mask = field.mask[part]
    mask[(inside > 0) & (mask == BACKGROUND)] = CYTOPLASM
    mask[kernel > 0] = NUCLEUS


def _draw_debris(rng: np.random.Generator, field: Field, dyes: Dyes) -> None:
    """Precipitate and naked fragments: the nucleus's dye where no nucleus is. Grains lie anywhere, clumps on glass."""
    for _ in range(rng.poisson(rng.uniform(2, 18) * (field.size / SIDE) ** 2)):
        clump = rng.random() < 0.6
        radius = rng.uniform(4.0, 9.0) if clump else rng.uniform(1.2, 2.5)
        row, column = rng.uniform(0, field.size, 2)
        speck = _outline(rng, row, column, radius, 1.7, 0.2)
        dark, focus = rng.uniform(0.35, 1.2), rng.uniform(0.5, 2.5)
        if (window := field.window(speck)) is None:
            continue
        part, rows, columns = window
        inside = speck.depth(rows, columns)
        if clump and field.mask[part][inside > 0].any():
            continue
        field.density[part] += _dye(dark * _edge(inside, focus), dyes.nucleus)


def _wash(rng: np.random.Generator, size: int, dyes: Dyes) -> Array:
    """Stain that stays on the glass: slow clouds in the cytoplasm's color."""
    knots = np.arange(-WASH, size + 2 * WASH, WASH)
    weights = np.exp(-0.5 * ((np.arange(size)[:, None] - knots) / WASH) ** 2)
    clouds = weights @ rng.standard_normal((len(knots), len(knots))) @ weights.T / np.pi**0.5
    return _dye(np.clip(0.5 + 0.7 * clouds, 0, None) * rng.uniform(0.0, 0.4), dyes.cytoplasm)


def _photograph(rng: np.random.Generator, density: Array) -> Bytes:
    """Uneven light through the density, a lens not quite in focus, and a sensor with noise."""
    across = np.linspace(-1, 1, len(density), dtype=np.float32)
    y, x = across[:, None], across[None, :]
    tilt, vignette = rng.normal(0, 0.12, 2), rng.uniform(0.0, 0.15)
    lamp = rng.uniform(0.65, 1.0) * np.exp(tilt[0] * x + tilt[1] * y - vignette * (x**2 + y**2))
    balance = rng.uniform(0.93, 1.05, 3)
    blur, grain = rng.uniform(0.3, 1.0), rng.uniform(0.006, 0.024)
    light = np.exp(np.float32(-np.log(10)) * density) * _dye(lamp, balance)
    light = ndimage.gaussian_filter(light, (blur, blur, 0), truncate=3.0)
    # photons: the noise grows with the root of the light
    light += np.float32(grain) * np.sqrt(light) * rng.standard_normal(light.shape, dtype=np.float32)
    return np.rint(255 * np.clip(light, 0, 1)).astype(np.uint8)


def _dye(amount: npt.NDArray[np.floating], color: RGB) -> Array:
    """Multiply an amount per pixel with a color: (H, W) and (3,) to (H, W, 3)."""
    return amount[..., None].astype(np.float32) * color.astype(np.float32)


def _edge(depth: Array, softness: float) -> Array:
    """Coverage, 0 to 1, over an edge of that width in pixels."""
    return np.clip(0.5 + depth / np.float32(softness), 0, 1)


def _noise(rng: np.random.Generator, size: int, grain: float) -> Array:
    """Smooth noise of mean 0 and deviation 1, with structures of ``grain`` pixels."""
    noise = ndimage.gaussian_filter(rng.standard_normal((size, size), dtype=np.float32), grain, truncate=3.0)
    return (noise - noise.mean()) / noise.std()
