"""Trainings of several networks on equal terms: each on the same data, with the same recipe, for as many epochs."""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.errors import DataError
from unet_segmentation.inference.predict_split import predict_split
from unet_segmentation.inference.predictor import Predictor
from unet_segmentation.metrics.count_tables import groups_of
from unet_segmentation.metrics.definitions import scores
from unet_segmentation.metrics.prediction_masks import count_predictions
from unet_segmentation.metrics.sufficient_statistics import UnitSums
from unet_segmentation.parameters import ModelParameters, PredictorParameters, TrainingParameters
from unet_segmentation.parameters.article_claims import PresetParameters
from unet_segmentation.training.plan import effective_values, labelled_ids_by_split, steps_per_epoch
from unet_segmentation.training.train_model import initialize_model, train_model
from unet_segmentation.utils.atomic_io import remove

logger = logging.getLogger(__name__)

SCORES = ("dice/mean", "iou/mean", "dice/foreground_mean", "iou/foreground_mean", "accuracy/pixel")


@dataclass(frozen=True)
class Data:
    """What all trainings share.

    Attributes:
        samples: columns sample_id, split, masks, group.
        packed: images and masks.
        profile: statistics of the training split.
        recipe: of the augmentation.
        values: of the plan.
        classes: names of the classes.
        split: that is evaluated.
    """

    samples: pd.DataFrame
    packed: PackedSamples
    profile: dict[str, Any]
    recipe: dict[str, Any]
    values: Mapping[str, Any]
    classes: list[str]
    split: str

    @property
    def evaluated(self) -> list[str]:
        """The samples that are scored.

        Raises:
            DataError: there is none.
        """
        found = labelled_ids_by_split(self.samples).get(self.split)
        if not found:
            raise DataError(f"The {self.split} split has no sample with a mask: name another in evaluation.split")
        return found


class GridPoint(NamedTuple):
    """One of several trainings.

    Attributes:
        key: what tells it from the others, column by column; the seed is one of them.
        network: that is trained.
    """

    key: dict[str, Any]
    network: ModelParameters

    def place(self, folder: Path) -> Path:
        """Its own folder below one for all."""
        return folder / "-".join(map(str, self.key.values()))


class Measured(NamedTuple):
    """What trainings have shown, each row under the key of its training.

    Attributes:
        runs: a row per training: `SCORES`, and the best epoch.
        confusion: sparse counts per image: sample_id, truth, prediction, count.
        soft_overlap_sums: the article's sums per image.
        models: file of the best epoch of each training.
    """

    runs: pd.DataFrame
    confusion: pd.DataFrame
    soft_overlap_sums: pd.DataFrame
    models: list[Path]


def shared_training_parameters(
    parameters: TrainingParameters, form: PresetParameters, steps: int, data: Data
) -> TrainingParameters:
    """Describe how all networks of an experiment are trained.

    Args:
        parameters: the problem's.
        form: may replace patch and batch.
        steps: of each training, made up to whole epochs.
        data: that they are trained on.
    """
    own = {"patch_size": form.patch_size, "batch_size": form.batch_size}
    given: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
    equal = parameters.model_copy(update=given | {"max_time_minutes": None, "extra_epochs": None})
    return equal.model_copy(update={"epochs": math.ceil(steps / _steps_of_an_epoch(equal, data))})


def _steps_of_an_epoch(parameters: TrainingParameters, data: Data) -> int:
    images = len(labelled_ids_by_split(data.samples)["train"])
    return steps_per_epoch(effective_values(parameters, data.values), parameters.accumulate_grad_batches, images)


def expected_seconds(
    trainings: Sequence[GridPoint], parameters: TrainingParameters, data: Data, speeds: pd.DataFrame, side: int
) -> float:
    """Expect how long trainings take, all together, without validation and prediction.

    Args:
        trainings: that are to be done.
        parameters: see :func:`equal_terms`.
        data: that they are trained on.
        speeds: ``training_images_per_second`` of each network, under the columns of the keys but for the seed.
        side: of the images that the speeds were measured with; time goes with the number of pixels.
    """
    values = effective_values(parameters, data.values)
    patches = values["epochs"] * _steps_of_an_epoch(parameters, data) * values["batch_size"]
    seconds = patches * (values["patch_size"] / side) ** 2 / speeds["training_images_per_second"]
    keys = pd.DataFrame([training.key for training in trainings])
    shared = [name for name in keys if name in speeds]
    return float(keys.merge(speeds[shared].assign(seconds=seconds), on=shared)["seconds"].sum())


def train_all(
    trainings: Sequence[GridPoint],
    parameters: TrainingParameters,
    data: Data,
    inference: PredictorParameters,
    folder: Path,
) -> Measured:
    """Train networks one after the other, and score each on the evaluated split.

    An unfinished training goes on; a finished one is not trained again.

    Args:
        trainings: with the seed of each in its key.
        parameters: of training, see :func:`equal_terms`; the seed is given.
        data: that they are trained and scored on.
        inference: the predictor's parameters.
        folder: gets a folder for each training.
    """
    rows, confusions, softs, models = [], [], [], []
    for number, training in enumerate(trainings, 1):
        logger.info("training %d/%d: %s", number, len(trainings), _words(training))
        place = training.place(folder)
        model, epoch = _best(training, parameters, data, place)
        confusion, soft = _counts(model, data, inference, place)
        found = scores(confusion, soft, data.classes)
        rows.append({**training.key, "best_epoch": epoch} | {name: found[name] for name in SCORES})
        confusions.append(confusion.assign(**training.key))
        softs.append(soft.assign(**training.key))
        models.append(model)
    confusion, soft = (pd.concat(tables, ignore_index=True) for tables in (confusions, softs))
    return Measured(pd.DataFrame(rows), confusion, soft, models)


def _words(training: GridPoint) -> str:
    return ", ".join(f"seed {value}" if name == "seed" else str(value) for name, value in training.key.items())


def _best(training: GridPoint, parameters: TrainingParameters, data: Data, folder: Path) -> tuple[Path, int]:
    """Train; give the model of the best epoch, and which that is."""
    folder.mkdir(parents=True, exist_ok=True)
    seeded = parameters.model_copy(update={"seed": training.key["seed"]})
    specification, weights = initialize_model(training.network, seeded, data.values, data.classes, data.profile)
    parts = data.samples, data.profile, data.packed, data.recipe, data.values
    trained = train_model(specification, weights, *parts, seeded, folder)
    return trained.best, trained.information.epoch


def _counts(model: Path, data: Data, inference: PredictorParameters, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predict the evaluated samples, and count."""
    masks = folder / "predicting"
    remove(masks)
    masks.mkdir()
    soft = predict_split(Predictor.from_file(model, inference), data.packed, data.evaluated, masks).soft
    confusion = count_predictions(masks, data.evaluated, data.packed.mask, len(data.classes))
    remove(masks)
    return confusion, soft


def sums_of(
    confusion: pd.DataFrame, soft_overlap_sums: pd.DataFrame, key: list[str], samples: pd.DataFrame, classes: list[str]
) -> dict[tuple[Hashable, ...], UnitSums]:
    """Take counts of several trainings apart.

    Args:
        confusion: of all, see `Measured`.
        soft_overlap_sums: likewise.
        key: columns that tell the trainings from each other.
        samples: with their groups.
        classes: names of the classes.

    Returns:
        The sums of each, by the values of its key.
    """
    groups, counts = groups_of(samples), confusion.groupby(key, sort=False)
    return {
        values: UnitSums.of(counts.get_group(values), soft, classes, groups)
        for values, soft in soft_overlap_sums.groupby(key, sort=False)
    }
