"""Whether a training resumes: the run directory of an unfinished training of the same request."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.training.plan import TrainingPlan, TrainingRequest
from unet_segmentation.training.run_directory import RunDirectory, list_run_directories

logger = logging.getLogger(__name__)


def find_resumable_plan(folder: Path, request: TrainingRequest) -> TrainingPlan | None:
    """Return the plan of the unfinished training of the same request, or of the finished one to be extended.

    Nothing of such a plan is measured or resolved again. None: a new plan has to be made.

    Raises:
        ConfigurationError: epochs are to be added, but there is no finished training.
    """
    if not request.parameters.resume:
        return None
    if request.parameters.extra_epochs is not None:
        return _plan_with_extra_epochs(folder, request, request.parameters.extra_epochs)
    unfinished = find_run_directory(folder, request, delivered=False)
    if unfinished is not None and len(unfinished.plan.cycles) == 1:
        return unfinished.plan
    if mismatch := explain_mismatch(folder, request):
        when, differences = mismatch
        logger.info("The unfinished training of %s is not resumed, as this differs: %s", when, ", ".join(differences))
    return None


def find_run_directory(folder: Path, request: TrainingRequest, *, delivered: bool) -> RunDirectory | None:
    """Find the newest training of a request, delivered or not."""
    return next((run_dir for run_dir in _matching(folder, request) if run_dir.delivered.is_file() == delivered), None)


def explain_mismatch(folder: Path, request: TrainingRequest) -> tuple[str, list[str]] | None:
    """Explain why the newest unfinished training is not resumed.

    Returns:
        When it last wrote a checkpoint (hours and minutes), and what differs; None where there is no such training, or
        nothing differs.
    """
    newest = next(iter(list_run_directories(folder)), None)
    if newest is None or newest.delivered.is_file():
        return None
    if newest.plan.request_hash() == request.request_hash():
        return None
    return time.strftime("%H:%M", time.localtime(newest.changed_at())), request.differences(newest.plan)


def _matching(folder: Path, request: TrainingRequest) -> list[RunDirectory]:
    request_hash = request.request_hash()
    return [run_dir for run_dir in list_run_directories(folder) if run_dir.plan.request_hash() == request_hash]


def _plan_with_extra_epochs(folder: Path, request: TrainingRequest, epochs: int) -> TrainingPlan:
    same = _matching(folder, request)
    if same and not same[0].delivered.is_file() and same[0].plan.cycles[1:] and same[0].plan.cycles[-1] == epochs:
        return same[0].plan  # a training with these very epochs added was stopped
    finished = find_run_directory(folder, request, delivered=True)
    if finished is None:
        raise ConfigurationError(
            f"training.extra_epochs: {epochs} cannot be added, as there is no finished training of this configuration "
            f"and data in {folder}. Leave it out: kedro run "
            f"{'resumes the unfinished one' if same else 'starts a new training'}, with training.epochs."
        )
    plan = finished.plan.model_copy(update={"cycles": (*finished.plan.cycles, epochs)})
    RunDirectory(folder, plan.fingerprint).copy_from(finished, plan)
    return plan
