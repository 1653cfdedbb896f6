"""The up-sampling laboratory: one network, every way up, trained alike and looked at before and after."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from unet_segmentation.atomic import remove, whole
from unet_segmentation.errors import ConfigurationError, DataError
from unet_segmentation.learning.costs import measure_speed, network_costs
from unet_segmentation.learning.evaluating import predict_samples
from unet_segmentation.learning.network import build_network, describe_network, load_model
from unet_segmentation.learning.plan import labelled_split
from unet_segmentation.learning.single import draw_network, train_one
from unet_segmentation.learning.trainer import load_weights
from unet_segmentation.parameters import InferenceParameters, NetworkParameters, TrainingParameters
from unet_segmentation.predicting.predictor import Predictor
from unet_segmentation.predicting.tiles import padded
from unet_segmentation.samples.packing import Image, PackedSamples
from unet_segmentation.scoring.checkerboard import LEAST_PERIODS, checkerboard_energies
from unet_segmentation.scoring.comparison import compare_sums
from unet_segmentation.scoring.intervals import Resampling, bootstrap
from unet_segmentation.scoring.metrics import scores
from unet_segmentation.scoring.prediction_files import count_predictions
from unet_segmentation.scoring.repeated import RepeatedSums
from unet_segmentation.scoring.sums import Sums

logger = logging.getLogger(__name__)

Logits = NDArray[np.float32]  # (N, classes, H, W)

KEY = ["network", "upsampling", "seed"]
SCORES = ("dice/mean", "iou/mean", "dice/foreground_mean", "iou/foreground_mean", "accuracy/pixel")
STRIDES = (2, 4, 8)
LARGEST_SIDE = 256  # pixels of an image whose logits are looked at


@dataclass(frozen=True)
class Data:
    """What all trainings of the laboratory share.

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
        found = labelled_split(self.samples).get(self.split)
        if not found:
            raise DataError(f"The {self.split} split has no sample with a mask: name another in evaluation.split")
        return found


class Measured(NamedTuple):
    """What one training has shown.

    Attributes:
        row: scores, checkerboards and the best epoch, by name.
        confusion: sparse counts per image: sample_id, truth, prediction, count.
        soft: the article's sums per image.
    """

    row: dict[str, Any]
    confusion: pd.DataFrame
    soft: pd.DataFrame


def check_ways(
    networks: Mapping[str, NetworkParameters], ways: Sequence[str], classes: list[str], profile: dict[str, Any]
) -> None:
    """Refuse what cannot be built before anything is trained.

    Raises:
        ConfigurationError: names the network, and what is wrong with it.
    """
    for name, network in networks.items():
        for way in ways:
            try:
                describe_network(network.model_copy(update={"upsampling": way}), classes, profile)
            except ConfigurationError as error:
                raise ConfigurationError(f"article.upsampling.networks.{name}: {error}") from None


def measure_way(
    network: NetworkParameters,
    training: TrainingParameters,
    data: Data,
    inference: InferenceParameters,
    images: int,
    folder: Path,
) -> Measured:
    """Train a network and look at it: its scores, and the checkerboards in its logits before and after training.

    An unfinished training goes on; a finished one is not trained again.

    Args:
        network: with its way up.
        training: the parameters.
        data: that it is trained and tested on.
        inference: the predictor's parameters.
        images: so many of the evaluated samples are looked at for checkerboards.
        folder: of this training alone; gets ``logits.npz``, see :func:`read_logits`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    specification, weights = draw_network(network, training, data.values, data.classes, data.profile)
    parts = data.samples, data.profile, data.packed, data.recipe, data.values
    trained = train_one(specification, weights, *parts, training, folder)
    batch = example_batch(data.packed, data.evaluated[:images], specification["multiple"])
    untrained = build_network(specification)
    load_weights(untrained, weights)
    # untrained, a network has no statistics but those of its batch: it is looked at as its first step sees it
    logits = {
        "initial": logits_of(untrained.train(), batch),
        "trained": logits_of(load_model(trained.best)[0].eval(), batch),
    }
    with whole(folder / "logits.npz") as temporary, temporary.open("wb") as stream:
        np.savez(stream, **{name: values[0] for name, values in logits.items()})  # type: ignore[arg-type]
    confusion, soft = _counts(trained.best, data, inference, folder)
    found = scores(confusion, soft, data.classes)
    row = {"best_epoch": trained.information["epoch"]} | {name: found[name] for name in SCORES}
    for when, values in logits.items():
        row |= {f"checkerboard/{when}/{stride}": share for stride, share in checkerboards(values).items()}
    return Measured(row, confusion, soft)


def _counts(model: Path, data: Data, inference: InferenceParameters, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predict the evaluated samples, and count."""
    masks = folder / "predicting"
    remove(masks)
    masks.mkdir()
    soft = predict_samples(Predictor.from_file(model, inference), data.packed, data.evaluated, masks).soft
    confusion = count_predictions(masks, data.evaluated, data.packed.mask, len(data.classes))
    remove(masks)
    return confusion, soft


def example_batch(packed: PackedSamples, sample_ids: Sequence[str], multiple: int) -> Image:
    """Cut the middle out of images, all of one size.

    Args:
        packed: the images.
        sample_ids: which.
        multiple: what height and width are multiples of.

    Returns:
        (N, H, W, C); of at most `LARGEST_SIDE` pixels a side, and at least enough for all of `STRIDES`: smaller images
        are extended by reflection.
    """
    least = -(-LEAST_PERIODS * max(STRIDES) // multiple) * multiple
    shapes = np.array([packed.shape(sample_id)[:2] for sample_id in sample_ids])
    sides = np.minimum(shapes.min(axis=0), LARGEST_SIDE) // multiple * multiple
    height, width = (max(least, int(side)) for side in sides)
    cut = []
    for sample_id in sample_ids:
        image = packed.image(sample_id)
        image = padded(image, (max(height, image.shape[0]), max(width, image.shape[1])))
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        cut.append(image[top : top + height, left : left + width])
    return np.stack(cut)  # type: ignore[return-value]


@torch.no_grad()
def logits_of(network: nn.Module, images: Image) -> Logits:
    """Give the logits of a batch (N, H, W, C), on the CPU, in whichever mode the network is."""
    pixels = torch.from_numpy(images.astype(np.int32)).permute(0, 3, 1, 2)
    logits: Logits = network(pixels).numpy()
    return logits


def checkerboards(logits: Logits) -> dict[int, float]:
    """Give the share of the energy of each stride, over several images."""
    return checkerboard_energies(list(logits), STRIDES)


def read_logits(folder: Path) -> dict[str, Logits]:
    """Read the logits of the first image: `initial` and `trained`, (classes, H, W) each.

    Args:
        folder: of the training.

    Raises:
        DataError: they are not there.
    """
    try:
        with np.load(folder / "logits.npz") as file:
            return {name: file[name] for name in ("initial", "trained")}
    except FileNotFoundError:
        raise DataError(f"{folder} holds no logits: run the laboratory first (kedro run --pipelines article)") from None


def costs_of_ways(
    networks: Mapping[str, NetworkParameters],
    ways: Sequence[str],
    classes: list[str],
    profile: dict[str, Any],
    values: Mapping[str, Any],
    *,
    side: int,
    batch_size: int,
    seconds: float,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Say what each network costs with each way up.

    Args:
        networks: by name.
        ways: for each of them.
        classes: names of the classes.
        profile: statistics of the training split.
        values: of the plan.
        side: of the images, in pixels.
        batch_size: of the steps that are timed.
        seconds: of each measurement.

    Returns:
        Two tables with a row for each network (column ``network``) and way (``upsampling``): what
        `costs.network_costs` counts, the same at any time, and what `costs.measure_speed` measures, which is not.
    """
    counts, speeds = [], []
    for name, network in networks.items():
        for way in ways:
            chosen = network.model_copy(update={"upsampling": way})
            counted, measured = costs_of(chosen, classes, profile, values, side, batch_size, seconds)
            key = {"network": name, "upsampling": way}
            counts.append(key | counted)
            speeds.append(key | measured)
    return pd.DataFrame(counts), pd.DataFrame(speeds)


def costs_of(
    network: NetworkParameters,
    classes: list[str],
    profile: dict[str, Any],
    values: Mapping[str, Any],
    side: int,
    batch_size: int,
    seconds: float,
) -> tuple[dict[str, int], dict[str, float]]:
    """Count what a network costs, and measure how fast it is; see :func:`costs_of_ways`."""
    specification, weights = draw_network(network, TrainingParameters(), values, classes, profile)
    side = -(-side // specification["multiple"]) * specification["multiple"]
    model = build_network(specification)
    load_weights(model, weights)
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    speed = measure_speed(model, side, side, batch_size=batch_size, seconds=seconds, accelerator=accelerator)
    return network_costs(specification, side, side), speed


def summarise(
    runs: pd.DataFrame,
    sums: Mapping[tuple[Hashable, ...], Sums],
    score: str,
    reference: str,
    margin: float,
    resampling: Resampling,
) -> pd.DataFrame:
    """Put the ways up of each network side by side.

    Args:
        runs: a row per network, upsampling and seed.
        sums: of each of them (network, upsampling, seed), over the same images.
        score: that is compared.
        reference: the way up that the others are compared with.
        margin: the difference that does not matter.
        resampling: of the intervals and of the test.

    Returns:
        A row per network and upsampling: seeds (how many), value (mean over the seeds), spread (their sample standard
        deviation), low and high (interval over the images); difference to the reference with the same seeds on the
        same images, its interval (difference_low, difference_high), p_value and verdict (`reference` for itself);
        and the means of the checkerboards.
    """
    checkerboard = [name for name in runs if str(name).startswith("checkerboard/")]
    rows = []
    for (network, way), group in runs.groupby(["network", "upsampling"], sort=False):
        ours, theirs = (
            RepeatedSums.of([sums[network, each, seed] for seed in group["seed"]]) for each in (way, reference)
        )
        value = bootstrap(ours, resampling).set_index("score").loc[score]
        row = {
            "network": network, "upsampling": way, "seeds": len(group), "value": value["value"],
            "spread": group[score].std(ddof=1), "low": value["low"], "high": value["high"],
            "difference": np.nan, "difference_low": np.nan, "difference_high": np.nan, "p_value": np.nan,
            "verdict": "reference",
        }  # fmt: skip
        if way != reference:
            found = compare_sums(ours, theirs, resampling, margin=margin).set_index("score").loc[score]
            row |= {"difference": found["difference"], "p_value": found["p_value"], "verdict": found["verdict"]}
            row |= {"difference_low": found["low"], "difference_high": found["high"]}
        rows.append(row | group[checkerboard].mean().to_dict())
    return pd.DataFrame(rows)
