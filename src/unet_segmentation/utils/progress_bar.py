"""Progress bars in bytes, with speed and time left; silent where the console is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rich
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

Advance = Callable[[int], None]


@contextmanager
def byte_bars() -> Iterator[Progress]:
    """Yield rich's display of bars that count bytes; each is added with ``add_task``. Threads may share it."""
    console = rich.get_console()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress


@contextmanager
def byte_progress(what: str, total: int) -> Iterator[Advance]:
    """Show one bar of ``total`` bytes; yield the function to call with the number of bytes as they pass."""
    with byte_bars() as bars:
        task = bars.add_task(what, total=total)
        yield lambda count: bars.advance(task, count)
