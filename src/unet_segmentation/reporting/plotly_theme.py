"""One look for all charts: it reads on white and on black, in the report, in MLflow and in Kedro-Viz."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

PALETTE = ("#4d9de0", "#e8575a", "#3bb273", "#e0a030", "#a06cd5", "#35b7b0")
TEXT, GRID = "#7d8590", "rgba(128,128,128,0.22)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


def apply_theme(figure: go.Figure, height: int) -> go.Figure:
    """Apply the common look: no background of its own, the legend on top, ``height`` pixels high."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 56, "r": 16, "t": 56, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 13, "color": TEXT},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.04, "x": 0, "font": {"size": 12}},
    )
    lines = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": GRID, "automargin": True, "title_font_size": 13}
    figure.update_xaxes(**lines)
    figure.update_yaxes(**lines)
    figure.update_annotations(font={"size": 13})
    return figure


def build_error_bars(table: pd.DataFrame, **style: object) -> dict[str, object]:
    """Build the error bars from `low` to `high` around `value`; those that are NaN have no length."""
    above, below = table["high"] - table["value"], table["value"] - table["low"]
    sides = {"array": above.fillna(0.0).tolist(), "arrayminus": below.fillna(0.0).tolist()}
    return {"type": "data", "symmetric": False, **sides, **style}
