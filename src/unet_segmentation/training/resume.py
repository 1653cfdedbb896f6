"""Whether a training resumes: the plan of an unfinished training of the same request."""

from __future__ import annotations

import logging
from pathlib import Path

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.training.plan import TrainingPlan, TrainingRequest
from unet_segmentation.training.run_directory import (
    RunDirectory,
    explain_mismatch,
    find_run_directory,
    list_run_directories,
)

logger = logging.getLogger(__name__)


def find_resumable_plan(folder: Path, request: TrainingRequest) -> TrainingPlan | None:
    """Return the plan of the unfinished training of the same request, or of the finished one to be extended.

    Nothing of such a plan is measured or resolved again.

    Args:
        folder: of the run directories.
        request: what is asked for.

    Returns:
        The plan; None where a new one has to be made.

    Raises:
        ConfigurationError: epochs are to be added, but there is no finished training.
    """
    if not request.parameters.resume:
        return None
    if request.parameters.extra_epochs is not None:
        return _with_extra_epochs(folder, request, request.parameters.extra_epochs)
    unfinished = find_run_directory(folder, request, delivered=False)
    if unfinished is not None and len(unfinished.plan.cycles) == 1:
        return unfinished.plan
    if mismatch := explain_mismatch(folder, request):
        when, differences = mismatch
        logger.info("The unfinished training of %s is not resumed, as this differs: %s", when, ", ".join(differences))
    return None


def _with_extra_epochs(folder: Path, request: TrainingRequest, epochs: int) -> TrainingPlan:
    same = [work for work in list_run_directories(folder) if work.plan.request_identity() == request.request_identity()]
    if same and not same[0].delivered.is_file() and same[0].plan.cycles[1:] and same[0].plan.cycles[-1] == epochs:
        return same[0].plan  # a training with these very epochs added was stopped
    finished = find_run_directory(folder, request, delivered=True)
    if finished is None:
        raise ConfigurationError(
            f"training.extra_epochs: {epochs} cannot be added, as there is no finished training of this configuration "
            f"and data in {folder}. Leave it out: kedro run "
            f"{'resumes the unfinished one' if same else 'starts a new training'}, with training.epochs."
        )
    plan = finished.plan.with_extra_epochs(epochs)
    RunDirectory(folder, plan.fingerprint).copy_from(finished, plan)
    return plan
