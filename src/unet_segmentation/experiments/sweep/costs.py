"""What a network costs: counted, and so the same everywhere; and the most memory that a training took here."""

from __future__ import annotations

import atexit
import gc
import json
import sys
import threading
from functools import cache

import psutil
import torch

from unet_segmentation.models import complexity
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.utils.memory import trim_memory

BYTES_OF_A_WEIGHT = 16  # float32: the weight, its gradient, and AdamW's two moments
LOOK = 0.05  # seconds between two looks at the memory: they take less than a hundredth of a core


def network_costs(spec: ModelSpec, side: int, batch_size: int) -> dict[str, int]:
    """Count a network's parameters, the multiply-adds of one square image, and the memory that a training step keeps.

    Args:
        spec: of the network.
        side: of the image, in pixels.
        batch_size: of the training.

    Returns:
        `parameters`, `multiply_adds` and `memory_bytes`: what the backward pass needs of a batch, in float32, and the
        weights with what the optimizer keeps of them; counted, not measured.
    """
    found = _counted(json.dumps(spec.to_json(), sort_keys=True), side)
    memory = batch_size * found["activation_bytes"] + BYTES_OF_A_WEIGHT * found["parameters"]
    return {"parameters": found["parameters"], "multiply_adds": found["multiply_adds"], "memory_bytes": memory}


@cache
def _counted(spec: str, side: int) -> dict[str, int]:
    """Count once for all seeds."""
    return complexity.model_complexity(ModelSpec.from_json(json.loads(spec)), side, side)


class PeakMemory:
    """The most memory that a block took, as measured: on a GPU by torch, else on Linux by looking again and again.

    On a CPU it is by how much the process grew: its anonymous memory, so that files that are mapped do not count. What
    torch keeps from one block to the next is given back before.

    Attributes:
        mib: in MiB; None where it cannot be known.
    """

    def __init__(self) -> None:
        self.mib: float | None = None
        self._process = psutil.Process()
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._before, self._most = 0, 0

    def __enter__(self) -> PeakMemory:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        elif sys.platform.startswith("linux"):
            trim_memory()
            gc.freeze()  # what is left is the program itself: the next time it is not looked through again
            atexit.register(gc.unfreeze)  # libraries complain at the end of what was not collected
            self._before = self._most = self._anonymous_bytes()
            self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        if torch.cuda.is_available():
            self.mib = torch.cuda.max_memory_allocated() / 2**20
        elif self._watch.is_alive():
            self._ended.set()
            self._watch.join()
            self.mib = (self._most - self._before) / 2**20

    def _look(self) -> None:
        while not self._ended.wait(LOOK):
            self._most = max(self._most, self._anonymous_bytes())

    def _anonymous_bytes(self) -> int:
        """What the process holds that is no file's: the rest of its resident memory can be had again from the disk."""
        known = self._process.memory_info()
        return int(known.rss - known.shared)
