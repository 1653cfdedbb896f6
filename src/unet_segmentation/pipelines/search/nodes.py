"""Nodes of the hyperparameter search: thin, the work is done in ``unet_segmentation.experiments``."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.utils import find_kedro_project

from unet_segmentation import tracking
from unet_segmentation.data.statistics import DatasetStatistics
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.parameters import SearchParameters, TrainingParameters, validate_parameters
from unet_segmentation.parameters.serialization import to_builtin
from unet_segmentation.training.plan_rules import ProposedPlan

logger = logging.getLogger(__name__)


def run_search(
    *,
    parameters: Mapping[str, object],
    search: SearchParameters,
    samples: pd.DataFrame,
    packed: PackedSamples,
    statistics: DatasetStatistics,
    proposed_plan: ProposedPlan,
    folder: Path,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, object]]:
    """Run trials, resuming where earlier runs of this search ended, without the test split.

    Returns:
        A row per trial; the importance of the parameters; the best trial.
    """
    from unet_segmentation.experiments.child_training import ExperimentData
    from unet_segmentation.experiments.search.best_config import best_folder
    from unet_segmentation.experiments.search.optuna_search import (
        find_best_trial,
        importance_table,
        open_search,
        run_trials,
        trials_table,
    )
    from unet_segmentation.experiments.search.search_space import read_space

    problem = validate_parameters(to_builtin(parameters))
    space = read_space(search.space, problem)
    best_folder(_conf(), problem.problem)  # refuse it now, not after hours
    without_test = samples[samples["split"] != "test"]
    run = tracking.active_run()
    run.decide_resumption(True)
    opened = open_search(
        folder, space, search, ExperimentData(problem, without_test, packed, statistics, proposed_plan)
    )
    run_trials(opened, run)
    best = find_best_trial(opened)
    logger.info("best of %d: trial %d, %s %.4f", best.trials, best.trial, best.score, best.value)
    return trials_table(opened), importance_table(opened), asdict(best)


def plot_history(trials: pd.DataFrame, training: TrainingParameters) -> Any:  # noqa: ANN401 - a Plotly figure
    """Draw the value of every trial."""
    from unet_segmentation.reporting.search_charts import history_chart

    return history_chart(trials, f"validation/{training.monitor}")


def plot_importance(importance: pd.DataFrame) -> Any:  # noqa: ANN401 - a Plotly figure
    """Draw the importance of the parameters."""
    from unet_segmentation.reporting.search_charts import importance_chart

    return importance_chart(importance)


def write_best(best: dict[str, Any], parameters: Mapping[str, object]) -> dict[str, str]:
    """Write the best parameters as a folder of `conf/` that can be run; return it, and what `--env` takes."""
    from unet_segmentation.experiments.search.best_config import write_best as write
    from unet_segmentation.experiments.search.optuna_search import BestTrial

    folder = write(_conf(), BestTrial(**best), validate_parameters(to_builtin(parameters)))
    logger.info("the best parameters: %s; train and test them: kedro run --env %s", folder, folder.name)
    return {"env": folder.name, "folder": str(folder)}


def _conf() -> Path:
    return (find_kedro_project(Path.cwd()) or Path.cwd()) / "conf"
