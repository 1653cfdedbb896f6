"""Charts as pictures, for pages that are read without a browser: one look for all."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from unet_segmentation.reporting.plotly_theme import PALETTE

DOTS = 110  # per inch
INK, PALE = "#1f2328", "#d0d7de"


def panels(rows: int, columns: int, width: float, height: float, *, share_y: bool = False) -> tuple[Figure, NDArray]:
    """Lay out empty panels.

    Args:
        rows: of panels.
        columns: of panels.
        width: of the whole, in inches.
        height: of the whole, in inches.
        share_y: the panels of a row have one scale.

    Returns:
        The figure, and its axes (rows, columns).
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey="row" if share_y else False)
    for each in axes.flat:
        each.spines[["top", "right"]].set_visible(False)
        each.spines[["left", "bottom"]].set_color(PALE)
        each.grid(visible=True, color=PALE, linewidth=0.6)
        each.set_axisbelow(True)
        each.tick_params(colors=INK, labelsize=9)
    return figure, axes


def dots(
    axes: Axes,
    x: object,
    value: NDArray,
    low: NDArray,
    high: NDArray,
    colour: str = PALETTE[0],
    label: str | None = None,
) -> None:
    """Draw values with their intervals; an interval that is not known is left out."""
    below, above = (np.nan_to_num(np.maximum(part, 0.0)) for part in (value - low, high - value))
    axes.errorbar(x, value, [below, above], fmt="o", color=colour, markersize=6, linewidth=1.8, label=label)  # type: ignore[arg-type]


def picture(figure: Figure) -> Image.Image:
    """Draw a figure, without a date or anything else that changes from one time to the next.

    Returns:
        256 colours, which takes a third of the bytes of all: soft edges of lines and letters are most of these.
    """
    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DOTS, facecolor="white", metadata={"Software": None})
    stream.seek(0)
    full = Image.open(stream).convert("RGB")
    return full.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
