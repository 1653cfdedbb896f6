"""Reliability of metrics: every metric against the share of the foreground."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from PIL import Image

from unet_segmentation.reporting.plotly_theme import PALETTE
from unet_segmentation.reporting.static_charts import INK, panels, picture

LINES = {  # prediction to its title, colour and line
    "network": ("trained network, interval over the images", PALETTE[0], "-"),
    "background": ("trivial: background everywhere", PALETTE[1], "-"),
    "random": ("trivial: a coin for every pixel", PALETTE[3], ":"),
}
COLUMNS = 3  # panels in a row
JUDGEMENTS = {"yes": (PALETTE[2], "reliable"), "partly": (PALETTE[3], "flatters"), "no": (PALETTE[1], "misleads")}


def trust_chart(table: pd.DataFrame, verdicts: pd.DataFrame, titles: Mapping[str, str]) -> Image.Image:
    """Draw a panel for each metric: its value against the share of the foreground, for every prediction.

    Where the red line is high, the metric gives a good value to a trivial prediction. The word and the color above each
    panel are for the rarest foreground.

    Args:
        table: columns share, foreground, prediction, metric, value, low, high.
        verdicts: see `metric_benchmark.metric_verdicts`.
        titles: of the metrics.
    """
    rows = -(-len(verdicts) // COLUMNS)
    figure, axes = panels(rows, COLUMNS, 12.0, 0.8 + 2.4 * rows, share_y=True)
    for axis, row in zip(axes.flat, verdicts.to_dict("records"), strict=False):
        for prediction, (title, colour, line) in LINES.items():
            chosen = (table["metric"] == row["metric"]) & (table["prediction"] == prediction)
            part = table[chosen].sort_values("foreground")
            share = 100 * part["foreground"]
            axis.plot(share, part["value"], line, marker="o", markersize=4, color=colour, label=title)
            if prediction == "network":
                axis.fill_between(share, part["low"], part["high"], color=colour, alpha=0.2, linewidth=0)
        colour, word = JUDGEMENTS[row["judgement"]]
        axis.set_title(f"{titles[row['metric']]}\n", fontsize=9.5, color=INK, loc="left")
        axis.text(
            0, 1.04, f"{word}: trivial up to {row['trivial']:.3f}", fontsize=9, color=colour,
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
    return picture(figure)
