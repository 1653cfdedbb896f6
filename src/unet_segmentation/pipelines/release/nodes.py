"""Nodes of the release: what was measured comes from MLflow, the pixels from here, the rules from `releasing`."""

import functools
import logging
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from unet_segmentation import tracking
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.errors import ProjectError, ReleaseError
from unet_segmentation.parameters import ReleaseParameters

logger = logging.getLogger(__name__)

COMPARED = ("score", "champion", "challenger", "difference", "low", "high", "p_value", "verdict")


def choose_challenger(
    problem: str, logged_model: dict[str, Any], samples: pd.DataFrame, release: ReleaseParameters, folder: Path
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Find the run that is to be released, and what its evaluation has left in MLflow.

    Args:
        problem: the segmentation problem.
        logged_model: where evaluation has logged the model that lies in `data/`.
        samples: columns sample_id and, where samples belong together, group.
        release: names another run, if it is not that one.
        folder: where a release keeps what its nodes hand on; one release at a time works in it.

    Returns:
        What the gate has to know of the run, and its two tables of counts per image.

    Raises:
        ReleaseError: tracking is off, the run has no model, or another release is at work here.
        TrackingError: there is no such run, or it has no evaluation.
    """
    from unet_segmentation.metrics.count_tables import groups_of
    from unet_segmentation.tracking.model_registry import find_model
    from unet_segmentation.tracking.run_queries import find_run

    _begin(folder)
    uri = _store()
    wanted = release.run or logged_model.get("run_id")
    if not wanted:
        raise ReleaseError(
            f"The model that lies here is in no MLflow run ({logged_model.get('status')}), so it cannot be registered. "
            "Evaluate it with tracking on (kedro run --pipelines evaluation), or name a run: kedro release --run RUN"
        )
    run = find_run(uri, wanted, problem)
    confusion, soft_overlap_sums, classes, split = _evaluation(uri, run.run_id)
    value = run.metrics.get(f"test/{release.score}")
    groups, ids = groups_of(samples), soft_overlap_sums["sample_id"].astype(str)
    challenger = {
        "run_id": run.run_id,
        "name": run.name,
        "link": run.link,
        "model_id": find_model(uri, run.run_id),
        "classes": classes,
        "split": split,
        "units": int(ids.map(lambda name: groups.get(name, name)).nunique()),
        "score": release.score,
        "value": value,
        "arithmetic": {
            key.removeprefix("evaluation."): text for key, text in run.tags.items() if key.startswith("evaluation.")
        },
    }
    logger.info("The challenger is %s: %s %s", run, release.score, "undefined" if value is None else f"{value:.4f}")
    return challenger, confusion, soft_overlap_sums


def verify_model(
    challenger: dict[str, Any],
    confusion: pd.DataFrame,
    soft_overlap_sums: pd.DataFrame,
    packed: PackedSamples,
    release: ReleaseParameters,
) -> dict[str, Any]:
    """Load the logged model in a fresh process, predict the test split, and compare the counts with evaluation's.

    Args:
        challenger: names the model, and what evaluation computed with.
        confusion: counts of its evaluation.
        soft_overlap_sums: names the images, in the order of its evaluation: so they meet in the same batches.
        packed: images and masks.
        release: the tolerance on another device.

    Returns:
        `passed`, a `sentence`, and the figures (see `releasing.reproduction.compare_counts`).
    """
    from unet_segmentation.deployment.release.model_verification import verify_counts
    from unet_segmentation.utils.compute_environment import compute_environment

    ids = soft_overlap_sums["sample_id"].astype(str).tolist()
    missing = [name for name in ids if name not in packed]
    if missing:
        return _not_reproduced(f"{len(missing)} of its {len(ids)} samples are not here, such as {missing[0]}")
    try:
        again = _counts_afresh(_store(), challenger, ids, packed)
        found = verify_counts(
            confusion,
            again,
            ids,
            challenger["classes"],
            arithmetic=(challenger["arithmetic"], compute_environment()),
            tolerance=release.tolerance,
        )
    except ProjectError as error:
        return _not_reproduced(str(error))
    logger.info(found["sentence"])
    return found


def _counts_afresh(uri: str, challenger: dict[str, Any], ids: list[str], packed: PackedSamples) -> pd.DataFrame:
    from unet_segmentation.metrics.confusion_matrix import confusion_matrix, confusion_table
    from unet_segmentation.tracking.isolated_model import predict_in_subprocess

    by_shape = sorted(ids, key=packed.shape)  # as evaluation sorts them
    masks = predict_in_subprocess(uri, challenger["model_id"], map(packed.image, by_shape))
    return confusion_table(
        (name, confusion_matrix(packed.mask(name), mask, len(challenger["classes"])))
        for name, mask in zip(by_shape, masks, strict=True)
    )


def _not_reproduced(reason: str) -> dict[str, Any]:
    sentence = f"The scores could not be reproduced: {reason.removesuffix('.')}."
    logger.info(sentence)
    return {"passed": False, "sentence": sentence}


def compare_with_champion(
    problem: str,
    challenger: dict[str, Any],
    confusion: pd.DataFrame,
    soft_overlap_sums: pd.DataFrame,
    samples: pd.DataFrame,
    release: ReleaseParameters,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Compare the challenger with the released model, image by image.

    Args:
        problem: names the registered model.
        challenger: its classes.
        confusion: its counts.
        soft_overlap_sums: its other sums.
        samples: columns sample_id and, where samples belong together, group.
        release: margin, confidence, resamples, seed.

    Returns:
        What the gate has to know of the champion (empty where there is none; `reason`: why it cannot be compared), and
        the comparison, a row per score (none where there is nothing to compare).
    """
    from unet_segmentation.metrics.count_tables import groups_of
    from unet_segmentation.metrics.evaluation_tables import EvaluationTables
    from unet_segmentation.metrics.paired_comparison import compare
    from unet_segmentation.tracking.model_registry import Registry

    uri, nothing = _store(), pd.DataFrame(columns=list(COMPARED))
    version = Registry(uri, problem).champion()
    if version is None:
        logger.info("%s has no champion yet", problem)
        return {}, nothing
    champion = {
        "version": version.number,
        "run_id": version.run_id,
        "model_id": version.model_id,
        "classes": challenger["classes"],
        "reason": "",
    }
    try:
        theirs_confusion, theirs_soft, champion["classes"], _ = _evaluation(uri, version.run_id)
        if champion["classes"] != challenger["classes"]:
            return champion, nothing
        comparison = compare(
            EvaluationTables({"confusion_counts": confusion, "soft": soft_overlap_sums}),
            EvaluationTables({"confusion_counts": theirs_confusion, "soft": theirs_soft}),
            challenger["classes"],
            margin=release.noninferiority_margin,
            groups=groups_of(samples),
            confidence=release.confidence,
            resamples=release.resamples,
            seed=release.seed,
        )
    except ProjectError as error:
        return champion | {"reason": str(error)}, nothing
    return champion, comparison


def decide(
    verdict: dict[str, Any],
    reproduction: dict[str, Any],
    challenger: dict[str, Any],
    champion: dict[str, Any],
    champion_comparison: pd.DataFrame,
    release: ReleaseParameters,
) -> list[dict[str, Any]]:
    """Hold the challenger against the conditions; see `releasing.gate.check`."""
    from dataclasses import asdict

    from unet_segmentation.deployment.release.promotion_gate import evaluate_conditions

    return [
        asdict(each)
        for each in evaluate_conditions(verdict, reproduction, challenger, champion, champion_comparison, release)
    ]


def register(
    problem: str,
    conditions: list[dict[str, Any]],
    challenger: dict[str, Any],
    champion: dict[str, Any],
    release: ReleaseParameters,
) -> tuple[dict[str, Any], str]:
    """Make the challenger the champion, if it may be; say in any case what was decided.

    Args:
        problem: names the registered model.
        conditions: what the gate found.
        challenger: the run and its model.
        champion: what it was compared with.
        release: whether it is forced, and why.

    Returns:
        The decision, and the same as a page.
    """
    from unet_segmentation.deployment.release.promotion_gate import Condition, Outcome, format_decision, page
    from unet_segmentation.tracking.model_registry import ConcurrentReleaseError, Registry
    from unet_segmentation.tracking.run_metadata import user

    found = [Condition(**each) for each in conditions]
    passed, forced = all(condition.passed for condition in found), release.force
    registry = Registry(_store(), problem)
    outcome: Outcome = "released" if passed else "forced" if forced else "refused"
    version, overtaken = None, ""
    if outcome != "refused" and champion and champion["model_id"] == challenger["model_id"]:
        outcome = "unchanged"
    elif outcome != "refused":
        try:
            version = registry.promote(
                challenger["model_id"],
                challenger["run_id"],
                expected=champion.get("version", 0),
                tags=_tags(challenger, user(), release.reason if outcome == "forced" else None),
            )
        except ConcurrentReleaseError as error:
            outcome, overtaken = "refused", f"{str(error)[0].upper()}{str(error)[1:]}."
    decision = format_decision(
        outcome,
        found,
        problem=problem,
        challenger=challenger,
        champion=champion,
        version=version.number if version else champion["version"] if outcome == "unchanged" else None,
        user=user(),
        why=release.reason,
        overtaken=overtaken,
    )
    if version is not None:
        registry.describe(version, page(decision))
    tracking.current().set_tags({"release.outcome": outcome, "release.version": decision["version"] or "none"})
    return decision, page(decision)


def _tags(challenger: dict[str, Any], user: str, why: str | None) -> dict[str, str]:
    """Return the tags of a version: the score, who released it, and who forced it and why."""
    value = challenger["value"]
    tags = {challenger["score"]: "undefined" if value is None else f"{value:.4f}", "released_by": user}
    return tags if why is None else tags | {"forced_by": user, "why": why}


def fail_if_refused(decision: dict[str, Any], folder: Path) -> None:
    """Describe what was decided.

    Raises:
        ReleaseError: the challenger was refused.
    """
    _lock_of(folder).release(force=True)
    if decision["outcome"] == "refused":
        raise ReleaseError(decision["sentence"])
    logger.info(decision["sentence"])


def _begin(folder: Path) -> None:
    """Keep other processes from releasing out of this folder, until the release is announced or the process ends.

    Two at once would read each other's files between their nodes. Releases out of other folders, or of other machines,
    meet in the registry.

    Raises:
        ReleaseError: another process is at it.
    """
    try:
        _lock_of(folder).acquire(timeout=0)
    except Timeout:
        raise ReleaseError(
            f"Another release is at work in {folder}. Wait for it, and release again: the run is then compared with "
            "the champion that there is by then."
        ) from None


@functools.cache
def _lock_of(folder: Path) -> FileLock:
    return FileLock(folder / ".lock", thread_local=False)


def _store() -> str:
    """Return the MLflow store of this run.

    Raises:
        ReleaseError: tracking is off.
    """
    if (uri := tracking.readable_store()) is None:
        raise ReleaseError(
            "A release is an entry in MLflow's registry, and tracking is off: set enabled: true in mlflow.yml."
        )
    return uri


def _evaluation(uri: str, run_id: str) -> tuple[pd.DataFrame, pd.DataFrame, list[str], str]:
    """Fetch a run's counts per image, its classes and the split that was evaluated.

    The table of samples is not asked for: a run of `training` and `evaluation` alone has none.
    """
    from unet_segmentation.tracking.run_queries import fetch, parameters_of

    with tempfile.TemporaryDirectory() as folder:
        confusion, soft_overlap_sums = (
            pd.read_parquet(fetch(uri, run_id, f"evaluation/tables/{name}.parquet", Path(folder)))
            for name in ("confusion_counts", "soft")
        )
    parameters = parameters_of(uri, run_id)
    return confusion, soft_overlap_sums, parameters["classes"], parameters["evaluation"]["split"]
