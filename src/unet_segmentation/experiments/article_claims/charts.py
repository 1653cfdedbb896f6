"""The charts of the article's claims, as pictures for pages that are read without a browser."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from unet_segmentation.reporting.plotly_theme import PALETTE

DOTS = 110  # per inch
INK, PALE = "#1f2328", "#d0d7de"
FLOOR = 1e-9  # of a share on the logarithmic axis
MOMENTS = {"initial": ("untrained", "none"), "trained": ("trained", None)}
LINES = {  # prediction to its title, color and line
    "network": ("trained network, interval over the images", PALETTE[0], "-"),
    "background": ("trivial: background everywhere", PALETTE[1], "-"),
    "random": ("trivial: a coin for every pixel", PALETTE[3], ":"),
}
COLUMNS = 3  # panels in a row
JUDGMENTS = {"yes": (PALETTE[2], "reliable"), "partly": (PALETTE[3], "flatters"), "no": (PALETTE[1], "misleads")}


def encoder_chart(table: pd.DataFrame, score: str, side: int) -> Image.Image:
    """Draw the score of every encoder (see `rank_encoders`) against its multiply-adds, and the Pareto front."""
    figure, axes = create_panels(1, 1, 9.0, 5.0)
    axis = axes[0, 0]
    cost = table["multiply_adds"].to_numpy(float) / 1e9
    for on, color, words in ((True, PALETTE[0], "on the frontier"), (False, PALETTE[1], "beaten in both")):
        chosen = table[table["frontier"] == on]
        if len(chosen):
            draw_points(axis, chosen["multiply_adds"] / 1e9, chosen, color=color, label=words)
    for number, row in enumerate(table.sort_values(["frontier", "multiply_adds"]).to_dict("records")):
        above = row["frontier"] or number % 2  # by turns, so that names of neighbors keep apart
        axis.annotate(
            row["encoder"], (row["multiply_adds"] / 1e9, row["value"]), (6, 5 if above else -12),
            textcoords="offset points", fontsize=9, color=INK,
        )  # fmt: skip
    front = table[table["frontier"]].sort_values("multiply_adds")
    axis.step(
        front["multiply_adds"] / 1e9, front["value"], where="post", color=PALETTE[0], linestyle=":", linewidth=1.2
    )
    axis.set_xscale("log")
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if cost.min() / 2 <= tick <= cost.max() * 2]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_xticks([], minor=True)
    axis.set_xlim(cost.min() / 1.3, cost.max() * 1.8)  # room for the last name
    axis.set_xlabel(f"multiply-adds of an image of {side} x {side}, billions")
    axis.set_ylabel(f"{score}, interval over the images")
    axis.legend(loc="lower right", fontsize=9)
    return render_figure(figure)


def upsampling_chart(table: pd.DataFrame, score: str) -> Image.Image:
    """Draw, for each network of `compare_modes`, the score of each upsampling mode, and its checkerboards by stride."""
    networks = list(dict.fromkeys(table["network"]))
    strides = sorted({int(str(name).split("/")[2]) for name in table if str(name).startswith("checkerboard/")})
    figure, axes = create_panels(2, len(networks), 5.2 * len(networks), 7.0, share_y=True)
    for column, network in enumerate(networks):
        part = table[table["network"] == network]
        above, below = axes[:, column]
        modes, positions = part["upsampling"].tolist(), np.arange(len(part))
        draw_points(above, positions, part, color=PALETTE[4])
        above.set_title(network, fontsize=11)
        for number, (stride, color) in enumerate(zip(strides, PALETTE, strict=False)):
            for moment, (words, fill) in MOMENTS.items():
                names = (f"checkerboard/{moment}/{stride}{end}" for end in ("", "/least", "/most"))
                share, least, most = (part[name].clip(lower=FLOOR).to_numpy(float) for name in names)
                below.errorbar(
                    positions + 0.16 * (number - (len(strides) - 1) / 2), share, [share - least, most - share], fmt="o",
                    color=color, markerfacecolor=fill or color, markersize=6, label=f"period {stride}, {words}",
                )  # fmt: skip
        below.set_yscale("log")
        for each in (above, below):
            each.set_xticks(positions, modes)
            each.set_xlim(-0.5, len(modes) - 0.5)
    axes[0, 0].set_ylabel(f"{score}, interval over the images")
    axes[1, 0].set_ylabel("share of the logits' energy, range over the seeds")
    figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(strides), fontsize=9)
    return render_figure(figure)


def trust_chart(table: pd.DataFrame, verdicts: pd.DataFrame, titles: Mapping[str, str]) -> Image.Image:
    """Draw a panel for each metric: its value against the share of the foreground, for every prediction.

    Where the red line is high, the metric gives a good value to a trivial prediction. The word and the color above each
    panel are for the rarest foreground. `table`: see `run_experiment`; `verdicts`: see `metric_verdicts`.
    """
    rows = -(-len(verdicts) // COLUMNS)
    figure, axes = create_panels(rows, COLUMNS, 12.0, 0.8 + 2.4 * rows, share_y=True)
    for axis, row in zip(axes.flat, verdicts.to_dict("records"), strict=False):
        for prediction, (title, color, line) in LINES.items():
            chosen = (table["metric"] == row["metric"]) & (table["prediction"] == prediction)
            part = table[chosen].sort_values("foreground")
            share = 100 * part["foreground"]
            axis.plot(share, part["value"], line, marker="o", markersize=4, color=color, label=title)
            if prediction == "network":
                axis.fill_between(share, part["low"], part["high"], color=color, alpha=0.2, linewidth=0)
        color, word = JUDGMENTS[row["judgment"]]
        axis.set_title(f"{titles[row['metric']]}\n", fontsize=9.5, color=INK, loc="left")
        axis.text(
            0, 1.04, f"{word}: trivial up to {row['trivial']:.3f}", fontsize=9, color=color,
            fontweight="bold", transform=axis.transAxes,
        )  # fmt: skip
        axis.set_xscale("log")
        shares = np.unique(100 * table["foreground"])
        axis.set_xticks(shares, [f"{each:.2g}" for each in shares])
        axis.set_xticks([], minor=True)
        axis.set_ylim(-0.03, 1.05)
        axis.set_yticks([0, 0.5, 1])
        axis.set_xlim(axis.get_xlim()[::-1])  # from common to rare
    for axis in axes.flat[len(verdicts) :]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("foreground, % of the pixels", fontsize=9)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=10)
    return render_figure(figure)


def create_panels(
    rows: int, columns: int, width: float, height: float, *, share_y: bool = False
) -> tuple[Figure, NDArray[Any]]:
    """Create empty panels: a figure of width x height inches, and its axes (rows, columns)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey="row" if share_y else False)
    for each in axes.flat:
        each.spines[["top", "right"]].set_visible(False)
        each.spines[["left", "bottom"]].set_color(PALE)
        each.grid(visible=True, color=PALE, linewidth=0.6)
        each.set_axisbelow(True)
        each.tick_params(colors=INK, labelsize=9)
    return figure, axes


def draw_points(axes: Axes, x: ArrayLike, table: pd.DataFrame, *, color: str, label: str | None = None) -> None:
    """Draw values with their intervals, columns value, low, high; an interval that is not known is left out."""
    value, low, high = (table[name].to_numpy(float) for name in ("value", "low", "high"))
    bars = [np.nan_to_num(np.maximum(part, 0.0)) for part in (value - low, high - value)]
    axes.errorbar(x, value, bars, fmt="o", color=color, markersize=6, linewidth=1.8, label=label)


def render_figure(figure: Figure) -> Image.Image:
    """Draw a figure, without a date or anything else that changes from one time to the next.

    It has 256 colors, which takes a third of the bytes of all: soft edges of lines and letters are most of these.
    """
    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DOTS, facecolor="white", metadata={"Software": None})
    stream.seek(0)
    full = Image.open(stream).convert("RGB")
    return full.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
