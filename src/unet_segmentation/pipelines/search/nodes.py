"""Nodes of the search: thin, the work is done in ``unet_segmentation.sweeping``."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.utils import find_kedro_project

from unet_segmentation import tracking
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.parameters import SearchParameters, TrainingParameters
from unet_segmentation.tracking.run_metadata import to_builtin

logger = logging.getLogger(__name__)


def run_search(
    parameters: dict[str, Any],
    search: SearchParameters,
    samples: pd.DataFrame,
    packed: PackedSamples,
    profile: dict[str, Any],
    plan: dict[str, Any],
    folder: Path,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Train trial after trial, going on with what earlier runs of this search have left; the test split is left out.

    Args:
        parameters: all of the problem.
        search: the space, and how it is searched.
        samples: columns sample_id, split, masks.
        packed: images and masks.
        profile: statistics of the training split.
        plan: of the problem.
        folder: of the study, and of the trainings.

    Returns:
        A row per trial; the importance of the parameters; the best trial.
    """
    from unet_segmentation.experiments.search import optuna_search as searching
    from unet_segmentation.experiments.search.best_config import best_folder
    from unet_segmentation.experiments.search.search_space import read_space
    from unet_segmentation.experiments.sweep.run_variant import SweepData

    known = to_builtin(parameters)
    space = read_space(search.space, known)
    best_folder(_conf(), known["problem"])  # refuse it now, not after hours
    seen = samples[samples["split"] != "test"]
    run = tracking.active_run()
    run.set_resumed(True)
    opened = searching.open_search(folder, space, search, SweepData(known, seen, packed, profile, plan))
    searching.run_trials(opened, run)
    best = searching.best_of(opened)
    logger.info("best of %d: trial %d, %s %.4f", best["trials"], best["trial"], best["score"], best["value"])
    return searching.trials_table(opened), searching.importance_table(opened), best


def plot_history(trials: pd.DataFrame, training: TrainingParameters) -> Any:  # noqa: ANN401 - a Plotly figure
    """Draw the value of every trial."""
    from unet_segmentation.reporting.search_charts import history_chart

    return history_chart(trials, f"validation/{training.monitor}")


def plot_importance(importance: pd.DataFrame) -> Any:  # noqa: ANN401 - a Plotly figure
    """Draw which parameters matter."""
    from unet_segmentation.reporting.search_charts import importance_chart

    return importance_chart(importance)


def write_best(best: dict[str, Any], parameters: dict[str, Any]) -> None:
    """Write the best parameters as a folder of `conf/` that can be run."""
    from unet_segmentation.experiments.search.best_config import write_best as write

    folder = write(_conf(), best, to_builtin(parameters))
    logger.info("the best parameters: %s; train and test them: kedro run --env %s", folder, folder.name)


def _conf() -> Path:
    return (find_kedro_project(Path.cwd()) or Path.cwd()) / "conf"
