"""What a person sees of a training: one line per epoch, a progress bar on a terminal, and no chatter."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import rich
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TaskID, TextColumn
from rich.text import Text

LIBRARIES = ("lightning", "lightning.pytorch", "lightning.fabric", "lightning_utilities", "torch.distributed")
REFRESH_SECONDS = 0.5


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's tips and warnings off the console; its errors are raised, not logged."""
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning.*")
            warnings.filterwarnings("ignore", module=r"torch\..*")
            warnings.filterwarnings("ignore", message=r".*(num_workers|LeafSpec|isinstance\(treespec).*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def seconds_since_start() -> float:
    """Seconds since this process was started."""
    return time.time() - psutil.Process().create_time()


def duration(seconds: float) -> str:
    """Format a duration as a person would: ``40 s``, ``7 min``, ``2 h 5 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def epoch_line(epoch: int, epochs: int, values: dict[str, float], *, best: bool, seconds_left: float) -> str:
    """Format an epoch as one line.

    Args:
        epoch: from 1.
        epochs: of the training, at most.
        values: the epoch's metrics.
        best: whether this epoch's score is the best so far.
        seconds_left: until the last epoch ends.
    """
    parts = [
        f"epoch {epoch:>{len(str(epochs))}}/{epochs}",
        f"loss {values['train/loss']:.3f}",
        f"dice {values['validation/dice/mean']:.3f}{' (best)' if best else ''}",
        f"iou {values['validation/iou/mean']:.3f}",
        f"{values['train/throughput']:.0f} images/s",
    ]
    return "  ".join(parts + ([f"{duration(seconds_left)} left"] if epoch < epochs else []))


class TrainingBar:
    """A progress bar over all steps, with loss, IoU, images/s and time left. Shown on a terminal only."""

    def __init__(self, steps: int, epochs: int) -> None:
        console = rich.get_console()
        self.progress: Progress | None = None
        if console.is_terminal:
            self.progress = Progress(
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
                _Numbers(),
                console=console,
                transient=True,
            )
            self.task: TaskID = self.progress.add_task("training", total=steps, epoch=1, numbers="")
            self.progress.start()
        self.next_refresh = 0.0

    def wants_refresh(self) -> bool:
        """Return whether there is a bar whose numbers are older than half a second."""
        return self.progress is not None and time.monotonic() >= self.next_refresh

    def update(self, step: int, epoch: int, numbers: str) -> None:
        """Update the bar."""
        if self.progress is not None:
            self.progress.update(self.task, completed=step, epoch=epoch, numbers=numbers)
            self.next_refresh = time.monotonic() + REFRESH_SECONDS

    def close(self) -> None:
        """Remove the bar."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None


class _Numbers(ProgressColumn):
    def render(self, task: Any) -> Text:  # noqa: ANN401 - rich's task
        return Text(task.fields["numbers"])
