"""Nodes of the release: what was measured comes from MLflow, the pixels from here, the rules from the gate."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import BaseFileLock

from unet_segmentation import tracking
from unet_segmentation.data.audit.result import AuditResult
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.deployment.release import model_verification, promotion_gate
from unet_segmentation.deployment.release.candidate import (
    Champion,
    ReleaseCandidate,
    load_challenger,
    load_champion,
    lock_release_dir,
)
from unet_segmentation.errors import ProjectError, ReleaseError
from unet_segmentation.metrics.evaluation_tables import EvaluationTables
from unet_segmentation.metrics.paired_comparison import compare
from unet_segmentation.metrics.sufficient_statistics import groups_of
from unet_segmentation.parameters import BootstrapParameters, ReleaseParameters
from unet_segmentation.tracking.run_metadata import user
from unet_segmentation.tracking.run_queries import find_run

logger = logging.getLogger(__name__)

COMPARED = ("score", "champion", "challenger", "difference", "low", "high", "p_value", "verdict")


def choose_challenger(
    problem: str, logged_model: dict[str, Any], samples: pd.DataFrame, release: ReleaseParameters, folder: Path
) -> tuple[ReleaseCandidate, EvaluationTables, BaseFileLock]:
    """Find the run that may be released: that of the model in `data/`, or the one that `release` names.

    Returns:
        The run, its tables of counts per image, and the lock of the folder: one release at a time works in it.

    Raises:
        ReleaseError: tracking is off, the run has no model, or another release is at work here.
        TrackingError: there is no such run, or it has no evaluation.
    """
    lock = lock_release_dir(folder)
    uri = _store()
    name = release.run or logged_model.get("run_id")
    if not name:
        raise ReleaseError(
            f"The model that lies here is in no MLflow run ({logged_model.get('status')}), so it cannot be registered. "
            "Evaluate it with tracking on (kedro run --pipelines evaluation), or name a run: kedro release --run RUN"
        )
    run = find_run(uri, name, problem)
    challenger, tables = load_challenger(uri, run, release.score, groups_of(samples))
    value = "undefined" if challenger.value is None else f"{challenger.value:.4f}"
    logger.info("The challenger is %s: %s %s", run, release.score, value)
    return challenger, tables, lock


def verify_model(
    challenger: ReleaseCandidate,
    tables: EvaluationTables,
    packed: PackedSamples,
    release: ReleaseParameters,
) -> model_verification.ModelVerification:
    """Compare what the logged model predicts, loaded in a process of its own, with its evaluation."""
    verification = model_verification.verify_model(
        _store(), challenger, tables.confusion, tables.sample_ids, packed, release.tolerance
    )
    logger.info(verification.sentence)
    return verification


def compare_with_champion(
    problem: str,
    challenger: ReleaseCandidate,
    tables: EvaluationTables,
    samples: pd.DataFrame,
    release: ReleaseParameters,
    bootstrap: BootstrapParameters,
) -> tuple[Champion, pd.DataFrame]:
    """Compare the challenger with the released model, image by image; no row where there is nothing to compare."""
    champion, champion_tables = load_champion(_store(), problem, challenger)
    if champion.candidate is None:
        logger.info("%s has no champion yet", problem)
    if champion_tables is not None:
        try:
            comparison = compare(
                tables,
                champion_tables,
                challenger.classes,
                margin=release.noninferiority_margin,
                groups=groups_of(samples),
                confidence=bootstrap.confidence,
                resamples=bootstrap.resamples,
                seed=bootstrap.seed,
            )
        except ProjectError as error:
            champion = Champion(champion.candidate, str(error))
        else:
            return champion, comparison
    return champion, pd.DataFrame(columns=list(COMPARED))


def decide(
    verdict: AuditResult,
    reproduction: model_verification.ModelVerification,
    challenger: ReleaseCandidate,
    champion: Champion,
    champion_comparison: pd.DataFrame,
    release: ReleaseParameters,
) -> promotion_gate.GateResult:
    """Check the conditions of the gate; see `promotion_gate.evaluate_conditions`."""
    return promotion_gate.evaluate_conditions(verdict, reproduction, challenger, champion, champion_comparison, release)


def register(
    problem: str,
    conditions: promotion_gate.GateResult,
    challenger: ReleaseCandidate,
    champion: Champion,
    release: ReleaseParameters,
) -> tuple[promotion_gate.Decision, str]:
    """Make the challenger the champion if it passed or is forced; return the decision, and the same as a page."""
    from unet_segmentation.tracking.model_registry import (  # importing MLflow takes seconds
        ConcurrentReleaseError,
        Registry,
    )

    outcome: promotion_gate.Outcome = "released" if conditions.passed else "forced" if release.force else "refused"
    registry, before = Registry(_store(), problem), champion.candidate
    version, overtaken = None, ""
    if outcome != "refused" and before and before.model_id == challenger.model_id:
        outcome = "unchanged"
    elif outcome != "refused":
        tags = _version_tags(challenger, release.reason if outcome == "forced" else None)
        expected = before.version or 0 if before else 0
        try:
            version = registry.promote(challenger.model_id, challenger.run_id, expected=expected, tags=tags)
        except ConcurrentReleaseError as error:
            outcome, overtaken = "refused", f"{str(error)[0].upper()}{str(error)[1:]}."
    unchanged = before.version if before and outcome == "unchanged" else None
    decision = promotion_gate.format_decision(
        outcome,
        conditions,
        problem=problem,
        challenger=challenger,
        champion=before,
        version=version.number if version else unchanged,
        user=user(),
        reason=release.reason,
        overtaken=overtaken,
    )
    page = promotion_gate.page(decision)
    if version is not None:
        registry.describe(version, page)
    tracking.active_run().set_tags({"release.outcome": outcome, "release.version": decision.version or "none"})
    return decision, page


def fail_if_refused(decision: promotion_gate.Decision, lock: BaseFileLock) -> int | None:
    """Release the lock, as all files are written; return the released version, or raise the refusal."""
    lock.release(force=True)
    if decision.outcome == "refused":
        raise ReleaseError(decision.sentence)
    logger.info(decision.sentence)
    return decision.version


def _version_tags(challenger: ReleaseCandidate, forced_because: str | None) -> dict[str, str]:
    """Return the tags of a version: the score, who released it, and who forced it and why."""
    value = "undefined" if challenger.value is None else f"{challenger.value:.4f}"
    tags = {challenger.score: value, "released_by": user()}
    return tags if forced_because is None else tags | {"forced_by": user(), "reason": forced_because}


def _store() -> str:
    """Return the MLflow store of this run."""
    if (uri := tracking.active_tracking_uri()) is None:
        raise ReleaseError(
            "A release is an entry in MLflow's registry, and tracking is off: set enabled: true in mlflow.yml."
        )
    return uri
