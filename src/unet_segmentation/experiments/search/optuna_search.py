"""Hyperparameter search with Optuna: trials that train, are pruned by epoch, and survive the end of their process.

The study is a SQLite file that several processes may work on. Which trial a process runs next is decided under a lock:
stale trials are queued again, and one trial more is asked for if the study lacks one. A process holds a lock of its own
for as long as its trial runs, so that a trial in the state RUNNING whose lock is free is stale. (Optuna's heartbeat
serves `Study.optimize` alone.) A retried trial has the same values, and its training run, found by its fingerprint,
resumes from the last epoch. Only the validation split is scored.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from filelock import FileLock, Timeout
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from unet_segmentation.errors import ConfigurationError, ProjectError
from unet_segmentation.experiments.child_training import (
    ExperimentData,
    Outcome,
    run_child_training,
    train_variant,
    training_key,
)
from unet_segmentation.experiments.search.search_space import Space, decode_trial_params, suggest
from unet_segmentation.experiments.variants import Variant, free_sections, override_parameters
from unet_segmentation.parameters import SearchParameters
from unet_segmentation.tracking import Run
from unet_segmentation.utils.atomic_io import remove
from unet_segmentation.utils.stable_hash import stable_hash

logger = logging.getLogger(__name__)

STUDY_FILE = "study.db"
REASON = "reason"  # user attribute of a failed trial
MAX_RETRIES = 3  # of a trial whose process was killed: the trial may be what kills it
MAX_MINUTES = "training.max_time_minutes"
DATABASE_TIMEOUT = 60.0  # seconds for a database that another process writes to


@dataclass(frozen=True)
class Search:
    """A study and what it is run on."""

    study: optuna.Study
    folder: Path  # of the database, and of a directory for each training run
    space: Space
    parameters: SearchParameters
    data: ExperimentData  # what all trials share

    @property
    def score(self) -> str:
        """Return the name of the objective, which is maximized: `validation/...`."""
        return f"validation/{self.data.parameters.training.monitor}"

    def lock(self) -> FileLock:
        """Return the lock under which processes decide what they run next."""
        return FileLock(self.folder / "search.lock")

    def trial_lock(self, number: int) -> FileLock:
        """Return the lock that a trial's process holds for as long as the trial runs."""
        return FileLock(self.folder / f"{self.study.study_name}-trial-{number}.lock")


def open_search(folder: Path, space: Space, parameters: SearchParameters, data: ExperimentData) -> Search:
    """Open the study of a search, or create it: another space, other parameters or other data are another study.

    Raises:
        ProjectError: the database cannot be read.
    """
    with quiet_optuna():
        database = (folder / STUDY_FILE).absolute()
        try:
            with FileLock(folder / "search.lock"):
                storage = optuna.storages.RDBStorage(
                    f"sqlite:///{database}", engine_kwargs={"connect_args": {"timeout": DATABASE_TIMEOUT}}
                )
                study = optuna.create_study(
                    storage=storage,
                    pruner=_create_pruner(space, parameters, data),
                    study_name=_study_name(space, parameters, data),
                    direction="maximize",
                    load_if_exists=True,
                )
        except Exception as error:  # SQLAlchemy's, or Optuna's
            raise ProjectError(
                f"{database} cannot be opened as the database of a search ({str(error).splitlines()[0]}). Remove it, "
                "and the search starts again; finished training runs are found again"
            ) from error
    return Search(study, folder, space, parameters, data)


def run_trials(search: Search, run: Run) -> None:
    """Run trials, nested in `run`, until all processes together have run as many as the parameters ask for."""
    with quiet_optuna():
        while _run_next_trial(search, run):
            pass


def _run_next_trial(search: Search, run: Run) -> bool:
    """Run one trial; return False where there are enough of them."""
    with ExitStack() as stack:
        with search.lock():
            _retry_stale_trials(search)
            trials = search.study.get_trials(deepcopy=False)
            waiting = [trial.number for trial in trials if trial.state == TrialState.WAITING]
            if not waiting and sum(map(_counts, trials)) >= search.parameters.n_trials:
                return False
            number = waiting[0] if waiting else len(trials)
            search.study.sampler = _create_sampler(search.parameters, number)
            trial = search.study.ask()
            stack.enter_context(search.trial_lock(trial.number))
            suggest(trial, search.space)
        _run_trial(trial, search, run)
    return True


def _create_sampler(parameters: SearchParameters, number: int) -> optuna.samplers.TPESampler:
    """Seed TPE by the seed and the trial's number, so that no two processes suggest the same values."""
    seed = int(np.random.SeedSequence([parameters.seed, number]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=parameters.n_startup_trials)


def _counts(trial: FrozenTrial) -> bool:
    """Return whether a trial counts among those that are asked for; one that was killed and is retried does not."""
    if trial.state == TrialState.FAIL:
        return bool(_failure(trial))
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


def _retry_stale_trials(search: Search) -> None:
    """Fail the trials whose processes are gone, and queue them again with the same values."""
    retry = RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES)
    for trial in search.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        try:
            with search.trial_lock(trial.number).acquire(timeout=0):
                if search.study.get_trials(deepcopy=False)[trial.number].state != TrialState.RUNNING:
                    continue  # it has ended since
                retries = len(trial.system_attrs.get("retry_history", []))
                again = ": it is queued again" if retries < MAX_RETRIES else ""
                logger.info("trial %d was killed%s", trial.number, again)
                search.study.tell(trial.number, state=TrialState.FAIL)
                retry(search.study, trial)
        except Timeout:
            continue


def _failure(trial: FrozenTrial) -> str:
    """Return why a failed trial is not retried; empty where its process was killed, and it is."""
    retries = len(trial.system_attrs.get("retry_history", []))  # as RetryHeartbeatStaleTrialCallback writes it
    killed = f"its process was killed {retries + 1} times" if retries >= MAX_RETRIES else ""
    return str(trial.user_attrs.get(REASON, killed))


def _run_trial(trial: optuna.Trial, search: Search, run: Run) -> None:
    """Train with the values of a trial, and tell the study the outcome."""
    study, data, score, name = search.study, search.data, search.score, f"trial {trial.number}"
    overrides = decode_trial_params(trial.params, search.space)
    logger.info("%s: %s", name, ", ".join(f"{key.rpartition('.')[2]} {_short(overrides[key])}" for key in overrides))

    def log(child: Run, outcome: Outcome) -> None:
        if outcome.status == "pruned":
            child.set_tags({"search.pruned": True})
        elif (value := outcome.scores[score]) is not None:
            child.log_metrics({"search/objective": value})

    try:
        parameters = override_parameters(data.parameters, overrides, name)
        variant = Variant(name, parameters.training.seed, overrides, parameters)
        directory = search.folder / training_key(variant, data)
    except ProjectError as error:
        outcome = Outcome("failed", str(error))
        logger.info("%s: failed: %s", name, outcome.reason.splitlines()[0])
    else:
        outcome = run_child_training(
            name,
            variant,
            run,
            directory,
            tags={"search.study": study.study_name, "search.trial": trial.number},
            train=lambda child, started: _train_trial(trial, variant, search, directory, child, started),
            log=log,
        )
    if outcome.status == "failed":
        trial.set_user_attr(REASON, outcome.reason)
        study.tell(trial, state=TrialState.FAIL)
        return
    if outcome.status == "pruned":
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, outcome.scores[score])
    if best := _best_trial(study):
        logger.info("best so far: %.4f (trial %d)", best.values[0], best.number)


def _train_trial(
    trial: optuna.Trial, variant: Variant, search: Search, directory: Path, child: Run, started: float
) -> Outcome:
    """Train until the pruner ends it; the outcome holds the best validation score."""
    pruned = False

    def report(epoch: int, values: dict[str, float], when: float) -> bool:
        nonlocal pruned
        child.log_metrics(values, step=epoch, time=when)
        score = values.get(search.score)
        if score is not None and not pruned:
            trial.report(score, epoch)
            pruned = trial.should_prune()
        return pruned

    _, trained = train_variant(variant, search.data, directory, report)
    value = trained.info.scores.get(search.score, math.nan)
    if not pruned and math.isnan(value):
        raise ProjectError(
            f"{search.score} is not defined for any epoch: no class that counts is in the validation split"
        )
    remove(trained.last)  # the weights of many trials fill a disk; the best parameters are trained again
    remove(trained.best)
    return Outcome("pruned" if pruned else "finished", scores={search.score: value}, started=started, ended=time.time())


def trials_table(search: Search) -> pd.DataFrame:
    """Return a row per trial: trial, state, value, epochs, seconds, the suggested values, and why it failed."""
    rows = []
    for trial in search.study.get_trials(deepcopy=False):
        if trial.state == TrialState.WAITING:
            continue
        last = max(trial.intermediate_values.values(), default=math.nan)
        rows.append(
            {
                "trial": trial.number,
                "state": _state(trial),
                "value": trial.value if trial.state == TrialState.COMPLETE else last,
                "epochs": len(trial.intermediate_values),
                "seconds": trial.duration.total_seconds() if trial.duration else math.nan,
                **{name: _short(trial.params.get(name)) for name in search.space},
                "reason": _failure(trial) if trial.state == TrialState.FAIL else "",
            }
        )
    return pd.DataFrame(rows)


def importance_table(search: Search) -> pd.DataFrame:
    """Compute how much of the variance of the objective each parameter explains (fANOVA, Hutter et al. 2014).

    Columns parameter, importance (which sums to 1); no row where too few trials are finished or all values equal.
    """
    finished = search.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    importances: dict[str, float] = {}
    if len({trial.value for trial in finished}) > 1:
        with quiet_optuna():
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=search.parameters.seed)
            importances = optuna.importance.get_param_importances(search.study, evaluator=evaluator)
    values = np.array(list(importances.values()), float)
    return pd.DataFrame({"parameter": list(importances), "importance": values})


@dataclass(frozen=True)
class BestTrial:
    """The best trial of a study."""

    study: str
    trial: int
    score: str  # name of the objective
    value: float
    trials: int  # number of trials that were finished or pruned
    parameters: Mapping[str, object]  # dotted name to value


def find_best_trial(search: Search) -> BestTrial:
    """Return the best trial; raise ConfigurationError where none is finished."""
    trials = search.study.get_trials(deepcopy=False)
    best = _best_trial(search.study)
    if best is None:
        reasons = [trial.user_attrs[REASON] for trial in trials if REASON in trial.user_attrs]
        hint = f" The last one failed: {reasons[-1]}" if reasons else " Run kedro search again: it will resume."
        raise ConfigurationError(f"search: none of {len(trials)} trials is finished.{hint}")
    return BestTrial(
        study=search.study.study_name,
        trial=best.number,
        score=search.score,
        value=best.values[0],
        trials=sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials),
        parameters=decode_trial_params(best.params, search.space),
    )


def _best_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the trial with the highest value, the first of several; None where none is finished."""
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return max(finished, key=lambda trial: (trial.values[0], -trial.number), default=None)


def _study_name(space: Space, parameters: SearchParameters, data: ExperimentData) -> str:
    declared = {name: values if isinstance(values, list) else values.model_dump() for name, values in space.items()}
    sections, values = free_sections(data.parameters), data.proposed_plan.values.model_dump()
    key = stable_hash(declared, parameters.pruner, sections, values, data.data_hash)
    return f"{data.parameters.problem}-{key[:8]}"


def _create_pruner(space: Space, parameters: SearchParameters, data: ExperimentData) -> optuna.pruners.BasePruner:
    """Create the pruner. Where minutes limit the trials, their epochs differ in length and cannot be compared."""
    timed = MAX_MINUTES in space or data.parameters.training.max_time_minutes is not None
    if timed and parameters.pruner != "none":
        logger.info("no trial is pruned: where %s limits them, epochs of two trials differ in length", MAX_MINUTES)
        return optuna.pruners.NopPruner()
    if parameters.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=parameters.n_startup_trials)
    return optuna.pruners.HyperbandPruner() if parameters.pruner == "hyperband" else optuna.pruners.NopPruner()


def _state(trial: FrozenTrial) -> str:
    if trial.state == TrialState.FAIL:
        return "failed" if _failure(trial) else "killed"
    return {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.RUNNING: "running"}[trial.state]


def _short(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Silence Optuna's log lines and warnings."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"optuna.*")
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
