"""Upsampling modes on equal terms: one model with every mode, and its checkerboards before and after training."""

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
from unet_segmentation.experiments.article_claims.checkerboard import MIN_PERIODS, checkerboard_energies
from unet_segmentation.experiments.article_claims.training_grid import GridData, GridPoint
from unet_segmentation.experiments.sweep.leaderboard import comparison_columns
from unet_segmentation.inference.sliding_window import padded
from unet_segmentation.metrics.bootstrap import Resampling, bootstrap
from unet_segmentation.metrics.multi_seed import MultiSeedSums
from unet_segmentation.metrics.paired_comparison import compare_sums
from unet_segmentation.metrics.sufficient_statistics import UnitSums
from unet_segmentation.models.factory import build_model, resolve_model_spec
from unet_segmentation.models.model_file import load_model
from unet_segmentation.parameters import ModelParameters, TrainingParameters
from unet_segmentation.utils.atomic_io import atomic_write

Logits = NDArray[np.float32]  # (N, classes, H, W)

KEY = ["network", "upsampling", "seed"]
STRIDES = (2, 4, 8)
COMPARISON = (
    "difference", "difference_low", "difference_high", "difference_least", "difference_most", "p_value", "verdict",
)  # fmt: skip
MAX_SIDE = 256  # pixels of an image whose logits are measured


def upsampling_points(
    networks: Mapping[str, ModelParameters], modes: Sequence[str], seeds: Sequence[int] | None = None
) -> list[GridPoint]:
    """List every model with every upsampling mode, and with every seed where it is trained."""
    keys = [{"seed": seed} for seed in seeds] if seeds is not None else [{}]
    return [
        GridPoint({"network": name, "upsampling": mode, **key}, network.model_copy(update={"upsampling": mode}))
        for name, network in networks.items()
        for mode in modes
        for key in keys
    ]


def validate_upsampling_modes(networks: Mapping[str, ModelParameters], modes: Sequence[str], data: GridData) -> None:
    """Refuse what cannot be built before anything is trained; the ConfigurationError names the model."""
    for point in upsampling_points(networks, modes):
        try:
            resolve_model_spec(point.model_params, data.classes, data.statistics)
        except ConfigurationError as error:
            raise ConfigurationError(f"article_claims.upsampling.models.{point.key['network']}: {error}") from None


def measure_checkerboard(
    point: GridPoint, training: TrainingParameters, data: GridData, images: int, model: Path, directory: Path
) -> dict[str, float]:
    """Measure the checkerboards in the logits of a finished model before and after its training.

    `directory`, of the training run, gets ``logits.npz``, see :func:`read_logits`.

    Returns:
        ``checkerboard/initial/<stride>`` and ``checkerboard/trained/<stride>``, for each of `STRIDES`.
    """
    specification, weights, _ = data.initialize(point, training)
    batch = example_batch(data.packed, data.evaluated_ids[:images], specification.multiple)
    untrained = build_model(specification)
    untrained.load_state_dict(weights)
    # an untrained model has no running statistics: it is measured in training mode, as its first step sees it
    logits = {
        "initial": compute_logits(untrained.train(), batch),
        "trained": compute_logits(load_model(model)[0].eval(), batch),
    }
    with atomic_write(directory / "logits.npz") as temporary, temporary.open("wb") as stream:
        np.savez(stream, **{name: values[0] for name, values in logits.items()})  # type: ignore[arg-type]
    return {
        f"checkerboard/{moment}/{stride}": share
        for moment, values in logits.items()
        for stride, share in checkerboard_energies(list(values), STRIDES).items()
    }


def example_batch(packed: PackedSamples, sample_ids: Sequence[str], multiple: int) -> Image:
    """Crop the center of images to one size, whose height and width are multiples of `multiple`.

    Returns:
        (N, H, W, C); of at most `MAX_SIDE` pixels a side, and at least enough for all of `STRIDES`: smaller images are
        padded by reflection.
    """
    least = -(-MIN_PERIODS * max(STRIDES) // multiple) * multiple
    shapes = np.array([packed.shape(sample_id)[:2] for sample_id in sample_ids])
    sides = np.minimum(shapes.min(axis=0), MAX_SIDE) // multiple * multiple
    height, width = (max(least, int(side)) for side in sides)
    crops = []
    for sample_id in sample_ids:
        image = packed.image(sample_id)
        image = padded(image, (max(height, image.shape[0]), max(width, image.shape[1])))
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        crops.append(image[top : top + height, left : left + width])
    return np.stack(crops)  # type: ignore[return-value]


@torch.no_grad()
def compute_logits(network: nn.Module, images: Image) -> Logits:
    """Compute the logits of a batch (N, H, W, C) on the CPU, in the mode that the model is in."""
    pixels = torch.from_numpy(images.astype(np.int32)).permute(0, 3, 1, 2)
    logits: Logits = network(pixels).numpy()
    return logits


def read_logits(directory: Path) -> dict[str, Logits]:
    """Read the logits of the first image, `initial` and `trained` (classes, H, W); DataError where there are none."""
    try:
        with np.load(directory / "logits.npz") as file:
            return {name: file[name] for name in ("initial", "trained")}
    except FileNotFoundError:
        raise DataError(
            f"{directory} holds no logits: run the laboratory first (kedro run --pipelines article_claims)"
        ) from None


def compare_modes(
    runs: pd.DataFrame,
    sums: Mapping[tuple[Hashable, ...], UnitSums],
    score: str,
    reference: str,
    margin: float,
    resampling: Resampling,
) -> pd.DataFrame:
    """Compare the upsampling modes of each model with a reference mode; a difference within `margin` is equivalent.

    `runs` has a row per network, upsampling and seed; `sums` are of each of them, over the same images.

    Returns:
        A row per network and upsampling: number of seeds, mean and spread (sample standard deviation) over the seeds,
        interval over the images; difference to the reference with its interval over the images, its range over the
        seeds (least, most), p-value and verdict; and mean, ``/least`` and ``/most`` of each checkerboard.
    """
    checkerboard = [str(name) for name in runs if str(name).startswith("checkerboard/")]
    by_seed = runs.pivot(index="seed", columns=["network", "upsampling"], values=score)
    rows = []
    for (network, mode), group in runs.groupby(["network", "upsampling"], sort=False):
        mode_sums, reference_sums = (
            MultiSeedSums([sums[network, each, seed] for seed in group["seed"]]) for each in (mode, reference)
        )
        interval = bootstrap(mode_sums, resampling).set_index("score").loc[score]
        row: dict[str, Any] = {"network": network, "upsampling": mode, "seeds": len(group)}
        row |= {"spread": group[score].std(ddof=1), **interval[["value", "low", "high"]]}
        row |= dict.fromkeys(COMPARISON, np.nan) | {"verdict": "reference"}
        if mode != reference:
            tests = compare_sums(mode_sums, reference_sums, resampling, margin=margin)
            differences = by_seed[network, mode] - by_seed[network, reference]
            row |= comparison_columns(tests[tests["score"] == score].iloc[0])
            row |= {"difference_least": differences.min(), "difference_most": differences.max()}
        for name in checkerboard:
            row |= {name: group[name].mean(), f"{name}/least": group[name].min(), f"{name}/most": group[name].max()}
        rows.append(row)
    return pd.DataFrame(rows)
