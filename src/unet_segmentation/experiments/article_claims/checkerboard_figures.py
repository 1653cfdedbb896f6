"""Images that show checkerboards: enlarged logits, and their spectrum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from unet_segmentation.experiments.article_claims.checkerboard import checkerboard_energies, power_spectrum
from unet_segmentation.visualization import INK, PAPER, Picture, contact_sheet, font

SIDE, TIMES = 32, 6  # pixels of the crop, and its enlargement
DECADES = 8  # of energy, from white to black
BINS = 64  # of frequency a side, at most; more would be noise to the eye, and a file of a megabyte
STRIDE_COLOURS = {2: (230, 57, 70), 4: (31, 119, 200), 8: (46, 150, 90)}
MARK = 5  # pixels, radius of a ring


class Pair(NamedTuple):
    """The logits of one image before and after training, (classes, H, W) each."""

    initial: NDArray[np.floating]
    trained: NDArray[np.floating]


def checkerboard_sheet(networks: Mapping[str, Mapping[str, Pair]]) -> Image.Image:
    """Lay out, for each network and upsampling mode, logits and spectrum before and after training.

    Args:
        networks: name of the network to upsampling mode to its logits; all of the same image.
    """
    strips = [_legend()]
    for name, modes in networks.items():
        for moment, title in (("initial", "untrained"), ("trained", "trained")):
            strips.append(_heading(f"{name}, {title}"))
            logits = [getattr(pair, moment) for pair in modes.values()]
            tiles = [logits_picture(values) for values in logits] + [spectrum_picture(values) for values in logits]
            captions = [*modes, *(_shares(values) for values in logits)]
            strips.append(contact_sheet(tiles, len(modes), captions))
    sheet = Image.new("RGB", (max(strip.width for strip in strips), sum(strip.height for strip in strips)), PAPER)
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet


def logits_picture(logits: NDArray[np.floating]) -> Picture:
    """Enlarge the center of the logits of class 1, each pixel as `TIMES` x `TIMES`, stretched from black to white.

    Args:
        logits: (classes, H, W), at least `SIDE` pixels a side.
    """
    top, left = ((side - SIDE) // 2 for side in logits.shape[-2:])
    values = logits[min(1, len(logits) - 1), top : top + SIDE, left : left + SIDE].astype(np.float64)
    low, high = values.min(), values.max()
    grey = np.round(255 * (values - low) / max(high - low, 1e-12)).astype(np.uint8)
    return grey.repeat(TIMES, axis=0).repeat(TIMES, axis=1)[..., None].repeat(3, axis=2)


def spectrum_picture(logits: NDArray[np.floating]) -> Picture:
    """Draw the logarithm of the power spectrum, frequency 0 in the middle; rings mark the frequencies of the strides.

    White is the largest value, black a share of 10^-8 of it. The highest frequency lies on the left and the upper edge.
    Of an image with more than `BINS` frequencies a side, neighboring ones are averaged.

    Args:
        logits: (classes, H, W).
    """
    power = Image.fromarray(np.fft.fftshift(power_spectrum(logits)).astype(np.float32))
    bins = min(BINS, power.width), min(BINS, power.height)
    spectrum = np.asarray(power.resize(bins, Image.Resampling.BOX), np.float64)
    decades = np.log10(np.maximum(spectrum / max(spectrum.max(), 1e-300), 10.0**-DECADES))
    grey = np.round(255 * (1 + decades / DECADES)).astype(np.uint8)
    side = SIDE * TIMES
    picture = Image.fromarray(grey).resize((side, side), Image.Resampling.NEAREST).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for stride, colour in sorted(STRIDE_COLOURS.items(), reverse=True):
        for k in range(stride):
            for l in range(stride):  # noqa: E741 - as in the formula of scoring.checkerboard
                if k % 2 or l % 2:
                    # frequency k / stride, in the middle of its pixel
                    y, x = (
                        ((n / stride + 0.5) % 1.0) * side + side / size / 2
                        for n, size in zip((k, l), grey.shape, strict=True)
                    )
                    draw.ellipse((x - MARK, y - MARK, x + MARK, y + MARK), outline=colour)
    return np.asarray(picture)


def _shares(logits: NDArray[np.floating]) -> str:
    shares = checkerboard_energies([logits], list(STRIDE_COLOURS))
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
    for stride, colour in STRIDE_COLOURS.items():
        words = f"{stride} pixels"
        draw.text((left, 26), words, fill=colour, font=text)
        left += text.getlength(words) + 14
    return strip


def _heading(words: str) -> Image.Image:
    strip = Image.new("RGB", (980, 30), PAPER)
    ImageDraw.Draw(strip).text((6, 6), words, fill=INK, font=font(17))
    return strip
