"""Several processes train together: started by torch's elastic launcher, each with its share of every batch.

Lightning would start the whole program again for every process. Here each process runs ``training.ddp_worker`` on a job
file, and knows nothing of Kedro. The first one writes the run directory; the epochs it saved reach the process that
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

from safetensors.torch import save_file

from unet_segmentation import errors
from unet_segmentation.errors import ProjectError
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters.augmentation import AugmentationRecipe
from unet_segmentation.parameters.base import StrictModel
from unet_segmentation.training.callbacks.history import EpochListener
from unet_segmentation.training.plan import TrainingPlan
from unet_segmentation.training.run_directory import RunDirectory
from unet_segmentation.training.runtime import quiet_loggers, restored_signal_handlers
from unet_segmentation.training.training_inputs import TrainingSetup
from unet_segmentation.utils.atomic_io import atomic_write, remove
from unet_segmentation.utils.private_api import STORE_PER_RESTART

logger = logging.getLogger(__name__)

RESTARTS = 3  # of a training one of whose processes died
JOIN_SECONDS = 3600  # how long other hosts are waited for
POLL_SECONDS = 0.2  # between looks at what the first process reports


class TrainingJob(StrictModel):
    """What each process of a training reads from a file."""

    plan: TrainingPlan
    spec: ModelSpec
    recipe: AugmentationRecipe
    packed: Path  # folder of images and masks
    initial_weights: Path


def launch(
    plan: TrainingPlan,
    setup: TrainingSetup,
    run_dir: RunDirectory,
    on_epoch_saved: EpochListener | None,
    rendezvous: str | None,
) -> None:
    """Train in processes of their own, and wait for them. One that dies is started again with all others.

    Args: as for :func:`trainer.run_training`; ``rendezvous`` is ``address:port`` of this host, where others join.

    Raises:
        ProjectError: what stopped a process, or that one died too often.
        KeyboardInterrupt: Ctrl-C.
        SystemExit: the process was terminated (status 143).
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _write_job(plan, setup, run_dir)
    job = str(run_dir.job.resolve())
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
    os.environ.setdefault(STORE_PER_RESTART, "1")
    quiet = quiet_loggers(logging.CRITICAL, "torch.distributed")  # what they say is in the error
    with quiet, restored_signal_handlers(), _forward_saved_epochs(run_dir.saved_epochs, on_epoch_saved):
        try:
            elastic_launch(config, sys.executable)("-m", "unet_segmentation.training.ddp_worker", job)
        except ChildFailedError as error:
            raise _failure(run_dir.failure) from error
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise SystemExit(143) from None


def join_command(plan: TrainingPlan, rendezvous: str | None, job: str) -> str:
    """Return the command by which another host joins."""
    hardware = plan.hardware
    return (
        f"{STORE_PER_RESTART}=1 torchrun --nnodes {hardware.num_nodes} --nproc-per-node {hardware.devices} "
        f"--rdzv-backend c10d --rdzv-id {plan.fingerprint} --rdzv-endpoint {rendezvous} --max-restarts {RESTARTS} -m "
        f"unet_segmentation.training.ddp_worker {job}"
    )


def _write_job(plan: TrainingPlan, setup: TrainingSetup, run_dir: RunDirectory) -> None:
    remove(run_dir.saved_epochs)
    remove(run_dir.failure)
    initial = run_dir.folder.resolve() / "initial.safetensors"
    with atomic_write(initial) as temporary:
        save_file({name: value.contiguous() for name, value in setup.initial_weights.items()}, temporary)
    job = TrainingJob(
        plan=plan,
        spec=setup.spec,
        recipe=setup.recipe,
        packed=setup.packed.folder.resolve(),
        initial_weights=initial,
    )
    with atomic_write(run_dir.job) as temporary:
        temporary.write_text(job.model_dump_json(), encoding="utf-8")


@contextmanager
def _forward_saved_epochs(path: Path, on_epoch_saved: EpochListener | None) -> Iterator[None]:
    """Call the listener for each epoch that the first process saved, once, while the launcher waits for it."""
    has_ended = threading.Event()

    def forward() -> None:
        last_epoch, is_last_look = 0, False
        while not is_last_look:
            is_last_look = has_ended.wait(POLL_SECONDS)
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
            for epoch, metrics, end_time in (json.loads(line) for line in lines if line.endswith("\n")):
                if epoch > last_epoch and on_epoch_saved is not None:
                    last_epoch = epoch
                    on_epoch_saved(epoch, metrics, end_time)

    thread = threading.Thread(target=forward, daemon=True)
    thread.start()
    try:
        yield
    finally:
        has_ended.set()
        thread.join()


def _failure(path: Path) -> ProjectError:
    """Return the error that stopped a process, as it wrote it; there is none where it was killed."""
    if not path.is_file():
        return ProjectError(
            f"A process of the training died {RESTARTS + 1} times; its last output stands above. The next kedro "
            "run resumes from the last checkpoint."
        )
    kind, message = json.loads(path.read_text(encoding="utf-8"))
    return getattr(errors, kind)(message)
