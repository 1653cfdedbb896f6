"""One of several processes that train together: ``python -m unet_segmentation.training.ddp_worker JOB``.

Started by torch's elastic launcher (``torchrun`` on further hosts), which says by environment variables which process
this is. Knows nothing of Kedro or MLflow.
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

from unet_segmentation.errors import ProjectError

LOOK = 0.2  # seconds between looks at the process that started this one


def main(job_file: Path) -> None:
    """Train this process's share of a job; leave with status 1 where it cannot go on."""
    _end_with_the_launcher()
    for number in (signal.SIGINT, signal.SIGTERM):  # at once, without a word: files are whole, and the launcher speaks
        signal.signal(number, lambda received, _: os._exit(128 + received))
    job = json.loads(job_file.read_text(encoding="utf-8"))
    folder = Path(job["folder"])

    from unet_segmentation.training import ddp

    if ddp.has_failed(folder):
        sys.exit(1)
    first = ddp.rank_and_world_size()[0] == 0
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout)
    logging.getLogger("unet_segmentation").setLevel(logging.INFO if first else logging.ERROR)
    try:
        _train(job, folder, first)
    except ProjectError as error:
        ddp.write_failure(folder, error)
        sys.exit(1)


def _train(job: dict, folder: Path, first: bool) -> None:
    from safetensors.torch import load_file

    from unet_segmentation.data.store.packed_arrays import PackedSamples
    from unet_segmentation.models.factory import build_model
    from unet_segmentation.models.spec import ModelSpec
    from unet_segmentation.training.ddp import write_epoch_reports_to
    from unet_segmentation.training.run_directory import RunDirectory
    from unet_segmentation.training.trainer import load_weights, train_in_process
    from unet_segmentation.training.training_inputs import TrainingInputs

    spec = ModelSpec.from_json(job["specification"])
    network = build_model(spec)
    load_weights(network, load_file(job["initial_weights"]))
    setup = TrainingInputs(network, spec, PackedSamples(Path(job["packed"])), job["recipe"])
    train_in_process(
        job["plan"], setup, RunDirectory(folder.parent, folder.name), write_epoch_reports_to(folder) if first else None
    )


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
