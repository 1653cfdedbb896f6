"""One of several processes that train together: ``python -m unet_segmentation.training.ddp_worker JOB``.

Started by torch's elastic launcher (``torchrun`` on further hosts), which sets environment variables for each process.
Knows nothing of Kedro or MLflow.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

POLL_SECONDS = 0.2  # between looks at the process that started this one


def main(job_file: Path) -> None:
    """Train this process's share of a job; exit with status 1 on an error."""
    threading.Thread(target=_end_with_the_launcher, args=(os.getppid(),), daemon=True).start()
    for number in (signal.SIGINT, signal.SIGTERM):  # at once: files are whole, and the launcher reports
        signal.signal(number, lambda received, _: os._exit(128 + received))

    from unet_segmentation.training.run_directory import RunDirectory

    run_dir = RunDirectory(job_file.parent.parent, job_file.parent.name)
    if run_dir.failure.is_file():  # an error that a restart cannot repair
        sys.exit(1)

    from safetensors.torch import load_file

    from unet_segmentation.data.store.packed_arrays import PackedSamples
    from unet_segmentation.errors import ProjectError
    from unet_segmentation.training.ddp import TrainingJob
    from unet_segmentation.training.trainer import rank_and_world_size, train_in_process
    from unet_segmentation.training.training_inputs import TrainingSetup
    from unet_segmentation.utils.atomic_io import atomic_write

    job = TrainingJob.model_validate_json(job_file.read_bytes())
    is_first = rank_and_world_size()[0] == 0
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout)
    logging.getLogger("unet_segmentation").setLevel(logging.INFO if is_first else logging.ERROR)

    def append_epoch(epoch: int, metrics: dict[str, float], end_time: float) -> None:
        with run_dir.saved_epochs.open("a", encoding="utf-8") as file:
            file.write(json.dumps([epoch, metrics, end_time]) + "\n")

    setup = TrainingSetup(job.spec, load_file(job.initial_weights), PackedSamples(job.packed), job.recipe)
    try:
        train_in_process(job.plan, setup, run_dir, append_epoch if is_first else None)
    except ProjectError as error:
        with atomic_write(run_dir.failure) as temporary:
            temporary.write_text(json.dumps([type(error).__name__, str(error)]), encoding="utf-8")
        sys.exit(1)


def _end_with_the_launcher(launcher: int) -> None:
    """Leave when the launcher is gone, even if it was killed outright: nobody else would end this process."""
    while os.getppid() == launcher:
        time.sleep(POLL_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
