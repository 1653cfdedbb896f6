"""Checkerboard artifacts in a model's output: spectral energy at the frequencies of the decoder's strides.

A layer that upsamples by a factor treats the pixels that it makes of one differently, unless its weights prevent it.
Its output then has a pattern of that period: a checkerboard (Odena, Dumoulin, Olah 2016, "Deconvolution and
checkerboard artifacts", https://doi.org/10.23915/distill.00003). In the spectrum that is energy at the multiples of
1 / period. Without any for a constant input, a model is free of checkerboards in the sense of Sugawara, Shiota and Kiya
2019 ("Checkerboard artifacts free convolutional neural networks", APSIPA Transactions); interpolation is. Durall,
Keuper and Keuper 2020 (https://arxiv.org/abs/2003.01826) see the same in the spectra of generated images.

Periods of a power of two are separated: the energy of period 4 is that which period 2 does not explain, and so on.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from unet_segmentation.reporting.prediction_gallery import stack_strips
from unet_segmentation.visualization import INK, PAPER, Picture, contact_sheet, font

MIN_PERIODS = 4  # across a side: with fewer, the peaks of a period run into each other
SIDE, TIMES = 32, 6  # pixels of the crop, and its enlargement
DECADES = 8  # of energy, from white to black
BINS = 64  # of frequency a side, at most; more would be noise to the eye, and a file of a megabyte
STRIDE_COLORS = {2: (230, 57, 70), 4: (31, 119, 200), 8: (46, 150, 90)}
MARK = 5  # pixels, radius of a ring

Spectrum = NDArray[np.float64]


def checkerboard_energy(logits: NDArray[np.floating], stride: int) -> float:
    """Compute the share of the energy that repeats with a stride, and with no smaller one.

    With the power spectrum P of the logits without their mean, under a Hann window (Harris 1978), summed over the
    channels::

        sum of P around the frequencies (k, l) / stride, k or l odd  /  sum of P

    Around a frequency means its bin and the eight neighbors, which hold all of a pattern's energy under this window;
    the nine around frequency 0 count nowhere. Scale and offset of the logits change nothing. It is 1 for a
    checkerboard, 0 for what has no such frequencies (whatever is smooth), and for white noise about 27 / pixels at
    stride 2, four times that at stride 4, and so on.

    Args:
        logits: (C, H, W), of one image. H and W are cropped to multiples of the stride.
        stride: of a stage of the decoder, in pixels of the image: 2 for the last one, 4 for the one before, ...

    Returns:
        0 to 1; NaN where the logits are constant.

    Raises:
        ValueError: the stride is not a power of two, or the image holds fewer than four periods of it.
    """
    return checkerboard_energies([logits], [stride])[stride]


def checkerboard_energies(logits: Sequence[NDArray[np.floating]], strides: Sequence[int]) -> dict[int, float]:
    """Compute the shares of several strides over several images, (C, H, W) each; energies are summed before division.

    Returns:
        Stride to share, see :func:`checkerboard_energy`; together they are 1 at most.
    """
    largest = max(strides)
    spectra = [power_spectrum(_cut(image, largest)) for image in logits]
    total = sum(float(spectrum.sum()) for spectrum in spectra)
    shares = {}
    for stride in strides:
        energy = sum(float(spectrum[stride_frequencies(spectrum.shape, stride)].sum()) for spectrum in spectra)
        shares[stride] = energy / total if total > 0 else float("nan")
    return shares


def power_spectrum(logits: NDArray[np.floating]) -> Spectrum:
    """Sum the power spectra of all channels of (C, H, W), without frequency 0 and its neighbors.

    Returns (H, W), frequency 0 first, as ``numpy.fft.fft2`` orders them.
    """
    values = np.asarray(logits, np.float64)
    # periodic, and not symmetric: only then its spectrum has three values that are not 0
    rows, columns = (np.hanning(side + 1)[:-1] for side in values.shape[-2:])
    window = rows[:, None] * columns
    mean = (values * window).sum(axis=(-2, -1), keepdims=True) / window.sum()
    centered = values - mean
    constant = np.abs(centered).max(axis=(-2, -1)) < 1e-12 * np.abs(values).max(initial=0.0)  # up to rounding
    centered[constant] = 0.0
    spectrum: Spectrum = (np.abs(np.fft.fft2(centered * window)) ** 2).sum(axis=0)
    spectrum[np.ix_([-1, 0, 1], [-1, 0, 1])] = 0.0
    return spectrum


def stride_frequencies(shape: tuple[int, ...], stride: int) -> NDArray[np.bool_]:
    """Mark the frequencies of a stride, each with its eight neighbors: (H, W) bool, frequency 0 first.

    H and W are multiples of the stride, which is a power of two.
    """
    height, width = shape
    marked = np.zeros((height, width), bool)
    offsets = np.array([-1, 0, 1])
    for frequencies in _odd_multiples(stride):
        row, column = (number * side // stride for number, side in zip(frequencies, shape, strict=True))
        marked[np.ix_((row + offsets) % height, (column + offsets) % width)] = True
    return marked


def _odd_multiples(stride: int) -> list[tuple[int, ...]]:
    """Return k and l of the frequencies (k, l) / stride, of which one is odd."""
    return [pair for pair in itertools.product(range(stride), repeat=2) if pair[0] % 2 or pair[1] % 2]


def _cut(logits: NDArray[np.floating], stride: int) -> NDArray[np.floating]:
    height, width = logits.shape[-2:]
    if stride < 2 or stride & (stride - 1):
        raise ValueError(f"a stride must be 2, 4, 8, ...; this one is {stride}")
    if min(height, width) < MIN_PERIODS * stride:
        raise ValueError(
            f"{height}x{width} pixels are too few to see what repeats every {stride} pixels; "
            f"{MIN_PERIODS * stride} a side are needed"
        )
    return logits[..., : height // stride * stride, : width // stride * stride]


class Pair(NamedTuple):
    """The logits of one image before and after training, (classes, H, W) each."""

    initial: NDArray[np.floating]
    trained: NDArray[np.floating]


def checkerboard_sheet(networks: Mapping[str, Mapping[str, Pair]]) -> Image.Image:
    """Lay out logits and spectrum before and after training, by network and upsampling mode; all of the same image."""
    strips = [_legend()]
    for name, modes in networks.items():
        for moment, title in (("initial", "untrained"), ("trained", "trained")):
            strips.append(_heading(f"{name}, {title}"))
            logits = [getattr(pair, moment) for pair in modes.values()]
            tiles = [logits_picture(values) for values in logits] + [spectrum_picture(values) for values in logits]
            captions = [*modes, *(_shares(values) for values in logits)]
            strips.append(contact_sheet(tiles, len(modes), captions))
    return stack_strips(strips, max(strip.width for strip in strips))


def logits_picture(logits: NDArray[np.floating]) -> Picture:
    """Enlarge the center of the logits of class 1, each pixel as `TIMES` x `TIMES`, stretched from black to white.

    `logits` (classes, H, W) have at least `SIDE` pixels a side.
    """
    top, left = ((side - SIDE) // 2 for side in logits.shape[-2:])
    values = logits[min(1, len(logits) - 1), top : top + SIDE, left : left + SIDE].astype(np.float64)
    low, high = values.min(), values.max()
    gray = np.round(255 * (values - low) / max(high - low, 1e-12)).astype(np.uint8)
    return gray.repeat(TIMES, axis=0).repeat(TIMES, axis=1)[..., None].repeat(3, axis=2)


def spectrum_picture(logits: NDArray[np.floating]) -> Picture:
    """Draw the log power spectrum of (classes, H, W), frequency 0 in the middle; rings mark those of the strides.

    White is the largest value, black a share of 10^-8 of it. The highest frequency lies on the left and the upper edge.
    Of an image with more than `BINS` frequencies a side, neighboring ones are averaged.
    """
    power = Image.fromarray(np.fft.fftshift(power_spectrum(logits)).astype(np.float32))
    bins = min(BINS, power.width), min(BINS, power.height)
    spectrum = np.asarray(power.resize(bins, Image.Resampling.BOX), np.float64)
    decades = np.log10(np.maximum(spectrum / max(spectrum.max(), 1e-300), 10.0**-DECADES))
    gray = np.round(255 * (1 + decades / DECADES)).astype(np.uint8)
    side = SIDE * TIMES
    picture = Image.fromarray(gray).resize((side, side), Image.Resampling.NEAREST).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for stride, color in sorted(STRIDE_COLORS.items(), reverse=True):
        for frequencies in _odd_multiples(stride):
            y, x = (  # the middle of the pixel of each frequency
                ((n / stride + 0.5) % 1.0) * side + side / size / 2
                for n, size in zip(frequencies, gray.shape, strict=True)
            )
            draw.ellipse((x - MARK, y - MARK, x + MARK, y + MARK), outline=color)
    return np.asarray(picture)


def _shares(logits: NDArray[np.floating]) -> str:
    shares = checkerboard_energies([logits], list(STRIDE_COLORS))
    return "  ".join(f"{stride}: {_brief(share)}" for stride, share in shares.items())


def _brief(share: float) -> str:
    return f"{share:.1%}" if share >= 0.0005 else f"{share:.0e}".replace("e-0", "e-")


def _legend() -> Image.Image:
    """Draw the legend of the sheet."""
    lines: Sequence[str] = (
        f"logits of class 1, {SIDE} x {SIDE} pixels from the middle, and below them the log spectrum of all classes",
        "rings, and numbers: energy that repeats with a period of",
    )
    strip = Image.new("RGB", (980, 52), PAPER)
    draw, text = ImageDraw.Draw(strip), font(14)
    for number, line in enumerate(lines):
        draw.text((6, 6 + 20 * number), line, fill=INK, font=text)
    left = 12 + text.getlength(lines[1])
    for stride, color in STRIDE_COLORS.items():
        words = f"{stride} pixels"
        draw.text((left, 26), words, fill=color, font=text)
        left += text.getlength(words) + 14
    return strip


def _heading(words: str) -> Image.Image:
    strip = Image.new("RGB", (980, 30), PAPER)
    ImageDraw.Draw(strip).text((6, 6), words, fill=INK, font=font(17))
    return strip
