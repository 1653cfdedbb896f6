"""Reliability of metrics under class imbalance: problems of decreasing foreground share, and trivial predictions.

A metric that gives a good value to a prediction that ignores the image is not reliable where foreground is rare. Two
such predictions are compared with a trained model: `background`, which is background everywhere, and `random`, which
tosses a coin for every pixel.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.data.statistics import compute_statistics
from unet_segmentation.data.store.packed_arrays import PackedSamples, pack
from unet_segmentation.data.synthetic.cells import SIDE, draw_sample
from unet_segmentation.inference.backends.base import Mask, Probabilities
from unet_segmentation.inference.predictor import Predictor
from unet_segmentation.inference.sliding_window import argmax_mask
from unet_segmentation.metrics.bootstrap import Resampling, bootstrap, confidence_limits, left_out, resampled_sums
from unet_segmentation.metrics.confusion_matrix import confusion_matrix, confusion_table
from unet_segmentation.metrics.evaluation_tables import EvaluationTables
from unet_segmentation.metrics.soft_overlap import SoftOverlapSums, soft_overlap_sums
from unet_segmentation.metrics.sufficient_statistics import UnitSums
from unet_segmentation.parameters import (
    AugmentationParameters,
    ModelParameters,
    PredictorParameters,
    TrainingParameters,
    TransformParameters,
)
from unet_segmentation.parameters.article_claims import MetricBenchmarkParameters
from unet_segmentation.training.augmentation import compose_recipe
from unet_segmentation.training.plan_rules import default_plan_values
from unet_segmentation.training.train_model import resolve_spec_and_init_weights, train_model
from unet_segmentation.training.training_inputs import TrainingInputs

logger = logging.getLogger(__name__)

CLASSES = ["background", "cell"]
RESAMPLING = Resampling()
TRIVIAL = ("background", "random")  # predictions that ignore the image
PREDICTIONS = ("network", *TRIVIAL)
MAX_RELIABLE, MAX_PARTLY = 0.05, 0.3  # of a trivial prediction's value, where foreground is rarest

CELL = 0.048  # share of the free pixels of a field of 128 x 128 that one more cell covers: measured

METRICS = {  # name to title, those that are reported most often first
    "accuracy/pixel": "pixel accuracy",
    "soft_dice/smooth1": "Dice, smooth = 1, all classes (the article's)",
    "soft_iou/smooth1": "IoU, smooth = 1, all classes (the article's)",
    "foreground_smooth1/dice_image_mean": "Dice, smooth = 1, foreground, per image",
    "foreground_smooth1/iou_image_mean": "IoU, smooth = 1, foreground, per image",
    "dice/mean": "mean Dice, background included",
    "iou/mean": "mean IoU, background included",
    "dice/foreground_per_image_mean": "Dice of the foreground, per image",
    "iou/foreground_per_image_mean": "IoU of the foreground, per image",
    "foreground_smooth1/dice_global": "Dice, smooth = 1, foreground, summed first",
    "dice/foreground_mean": "Dice of the foreground, summed first",
    "iou/foreground_mean": "IoU of the foreground, summed first",
}

Predicted = tuple[str, Mask, Probabilities]  # id, true mask, probabilities (2, H, W)


def run_experiment(
    parameters: MetricBenchmarkParameters, epochs: int, folder: Path, resampling: Resampling = RESAMPLING
) -> pd.DataFrame:
    """Draw a problem of each share, train a model on it, and score it and the trivial predictions.

    `folder` gets a directory for each share; a finished training run in it is not trained again.

    Returns:
        Columns share (as declared), foreground (share of the test pixels), empty (share of the test images without
        foreground), prediction, metric, value (NaN where undefined), low and high (interval over the test images).
    """
    rows = []
    for number, share in enumerate(parameters.shares, 1):
        logger.info("problem %d/%d: %.2g %% foreground", number, len(parameters.shares), 100 * share)
        packed, samples = draw_problem(share, parameters, folder / f"{share:g}")
        test = samples.loc[samples["split"] == "test", "sample_id"].tolist()
        masks = {name: packed.mask(name) for name in test}
        predictor = _trained(packed, samples, parameters, epochs, folder / f"{share:g}" / "training")
        foreground = [float(mask.mean()) for mask in masks.values()]
        columns = {
            "share": share,
            "foreground": np.mean(foreground),
            "empty": np.mean([not part for part in foreground]),
        }
        for prediction in PREDICTIONS:
            table = score(_predictions(prediction, predictor, packed, masks, parameters.seed), resampling)
            columns["prediction"] = prediction
            rows += [columns | {"metric": name} | table.loc[name].to_dict() for name in METRICS]
    return pd.DataFrame(rows)


def metric_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """Judge each metric by the value of a trivial prediction where foreground is rarest; `table`: see `run_experiment`.

    Returns:
        A row per metric, in the table's order: metric, trivial (the highest value of a trivial prediction), network
        with its interval (network_low, network_high), gap (network - trivial), judgment: `yes` (trivial at most
        0.05), `partly` (at most 0.3), `no`.
    """
    rarest = table[table["share"] == table["share"].min()]
    names = list(dict.fromkeys(table["metric"]))
    values, low, high = (
        rarest.pivot(index="metric", columns="prediction", values=name).loc[names] for name in ("value", "low", "high")
    )
    trivial = values[[name for name in TRIVIAL if name in values]].max(axis=1)
    judgment = ["yes" if value <= MAX_RELIABLE else "partly" if value <= MAX_PARTLY else "no" for value in trivial]
    network = {"network": values["network"], "network_low": low["network"], "network_high": high["network"]}
    columns = {"trivial": trivial, **network, "gap": values["network"] - trivial, "judgment": judgment}
    return pd.DataFrame(columns).reset_index()


def distribute_cells(share: float, images: int, size: int) -> list[int]:
    """Distribute cells over images so that a share of all pixels is foreground.

    Images differ by one cell at most: of rare foreground, some have one cell and the others none.

    >>> distribute_cells(0.0125, 8, 128), distribute_cells(0.1, 4, 128)
    ([0, 0, 0, 1, 0, 0, 0, 1], [2, 2, 2, 2])
    """
    each = math.log(1 - share) / math.log(1 - CELL) * (size / SIDE) ** 2
    steps = np.floor(np.arange(images + 1) * each + 1e-9).astype(int)
    return np.diff(steps).tolist()


def draw_problem(
    share: float, parameters: MetricBenchmarkParameters, folder: Path
) -> tuple[PackedSamples, pd.DataFrame]:
    """Draw a problem of two classes, cells and background, of which about `share` of the pixels are cells.

    Returns:
        The images, packed in `folder`, and a row per sample: what `data.statistics.compute_statistics` needs.
    """
    counts = {
        "train": parameters.training_images, "validation": parameters.validation_images, "test": parameters.test_images,
    }  # fmt: skip
    drawn, rows, index = {}, [], 0
    for split, images in counts.items():
        for cells in distribute_cells(share, images, parameters.size):
            image, mask = draw_sample(index, parameters.seed, parameters.size, cells)
            mask = (mask > 0).astype(np.uint8)
            name = f"{index:04d}"
            drawn[name] = image, mask
            rows.append({"sample_id": name, "split": split, **_facts(image, mask)})
            index += 1
    return pack(folder / "packed", drawn), pd.DataFrame(rows)


def _facts(image: NDArray[np.uint8], mask: Mask) -> dict[str, object]:
    """Return the columns that inspection would give for an image."""
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
    packed: PackedSamples, samples: pd.DataFrame, parameters: MetricBenchmarkParameters, epochs: int, folder: Path
) -> Predictor:
    """Train a model on a drawn problem."""
    facts = ["sample_id", "channel_mean", "channel_std", "class_pixels", "ignored_pixels"]
    table = samples.drop(columns=facts[1:])
    statistics = compute_statistics(table, samples[facts], CLASSES)
    training = TrainingParameters(epochs=epochs, batch_size=parameters.batch_size, seed=parameters.seed)
    values = default_plan_values(training, statistics)
    network = ModelParameters.model_validate(parameters.model)
    augmentation = AugmentationParameters(transforms=[TransformParameters(name="D4")])
    recipe = compose_recipe(augmentation, statistics.channels, statistics.dtype)
    specification, weights = resolve_spec_and_init_weights(network, training, values, CLASSES, statistics)
    inputs = TrainingInputs(specification, weights, packed, recipe, table, statistics, values)
    trained = train_model(inputs, training, folder)
    return Predictor.from_file(trained.best, PredictorParameters())


def _predictions(
    kind: str, predictor: Predictor, packed: PackedSamples, masks: Mapping[str, Mask], seed: int
) -> Iterator[Predicted]:
    if kind == "network":
        probabilities = predictor.predict_many(packed.image(name) for name in masks)
        yield from ((name, mask, each) for (name, mask), each in zip(masks.items(), probabilities, strict=True))
    else:
        generator = np.random.default_rng(seed)
        yield from ((name, mask, trivial_prediction(kind, mask.shape, generator)) for name, mask in masks.items())


def trivial_prediction(kind: str, shape: tuple[int, ...], generator: np.random.Generator) -> Probabilities:
    """Predict `background` everywhere, or `random`, a coin for every pixel; probabilities are 0 or 1."""
    foreground = generator.random(shape) < 0.5 if kind == "random" else np.zeros(shape, bool)
    return np.stack([~foreground, foreground]).astype(np.float32)


def score(predicted: Iterable[Predicted], resampling: Resampling = RESAMPLING) -> pd.DataFrame:
    """Compute every metric of `METRICS`, with its interval over the images: columns value, low and high, by metric.

    `predicted`: id, true mask (H, W) of 0 and 1, and probabilities (2, H, W) of each image; read one by one.
    """
    matrices, soft, foreground = [], [], []
    for name, mask, probabilities in predicted:
        matrices.append((name, confusion_matrix(mask, argmax_mask(probabilities), len(CLASSES))))
        soft.append((name, *soft_overlap_sums(mask, probabilities)))
        foreground.append(foreground_sums(mask, probabilities[1]))
    sums = pd.DataFrame(soft, columns=["sample_id", "intersection", "truth", "prediction"])
    tables = EvaluationTables({"confusion": confusion_table(matrices), "soft": sums})
    common = bootstrap(UnitSums.of(tables, CLASSES), resampling).set_index("score")
    return pd.concat([common[["value", "low", "high"]], smooth_foreground(foreground, resampling)]).loc[list(METRICS)]


def foreground_sums(mask: Mask, probability: NDArray[np.floating]) -> SoftOverlapSums:
    """Compute the sums of one image, (H, W) each."""
    truth = mask == 1
    return SoftOverlapSums(
        float(probability[truth].sum(dtype=np.float64)), float(truth.sum()), float(probability.sum(dtype=np.float64))
    )


def smooth_foreground(sums: Iterable[SoftOverlapSums], resampling: Resampling = RESAMPLING) -> pd.DataFrame:
    """Compute the smooth = 1 forms of the foreground alone, as most code has them, with their intervals.

    Of an image without foreground they are 1 / (1 + sum of p): 1 for a prediction of nothing, and a half for a single
    pixel. A prediction of nothing has 1 / (1 + sum of t) where there is foreground, and should have 0.

    Returns:
        Columns value, low and high of ``foreground_smooth1/dice_image_mean`` and ``.../iou_image_mean``, over the
        images, and of ``.../dice_global``, where everything is summed first.
    """
    table = np.array(list(sums), np.float64)
    each = np.column_stack([_smooth_dice(table), _smooth_iou(table), np.ones(len(table)), table])

    def metrics(totals: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):  # without its only image, nothing remains
            means = totals[..., :2] / totals[..., 2:3]
        return np.concatenate([means, _smooth_dice(totals[..., 3:])[..., None]], axis=-1)

    value = metrics(each.sum(axis=0))
    resampled = np.concatenate([metrics(totals) for totals in resampled_sums(each, resampling)])
    low, high = confidence_limits(value, resampled, metrics(left_out(each)), resampling)
    names = ["dice_image_mean", "iou_image_mean", "dice_global"]
    index = pd.Index([f"foreground_smooth1/{name}" for name in names], name="score")
    return pd.DataFrame({"value": value, "low": low, "high": high}, index=index)


def _smooth_dice(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    intersection, truth, prediction = np.moveaxis(sums, -1, 0)
    dice: NDArray[np.float64] = (2 * intersection + 1) / (truth + prediction + 1)
    return dice


def _smooth_iou(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    intersection, truth, prediction = np.moveaxis(sums, -1, 0)
    iou: NDArray[np.float64] = (intersection + 1) / (truth + prediction - intersection + 1)
    return iou
