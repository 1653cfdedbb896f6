"""Reports of the epochs to whoever called the training."""

from __future__ import annotations

import math
from collections.abc import Callable

from unet_segmentation.training.callbacks.history import EpochHistory

# of an epoch (from 1), its metrics and when it ended (seconds since 1970); True ends the training here
ReportEpoch = Callable[[int, dict[str, float], float], bool | None]


class EpochReports:
    """Reports each epoch once its checkpoint is on disk, so that nothing is reported that a kill can undo."""

    def __init__(self, history: EpochHistory, report_epoch: ReportEpoch | None) -> None:
        self.history = history
        self.report_epoch = report_epoch
        self.reported = 0  # epochs
        self.stop_requested = False

    def flush(self) -> None:
        """Report the epochs that were not reported yet, without their undefined metrics."""
        epochs = list(zip(self.history.rows, self.history.end_times, strict=True))
        for row, end_time in epochs[self.reported :]:
            metrics = {name: value for name, value in row.items() if name != "epoch" and math.isfinite(value)}
            if self.report_epoch is not None:
                self.stop_requested |= bool(self.report_epoch(int(row["epoch"]), metrics, end_time))
        self.reported = len(self.history.rows)
