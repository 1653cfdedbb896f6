"""Charts of a hyperparameter search: its history, and the importance of the parameters."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from unet_segmentation.reporting.plotly_theme import PALETTE, TEXT, apply_theme

STATES = {"finished": (PALETTE[0], "circle"), "pruned": (TEXT, "circle-open")}


def history_chart(trials: pd.DataFrame, score: str) -> go.Figure:
    """Draw the value of every trial of `trials_table`, and the best so far; the objective is maximized."""
    figure = go.Figure()
    fixed = {"trial", "state", "value", "epochs", "seconds", "reason"}
    for state, (color, symbol) in STATES.items():
        rows = trials[trials["state"] == state]
        if rows.empty:
            continue
        details = [
            "".join(f"<br>{name} {value}" for name, value in row.items() if name not in fixed)
            for row in rows.to_dict("records")
        ]
        figure.add_trace(
            go.Scatter(
                name=state,
                x=rows["trial"],
                y=rows["value"],
                mode="markers",
                marker={"color": color, "symbol": symbol, "size": 9},
                customdata=details,
                hovertemplate="trial %{x}: %{y:.4f}%{customdata}<extra></extra>",
            )
        )
    best = trials["value"].where(trials["state"] == "finished").cummax().ffill()
    if best.notna().any():
        line = {"color": PALETTE[2], "width": 2, "shape": "hv"}
        figure.add_trace(go.Scatter(name="best so far", x=trials["trial"], y=best, mode="lines", line=line))
    figure.update_xaxes(title_text="trial", dtick=max(1, len(trials) // 10))
    figure.update_yaxes(title_text=score)
    return apply_theme(figure, height=420)


def importance_chart(importance: pd.DataFrame) -> go.Figure:
    """Draw which share of the objective's variance each parameter explains."""
    table = importance.sort_values("importance")
    figure = go.Figure(
        go.Bar(
            x=table["importance"],
            y=table["parameter"],
            orientation="h",
            marker={"color": PALETTE[0]},
            hovertemplate="%{y}: %{x:.2f}<extra></extra>",
        )
    )
    if importance.empty:
        figure.add_annotation(text="too few finished trials", showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    figure.update_xaxes(title_text="explained share of the variance (fANOVA)", rangemode="tozero")
    return apply_theme(figure, height=150 + 40 * max(2, len(table)))
