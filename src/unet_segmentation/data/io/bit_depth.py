"""Pixels of any numeric type become 8 or 16 bits; needs numpy only, as it travels with every logged model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK = 2**20  # values that are mapped at a time, so that memory stays flat
SAMPLED = 10**6  # values of which percentiles are taken


class BitDepthError(Exception):
    """Numbers that cannot become pixels; the message says what they are, and continues a sentence."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind  # of the finding: a key of `findings.KINDS`


def to_uint(pixels: NDArray[Any], value_range: tuple[float, float] | None) -> tuple[NDArray[Any], float]:
    """Convert numbers of any type to uint8 or uint16, in preparation and in prediction.

    uint8 and uint16 stay as they are, one bit becomes 0 and 255. Everything else is mapped linearly, `value_range` to
    0 and 65535, and clipped; without a range, whole numbers within 0..65535 stay as they are.

    Returns:
        uint8 or uint16 in native byte order, and the share of the values that were clipped.

    Raises:
        BitDepthError: NaN or infinite values (`not_finite`); a range is needed (`no_range`): the message
            describes the values.
    """
    dtype = pixels.dtype.newbyteorder("=")
    if dtype in (np.uint8, np.uint16):
        return pixels.astype(dtype, copy=False), 0.0
    if dtype.kind == "b":
        return pixels.astype(np.uint8) * np.uint8(255), 0.0
    if dtype.kind not in "iuf":
        raise BitDepthError(f"holds {dtype} values, which are no pixels", "unreadable_image")
    if dtype.kind == "f" and (count := int(pixels.size - np.isfinite(pixels).sum())):
        raise BitDepthError(f"holds NaN or infinite values in {count} of {pixels.size} places", "not_finite")
    if value_range is not None:
        return _mapped(pixels, *value_range)
    if dtype.kind != "f" and pixels.min() >= 0 and pixels.max() <= 65535:
        return pixels.astype(np.uint16), 0.0
    sampled = pixels.ravel()[:: pixels.size // SAMPLED + 1].astype(np.float64)
    low, high = np.percentile(sampled, [0.1, 99.9])
    raise BitDepthError(
        f"holds {dtype} values from {pixels.min():.6g} to {pixels.max():.6g}, 99.8% of them from "
        f"{low:.6g} (0.1 percentile) to {high:.6g} (99.9 percentile)",
        "no_range",
    )


def _mapped(pixels: NDArray[Any], low: float, high: float) -> tuple[NDArray[np.uint16], float]:
    """Map in double precision, so that float16 and float64 holding equal values give equal pixels."""
    values = np.ascontiguousarray(pixels).ravel()
    mapped = np.empty(values.shape, np.uint16)
    clipped = 0
    for start in range(0, values.size, CHUNK):
        part = values[start : start + CHUNK].astype(np.float64)
        clipped += int(((part < low) | (part > high)).sum())
        part -= low
        part *= 65535 / (high - low)
        mapped[start : start + CHUNK] = np.rint(np.clip(part, 0, 65535, out=part), out=part)
    return mapped.reshape(pixels.shape), clipped / max(1, values.size)
