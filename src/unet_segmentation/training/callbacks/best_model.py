"""The model of the epoch with the best validation score."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor

from unet_segmentation.models.model_file import save_weights
from unet_segmentation.models.spec import ModelInfo, ModelSpec
from unet_segmentation.training.callbacks.history import EpochHistory
from unet_segmentation.training.lightning_module import SegmentationTask


class BestModel(L.Callback):
    """Holds a copy of the weights of the best epoch (from 1; 0 before the first one) until they are saved."""

    state_key = "best_model"

    def __init__(self, spec: ModelSpec, history: EpochHistory) -> None:
        self.spec = spec
        self.history = history
        self.best_epoch = 0
        self.best_score = -math.inf
        self._unsaved: tuple[dict[str, Tensor], ModelInfo] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the best epoch and its score."""
        return {"best_epoch": self.best_epoch, "best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best epoch and its score."""
        self.best_epoch, self.best_score = state_dict["best_epoch"], state_dict["best_score"]

    def on_train_epoch_end(self, trainer: L.Trainer, task: SegmentationTask) -> None:  # type: ignore[override]
        """Copy the weights where the epoch is the best so far."""
        row = self.history.rows[-1]
        parameters = task.plan.parameters
        score = row[f"validation/{parameters.monitor}"]
        gain = parameters.early_stopping.min_delta if self.best_epoch else 0.0
        if not (score > self.best_score + gain or not math.isfinite(self.best_score)):
            return
        self.best_epoch, self.best_score = int(row["epoch"]), score if math.isfinite(score) else -math.inf
        if trainer.is_global_zero:
            scores = {name: value for name, value in row.items() if name not in {"epoch", "train/epoch_seconds"}}
            finite = {name: value for name, value in scores.items() if math.isfinite(value)}
            info = ModelInfo(self.spec, self.best_epoch, finite, task.plan.fingerprint)
            weights = {name: value.detach().cpu().clone() for name, value in task.eval_network.state_dict().items()}
            self._unsaved = weights, info

    def save(self, path: Path) -> None:
        """Save the best model, unless it is saved already."""
        if self._unsaved is not None:
            save_weights(path, *self._unsaved)
            self._unsaved = None
