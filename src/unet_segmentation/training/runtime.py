"""The runtime of a training: threads, determinism, quiet, signals, and errors with what to do about them."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from unet_segmentation.errors import ConfigurationError, ResourceError
from unet_segmentation.training.plan import TrainingPlan


@contextmanager
def training_runtime(plan: TrainingPlan) -> Iterator[None]:
    """Set threads, determinism and signal handling for a training, and restore everything afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(plan.hardware.num_threads)
    try:
        with torch.random.fork_rng(), _determinism(plan), quiet_lightning(), _interrupts(), _explained(plan):
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _determinism(plan: TrainingPlan) -> Iterator[None]:
    """Ask for deterministic algorithms. On a GPU some layers have none: there the rest is deterministic."""
    if not plan.parameters.deterministic:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    checks: Any = torch.utils.deterministic
    fill, benchmark = checks.fill_uninitialized_memory, torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=plan.hardware.accelerator != "cpu")
    checks.fill_uninitialized_memory = False  # a check for bugs that costs time
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        checks.fill_uninitialized_memory = fill
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's tips and warnings off the console; its errors are raised, not logged."""
    with quiet_loggers(logging.ERROR, "lightning", "torch.distributed"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning.*")
        warnings.filterwarnings("ignore", module=r"torch\..*")
        warnings.filterwarnings("ignore", message=r".*(num_workers|LeafSpec|isinstance\(treespec).*")
        yield


@contextmanager
def quiet_loggers(level: int, *prefixes: str) -> Iterator[None]:
    """Log nothing below a level, in all loggers whose names begin so: each may have a level of its own."""
    names = {*prefixes, *(name for name in logging.root.manager.loggerDict if name.startswith(prefixes))}
    levels = {logger: logger.level for logger in map(logging.getLogger, names)}
    for logger in levels:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, before in levels.items():
            logger.setLevel(before)


@contextmanager
def restored_signal_handlers() -> Iterator[None]:
    """Restore the handlers of SIGINT and SIGTERM: Lightning and torch's launcher leave theirs behind."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextmanager
def _interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C, and exit with 143 on a termination; Lightning makes SystemExit of both."""
    try:
        with restored_signal_handlers():
            yield
    except SIGTERMException:
        raise SystemExit(143) from None
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


@contextmanager
def _explained(plan: TrainingPlan) -> Iterator[None]:
    """Raise errors of torch as the project's own, with what to do about them."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ConfigurationError(
            f"training.batch_size: {plan.batch_size} patch of {plan.patch_size} px leaves this network's batch "
            "normalization a single value per channel; raise training.batch_size to 2 or more, or training.patch_size"
        ) from error
    except torch.OutOfMemoryError as error:
        raise ResourceError(
            f"The memory of the device does not suffice for {plan.batch_size} patches of {plan.patch_size} px: "
            "lower training.batch_size or training.patch_size"
        ) from error
    except Exception as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        cause = getattr(error, "inner_exception", None) or error  # the outer one only names the backend
        first_line = next(iter(str(cause).strip().splitlines()), "")
        raise ConfigurationError(
            "training.compile: torch.compile does not work here (on a CPU it needs a C++ compiler). "
            f"Set it to false. It says: {type(cause).__name__}: {first_line}"
        ) from error
