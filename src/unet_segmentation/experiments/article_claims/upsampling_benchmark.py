"""The up-sampling laboratory: one network, every way up, trained alike and looked at before and after."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from unet_segmentation.data.store.packed_arrays import Image, PackedSamples
from unet_segmentation.errors import ConfigurationError, DataError
from unet_segmentation.experiments.article_claims.checkerboard import LEAST_PERIODS, checkerboard_energies
from unet_segmentation.experiments.article_claims.training_grid import Data, GridPoint
from unet_segmentation.inference.sliding_window import padded
from unet_segmentation.metrics.bootstrap import Resampling, bootstrap
from unet_segmentation.metrics.multi_seed import MultiSeedSums
from unet_segmentation.metrics.paired_comparison import compare_sums
from unet_segmentation.metrics.sufficient_statistics import UnitSums
from unet_segmentation.models.complexity import measure_speed, model_complexity
from unet_segmentation.models.factory import build_model, resolve_model_spec
from unet_segmentation.models.model_file import load_model
from unet_segmentation.parameters import ModelParameters, TrainingParameters
from unet_segmentation.training.train_model import initialize_model
from unet_segmentation.training.trainer import load_weights
from unet_segmentation.utils.atomic_io import atomic_write

Logits = NDArray[np.float32]  # (N, classes, H, W)

KEY = ["network", "upsampling", "seed"]
STRIDES = (2, 4, 8)
LARGEST_SIDE = 256  # pixels of an image whose logits are looked at


def trainings_of(networks: Mapping[str, ModelParameters], ways: Sequence[str], seeds: Sequence[int]) -> list[GridPoint]:
    """List every network with every way up and every seed."""
    return [
        GridPoint(dict(zip(KEY, (name, way, seed), strict=True)), network.model_copy(update={"upsampling": way}))
        for name, network in networks.items()
        for way in ways
        for seed in seeds
    ]


def validate_upsampling_modes(
    networks: Mapping[str, ModelParameters], ways: Sequence[str], classes: list[str], profile: dict[str, Any]
) -> None:
    """Refuse what cannot be built before anything is trained.

    Raises:
        ConfigurationError: names the network, and what is wrong with it.
    """
    for name, network in networks.items():
        for way in ways:
            try:
                resolve_model_spec(network.model_copy(update={"upsampling": way}), classes, profile)
            except ConfigurationError as error:
                raise ConfigurationError(f"article_claims.upsampling.models.{name}: {error}") from None


def measure_checkerboard(
    training: GridPoint, parameters: TrainingParameters, data: Data, images: int, model: Path, folder: Path
) -> dict[str, float]:
    """Measure the checkerboards in the logits of a network before and after its training.

    Args:
        training: that is finished.
        parameters: of training; the seed is given.
        data: that it was trained on.
        images: so many of the evaluated samples are looked at.
        model: the file that it left.
        folder: of this training; gets ``logits.npz``, see :func:`read_logits`.

    Returns:
        ``checkerboard/initial/<stride>`` and ``checkerboard/trained/<stride>``, for each of `STRIDES`.
    """
    seeded = parameters.model_copy(update={"seed": training.key["seed"]})
    specification, weights = initialize_model(training.network, seeded, data.values, data.classes, data.profile)
    batch = example_batch(data.packed, data.evaluated[:images], specification.multiple)
    untrained = build_model(specification)
    load_weights(untrained, weights)
    # untrained, a network has no statistics but those of its batch: it is looked at as its first step sees it
    logits = {
        "initial": logits_of(untrained.train(), batch),
        "trained": logits_of(load_model(model)[0].eval(), batch),
    }
    with atomic_write(folder / "logits.npz") as temporary, temporary.open("wb") as stream:
        np.savez(stream, **{name: values[0] for name, values in logits.items()})  # type: ignore[arg-type]
    return {
        f"checkerboard/{when}/{stride}": share
        for when, values in logits.items()
        for stride, share in checkerboards(values).items()
    }


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
    """Return the logits of a batch (N, H, W, C), on the CPU, in whichever mode the network is."""
    pixels = torch.from_numpy(images.astype(np.int32)).permute(0, 3, 1, 2)
    logits: Logits = network(pixels).numpy()
    return logits


def checkerboards(logits: Logits) -> dict[int, float]:
    """Return the share of the energy of each stride, over several images."""
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
        raise DataError(
            f"{folder} holds no logits: run the laboratory first (kedro run --pipelines article_claims)"
        ) from None


def upsampling_costs(
    networks: Mapping[str, ModelParameters],
    counted: Mapping[str, ModelParameters],
    ways: Sequence[str],
    classes: list[str],
    profile: dict[str, Any],
    values: Mapping[str, Any],
    *,
    side: int,
    batch_size: int,
    seconds: float,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Describe what each network costs with each way up.

    Args:
        networks: by name.
        counted: further ones, whose speed is not measured.
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
    for name, network in {**networks, **counted}.items():
        for way in ways:
            chosen = network.model_copy(update={"upsampling": way})
            key = {"network": name, "upsampling": way}
            timed = seconds if name in networks else None
            found, measured = costs_of(chosen, classes, profile, values, side, batch_size, timed)
            counts.append(key | found)
            if measured:
                speeds.append(key | measured)
    return pd.DataFrame(counts), pd.DataFrame(speeds)


def costs_of(
    network: ModelParameters,
    classes: list[str],
    profile: dict[str, Any],
    values: Mapping[str, Any],
    side: int,
    batch_size: int,
    seconds: float | None,
) -> tuple[dict[str, int], dict[str, float]]:
    """Count what a network costs, and measure how fast it is, where seconds are given; see :func:`costs_of_ways`."""
    if network.encoder_depth == "auto":
        network = network.model_copy(update={"encoder_depth": values["encoder_depth"]})
    specification = resolve_model_spec(network, classes, profile)
    side = -(-side // specification.multiple) * specification.multiple
    counts = model_complexity(specification, side, side)
    if seconds is None:
        return counts, {}
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    model = build_model(specification)
    return counts, measure_speed(model, side, side, batch_size=batch_size, seconds=seconds, accelerator=accelerator)


def summarise(
    runs: pd.DataFrame,
    sums: Mapping[tuple[Hashable, ...], UnitSums],
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
        same images, its interval over the images (difference_low, difference_high), its range over the seeds
        (difference_least, difference_most), p_value and verdict (`reference` for itself); and the mean, the ``/least``
        and the ``/most`` of each checkerboard over the seeds.
    """
    checkerboard = [str(name) for name in runs if str(name).startswith("checkerboard/")]
    by_seed = runs.pivot(index="seed", columns=["network", "upsampling"], values=score)
    rows = []
    for (network, way), group in runs.groupby(["network", "upsampling"], sort=False):
        ours, theirs = (
            MultiSeedSums.of([sums[network, each, seed] for seed in group["seed"]]) for each in (way, reference)
        )
        value = bootstrap(ours, resampling).set_index("score").loc[score]
        row = {
            "network": network, "upsampling": way, "seeds": len(group), "value": value["value"],
            "spread": group[score].std(ddof=1), "low": value["low"], "high": value["high"],
            "difference": np.nan, "difference_low": np.nan, "difference_high": np.nan, "difference_least": np.nan,
            "difference_most": np.nan, "p_value": np.nan, "verdict": "reference",
        }  # fmt: skip
        if way != reference:
            found = compare_sums(ours, theirs, resampling, margin=margin).set_index("score").loc[score]
            row |= {"difference": found["difference"], "p_value": found["p_value"], "verdict": found["verdict"]}
            row |= {"difference_low": found["low"], "difference_high": found["high"]}
            each = by_seed[network, way] - by_seed[network, reference]
            row |= {"difference_least": each.min(), "difference_most": each.max()}
        for name in checkerboard:
            shares = group[name]
            row |= {name: shares.mean(), f"{name}/least": shares.min(), f"{name}/most": shares.max()}
        rows.append(row)
    return pd.DataFrame(rows)
