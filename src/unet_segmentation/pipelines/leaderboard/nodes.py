"""Nodes of the leaderboard: they read MLflow back, through `tracking` alone."""

from typing import Any

import pandas as pd

from unet_segmentation import tracking
from unet_segmentation.errors import TrackingError
from unet_segmentation.parameters import BootstrapParameters, ReleaseParameters


def rank(problem: str, release: ReleaseParameters, bootstrap: BootstrapParameters) -> pd.DataFrame:
    """Rank all finished runs of the problem, each compared with the best; see `run_comparison.leaderboard`.

    Raises:
        TrackingError: tracking is off, or there is no run to show.
    """
    from unet_segmentation.experiments.run_comparison import leaderboard

    uri = tracking.active_tracking_uri()
    if uri is None:
        raise TrackingError(
            "The leaderboard shows runs that MLflow holds, and tracking is off (enabled in mlflow.yml)."
        )
    return leaderboard(uri, problem, release.score, release.noninferiority_margin, bootstrap)


def plot_ranks(leaderboard: pd.DataFrame) -> Any:  # noqa: ANN401 - a Plotly figure
    """Draw the score of each run with its interval."""
    from unet_segmentation.reporting.leaderboard_chart import leaderboard_chart

    return leaderboard_chart(leaderboard)
