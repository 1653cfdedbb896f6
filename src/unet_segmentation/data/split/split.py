"""The split: predefined where there is one, else seeded, stratified by class, with groups kept together.

Samples that were split before stay where they are: a file remembers them. See ``docs/how-to/split-and-group.md``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.data.audit.findings import Finding
from unet_segmentation.data.audit.leakage import class_findings, find_split_leakage, image_keys, near_identical_pairs
from unet_segmentation.errors import DataError
from unet_segmentation.parameters.data import BlockParameters, SplitParameters
from unet_segmentation.utils.atomic_io import atomic_write

SPLITS = ("train", "validation", "test")
COLUMNS = ["sample_id", "image", "masks", "roi", "group", "split"]
COLUMNS += ["height", "width", "channels", "dtype", "image_sha256", "mask_sha256"]

logger = logging.getLogger(__name__)


class _TooFewSamplesError(Exception):
    """There are not enough groups for the sides that are to be cut."""


def split_samples(
    inspected: pd.DataFrame,
    usable: pd.Series,
    parameters: SplitParameters,
    folder: Path | None = None,
    pairs: pd.DataFrame | None = None,
    classes: Sequence[str] | None = None,
) -> tuple[pd.DataFrame, list[Finding]]:
    """Split the usable samples. The order of the rows does not matter.

    Samples of one group or spatial block, and byte- or pixel-identical images, stay together. An official test or
    validation split is kept; one that is missing is cut from the samples that are officially for training or have no
    split. With `split.folds` those are cut into folds: one is the test split (the validation split, where there is
    an official test), and validation is cut from the rest. What was split before stays where it is.

    Args:
        inspected: a row per sample, with what inspection measured.
        usable: by row of `inspected`, whether the sample can be used (bool).
        parameters: seed, shares (of the samples that are split here; with folds, outside of the fold), folds, blocks.
        folder: for one small file that remembers which sample is on which side. Without it samples move when others
            are added.
        pairs: `sample_id`, `other`: near-identical images.
        classes: names, in the order of their ids, for messages.

    Returns:
        The usable samples (`COLUMNS`), sorted by id, and the findings. Where there are too few samples or groups, that
        is a finding (`too_few_samples`), and `split` is None.

    Raises:
        DataError: the id of a sample does not fit the pattern of blocks, or the remembering file is damaged.
    """
    samples = inspected[usable.to_numpy(dtype=bool)].sort_values("sample_id", ignore_index=True)
    block = _blocks(samples["sample_id"], parameters.blocks)
    official = _official(samples, parameters)
    findings = find_split_leakage(samples, official, block)
    samples["group"] = merge_groups(samples, block)
    try:
        samples["split"] = _assign(samples, official, parameters, folder)
    except _TooFewSamplesError as error:
        excluded = len(inspected) - len(samples)
        more = f" ({excluded} more have errors and do not count)" if excluded else ""
        samples["split"] = pd.Series([None] * len(samples), dtype=object)
        return samples[COLUMNS], [*findings, Finding("too_few_samples", f"{error}{more}")]
    findings += class_findings(samples, inspected["class_pixels"], classes)
    findings += near_identical_pairs(samples, pairs)
    return samples[COLUMNS], findings


def merge_groups(samples: pd.DataFrame, block: pd.Series | None = None) -> list[str]:
    """Merge the groups of samples of one group, one block, and with identical images, transitively.

    Args:
        samples: `sample_id`, `group` (or None: a group of its own), `image_sha256`, `pixel_key` (or "": unknown).
        block: by sample, the name of its spatial block.

    Returns:
        The first, in sorted order, of the names that each sample's merged group had.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if samples.empty:
        return []
    labels = samples["group"].astype(object)
    for names in (block, samples["sample_id"]):
        labels = labels if names is None else labels.where(labels.notna(), names)
    links = [_link_alike(column) for column in (labels, block, *image_keys(samples)) if column is not None]
    edges = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(edges.shape[1], dtype=bool), edges), shape=(len(samples), len(samples)))
    _, merged = connected_components(graph, directed=False)
    positions, in_order = pd.factorize(labels.astype(str), sort=True)
    first = np.full(merged.max() + 1, len(in_order))
    np.minimum.at(first, merged, positions)
    return list(in_order[first[merged]])


def _link_alike(names: pd.Series) -> NDArray[np.int64]:
    """Link every sample to the first one of the same name: (2, links) positions."""
    codes = pd.factorize(names)[0]
    positions = np.flatnonzero(codes >= 0)
    _, first, inverse = np.unique(codes[positions], return_index=True, return_inverse=True)
    return np.stack([positions, positions[first[inverse]]])


def count_splits(splits: Iterable[str]) -> dict[str, int]:
    """Return the number of samples by split, in the order train, validation, test."""
    names = list(splits)
    return {name: names.count(name) for name in SPLITS}


def _blocks(sample_ids: pd.Series[str], blocks: BlockParameters | None) -> pd.Series | None:
    """Return the name of the spatial block of each sample: its raster, row // side and column // side."""
    if blocks is None:
        return None
    pattern = re.compile(blocks.pattern)

    def name(sample_id: str) -> str:
        match = pattern.search(sample_id)
        try:
            place = {} if match is None else match.groupdict()
            row, column = (int(place[axis]) // blocks.side for axis in ("row", "column"))
        except (KeyError, TypeError, ValueError):
            raise DataError(
                f"The sample {sample_id} is not named like a tile: split.blocks.pattern, {blocks.pattern!r}, finds no "
                "whole numbers for row and column in it. Correct the pattern, or leave the file out (source.images)."
            ) from None
        return f"{place.get('raster') or 'block'} {row},{column}"

    return sample_ids.map(name)


def _official(samples: pd.DataFrame, parameters: SplitParameters) -> pd.Series:
    """Return the predefined split of each sample, or None. With folds and a test split, validation is split again."""
    official = samples["split"].astype(object).where(samples["split"].notna(), None)
    if parameters.folds and (official == "test").any():
        return official.replace("validation", "train")
    return official


def _assign(samples: pd.DataFrame, official: pd.Series, parameters: SplitParameters, folder: Path | None) -> pd.Series:
    """Return the split of each sample: predefined where it is held out; what is missing is cut from the rest."""
    held_out = [name for name in ("validation", "test") if (official == name).any()]
    fixed = official.isin(held_out)
    # What belongs to a group that is officially held out follows it, unless it is officially for training.
    follows = samples["group"].map(official[fixed].groupby(samples["group"][fixed]).first())
    split = official.where(fixed | (official == "train"), follows)
    pool = (split.isna() | (split == "train")).to_numpy()
    splitter = _Splitter(samples[pool], parameters, folder)
    missing = [name for name in ("validation", "test") if name not in held_out]
    if parameters.folds and missing:
        is_held_out = splitter.folds() == parameters.fold
        sides = np.where(is_held_out, missing[-1], "train").astype(object)
        if len(missing) == 2:
            sides[~is_held_out] = splitter.sides({"validation": parameters.validation}, ~is_held_out)
    else:
        sides = splitter.sides({name: getattr(parameters, name) for name in missing})
    split[pool] = sides
    return split


class _Splitter:
    """Cuts samples into sides, whole groups at a time."""

    def __init__(self, samples: pd.DataFrame, parameters: SplitParameters, folder: Path | None) -> None:
        self.ids = samples["sample_id"]
        self.members = pd.factorize(samples["group"], sort=True)[0]
        self.pixels = np.array(samples["class_pixels"].tolist(), dtype=np.float32)
        self.parameters = parameters
        self.folder = folder

    def folds(self) -> NDArray[np.int64]:
        """Return the fold of each sample; the same whatever `split.fold` is."""
        folds = self.parameters.folds or 1
        shares = {str(number): 1 / folds for number in range(folds)}
        return self._cut(shares, np.ones(len(self.ids), dtype=bool), [folds])

    def sides(self, shares: dict[str, float], rows: NDArray[np.bool_] | None = None) -> NDArray[np.object_]:
        """Return the split of each of these samples: those of `shares`, and training for the rest."""
        rows = np.ones(len(self.ids), dtype=bool) if rows is None else rows
        shares = {"train": 1 - sum(shares.values())} | shares
        folding = [self.parameters.folds, self.parameters.fold] if self.parameters.folds else []
        return np.array(list(shares), dtype=object)[self._cut(shares, rows, folding)]

    def _cut(
        self, shares: dict[str, float], rows: NDArray[np.bool_], folding: Sequence[int | None]
    ) -> NDArray[np.int64]:
        """Return the number of the side of each of these samples; those that are remembered stay where they are."""
        names = [f"{len(shares)} folds"] if "0" in shares else list(shares)
        present, members = np.unique(self.members[rows], return_inverse=True)
        groups = len(present)
        if groups < max(1, len(shares)):
            smaller = "" if groups == len(members) else ", or make the groups (source.group) smaller"
            raise _TooFewSamplesError(
                f"{len(members)} samples in {groups} groups, and each of {', '.join(names)} needs at "
                f"least one group, so at least {max(1, len(shares))} groups: add samples{smaller}"
            )
        if len(shares) == 1:
            return np.zeros(len(members), dtype=np.int64)
        ids, file = pd.Index(self.ids[rows], dtype=object), self._file(shares, folding)
        remembered = _read_sides(file, list(shares))
        fixed = _group_sides(remembered.reindex(ids, fill_value=-1).to_numpy(), members, groups, len(shares))
        lost = len(shares) - len(np.unique(fixed[fixed >= 0]))
        if lost > np.count_nonzero(fixed < 0):
            raise _TooFewSamplesError(
                f"of {', '.join(names)}, {lost} have lost all samples that {file} remembers, and there "
                "are no new groups for them: add samples, or delete the file to split from scratch"
            )
        pixels = np.zeros((groups, self.pixels.shape[1]), dtype=np.float32)
        np.add.at(pixels, members, self.pixels[rows])
        random = np.random.default_rng(self.parameters.seed)
        sides = stratify(np.bincount(members), pixels, np.array(list(shares.values())), fixed, random)[members]
        if file is not None:
            _write_sides(file, list(shares), remembered, pd.Series(sides, index=ids))
        return sides

    def _file(self, shares: dict[str, float], folding: Sequence[int | None]) -> Path | None:
        """Return the file that remembers this decision: named by all that decides it but the samples."""
        if self.folder is None:
            return None
        blocks = self.parameters.blocks
        decision = [self.parameters.seed, shares, folding, blocks and blocks.model_dump(mode="json")]
        return self.folder / f"{hashlib.sha256(json.dumps(decision).encode()).hexdigest()[:16]}.csv"


def _read_sides(file: Path | None, names: Sequence[str]) -> pd.Series[int]:
    """Return the number of the side of each sample that a file remembers, by id."""
    if file is None or not file.is_file():
        return pd.Series(dtype=np.int64, index=pd.Index([], dtype=object))

    def damaged(reason: str) -> DataError:
        return DataError(
            f"{file}, which remembers the split, is damaged: {reason}. Restore it, or delete it to split from "
            "scratch (samples may then change sides)."
        )

    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, lineterminator="\n")
    except ValueError as error:  # the base of pandas' own errors
        raise damaged(str(error)) from None
    if list(table.columns) != ["sample_id", "side"]:
        raise damaged("it does not have the columns sample_id and side")
    codes = pd.Index(names).get_indexer(pd.Index(table["side"]))
    if (codes < 0).any():
        row = table.iloc[int(np.argmin(codes))]
        raise damaged(f"the side of {row['sample_id']!r} is {row['side']!r}, not one of {names}")
    if (twice := table["sample_id"][table["sample_id"].duplicated()]).any():
        raise damaged(f"it names {twice.iloc[0]!r} twice")
    return pd.Series(codes, index=pd.Index(table["sample_id"], dtype=object))


def _write_sides(file: Path, names: Sequence[str], before: pd.Series[int], now: pd.Series[int]) -> None:
    """Add samples to a file, or change their side; those that are gone stay."""
    sides = pd.concat([before[~before.index.isin(now.index)], now]).sort_index()
    if sides.equals(before.sort_index()):
        return
    table = pd.DataFrame({"sample_id": sides.index, "side": np.array(names)[sides.to_numpy()]})
    with atomic_write(file) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def _group_sides(
    remembered: NDArray[np.integer], members: NDArray[np.int64], groups: int, sides: int
) -> NDArray[np.int64]:
    """Return the side that is remembered of most samples of each group (of two, the one more for training), or -1."""
    is_known = remembered >= 0
    counts = np.bincount(members[is_known] * sides + remembered[is_known], minlength=groups * sides)
    counts = counts.reshape(groups, sides)
    torn = np.count_nonzero((counts > 0).sum(axis=1) > 1)
    if torn:
        moved = int(counts.sum() - counts.max(axis=1).sum())
        logger.warning(
            "%d groups hold samples that were on different sides before: each goes to the side with most of its "
            "samples, so that %d samples change sides",
            torn,
            moved,
        )
    return np.where(counts.any(axis=1), counts.argmax(axis=1), -1)


def stratify(
    sizes: NDArray[np.int64],
    pixels: NDArray[np.floating],
    shares: NDArray[np.float64],
    fixed: NDArray[np.int64],
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """Allot groups greedily, those that weigh most first, each to the side that it brings closest to its share.

    A group is described by its share of all samples and of each class's pixels; the distance is the sum over sides
    and these features of (allotted - target)^2 / target, as in Sechidis et al. 2011, "On the stratification of
    multi-label data", but for amounts instead of labels. The seed decides the order among groups of like weight.

    Args:
        sizes: (groups,) number of samples.
        pixels: (groups, classes) labeled pixels.
        shares: (sides,) target shares, sum 1.
        fixed: (groups,) number of the side, where it is fixed, else -1.
        random: generator of the order.

    Returns:
        (groups,) number of the side.
    """
    features = np.column_stack([sizes.astype(np.float32), pixels])
    features = features[:, features.any(axis=0)]
    features /= features.sum(axis=0, dtype=np.float64).astype(np.float32)
    squares = np.einsum("gf,gf->g", features, features)
    order = random.permutation(len(sizes))
    order = order[np.argsort(-np.round(np.log2(squares[order])), kind="stable")]
    order = order[fixed[order] < 0]
    sides = range(len(shares))
    gaps = np.stack([features[fixed == side].sum(axis=0, dtype=np.float64) for side in sides]) - shares[:, None]
    counts = [int(sizes[fixed == side].sum()) for side in sides]
    limits = _whole_counts(int(sizes.sum()), shares)
    result = fixed.copy()
    empty = [side for side in sides if not counts[side]]
    for left, group in zip(range(len(order), 0, -1), order.tolist(), strict=True):
        added = features[group]
        size = int(sizes[group])
        # What the distance grows by, were the group allotted to each of the sides.
        costs = ((2 * (gaps @ added) + squares[group]) / shares).tolist()
        candidates = empty if left <= len(empty) else [s for s in sides if counts[s] + size <= limits[s]] or sides
        side = min(candidates, key=costs.__getitem__)
        result[group] = side
        counts[side] += size
        gaps[side] += added
        if side in empty:
            empty.remove(side)
    return result


def _whole_counts(samples: int, shares: NDArray[np.float64]) -> list[int]:
    """Round shares to numbers of samples that sum to all, at least one each."""
    counts = np.diff(np.round(samples * np.cumsum(shares)), prepend=0).astype(np.int64)
    while (counts < 1).any():
        counts[np.argmax(counts)] -= 1
        counts[np.argmin(counts)] += 1
    return counts.tolist()
