"""The split: official where there is one, else seeded, stratified by class, with groups kept together."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.errors import DataError
from unet_segmentation.parameters.preparation import SplitParameters

SPLITS = ("train", "validation", "test")
COLUMNS = [
    "sample_id",
    "image",
    "masks",
    "group",
    "split",
    "height",
    "width",
    "channels",
    "dtype",
    "image_sha256",
    "mask_sha256",
]

logger = logging.getLogger(__name__)


def split_samples(inspected: pd.DataFrame, parameters: SplitParameters) -> pd.DataFrame:
    """Give every sample a split. The result depends on the samples and the seed, not on the order of the rows.

    Samples of one group, and byte- or pixel-identical images, stay together. An official test or validation split
    is kept; one that is missing is cut from the samples that are officially for training or have no split.

    Args:
        inspected: a row per sample, as inspection gives them.
        parameters: seed and shares. A share is one of the samples that are split here.

    Returns:
        The samples, sorted by id, with the columns `COLUMNS`.

    Raises:
        DataError: there are too few samples, or groups, for the splits that are to be cut.
    """
    samples = inspected.sort_values("sample_id", ignore_index=True)
    samples["group"] = join_groups(samples)
    official = samples["split"].where(samples["split"].notna(), None)
    crossing = samples[official.notna()].groupby("group")["split"].nunique()
    crossing = crossing[crossing > 1]
    if len(crossing):
        logger.warning(
            "%d groups (or identical images) lie in more than one official split, which is kept; the first: %s",
            len(crossing),
            ", ".join(samples.loc[samples["group"] == crossing.index[0], "image"][:3]),
        )
    held_out = {name for name in ("validation", "test") if (official == name).any()}
    shares = {name: getattr(parameters, name) for name in ("validation", "test") if name not in held_out}
    fixed = official.isin(list(held_out))
    # What belongs to a group that is officially held out follows it, unless it is officially for training.
    follows = samples["group"].map(samples[fixed].groupby("group")["split"].first())
    split = official.where(fixed | (official == "train"), follows)
    pool = split.isna() | (split == "train")
    split = split.where(~pool, None).astype(object)
    split[pool] = _allotted(samples[pool], {"train": 1 - sum(shares.values())} | shares, parameters.seed)
    samples["split"] = split
    return samples[COLUMNS]


def join_groups(samples: pd.DataFrame) -> list[str]:
    """Join samples of one group and samples whose images are identical, transitively.

    Args:
        samples: `sample_id`, `group` (or None: a group of its own), `image_sha256`, `pixel_sha256`.

    Returns:
        The name of each sample's joined group: the first, in sorted order, of the names that were joined.
    """
    labels = samples["group"].where(samples["group"].notna(), samples["sample_id"]).astype(str)
    parents = {label: label for label in labels}

    def root(label: str) -> str:
        while parents[label] != label:
            parents[label] = parents[parents[label]]
            label = parents[label]
        return label

    for column in ("image_sha256", "pixel_sha256"):
        for _, same in labels.groupby(samples[column].to_numpy()):
            names = sorted({root(label) for label in same})
            for name in names[1:]:
                parents[name] = names[0]
    return [root(label) for label in labels]


def _allotted(samples: pd.DataFrame, shares: dict[str, float], seed: int) -> list[str]:
    """Allot samples to splits, whole groups at a time."""
    groups = sorted(set(samples["group"]))
    if len(groups) < len(shares) or not groups:
        raise DataError(
            f"Too few samples to split: {len(samples)} samples in {len(groups)} groups, and each of "
            f"{', '.join(shares)} needs at least one group, so at least {len(shares)} groups. Add samples"
            + (", or make the groups (source.group) smaller." if len(groups) < len(samples) else ".")
        )
    if len(shares) == 1:
        return list(shares) * len(samples)
    place = {group: number for number, group in enumerate(groups)}
    members = samples["group"].map(place).to_numpy()
    sizes = np.bincount(members)
    pixels = np.zeros((len(groups), len(samples["class_pixels"].iloc[0])))
    np.add.at(pixels, members, np.array(samples["class_pixels"].tolist(), dtype=np.float64))
    targets = np.array(list(shares.values()))
    allotment = _stratify(sizes, pixels, targets, np.random.default_rng(seed))
    names = list(shares)
    return [names[allotment[member]] for member in members]


def _stratify(
    sizes: NDArray[np.int64], pixels: NDArray[np.float64], shares: NDArray[np.float64], random: np.random.Generator
) -> NDArray[np.int64]:
    """Allot groups greedily, those that weigh most first, each to the split that it brings closest to its share.

    A group is described by its share of all samples and of each class's pixels; the distance is the sum over splits
    and these features of (allotted - wanted)^2 / wanted, as in Sechidis et al. 2011, "On the stratification of
    multi-label data", but for amounts instead of labels. The seed decides the order among groups of like weight.

    Args:
        sizes: (groups,) number of samples.
        pixels: (groups, classes) labelled pixels.
        shares: (splits,) wanted shares, sum 1.
        random: where the order comes from.

    Returns:
        (groups,) number of the split.
    """
    features = np.column_stack([sizes, pixels])
    features = features[:, features.sum(axis=0) > 0]
    features /= features.sum(axis=0)
    weights = np.linalg.norm(features, axis=1)
    order = random.permutation(len(sizes))
    order = order[np.argsort(-np.round(np.log2(weights[order]) * 2), kind="stable")]
    limits = _whole_counts(int(sizes.sum()), shares)
    counts = np.zeros(len(shares), dtype=np.int64)
    allotted = np.zeros((len(shares), features.shape[1]))
    result = np.zeros(len(sizes), dtype=np.int64)
    for done, group in enumerate(order):
        empty = counts == 0
        room = counts + sizes[group] <= limits
        candidates = np.flatnonzero(empty if len(order) - done <= empty.sum() else room if room.any() else ~(room))
        added = features[group]
        gaps = allotted[candidates] - shares[candidates, None]
        costs = ((2 * added * gaps + added**2) / shares[candidates, None]).sum(axis=1)
        chosen = candidates[np.argmin(costs)]
        result[group] = chosen
        counts[chosen] += sizes[group]
        allotted[chosen] += added
    return result


def _whole_counts(samples: int, shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Round shares to numbers of samples, at least one each; the first split takes the rest."""
    held_out = [max(1, round(samples * share)) for share in shares[1:]]
    return np.array([samples - sum(held_out), *held_out])


def count_splits(splits: Iterable[str]) -> dict[str, int]:
    """Count samples by split, in the order train, validation, test."""
    names = list(splits)
    return {name: names.count(name) for name in SPLITS}
