"""Folds of a cross-validation, by the rules of the split: stratified by class, with groups in one fold."""

from __future__ import annotations

import pandas as pd

from unet_segmentation.data.split.split import split_samples
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.parameters.cross_validation import CrossValidationParameters
from unet_segmentation.parameters.data import SplitParameters


def assign_folds(
    samples: pd.DataFrame, inspected: pd.DataFrame, cross_validation: CrossValidationParameters, split: SplitParameters
) -> pd.DataFrame:
    """Cut the labeled samples of the chosen splits into folds, each held out once.

    For each fold, the other samples are split for training and validation. The result depends only on the samples, the
    parameters and the seed.

    Args:
        samples: the samples with their split; groups as the split has joined them.
        inspected: what inspection measured of them.
        cross_validation: which samples take part, how many folds, and the seed.
        split: `validation` is a share of the samples outside of the fold.

    Returns:
        Columns fold (from 1), sample_id, split (`train`, `validation` or, held out, `test`), sorted.

    Raises:
        ConfigurationError: there are fewer groups than folds, or no sample at all.
    """
    taking_part = samples["split"].isin(cross_validation.splits) & (samples["masks"].map(len) > 0)
    groups = samples.loc[taking_part, ["sample_id", "group"]]
    if groups.empty:
        raise ConfigurationError(
            f"cross_validation.splits: there is no sample with a mask in {', '.join(cross_validation.splits)}; "
            "name other splits"
        )
    table = inspected.drop(columns="group").merge(groups, on="sample_id", validate="one_to_one")
    table["split"] = None
    everything = pd.Series(True, index=table.index)
    parts = []
    for fold in range(cross_validation.folds):
        changes = {"seed": cross_validation.seed, "folds": cross_validation.folds, "fold": fold, "blocks": None}
        split_table, findings = split_samples(table, everything, split.model_copy(update=changes))
        for entry in findings:
            if entry.kind == "too_few_samples":
                raise ConfigurationError(f"cross_validation.folds: {entry.message}, or take fewer folds")
        parts.append(split_table[["sample_id", "split"]].assign(fold=fold + 1))
    return pd.concat(parts, ignore_index=True)[["fold", "sample_id", "split"]]


def samples_of_fold(samples: pd.DataFrame, folds: pd.DataFrame, fold: int) -> pd.DataFrame:
    """Return the samples that take part, with their split for one fold (from 1) of `assign_folds`."""
    rows = folds.loc[folds["fold"] == fold, ["sample_id", "split"]]
    return samples.drop(columns="split").merge(rows, on="sample_id", validate="one_to_one")


def held_out(folds: pd.DataFrame, fold: int) -> list[str]:
    """Return the ids of the samples that are held out of a fold's training, sorted."""
    return sorted(folds.loc[(folds["fold"] == fold) & (folds["split"] == "test"), "sample_id"])
