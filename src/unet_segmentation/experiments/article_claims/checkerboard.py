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

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MIN_PERIODS = 4  # across a side: with fewer, the peaks of a period run into each other

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
    """Compute the shares of several strides over several images; energies are summed before they are divided.

    Args:
        logits: (C, H, W) of each image.
        strides: see :func:`checkerboard_energy`.

    Returns:
        Stride to share; together they are 1 at most.

    Raises:
        ValueError: see :func:`checkerboard_energy`.
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
    """Sum the power spectra of all channels, without frequency 0 and its neighbors.

    Args:
        logits: (C, H, W).

    Returns:
        (H, W), frequency 0 first, as ``numpy.fft.fft2`` orders them.
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
    """Mark the frequencies of a stride, each with its eight neighbors.

    Args:
        shape: (H, W) of the spectrum, multiples of the stride.
        stride: a power of two.

    Returns:
        (H, W) bool, frequency 0 first.
    """
    height, width = shape
    marked = np.zeros((height, width), bool)
    for k in range(stride):
        for l in range(stride):  # noqa: E741 - as in the formula
            if k % 2 or l % 2:
                row, column = k * height // stride, l * width // stride
                offsets = np.array([-1, 0, 1])
                marked[np.ix_((row + offsets) % height, (column + offsets) % width)] = True
    return marked


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
