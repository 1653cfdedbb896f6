"""One of several processes that train together: ``python -m unet_segmentation.training.ddp_worker JOB``.

Started by torch's elastic launcher (``torchrun`` on further hosts), which sets environment variables for each process.
Knows nothing of Kedro or MLflow.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from unet_segmentation.errors import ProjectError

if TYPE_CHECKING:
    from unet_segmentation.training.ddp import TrainingJob

LOOK = 0.2  # seconds between looks at the process that started this one


def main(job_file: Path) -> None:
    """Train this process's share of a job; exit with status 1 on an error."""
    _end_with_the_launcher()
    for number in (signal.SIGINT, signal.SIGTERM):  # at once: files are whole, and the launcher reports
        signal.signal(number, lambda received, _: os._exit(128 + received))

    from unet_segmentation.training import ddp
    from unet_segmentation.training.collectives import rank_and_world_size

    job = ddp.TrainingJob.model_validate_json(job_file.read_bytes())
    if ddp.has_failed(job.folder):
        sys.exit(1)
    first = rank_and_world_size()[0] == 0
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout)
    logging.getLogger("unet_segmentation").setLevel(logging.INFO if first else logging.ERROR)
    try:
        _train(job, first)
    except ProjectError as error:
        ddp.write_failure(job.folder, error)
        sys.exit(1)


def _train(job: TrainingJob, first: bool) -> None:
    from safetensors.torch import load_file

    from unet_segmentation.data.store.packed_arrays import PackedSamples
    from unet_segmentation.training.ddp import write_epoch_reports_to
    from unet_segmentation.training.run_directory import RunDirectory
    from unet_segmentation.training.trainer import train_in_process
    from unet_segmentation.training.training_inputs import TrainingSetup

    weights = load_file(job.initial_weights)
    setup = TrainingSetup(job.spec, weights, PackedSamples(job.packed), job.recipe)
    work = RunDirectory(job.folder.parent, job.folder.name)
    train_in_process(job.plan, setup, work, write_epoch_reports_to(job.folder) if first else None)


def _end_with_the_launcher() -> None:
    """Leave when the launcher is gone, even if it was killed outright: nobody else would end this process."""
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
