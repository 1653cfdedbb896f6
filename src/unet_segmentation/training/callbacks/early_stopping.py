"""Early stopping."""

from __future__ import annotations

import logging

import lightning as L

from unet_segmentation.training.callbacks.best_model import BestModel

logger = logging.getLogger(__name__)


class EarlyStopping(L.Callback):
    """Ends the training once no epoch was better than the best one for ``patience`` epochs; None never stops."""

    def __init__(self, patience: int | None, best_model: BestModel) -> None:
        self.patience = patience
        self.best_model = best_model

    def is_exhausted(self, epoch: int) -> bool:
        """Return whether the patience is exhausted after an epoch (from 1)."""
        return self.patience is not None and epoch - self.best_model.best_epoch >= self.patience

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Stop where the patience is exhausted."""
        if self.is_exhausted(trainer.current_epoch + 1):
            trainer.should_stop = True
            if trainer.is_global_zero:
                best_epoch = self.best_model.best_epoch
                logger.info("stopped early: nothing better than epoch %d for %d epochs", best_epoch, self.patience)
