"""A search for the best parameters, with Optuna: trials that train, are pruned by epoch, and outlive their process.

The study lies in a SQLite file that several processes may work at. What a process is about to do next is settled under
a lock: which trials of dead processes are queued again, whether one more is wanted, and what it draws. A trial that was
killed is drawn again with the same values, and its training, found by its fingerprint, goes on from its last epoch.
Only the validation split is ever scored.
"""

from __future__ import annotations

import logging
import math
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import psutil
from filelock import FileLock
from optuna.trial import FrozenTrial, TrialState

from unet_segmentation.errors import ConfigurationError, ProjectError, find_project_error
from unet_segmentation.experiments.search.search_space import Space, decode_trial_params, suggest
from unet_segmentation.experiments.sweep.run_variant import (
    NOTE,
    SweepData,
    is_fatal,
    log_parameters,
    read_json,
    train_variant,
    training_key,
    write_json,
)
from unet_segmentation.experiments.sweep.variants import FREE, Variant, checked_parameters
from unet_segmentation.parameters import SearchParameters
from unet_segmentation.tracking import Run
from unet_segmentation.training.plan import fingerprint
from unet_segmentation.utils.atomic_io import remove

logger = logging.getLogger(__name__)

STUDY, TRIAL = "study.db", "trial.json"
PROCESS, STARTED, HOST, RETRIES, REASON = "process", "process_started", "host", "retries", "reason"  # of a trial
MOST_RETRIES = 3  # of a trial whose process was killed: it may be what kills it
MINUTES = "training.max_time_minutes"
SAME_START = 2.0  # seconds by which two readings of one process's start may differ
WAIT = 60.0  # seconds for a database that another process writes to


class TrialSeededSampler(optuna.samplers.BaseSampler):
    """TPE whose randomness is a function of the seed and the trial's number: no two processes draw the same."""

    def __init__(self, seed: int, n_startup_trials: int) -> None:
        self._seed, self._startup = seed, n_startup_trials
        self._of: tuple[int, optuna.samplers.TPESampler] | None = None

    def _sampler(self, trial: FrozenTrial) -> optuna.samplers.TPESampler:
        if self._of is None or self._of[0] != trial.number:
            seed = int(np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0])
            self._of = trial.number, optuna.samplers.TPESampler(seed=seed, n_startup_trials=self._startup)
        return self._of[1]

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        """As TPE does."""
        return self._sampler(trial).infer_relative_search_space(study, trial)

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
        """As TPE does."""
        return self._sampler(trial).sample_relative(study, trial, search_space)

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, *arguments: Any) -> Any:  # noqa: ANN401
        """As TPE does."""
        return self._sampler(trial).sample_independent(study, trial, *arguments)


@dataclass(frozen=True)
class Search:
    """A study and what it is made on.

    Attributes:
        study: Optuna's.
        folder: of the store, and of a folder for each training.
        space: what is searched.
        asked: the parameters of the search.
        prepared: what all trials share.
    """

    study: optuna.Study
    folder: Path
    space: Space
    asked: SearchParameters
    prepared: SweepData

    @property
    def score(self) -> str:
        """What is maximised: `validation/...`."""
        return f"validation/{self.prepared.parameters['training']['monitor']}"

    def lock(self) -> FileLock:
        """Keep other processes from settling what comes next at the same time."""
        return FileLock(self.folder / "search.lock")


def open_search(folder: Path, space: Space, asked: SearchParameters, prepared: SweepData) -> Search:
    """Open the study of this search, or begin it: another space, other parameters or other data are another study.

    Raises:
        ProjectError: the store cannot be read.
    """
    with quiet_optuna():
        database = (folder / STUDY).absolute()
        try:
            with FileLock(folder / "search.lock"):
                storage = optuna.storages.RDBStorage(
                    f"sqlite:///{database}", engine_kwargs={"connect_args": {"timeout": WAIT}}
                )
                study = optuna.create_study(
                    storage=storage,
                    sampler=TrialSeededSampler(asked.seed, asked.n_startup_trials),
                    pruner=_pruner(asked, timed=_is_timed(space, prepared)),
                    study_name=_name(space, asked, prepared),
                    direction="maximize",
                    load_if_exists=True,
                )
        except Exception as error:  # SQLAlchemy's, or Optuna's
            raise ProjectError(
                f"{database} cannot be opened as the store of a search ({str(error).splitlines()[0]}). Remove it, and "
                "the search begins anew: what was trained is found again"
            ) from error
    return Search(study, folder, space, asked, prepared)


def run_trials(search: Search, run: Run) -> None:
    """Run trials until there are as many as are wanted, in all processes together.

    Args:
        search: what is searched.
        run: the trials are told of as runs within it.
    """
    with quiet_optuna():
        while (trial := _next_trial(search)) is not None:
            _run_trial(trial, search, run)


def _next_trial(search: Search) -> optuna.Trial | None:
    """Settle what this process does next; None where there are trials enough."""
    study = search.study
    with search.lock():
        _requeue_killed_trials(search)
        trials = study.get_trials(deepcopy=False)
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if not waiting and sum(_counts(trial) for trial in trials) >= search.asked.n_trials:
            return None
        trial = study.ask()
        process = psutil.Process()
        for name, value in ((PROCESS, process.pid), (STARTED, process.create_time()), (HOST, socket.gethostname())):
            trial.set_user_attr(name, value)
        suggest(trial, search.space)
    return trial


def _counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of those that are wanted: not where its process was killed, and it was queued again."""
    if trial.state == TrialState.FAIL:
        return REASON in trial.user_attrs
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


def _requeue_killed_trials(search: Search) -> None:
    """Queue the trials whose processes are gone, with the same values."""
    for trial in search.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _is_process_alive(trial.user_attrs):
            continue
        retries = trial.user_attrs.get(RETRIES, 0) + 1
        if retries > MOST_RETRIES:
            frozen = optuna.Trial(search.study, trial._trial_id)
            frozen.set_user_attr(REASON, f"its process was killed {retries} times")
        search.study.tell(trial.number, state=TrialState.FAIL)
        if retries <= MOST_RETRIES:
            logger.info("trial %d was killed: it is queued again", trial.number)
            search.study.enqueue_trial(trial.params, user_attrs={RETRIES: retries})


def _is_process_alive(attributes: dict[str, Any]) -> bool:
    """Whether the process of a trial is at work; on another machine that cannot be known, and is believed."""
    if PROCESS not in attributes:
        return False
    if attributes[HOST] != socket.gethostname():
        return True
    try:
        process = psutil.Process(attributes[PROCESS])
        same = abs(process.create_time() - attributes[STARTED]) < SAME_START
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _run_trial(trial: optuna.Trial, search: Search, run: Run) -> None:
    """Train with the values of a trial, and tell the study what came of it."""
    study, prepared = search.study, search.prepared
    overrides = decode_trial_params(trial.params, search.space)
    words = ", ".join(f"{name.rpartition('.')[2]} {_short(value)}" for name, value in overrides.items())
    logger.info("trial %d: %s", trial.number, words)
    began = time.monotonic()
    child = None
    try:
        parameters = checked_parameters(prepared.parameters, overrides, f"trial {trial.number}")
        variant = Variant(f"trial {trial.number}", parameters["training"]["seed"], overrides, parameters)
        place = search.folder / training_key(variant, prepared)
        place.mkdir(exist_ok=True)
        tags = {"search.study": study.study_name, "search.trial": trial.number}
        child = run.child(f"trial {trial.number}", place / NOTE, tags)
        log_parameters(child, variant, prepared)
        if (known := read_json(place / TRIAL)) is not None:  # the same values were drawn before
            value, pruned = known["value"], False
        else:
            value, pruned = _trained(trial, variant, search, place, child.log_metrics)
    except Exception as error:
        if is_fatal(error):
            raise
        reason = str(find_project_error(error) or f"{type(error).__name__}: {error}")
        logger.debug("trial %d failed", trial.number, exc_info=True)
        logger.info("trial %d failed: %s", trial.number, reason.splitlines()[0])
        trial.set_user_attr(REASON, reason)
        study.tell(trial, state=TrialState.FAIL)
        if child is not None:
            child.close("FAILED", reason)
        return
    if pruned:
        study.tell(trial, state=TrialState.PRUNED)
        child.set_tags({"search.pruned": True})
    else:
        study.tell(trial, value)
        child.log_metrics({"search/objective": value})
    child.close("FINISHED")
    state, seconds = "pruned" if pruned else f"{search.score} {value:.4f}", time.monotonic() - began
    logger.info("trial %d: %s, %.0f s; best so far %s", trial.number, state, seconds, _best_words(study))


def _trained(
    trial: optuna.Trial,
    variant: Variant,
    search: Search,
    place: Path,
    log: Any,  # noqa: ANN401 - of the run
) -> tuple[float, bool]:
    """Train; give the best validation score, and whether the training was pruned."""
    pruned = False

    def report(epoch: int, values: dict[str, float], when: float) -> bool:
        nonlocal pruned
        log(values, step=epoch, time=when)
        score = values.get(search.score)
        if score is not None and not pruned:
            trial.report(score, epoch)
            pruned = trial.should_prune()
        return pruned

    _, trained = train_variant(variant, search.prepared, place, report)
    value = trained.information.scores.get(search.score, math.nan)
    if not pruned and math.isnan(value):
        raise ProjectError(
            f"{search.score} is not defined for any epoch: no class that counts is in the validation split"
        )
    if not pruned:
        write_json(place / TRIAL, {"value": value})
    remove(trained.last)  # weights of many trials fill a disk; the best parameters are trained again
    remove(trained.best)
    return value, pruned


# -- what was found


def trials_table(search: Search) -> pd.DataFrame:
    """Return a row per trial: trial, state, value, epochs, seconds, the values that were drawn, reason of a failure."""
    rows = []
    for trial in search.study.get_trials(deepcopy=False):
        if trial.state == TrialState.WAITING:
            continue
        rows.append(
            {
                "trial": trial.number,
                "state": _state(trial),
                "value": trial.value if trial.state == TrialState.COMPLETE else _last(trial),
                "epochs": len(trial.intermediate_values),
                "seconds": trial.duration.total_seconds() if trial.duration else math.nan,
                **{name: _short(trial.params.get(name)) for name in search.space},
                "reason": trial.user_attrs.get(REASON, ""),
            }
        )
    return pd.DataFrame(rows)


def importance_table(search: Search) -> pd.DataFrame:
    """Return how much of the spread of the value each parameter explains (fANOVA, Hutter et al. 2014): sums to 1.

    Returns:
        Columns parameter, importance; no row where too few trials were finished, or all came to the same.
    """
    finished = search.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    found: dict[str, float] = {}
    if len({trial.value for trial in finished}) > 1:
        with quiet_optuna():
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=search.asked.seed)
            found = optuna.importance.get_param_importances(search.study, evaluator=evaluator)
    return pd.DataFrame({"parameter": list(found), "importance": np.array(list(found.values()), float)})


def best_of(search: Search) -> dict[str, Any]:
    """Return the best trial: study, trial, value, score, trials (finished or pruned), epochs, parameters.

    Raises:
        ConfigurationError: no trial was finished.
    """
    trials = search.study.get_trials(deepcopy=False)
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not finished:
        reasons = [trial.user_attrs[REASON] for trial in trials if REASON in trial.user_attrs]
        hint = f" The last one failed: {reasons[-1]}" if reasons else " Run kedro search again: it goes on."
        raise ConfigurationError(f"search: none of {len(trials)} trials was finished.{hint}")
    best = max(finished, key=lambda trial: (trial.value, -trial.number))
    return {
        "study": search.study.study_name,
        "trial": best.number,
        "score": search.score,
        "objective": best.value,
        "trials": sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials),
        "parameters": decode_trial_params(best.params, search.space),
    }


# -- the details


def _name(space: Space, asked: SearchParameters, prepared: SweepData) -> str:
    declared = {name: values if isinstance(values, list) else values.model_dump() for name, values in space.items()}
    sections = {name: prepared.parameters[name] for name in FREE}
    key = fingerprint(declared, asked.pruner, sections, prepared.plan["values"], prepared.digest)
    return f"{prepared.parameters['problem']}-{key[:8]}"


def _pruner(asked: SearchParameters, *, timed: bool) -> optuna.pruners.BasePruner:
    """Return what ends trials early. Where minutes bound them, their epochs differ in length, and cannot be compared."""
    if timed and asked.pruner != "none":
        logger.info("no trial is pruned: where %s bounds them, epochs of two trials differ in length", MINUTES)
        return optuna.pruners.NopPruner()
    if asked.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=asked.n_startup_trials)
    return optuna.pruners.HyperbandPruner() if asked.pruner == "hyperband" else optuna.pruners.NopPruner()


def _is_timed(space: Space, prepared: SweepData) -> bool:
    return MINUTES in space or prepared.parameters["training"]["max_time_minutes"] is not None


def _state(trial: FrozenTrial) -> str:
    if trial.state == TrialState.FAIL:
        return "failed" if REASON in trial.user_attrs else "killed"
    return {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.RUNNING: "running"}[trial.state]


def _last(trial: FrozenTrial) -> float:
    return max(trial.intermediate_values.values(), default=math.nan)


def _best_words(study: optuna.Study) -> str:
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not finished:
        return "none"
    best = max(finished, key=lambda trial: (trial.value, -trial.number))
    return f"{best.value:.4f} (trial {best.number})"


def _short(value: Any) -> Any:  # noqa: ANN401 - a parameter
    return float(f"{value:.4g}") if isinstance(value, float) else value


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna's lines and warnings off the console."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"optuna.*")
            yield
    finally:
        optuna.logging.set_verbosity(before)
