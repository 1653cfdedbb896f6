"""Several processes train together: started by torch's elastic launcher, each with its share of every batch.

Lightning would start the whole program again for every process. Here each process runs ``learning.worker`` on a job
file, and knows nothing of Kedro. The first one writes the run directory; its epoch reports reach the process that
launched it through a file.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file

from unet_segmentation import errors
from unet_segmentation.errors import ProjectError
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters.augmentation import AugmentationRecipe
from unet_segmentation.parameters.base import StrictModel
from unet_segmentation.training.plan import TrainingPlan
from unet_segmentation.utils.atomic_io import atomic_write, remove
from unet_segmentation.utils.private_api import STORE_PER_RESTART

if TYPE_CHECKING:
    from unet_segmentation.training.callbacks.epoch_reports import ReportEpoch
    from unet_segmentation.training.run_directory import RunDirectory
    from unet_segmentation.training.training_inputs import TrainingSetup

logger = logging.getLogger(__name__)

RESTARTS = 3  # of a training one of whose processes died
JOIN_SECONDS = 3600  # how long other hosts are waited for
LOOK = 0.2  # seconds between looks at what the first process tells
JOB, EPOCHS, FAILURE = "job.json", "epochs.jsonl", "failure.json"
CHATTY = ("torch.distributed.elastic", "torch.distributed.launcher", "torch.distributed.run")


class TrainingJob(StrictModel):
    """What each process of a training reads from a file.

    Attributes:
        plan: of the training.
        spec: of the network.
        recipe: of the augmentation.
        packed: folder of images and masks.
        initial_weights: file of the network's initial weights.
        folder: the run directory.
    """

    plan: TrainingPlan
    spec: ModelSpec
    recipe: AugmentationRecipe
    packed: Path
    initial_weights: Path
    folder: Path


def launch(
    plan: TrainingPlan,
    setup: TrainingSetup,
    work: RunDirectory,
    report_epoch: ReportEpoch | None,
    rendezvous: str | None,
) -> None:
    """Train in processes of their own, and wait for them. One that dies is started again with all others.

    Args: as for :func:`trainer.fit`; ``rendezvous`` is ``address:port`` of this host, where others join.

    Raises:
        ProjectError: what stopped a process, or that one died too often.
        KeyboardInterrupt: Ctrl-C.
        SystemExit: the process was told to terminate (status 143).
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    job = _write_job(plan, setup, work)
    config = LaunchConfig(
        min_nodes=plan.hardware.num_nodes,
        max_nodes=plan.hardware.num_nodes,
        nproc_per_node=plan.hardware.devices,
        run_id=plan.fingerprint,
        rdzv_backend="c10d",
        rdzv_endpoint=rendezvous or "localhost:0",
        rdzv_configs={"is_host": True},  # the others meet here, whatever this host's name leads to
        rdzv_timeout=JOIN_SECONDS,
        local_addr=rendezvous.partition(":")[0] if rendezvous else None,
        max_restarts=RESTARTS,
        monitor_interval=0.2,
    )
    if plan.hardware.num_nodes > 1:
        more, command = plan.hardware.num_nodes - 1, join_command(plan, rendezvous, job)
        logger.info("waiting for %d more host%s, to join with: %s", more, "s" * (more > 1), command)
    with _quiet(), _same_handlers(), _store_for_each_start(), _forward_epoch_reports(work, report_epoch):
        try:
            elastic_launch(config, sys.executable)("-m", "unet_segmentation.training.ddp_worker", str(job))
        except ChildFailedError as error:
            raise _failure(work) or ProjectError(
                f"A process of the training died {RESTARTS + 1} times; its last output stands above. The next kedro "
                "run resumes from the last checkpoint."
            ) from error
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise SystemExit(143) from None


def join_command(plan: TrainingPlan, rendezvous: str | None, job: Path) -> str:
    """Return the command by which another host joins."""
    hardware = plan.hardware
    return (
        f"{STORE_PER_RESTART}=1 torchrun --nnodes {hardware.num_nodes} --nproc-per-node {hardware.devices} "
        f"--rdzv-backend c10d --rdzv-id {plan.fingerprint} --rdzv-endpoint {rendezvous} --max-restarts {RESTARTS} -m "
        f"unet_segmentation.training.ddp_worker {job}"
    )


def _write_job(plan: TrainingPlan, setup: TrainingSetup, work: RunDirectory) -> Path:
    folder = work.folder.resolve()
    for name in (EPOCHS, FAILURE):
        remove(folder / name)
    initial = folder / "initial.safetensors"
    with atomic_write(initial) as temporary:
        save_file({name: value.contiguous() for name, value in setup.initial_weights.items()}, temporary)
    job = TrainingJob(
        plan=plan,
        spec=setup.spec,
        recipe=setup.recipe,
        packed=setup.packed.folder.resolve(),
        initial_weights=initial,
        folder=folder,
    )
    with atomic_write(folder / JOB) as temporary:
        temporary.write_text(job.model_dump_json(), encoding="utf-8")
    return folder / JOB


# -- epoch reports of the first process


def write_epoch_reports_to(folder: Path) -> ReportEpoch:
    """Return a receiver of epoch reports that appends them to a file, a line of JSON each."""

    def report(epoch: int, metrics: dict[str, float], end_time: float) -> None:
        with (folder / EPOCHS).open("a", encoding="utf-8") as file:
            file.write(json.dumps([epoch, metrics, end_time]) + "\n")

    return report


@contextmanager
def _forward_epoch_reports(work: RunDirectory, report_epoch: ReportEpoch | None) -> Iterator[None]:
    """Forward the epoch reports of the first process, each epoch once, while the launcher waits for it."""
    done = threading.Event()
    forwarded: set[int] = set()

    def forward() -> None:
        path = work.folder / EPOCHS
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
        for line in lines:
            if line.endswith("\n") and (report := json.loads(line))[0] not in forwarded:
                forwarded.add(report[0])
                if report_epoch is not None:
                    report_epoch(*report)

    def poll() -> None:
        while not done.wait(LOOK):
            forward()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        forward()


# -- what stopped a process


def write_failure(folder: Path, error: ProjectError) -> None:
    """Save an error that a restart cannot repair, for the process that launched this one."""
    with atomic_write(folder / FAILURE) as temporary:
        temporary.write_text(json.dumps([type(error).__name__, str(error)]), encoding="utf-8")


def has_failed(folder: Path) -> bool:
    """Return whether there is such an error: then a restart is of no use."""
    return (folder / FAILURE).is_file()


def _failure(work: RunDirectory) -> ProjectError | None:
    if not has_failed(work.folder):
        return None
    kind, message = json.loads((work.folder / FAILURE).read_text(encoding="utf-8"))
    return getattr(errors, kind)(message)


# -- surroundings


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the launcher's messages off the console; what they say is in the error."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith(CHATTY)]  # each has its own level
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for chatty in loggers:
        chatty.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for chatty, level in zip(loggers, levels, strict=True):
            chatty.setLevel(level)


@contextmanager
def _store_for_each_start() -> Iterator[None]:
    """Set the variable that gives each restart a store of its own."""
    before = os.environ.get(STORE_PER_RESTART)
    os.environ[STORE_PER_RESTART] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[STORE_PER_RESTART]
        else:
            os.environ[STORE_PER_RESTART] = before


@contextmanager
def _same_handlers() -> Iterator[None]:
    """Restore the signal handlers: the launcher leaves its own behind."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
