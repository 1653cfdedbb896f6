"""Training curves."""

from __future__ import annotations

from itertools import cycle

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from unet_segmentation.reporting.plotly_theme import PALETTE, apply_theme
from unet_segmentation.training.lr_schedule import LearningRateTest

PANELS: dict[str, dict[str, str]] = {  # title: column: name of the line
    "Loss": {"train/loss": "training loss", "validation/loss": "validation loss"},
    "Score on validation": {
        "validation/dice/mean": "mean Dice",
        "validation/iou/mean": "mean IoU",
        "validation/dice/foreground_mean": "mean Dice without background",
        "validation/accuracy/pixel": "pixel accuracy",
    },
    "Learning rate": {"train/learning_rate": "learning rate"},
}
WHOLE = 12  # epochs; an axis of so few would get fractions of an epoch
HIDDEN = {"validation/dice/foreground_mean"}  # shown on a click in the legend


def training_curves(history: pd.DataFrame, score: str = "validation/dice/mean") -> go.Figure:
    """Draw losses, scores and learning rate against the epoch, the best epoch (maximum of `score`) marked.

    `history` has a row per epoch; of the columns of `PANELS`, those that are missing are not drawn.
    """
    panels = {
        title: {column: name for column, name in lines.items() if column in history and history[column].notna().any()}
        for title, lines in PANELS.items()
    }
    panels = {title: lines for title, lines in panels.items() if lines}
    if not panels:
        return apply_theme(go.Figure(), height=200)
    heights = [0.5 if title == "Learning rate" else 1.0 for title in panels]
    figure = make_subplots(
        rows=len(panels),
        cols=1,
        shared_xaxes=True,
        row_heights=heights,
        vertical_spacing=0.09,
        subplot_titles=list(panels),
    )
    colors = cycle(PALETTE)
    mode = "lines+markers" if len(history) <= 60 else "lines"
    for row, (title, lines) in enumerate(panels.items(), start=1):
        for column, name in lines.items():
            figure.add_trace(
                go.Scatter(
                    x=history["epoch"].tolist(),
                    y=history[column].tolist(),
                    name=name,
                    mode=mode,
                    line={"color": next(colors), "width": 2},
                    marker={"size": 5},
                    visible="legendonly" if column in HIDDEN else True,
                    showlegend=title != "Learning rate",
                    hovertemplate="%{y:.4g}",
                ),
                row=row,
                col=1,
            )
        figure.update_yaxes(rangemode="tozero" if title == "Learning rate" else "normal", row=row, col=1)
    if score in history and history[score].notna().any():
        best = float(history["epoch"].iloc[int(history[score].fillna(-1).argmax())])
        figure.add_vline(x=best, line={"color": "rgba(128,128,128,0.7)", "dash": "dot", "width": 1.5})
        figure.layout.annotations[0].text += f" (best epoch: {best:g}, dotted)"
    figure.update_xaxes(title_text="epoch", row=len(panels), col=1)
    if len(history) <= WHOLE:
        figure.update_xaxes(dtick=1)
    figure.update_layout(hovermode="x unified")
    return apply_theme(figure, height=80 + int(220 * sum(heights)))


def learning_rate_curve(result: LearningRateTest) -> go.Figure:
    """Draw the smoothed loss of a range test against the learning rate that rose with every step."""
    curve = go.Scatter(
        x=list(result.rates),
        y=list(result.losses),
        mode="lines",
        line={"color": PALETTE[0], "width": 2},
        hovertemplate="%{x:.1e}: %{y:.4g}<extra></extra>",
    )
    figure = go.Figure(curve)
    for name, rate, dash, side in (
        ("suggested", result.suggested, "solid", "top left"),
        ("current", result.current, "dot", "bottom right"),
    ):
        figure.add_vline(
            x=rate,
            line={"color": "rgba(128,128,128,0.7)", "dash": dash, "width": 1.5},
            annotation={"text": f"{name} {rate:.1e}"},
            annotation_position=side,
        )
    figure.update_xaxes(type="log", title_text="learning rate", exponentformat="power")
    figure.update_yaxes(title_text="training loss, smoothed")
    return apply_theme(figure, height=380)
