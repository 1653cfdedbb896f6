"""The runtime of a training: threads, determinism, signals, and errors with what to do about them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from unet_segmentation.errors import ConfigurationError, ResourceError
from unet_segmentation.training.plan import TrainingPlan
from unet_segmentation.training.progress import quiet_lightning


@contextmanager
def training_runtime(plan: TrainingPlan) -> Iterator[None]:
    """Set threads, determinism and signal handling for a training, and restore everything afterwards."""
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        for context in (_threads(plan.hardware.num_threads), _determinism(plan), quiet_lightning(), _interrupts()):
            stack.enter_context(context)
        stack.enter_context(_explained(plan))
        yield


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
def _interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C, and exit with 143 on a termination; Lightning makes SystemExit of both."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SIGTERMException:
        raise SystemExit(143) from None
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)


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
            "normalisation a single value per channel; raise training.batch_size to 2 or more, or training.patch_size"
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
