"""The embedded problem: stained cells under a microscope, drawn from a seed.

A picture is made as a microscope makes it. Cells, their nuclei, debris and a wash of stain are fields of optical
density; densities add where things lie over each other; light passes by Beer and Lambert's law, I = I0 10^-D, with one
density per colour; the lamp is uneven, the lens blurs, the sensor adds noise. The mask is drawn from the same outlines,
before the lens, so it is exact to the pixel.

What makes it a problem and not a toy is the overlap of the classes in colour: stains vary between pictures and cells,
debris has the nucleus's colour, and the wash has the cytoplasm's. Shape, edges and surroundings tell them apart.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
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

# Optical density per colour (R, G, B) of the two dyes: haematoxylin, blue, and eosin, pink (after Ruifrok and
# Johnston 2001, eosin somewhat less pure).
HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.16, 0.80, 0.30])

SIDE = 128  # pixels; numbers of things are per field of so many pixels squared


@dataclass(frozen=True)
class Outline:
    """A closed curve around a centre: an ellipse with a few waves, so that its radius is a function of the angle."""

    row: float
    column: float
    radius: float
    elongation: float
    turn: float
    waves: tuple[tuple[int, float, float], ...]  # (number around the curve, share of the radius, phase)

    @property
    def reach(self) -> float:
        """A radius that holds the whole curve."""
        return self.radius * self.elongation * (1 + sum(abs(share) for _, share, _ in self.waves))

    def depth(self, rows: Array, columns: Array) -> Array:
        """How far inside the curve points lie, along the radius, in pixels; negative outside."""
        y, x = rows - self.row, columns - self.column
        distance, angle = np.hypot(y, x), np.arctan2(y, x) - self.turn
        ellipse = np.sqrt((np.cos(angle) / self.elongation) ** 2 + (np.sin(angle) * self.elongation) ** 2)
        wave = sum((share * np.cos(number * angle + phase) for number, share, phase in self.waves), np.float32(1.0))
        return self.radius * wave / ellipse - distance


class Field:
    """What is drawn so far: density for each colour, and the class of each pixel."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.density = np.zeros((size, size, 3), np.float32)
        self.mask = np.zeros((size, size), np.uint8)

    def window(self, outline: Outline, margin: float = 3.0) -> tuple[tuple[slice, slice], Array, Array] | None:
        """The part of the field that an outline reaches, and its coordinates; None where it lies outside."""
        reach = outline.reach + margin
        top, left = max(0, int(outline.row - reach)), max(0, int(outline.column - reach))
        bottom = min(self.size, int(outline.row + reach) + 1)
        right = min(self.size, int(outline.column + reach) + 1)
        if top >= bottom or left >= right:
            return None
        rows, columns = np.mgrid[top:bottom, left:right].astype(np.float32)
        return (slice(top, bottom), slice(left, right)), rows, columns


def draw_sample(index: int, seed: int, size: int) -> tuple[Bytes, Bytes]:
    """Draw one image and its mask.

    Args:
        index: of the sample; its randomness hangs on ``(seed, index)`` alone.
        seed: of the data set.
        size: side in pixels.

    Returns:
        The image, (size, size, 3) uint8 RGB, and the mask, (size, size) uint8: 0 background, 1 cytoplasm, 2 nucleus.
    """
    rng = np.random.default_rng([seed, index])
    field = Field(size)
    dyes = _dyes(rng)
    grain = _noise(rng, size, 1.2)
    for cell in _place_cells(rng, size):
        _draw_cell(rng, field, cell, dyes, grain)
    _draw_debris(rng, field, dyes)
    field.density += _wash(rng, size, dyes)
    return _photograph(rng, field.density), field.mask


def write_archive(parameters: GeneratorParameters, path: Path) -> None:
    """Draw the data set into a zip: ``cells/images/0000.png`` and ``cells/masks/0000.png`` for each sample.

    The same parameters give the same bytes (with the same versions of NumPy, SciPy and Pillow): times, permissions
    and order are fixed.

    Args:
        parameters: how many images, how large, from which seed.
        path: the file to write. The caller sees to it that it is whole or absent.
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
    """The stain of one picture: density per colour of what nuclei and cytoplasm take up."""

    nucleus: RGB
    cytoplasm: RGB


def _dyes(rng: np.random.Generator) -> Dyes:
    """Every slide is stained a little differently: stronger or weaker, bluer or pinker."""
    strength = rng.uniform(0.75, 1.25)
    nucleus = strength * (HAEMATOXYLIN + rng.uniform(0.0, 0.35) * EOSIN) * rng.uniform(0.9, 1.1, 3)
    blue = rng.uniform(0.15, 0.75)
    cytoplasm = strength * (blue * HAEMATOXYLIN + (1 - blue) * EOSIN) * rng.uniform(0.9, 1.1, 3)
    return Dyes(nucleus, cytoplasm)


def _outline(
    rng: np.random.Generator, row: float, column: float, radius: float, longest: float, rough: float
) -> Outline:
    waves = tuple((n, rng.normal(0, rough / n), rng.uniform(0, 2 * np.pi)) for n in range(2, 6))
    return Outline(row, column, radius, rng.uniform(1.0, longest), rng.uniform(0, 2 * np.pi), waves)


def _place_cells(rng: np.random.Generator, size: int) -> list[Outline]:
    """Cells of a field, sparse or dense, some cut off by its border; many lie against a neighbour, few over one."""
    wanted = rng.poisson(rng.uniform(2.5, 10.5) * (size / SIDE) ** 2)
    cells: list[Outline] = []
    for _ in range(4 * max(1, wanted)):
        if len(cells) >= max(1, wanted):
            break
        radius = rng.uniform(10.5, 16.5)
        row, column = rng.uniform(-0.4 * radius, size + 0.4 * radius, 2)
        if cells and rng.random() < 0.4:  # beside one that is there
            other = cells[rng.integers(len(cells))]
            angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.9, 1.05) * (radius + other.radius)
            row, column = other.row + distance * np.sin(angle), other.column + distance * np.cos(angle)
        apart = (np.hypot(row - cell.row, column - cell.column) / (radius + cell.radius) for cell in cells)
        if min(apart, default=1.0) >= 0.85:
            cells.append(_outline(rng, row, column, radius, 1.25, 0.12))
    return cells


def _draw_cell(rng: np.random.Generator, field: Field, cell: Outline, dyes: Dyes, grain: Array) -> None:
    angle, way = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.25) * cell.radius
    centre = cell.row + way * np.sin(angle), cell.column + way * np.cos(angle)
    nucleus = _outline(rng, *centre, rng.uniform(0.40, 0.56) * cell.radius, 1.25, 0.08)
    pale, dark = rng.uniform(0.18, 0.55), rng.uniform(0.35, 0.95)
    bluish = rng.uniform(0.0, 0.6)
    focus = rng.uniform(0.8, 2.2)
    if (window := field.window(cell)) is None:
        return
    part, rows, columns = window
    inside = cell.depth(rows, columns)
    kernel = np.minimum(nucleus.depth(rows, columns), inside - 2.5)  # a nucleus never reaches its cell's membrane
    texture = grain[part]
    body = _edge(inside, focus) * pale * (1 + 0.35 * texture)
    core = _edge(kernel, focus) * dark * (1 + 0.25 * texture)
    colour = (1 - bluish) * dyes.cytoplasm + bluish * dyes.nucleus
    field.density[part] += body[..., None] * colour + core[..., None] * dyes.nucleus
    mask = field.mask[part]
    mask[(inside > 0) & (mask == BACKGROUND)] = CYTOPLASM
    mask[kernel > 0] = NUCLEUS


def _draw_debris(rng: np.random.Generator, field: Field, dyes: Dyes) -> None:
    """Precipitate and naked fragments: the nucleus's dye where no nucleus is, between the cells and on them."""
    for _ in range(rng.poisson(rng.uniform(1, 13) * (field.size / SIDE) ** 2)):
        small = rng.random() < 0.5
        radius = rng.uniform(1.2, 2.5) if small else rng.uniform(3.0, 6.5)
        row, column = rng.uniform(0, field.size, 2)
        speck = _outline(rng, row, column, radius, 1.7, 0.2)
        dark, focus = rng.uniform(0.35, 1.1), rng.uniform(0.5, 2.0)
        if (window := field.window(speck)) is not None:
            part, rows, columns = window
            field.density[part] += (dark * _edge(speck.depth(rows, columns), focus))[..., None] * dyes.nucleus


def _wash(rng: np.random.Generator, size: int, dyes: Dyes) -> Array:
    """Stain that stays on the glass: slow clouds in the cytoplasm's colour."""
    clouds = np.clip(0.5 + 0.7 * _noise(rng, size, 18.0), 0, None) * rng.uniform(0.0, 0.4)
    return (clouds[..., None] * dyes.cytoplasm).astype(np.float32)


def _photograph(rng: np.random.Generator, density: Array) -> Bytes:
    """Uneven light through the density, a lens not quite in focus, and a sensor with noise."""
    size = len(density)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    tilt, vignette = rng.normal(0, 0.10, 2), rng.uniform(0.0, 0.15)
    lamp = rng.uniform(0.72, 0.98) * np.exp(tilt[0] * x + tilt[1] * y - vignette * (x**2 + y**2))
    light = lamp[..., None] * rng.uniform(0.93, 1.05, 3) * 10.0**-density
    blur = rng.uniform(0.4, 1.3)
    light = ndimage.gaussian_filter(light, (blur, blur, 0))
    sigma = np.sqrt(rng.uniform(0.01, 0.035) ** 2 * np.clip(light, 0.05, None))  # photons: noise grows with the root
    light = light + sigma * rng.standard_normal(light.shape)
    return np.rint(255 * np.clip(light, 0, 1)).astype(np.uint8)


def _edge(depth: Array, softness: float) -> Array:
    """Coverage, 0 to 1, over an edge of that width in pixels."""
    return np.clip(0.5 + depth / softness, 0, 1)


def _noise(rng: np.random.Generator, size: int, grain: float) -> Array:
    """Smooth noise of mean 0 and deviation 1, with structures of ``grain`` pixels."""
    noise = ndimage.gaussian_filter(rng.standard_normal((size, size), dtype=np.float32), grain, mode="reflect")
    return (noise - noise.mean()) / noise.std()
