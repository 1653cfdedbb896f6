"""Upsampling modes compared: scores and checkerboards."""

from __future__ import annotations

import numpy as np
import pandas as pd
from PIL import Image

from unet_segmentation.reporting.plotly_theme import PALETTE
from unet_segmentation.reporting.static_charts import dots, panels, picture

FLOOR = 1e-9  # of a share on the logarithmic axis
MOMENTS = {"initial": ("untrained", "none"), "trained": ("trained", None)}


def upsampling_chart(table: pd.DataFrame, score: str) -> Image.Image:
    """Draw, for each network, the score of each upsampling mode with its interval, and its checkerboards by stride.

    Args:
        table: columns network, upsampling, value, low, high, ``checkerboard/initial/<stride>`` and
            ``checkerboard/trained/<stride>``, each with its ``/least`` and ``/most``.
        score: name of the score.
    """
    networks = list(dict.fromkeys(table["network"]))
    strides = sorted({int(str(name).split("/")[2]) for name in table if str(name).startswith("checkerboard/")})
    figure, axes = panels(2, len(networks), 5.2 * len(networks), 7.0, share_y=True)
    for column, network in enumerate(networks):
        part = table[table["network"] == network]
        above, below = axes[:, column]
        modes, positions = part["upsampling"].tolist(), np.arange(len(part))
        value, low, high = (part[name].to_numpy(float) for name in ("value", "low", "high"))
        dots(above, positions, value, low, high, PALETTE[4])
        above.set_title(network, fontsize=11)
        for number, (stride, colour) in enumerate(zip(strides, PALETTE, strict=False)):
            for moment, (words, fill) in MOMENTS.items():
                names = (f"checkerboard/{moment}/{stride}{end}" for end in ("", "/least", "/most"))
                share, least, most = (part[name].clip(lower=FLOOR).to_numpy(float) for name in names)
                below.errorbar(
                    positions + 0.16 * (number - (len(strides) - 1) / 2), share, [share - least, most - share], fmt="o",
                    color=colour, markerfacecolor=fill or colour, markersize=6, label=f"period {stride}, {words}",
                )  # fmt: skip
        below.set_yscale("log")
        for each in (above, below):
            each.set_xticks(positions, modes)
            each.set_xlim(-0.5, len(modes) - 0.5)
    axes[0, 0].set_ylabel(f"{score}, interval over the images")
    axes[1, 0].set_ylabel("share of the logits' energy, range over the seeds")
    figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(strides), fontsize=9)
    return picture(figure)
