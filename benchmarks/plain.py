"""The plain loop that this project is measured against: what segmentation-models-pytorch's documentation shows.

float32, NCHW, files decoded in every epoch, resized to a square, flips, Adam at 2e-4 with a cosine over 750 steps, Dice
loss, Lightning's defaults, no workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import segmentation_models_pytorch as smp
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from unet_segmentation.training.augmentation import A

Pair = tuple[Path, Path]  # files of an image and of its mask; a mask holds class ids, 255 is ignored

WITHOUT_EXTRAS: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class PlainSamples(torch.utils.data.Dataset[Any]):
    """Files, decoded whenever they are asked for.

    Args:
        files: images and masks.
        size: of the square they are resized to.
        flip: at random, as for training.
    """

    def __init__(self, files: Sequence[Pair], size: int, *, flip: bool = True) -> None:
        self.files = files
        flips = [A.HorizontalFlip(), A.VerticalFlip()] if flip else []
        self.transform = A.Compose([A.Resize(size, size), *flips])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return an image (3, size, size) and its mask (size, size)."""
        image, mask = (Image.open(path) for path in self.files[index])
        pair = self.transform(image=np.array(image.convert("RGB")), mask=np.array(mask))
        return pair["image"].transpose(2, 0, 1), pair["mask"].astype(np.int64)


class PlainModule(L.LightningModule):
    """The documentation's module."""

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: str, classes: int) -> None:
        super().__init__()
        self.network = smp.Unet(encoder, encoder_weights=None, classes=classes)
        self.loss = smp.losses.DiceLoss("multiclass", from_logits=True, ignore_index=255)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        return self.network((images.float() / 255.0 - self.mean) / self.std)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:  # noqa: D102
        return self.loss(self(batch[0]).contiguous(), batch[1])

    def configure_optimizers(self) -> Any:  # noqa: D102
        optimizer = torch.optim.Adam(self.parameters(), 2e-4)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 750, 1e-5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def train_plainly(module: PlainModule, samples: PlainSamples, batch: int, **options: Any) -> L.Trainer:
    """Train, and give Lightning's trainer.

    Args:
        module: trained in place.
        samples: of the training split.
        batch: size of a batch; an epoch's last, smaller one is left out.
        **options: of Lightning's trainer, such as ``max_time`` and ``max_epochs``.
    """
    loader = torch.utils.data.DataLoader(samples, batch, shuffle=True, drop_last=True)
    trainer = L.Trainer(**WITHOUT_EXTRAS, **options)
    trainer.fit(module, loader)
    return trainer


@torch.no_grad()
def logits_of(module: PlainModule, samples: PlainSamples) -> Iterator[Tensor]:
    """Return the logits (1, classes, size, size) of one image after the other."""
    module.eval()
    for image, _ in (samples[index] for index in range(len(samples))):
        yield module(torch.from_numpy(image)[None])
