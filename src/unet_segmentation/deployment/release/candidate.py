"""What the promotion gate knows of a run whose model is released, or may be: the challenger and the champion alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock, Timeout

from unet_segmentation.errors import ProjectError, ReleaseError
from unet_segmentation.metrics.evaluation_tables import EvaluationTables
from unet_segmentation.tracking.run_queries import RunRecord, load_parameters, load_tables

ENVIRONMENT = "evaluation."  # prefix of the tags that hold what evaluation computed with


@dataclass(frozen=True)
class ReleaseCandidate:
    """A run and its logged model."""

    run_id: str
    model_id: str
    classes: list[str]
    split: str = ""  # that was evaluated
    name: str = ""  # of the run
    units: int = 0  # number of test images, those of a group as one
    score: str = ""  # that is compared
    value: float | None = None  # of that score; None where it is undefined
    environment: Mapping[str, str] = field(default_factory=dict)  # of the evaluation, see `utils.device`
    version: int | None = None  # of the registered model; None for a challenger


@dataclass(frozen=True)
class Champion:
    """The released model at the time of the comparison."""

    candidate: ReleaseCandidate | None = None  # None where nothing was released yet
    incomparable: str = ""  # why no comparison with it is possible


def load_challenger(
    uri: str, run: RunRecord, score: str, groups: Mapping[str, str]
) -> tuple[ReleaseCandidate, EvaluationTables]:
    """Load a run's facts, such as the score that is compared, and its counts per image from MLflow.

    Samples that belong together have a group, by their id.

    Raises:
        ReleaseError: the run has no model.
        TrackingError: it has no evaluation.
    """
    from unet_segmentation.tracking.model_registry import find_model  # importing MLflow takes seconds

    counts, classes, split = _load_evaluation(uri, run.run_id)
    candidate = ReleaseCandidate(
        run_id=run.run_id,
        model_id=find_model(uri, run.run_id),
        classes=classes,
        split=split,
        name=run.name,
        units=len({groups.get(name, name) for name in counts.sample_ids}),
        score=score,
        value=run.metrics.get(f"test/{score}"),
        environment={
            key.removeprefix(ENVIRONMENT): value for key, value in run.tags.items() if key.startswith(ENVIRONMENT)
        },
    )
    return candidate, counts


def load_champion(uri: str, problem: str, challenger: ReleaseCandidate) -> tuple[Champion, EvaluationTables | None]:
    """Load the released model's facts, and its counts where they can be compared with the challenger's."""
    from unet_segmentation.tracking.model_registry import Registry  # importing MLflow takes seconds

    version = Registry(uri, problem).champion()
    if version is None:
        return Champion(), None
    unknown = ReleaseCandidate(version.run_id, version.model_id, challenger.classes, version=version.number)
    try:
        counts, classes, split = _load_evaluation(uri, version.run_id)
    except ProjectError as error:
        return Champion(unknown, incomparable=str(error)), None
    champion = Champion(replace(unknown, classes=classes, split=split))
    return champion, counts if classes == challenger.classes else None


def lock_release_dir(directory: Path) -> FileLock:
    """Keep other processes from releasing out of a directory for as long as the returned lock is referenced.

    Two releases at once would read each other's files between their nodes. Releases out of other directories, or of
    other machines, meet in the registry.

    Raises:
        ReleaseError: another process releases.
    """
    lock = FileLock(directory / ".lock", timeout=0, thread_local=False, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        raise ReleaseError(
            f"Another release is at work in {directory}. Wait for it, and release again: the run is then compared with "
            "the champion that there is by then."
        ) from None
    return lock


def _load_evaluation(uri: str, run_id: str) -> tuple[EvaluationTables, list[str], str]:
    # The samples table is not loaded: a run of `training` and `evaluation` alone has none.
    parameters = load_parameters(uri, run_id)
    return load_tables(uri, run_id), parameters["classes"], parameters["evaluation"]["split"]
