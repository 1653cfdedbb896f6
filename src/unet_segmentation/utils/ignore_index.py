"""The mask value of pixels that belong to no class."""

from typing import Final

IGNORE_INDEX: Final = 255
"""Trained on by no loss and counted by no metric. Fixed, because packed masks are uint8 and class ids start at 0."""
