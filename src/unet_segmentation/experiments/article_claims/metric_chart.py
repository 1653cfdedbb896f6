"""Which metric one may believe: every metric against the share of the foreground."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from PIL import Image

from unet_segmentation.reporting.plotly_theme import PALETTE
from unet_segmentation.reporting.static_charts import INK, panels, picture

LINES = {  # prediction to its title, colour and line
    "network": ("trained network, interval over the images", PALETTE[0], "-"),
    "background": ("blind: background everywhere", PALETTE[1], "-"),
    "random": ("blind: a coin for every pixel", PALETTE[3], ":"),
}
COLUMNS = 3  # panels in a row
JUDGED = {"yes": (PALETTE[2], "may be believed"), "partly": (PALETTE[3], "flatters"), "no": (PALETTE[1], "misleads")}


def trust_chart(table: pd.DataFrame, judged: pd.DataFrame, titles: Mapping[str, str]) -> Image.Image:
    """Draw a panel for each metric: its value against the share of the foreground, for every prediction.

    One look: where the red line is high, the metric praises a prediction that looks at nothing. The word and the colour
    above each panel say so for the rarest foreground.

    Args:
        table: columns share, foreground, prediction, metric, value, low, high.
        judged: what `article.metric_experiment.judgements` made of it.
        titles: of the metrics, for people.
    """
    rows = -(-len(judged) // COLUMNS)
    figure, axes = panels(rows, COLUMNS, 12.0, 0.8 + 2.4 * rows, share_y=True)
    for axis, row in zip(axes.flat, judged.to_dict("records"), strict=False):
        for prediction, (title, colour, line) in LINES.items():
            chosen = (table["metric"] == row["metric"]) & (table["prediction"] == prediction)
            part = table[chosen].sort_values("foreground")
            share = 100 * part["foreground"]
            axis.plot(share, part["value"], line, marker="o", markersize=4, color=colour, label=title)
            if prediction == "network":
                axis.fill_between(share, part["low"], part["high"], color=colour, alpha=0.2, linewidth=0)
        colour, word = JUDGED[row["judgement"]]
        axis.set_title(f"{titles[row['metric']]}\n", fontsize=9.5, color=INK, loc="left")
        axis.text(
            0, 1.04, f"{word}: blind up to {row['blind']:.3f}", fontsize=9, color=colour,
            fontweight="bold", transform=axis.transAxes,
        )  # fmt: skip
        axis.set_xscale("log")
        shares = np.unique(100 * table["foreground"])
        axis.set_xticks(shares, [f"{each:.2g}" for each in shares])
        axis.set_xticks([], minor=True)
        axis.set_ylim(-0.03, 1.05)
        axis.set_yticks([0, 0.5, 1])
        axis.set_xlim(axis.get_xlim()[::-1])  # from common to rare
    for axis in axes.flat[len(judged) :]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("foreground, % of the pixels", fontsize=9)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=10)
    return picture(figure)
