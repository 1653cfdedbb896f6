"""Encoders compared: score against cost."""

from __future__ import annotations

import pandas as pd
from PIL import Image

from unet_segmentation.reporting.plotly_theme import PALETTE
from unet_segmentation.reporting.static_charts import INK, dots, panels, picture


def encoder_chart(table: pd.DataFrame, score: str, side: int) -> Image.Image:
    """Draw the score of every encoder against its multiply-adds, and the Pareto front.

    Args:
        table: see `article_claims.encoders.rank_encoders`.
        score: name of the score.
        side: of the image that the multiply-adds are counted for, in pixels.
    """
    figure, axes = panels(1, 1, 9.0, 5.0)
    axis = axes[0, 0]
    cost = table["multiply_adds"].to_numpy(float) / 1e9
    for on, colour, words in ((True, PALETTE[0], "on the frontier"), (False, PALETTE[1], "beaten in both")):
        chosen = (table["frontier"] == on).to_numpy()
        if not chosen.any():
            continue
        value, low, high = (table[name].to_numpy(float)[chosen] for name in ("value", "low", "high"))
        dots(axis, cost[chosen], value, low, high, colour, words)
    for number, row in enumerate(table.sort_values(["frontier", "multiply_adds"]).to_dict("records")):
        above = row["frontier"] or number % 2  # by turns, so that names of neighbours keep apart
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
    return picture(figure)
