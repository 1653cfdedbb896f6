"""What a client gets: class ids as they are, or per image a record with the mask as PNG. Needs no torch."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from unet_segmentation.inference.backends.base import Mask, Probabilities
from unet_segmentation.inference.sliding_window import argmax_mask

FORMS = ("auto", "ids", "png", "probabilities")
FAST = 1  # zlib's level; a mask grows by a third against the best, and takes a tenth of the time


def png_record(mask: Mask, confidence: float, classes: Sequence[str]) -> dict[str, Any]:
    """Describe one image's mask in JSON.

    Args:
        mask: (height, width) class ids.
        confidence: mean over the pixels of the highest probability.
        classes: names, in the order of their ids.

    Returns:
        `mask` (a grey PNG of class ids, in base64), `height`, `width`, `classes` (names, in the order of the ids),
        `shares` (class to its share of the pixels) and `confidence`.
    """
    counts = np.bincount(mask.ravel(), minlength=len(classes))
    return {
        "mask": base64.b64encode(encode_mask(mask)).decode("ascii"),
        "height": mask.shape[0],
        "width": mask.shape[1],
        "classes": list(classes),
        "shares": {name: float(count / mask.size) for name, count in zip(classes, counts, strict=True)},
        "confidence": confidence,
    }


def encode_mask(mask: Mask) -> bytes:
    """Write class ids as a grey PNG of 8 bits."""
    import imagecodecs

    return bytes(imagecodecs.png_encode(np.ascontiguousarray(mask), level=FAST))


def mask_of(probabilities: Probabilities) -> tuple[Mask, float]:
    """Return the most probable class of every pixel, and the mean of the highest probability.

    Args:
        probabilities: (classes, height, width).
    """
    return argmax_mask(probabilities), float(probabilities.max(axis=0).mean())
