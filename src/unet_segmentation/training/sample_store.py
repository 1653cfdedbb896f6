"""The protocol of packed samples."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class SampleStore(Protocol):
    """Packed samples, as training reads them."""

    folder: Path  # where other processes find them

    def shape(self, sample_id: str) -> tuple[int, int, int]: ...  # noqa: D102
    def image(self, sample_id: str, rows: slice = ..., columns: slice = ...) -> NDArray: ...  # noqa: D102
    def mask(self, sample_id: str, rows: slice = ..., columns: slice = ...) -> NDArray[np.uint8]: ...  # noqa: D102
