"""Which metric may one believe? Problems of falling foreground share, and predictions that look at nothing.

A metric that gives a good value to a prediction that never looks at the image cannot be believed where foreground is
rare. Two such predictions stand beside a trained network: `background`, which is background everywhere, and `random`,
which tosses a coin for every pixel.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.learning.augmentation import compose_recipe
from unet_segmentation.learning.planning import default_values
from unet_segmentation.learning.single import draw_network, train_one
from unet_segmentation.parameters import (
    AugmentationParameters,
    InferenceParameters,
    NetworkParameters,
    TrainingParameters,
    TransformParameters,
)
from unet_segmentation.parameters.article import MetricExperimentParameters
from unet_segmentation.predicting.backend import Mask, Probabilities
from unet_segmentation.predicting.predictor import Predictor
from unet_segmentation.predicting.tiles import most_probable
from unet_segmentation.samples.packing import PackedSamples, pack
from unet_segmentation.samples.profiling import profile_samples
from unet_segmentation.scoring.counting import confusion_matrix, confusion_table, soft_counts
from unet_segmentation.scoring.metrics import scores
from unet_segmentation.sources.cells import SIDE, draw_sample

logger = logging.getLogger(__name__)

CLASSES = ["background", "cell"]
PREDICTIONS = ("network", "background", "random")

CELL = 0.048  # of what is still free of a field of 128 x 128 pixels, a further cell covers such a share: measured

METRICS = {  # to what it is called in a figure, the ones that many report first
    "accuracy/pixel": "pixel accuracy",
    "article/dice_smooth1": "Dice, smooth = 1, all classes (the article's)",
    "article/iou_smooth1": "IoU, smooth = 1, all classes (the article's)",
    "foreground_smooth1/dice_image_mean": "Dice, smooth = 1, foreground, per image",
    "foreground_smooth1/iou_image_mean": "IoU, smooth = 1, foreground, per image",
    "dice/mean": "mean Dice, background included",
    "iou/mean": "mean IoU, background included",
    "dice/foreground_image_mean": "Dice of the foreground, per image",
    "iou/foreground_image_mean": "IoU of the foreground, per image",
    "foreground_smooth1/dice_global": "Dice, smooth = 1, foreground, summed first",
    "dice/foreground_mean": "Dice of the foreground, summed first",
    "iou/foreground_mean": "IoU of the foreground, summed first",
}

Predicted = tuple[str, Mask, Probabilities]  # id, true mask, probabilities (2, H, W)


class ForegroundSums(NamedTuple):
    """Sums over the pixels of one image, of the foreground alone.

    Attributes:
        intersection: of p t, with its probability p and the truth t.
        truth: of t.
        prediction: of p.
    """

    intersection: float
    truth: float
    prediction: float


def run_experiment(parameters: MetricExperimentParameters, folder: Path) -> pd.DataFrame:
    """Draw a problem of each share, train a network on it, and score it beside predictions that look at nothing.

    Args:
        parameters: shares, sizes and the training.
        folder: gets a folder for each share. A finished training in it is not trained again.

    Returns:
        Columns share (as asked for), foreground (share of the test pixels), empty (share of the test images without
        foreground), prediction, metric, value (NaN where undefined).
    """
    rows = []
    for number, share in enumerate(parameters.shares, 1):
        logger.info("problem %d/%d: %.2g %% foreground", number, len(parameters.shares), 100 * share)
        packed, samples = draw_problem(share, parameters, folder / f"{share:g}")
        test = samples.loc[samples["split"] == "test", "sample_id"].tolist()
        masks = {name: packed.mask(name) for name in test}
        predictor = _trained(packed, samples, parameters, folder / f"{share:g}" / "training")
        foreground = [float(mask.mean()) for mask in masks.values()]
        known = {"share": share, "foreground": np.mean(foreground), "empty": np.mean([not part for part in foreground])}
        for prediction in PREDICTIONS:
            found = score(_predictions(prediction, predictor, packed, masks, parameters.seed))
            rows += [known | {"prediction": prediction, "metric": name, "value": found[name]} for name in METRICS]
    return pd.DataFrame(rows)


def cells_of(share: float, images: int, size: int) -> list[int]:
    """Say how many cells each of some images gets, so that a share of all pixels is foreground.

    As many images as possible get the same number: of rare foreground, some have one cell and the others none.

    >>> cells_of(0.0125, 8, 128), cells_of(0.1, 4, 128)
    ([0, 0, 0, 1, 0, 0, 0, 1], [2, 2, 2, 2])
    """
    each = math.log(1 - share) / math.log(1 - CELL) * (size / SIDE) ** 2
    steps = np.floor(np.arange(images + 1) * each + 1e-9).astype(int)
    return np.diff(steps).tolist()


def draw_problem(
    share: float, parameters: MetricExperimentParameters, folder: Path
) -> tuple[PackedSamples, pd.DataFrame]:
    """Draw a problem of two classes, the cells against the rest.

    Args:
        share: of the pixels that are foreground, about.
        parameters: sizes and the seed.
        folder: gets the packed arrays.

    Returns:
        The images, and a row per sample: what `profiling.profile_samples` needs.
    """
    counts = {
        "train": parameters.training_images, "validation": parameters.validation_images, "test": parameters.test_images,
    }  # fmt: skip
    drawn, rows, index = {}, [], 0
    for split, images in counts.items():
        for cells in cells_of(share, images, parameters.size):
            image, mask = draw_sample(index, parameters.seed, parameters.size, cells)
            mask = (mask > 0).astype(np.uint8)
            name = f"{index:04d}"
            drawn[name] = image, mask
            rows.append({"sample_id": name, "split": split, **_facts(image, mask)})
            index += 1
    return pack(folder / "packed", drawn), pd.DataFrame(rows)


def _facts(image: NDArray[np.uint8], mask: Mask) -> dict[str, object]:
    """Say of one image what inspection would."""
    return {
        "masks": ["drawn"],
        "height": image.shape[0],
        "width": image.shape[1],
        "channels": image.shape[2],
        "dtype": str(image.dtype),
        "image_sha256": hashlib.sha256(image.tobytes()).hexdigest(),
        "mask_sha256": hashlib.sha256(mask.tobytes()).hexdigest(),
        "channel_mean": image.mean(axis=(0, 1)).tolist(),
        "channel_std": image.std(axis=(0, 1)).tolist(),
        "class_pixels": np.bincount(mask.ravel(), minlength=len(CLASSES)).tolist(),
        "ignored_pixels": 0,
    }


def _trained(
    packed: PackedSamples, samples: pd.DataFrame, parameters: MetricExperimentParameters, folder: Path
) -> Predictor:
    """Train a network on a drawn problem."""
    facts = ["sample_id", "channel_mean", "channel_std", "class_pixels", "ignored_pixels"]
    table = samples.drop(columns=facts[1:])
    profile = profile_samples(table, samples[facts], CLASSES)
    training = TrainingParameters(epochs=parameters.epochs, batch_size=parameters.batch_size, seed=parameters.seed)
    values = default_values(training, profile)
    network = NetworkParameters.model_validate(parameters.network)
    augmentation = AugmentationParameters(transforms=[TransformParameters(name="D4")])
    recipe = compose_recipe(augmentation, profile["channels"], profile["dtype"])
    specification, weights = draw_network(network, training, values, CLASSES, profile)
    trained = train_one(specification, weights, table, profile, packed, recipe, values, training, folder)
    return Predictor.from_file(trained.best, InferenceParameters())


def _predictions(
    kind: str, predictor: Predictor, packed: PackedSamples, masks: Mapping[str, Mask], seed: int
) -> Iterator[Predicted]:
    if kind == "network":
        found = predictor.predict_many(packed.image(name) for name in masks)
        yield from ((name, mask, each) for (name, mask), each in zip(masks.items(), found, strict=True))
    else:
        generator = np.random.default_rng(seed)
        yield from ((name, mask, blind(kind, mask.shape, generator)) for name, mask in masks.items())


def blind(kind: str, shape: tuple[int, ...], generator: np.random.Generator) -> Probabilities:
    """Predict without looking: `background` everywhere, or `random`, a coin for every pixel; 0 or 1, never between."""
    foreground = generator.random(shape) < 0.5 if kind == "random" else np.zeros(shape, bool)
    return np.stack([~foreground, foreground]).astype(np.float32)


def score(predicted: Iterable[Predicted]) -> dict[str, float]:
    """Give every metric of `METRICS`.

    Args:
        predicted: id, true mask (H, W) of 0 and 1, and probabilities (2, H, W) of each image; read one by one.
    """
    matrices, soft, foreground = [], [], []
    for name, mask, probabilities in predicted:
        matrices.append((name, confusion_matrix(mask, most_probable(probabilities), len(CLASSES))))
        soft.append((name, *soft_counts(mask, probabilities)))
        foreground.append(foreground_sums(mask, probabilities[1]))
    sums = pd.DataFrame(soft, columns=["sample_id", "intersection", "truth", "prediction"])
    found = scores(confusion_table(matrices), sums, CLASSES) | smooth_foreground(foreground)
    return {name: found[name] for name in METRICS}


def foreground_sums(mask: Mask, probability: NDArray[np.floating]) -> ForegroundSums:
    """Sum up one image, (H, W) each."""
    truth = mask == 1
    return ForegroundSums(
        float(probability[truth].sum(dtype=np.float64)), float(truth.sum()), float(probability.sum(dtype=np.float64))
    )


def smooth_foreground(sums: Iterable[ForegroundSums]) -> dict[str, float]:
    """Give the smooth = 1 forms of the foreground alone, as most code has them.

    Of an image without foreground they are 1 / (1 + sum of p): 1 for a prediction of nothing, and a half for a single
    pixel. A prediction of nothing has 1 / (1 + sum of t) where there is foreground, and should have 0.

    Args:
        sums: of each image.

    Returns:
        ``foreground_smooth1/dice_image_mean`` and ``.../iou_image_mean``, over the images; ``.../dice_global``, where
        everything is summed first.
    """
    table = np.array(list(sums), np.float64)
    return {
        "foreground_smooth1/dice_image_mean": float(_smooth_dice(table).mean()),
        "foreground_smooth1/iou_image_mean": float(_smooth_iou(table).mean()),
        "foreground_smooth1/dice_global": float(_smooth_dice(table.sum(axis=0))),
    }


def _smooth_dice(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    intersection, truth, prediction = sums.T
    found: NDArray[np.float64] = (2 * intersection + 1) / (truth + prediction + 1)
    return found


def _smooth_iou(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    intersection, truth, prediction = sums.T
    found: NDArray[np.float64] = (intersection + 1) / (truth + prediction - intersection + 1)
    return found
