"""Randomness of layers that is the same after a resume."""

from __future__ import annotations

import lightning as L
import torch

from unet_segmentation.training.patch_dataset import LAYERS, keyed_rng


class KeyedLayerSeed(L.Callback):
    """Seeds the random layers (dropout) of each step by the training's seed, the epoch and the step's number."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(  # type: ignore[override]
        self, trainer: L.Trainer, task: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Seed torch; every process gets its own seed."""
        generator = keyed_rng(self.seed, LAYERS, trainer.current_epoch, batch_idx, trainer.global_rank)
        torch.manual_seed(int(generator.integers(2**63)))
