"""Before the first step: an unfinished training is taken up, or a new plan is made."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.learning.plan import extended
from unet_segmentation.learning.work import Work, changes, find, works

logger = logging.getLogger(__name__)


def plan_to_go_on_with(folder: Path, request: dict[str, Any], more_epochs: int | None) -> dict[str, Any] | None:
    """Give the plan of the unfinished training of the same request; nothing of it is measured or resolved again.

    Args:
        folder: where working folders lie.
        request: what :func:`plan.request_of` returned.
        more_epochs: to be added to the newest finished training of the request.

    Returns:
        The plan, or None where a new one has to be made.

    Raises:
        ConfigurationError: epochs are to be added, but there is no finished training.
    """
    if more_epochs is not None:
        return _with_more_epochs(folder, request, more_epochs)
    unfinished = find(folder, request["request"], delivered=False)
    if unfinished is not None and len(unfinished.plan["cycles"]) == 1:
        return unfinished.plan
    _say_what_changed(folder, request)
    return None


def _with_more_epochs(folder: Path, request: dict[str, Any], epochs: int) -> dict[str, Any]:
    same = [work for work in works(folder) if work.plan.get("request") == request["request"]]
    if same and not same[0].delivered.is_file() and same[0].plan["cycles"][1:] and same[0].plan["cycles"][-1] == epochs:
        return same[0].plan  # a training with these very epochs added was stopped
    finished = find(folder, request["request"], delivered=True)
    if finished is None:
        raise ConfigurationError(
            f"training.more_epochs: {epochs} cannot be added, as there is no finished training of this configuration "
            f"and data in {folder}. Leave it out: kedro run trains {'on' if same else 'anew'}, with training.epochs."
        )
    plan = extended(finished.plan, epochs)
    Work(folder, plan["fingerprint"]).take_over(finished, plan)
    return plan


def _say_what_changed(folder: Path, request: dict[str, Any]) -> None:
    if found := changes(folder, request):
        when, differences = found
        logger.info("The unfinished training of %s is not taken up, as this differs: %s", when, ", ".join(differences))
