"""Failure patterns: whether the error of an image goes with its size, its brightness, its foreground or its group."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

FEW_IMAGES = 20  # with fewer, an interval of a correlation is wider than anything that could be said
FEW_OF_A_GROUP = 3  # images; the median of fewer says nothing of a group
NORMAL_QUANTILE = 1.959964  # of a two-sided interval of 95 %
SIGNIFICANT = 0.05


class Feature(NamedTuple):
    """Something known of an image that its error may go with."""

    name: str  # column of the table of `image_features`
    title: str  # for people
    more: str  # what an image with a high value is, as a comparative
    less: str
    axis: str  # what the value is, with its unit


FEATURES = (
    Feature("size", "size", "larger", "smaller", "square root of height x width, pixels"),
    Feature("brightness", "brightness", "brighter", "darker", "mean of the image's values"),
    Feature("foreground", "foreground", "fuller of foreground", "emptier of foreground", "share of labeled pixels"),
)


class Pattern(NamedTuple):
    """What the error of the images correlates with; the numbers are NaN where nothing can be said."""

    pattern: str  # name of a feature, or `group`
    images: int  # that were compared
    sentence: str
    rho: float = np.nan  # Spearman's
    low: float = np.nan  # of its interval of 95 %
    high: float = np.nan
    p_value: float = np.nan


def image_features(image_scores: pd.DataFrame, samples: pd.DataFrame, inspected: pd.DataFrame) -> pd.DataFrame:
    """Merge the error of every image with what the inspection has measured of it; no pixel is read.

    Args:
        image_scores: columns sample_id, `iou/per_image_mean`.
        samples: columns sample_id, group (may be missing, null or empty).
        inspected: columns sample_id, height, width, channel_mean, class_pixels.

    Returns:
        Columns sample_id, error (1 - IoU), size (square root of the area, pixels), brightness (mean over the channels,
        in raw units), foreground (share of the labeled pixels that are not of class 0; NaN where none is labeled),
        group ("" for none). Images without a score are left out.
    """
    scored = image_scores[["sample_id", "iou/per_image_mean"]].dropna()
    measured = inspected[["sample_id", "height", "width", "channel_mean", "class_pixels"]]
    table = scored.merge(measured, on="sample_id", how="left", validate="one_to_one")
    groups = samples.set_index("sample_id")["group"] if "group" in samples else pd.Series(dtype="object")
    return pd.DataFrame(
        {
            "sample_id": table["sample_id"],
            "error": 1.0 - table["iou/per_image_mean"].astype(float),
            "size": np.sqrt(table["height"].astype(float) * table["width"].astype(float)),
            "brightness": table["channel_mean"].map(_mean).astype(float),
            "foreground": table["class_pixels"].map(_foreground).astype(float),
            "group": table["sample_id"].map(groups).fillna("").astype(str),
        }
    )


def find_patterns(facts: pd.DataFrame) -> pd.DataFrame:
    """Describe in a sentence each what the error of an image correlates with.

    Correlations are Spearman's, with the interval of Bonett and Wright (2000, Psychometrika 65): Fisher's z with the
    variance (1 + rho^2 / 2) / (n - 3). Groups are compared by the test of Kruskal and Wallis (1952).

    Returns:
        A row per feature, and one for the group: pattern, images, rho, low, high, p_value, sentence; see `Pattern`.
    """
    rows = [*(_correlated(facts, feature) for feature in FEATURES), _grouped(facts)]
    return pd.DataFrame(rows)[["pattern", "images", "rho", "low", "high", "p_value", "sentence"]]


def large_groups(facts: pd.DataFrame) -> pd.DataFrame:
    """Keep the images of groups that are large enough to be compared; none where fewer than two groups are."""
    named = facts[facts["group"] != ""]
    sizes = named.groupby("group")["error"].transform("size")
    large = named[sizes >= FEW_OF_A_GROUP]
    return large if large["group"].nunique() > 1 else large.iloc[:0]


def _correlated(facts: pd.DataFrame, feature: Feature) -> Pattern:
    from scipy.stats import spearmanr

    measured = facts[["error", feature.name]].dropna()
    count = len(measured)
    if count < FEW_IMAGES:
        return Pattern(feature.name, count, f"Only {_images(count)}: too few to tell.")
    for column, words in ((feature.name, f"the same {feature.title}"), ("error", "the same error")):
        if measured[column].nunique() == 1:
            return Pattern(feature.name, count, f"All {_images(count)} have {words}.")
    rho, p_value = map(float, spearmanr(measured[feature.name], measured["error"]))
    low, high = _interval(rho, count)
    figures = f"Spearman's rho {rho:.2f} [{low:.2f}, {high:.2f}], {_images(count)}"
    if low <= 0 <= high:
        sentence = f"No clear relation ({figures})."
    else:
        which = feature.more if rho > 0 else feature.less
        sentence = f"The {which} the image, the larger its error ({_strength(rho)}: {figures})."
    return Pattern(feature.name, count, sentence, rho, low, high, p_value)


def _grouped(facts: pd.DataFrame) -> Pattern:
    from scipy.stats import kruskal

    compared = large_groups(facts)
    count = len(compared)
    if not (facts["group"] != "").any():
        return Pattern("group", count, "The samples have no groups.")
    if compared.empty:
        return Pattern("group", count, f"There are no two groups of {FEW_OF_A_GROUP} images or more to compare.")
    if count < FEW_IMAGES:
        return Pattern("group", count, f"Only {_images(count)} in groups to compare: too few to tell.")
    if compared["error"].nunique() == 1:
        return Pattern("group", count, f"All {_images(count)} have the same error.")
    errors = compared.groupby("group")["error"]
    p_value = float(kruskal(*(values for _, values in errors)).pvalue)
    figures = f"Kruskal-Wallis p {'< 0.001' if p_value < 0.001 else f'= {p_value:.3f}'}, {_images(count)}"
    if p_value >= SIGNIFICANT:
        sentence = f"No clear difference between {errors.ngroups} groups ({figures})."
    else:
        medians = errors.median()
        sentence = (
            f"The {errors.ngroups} groups differ ({figures}): median error from {medians.min():.3f} in "
            f"{medians.idxmin()} to {medians.max():.3f} in {medians.idxmax()}."
        )
    return Pattern("group", count, sentence, p_value=p_value)


def _interval(rho: float, count: int) -> tuple[float, float]:
    inner = min(max(rho, -1 + 1e-12), 1 - 1e-12)  # arctanh of 1 is infinite
    reach = NORMAL_QUANTILE * np.sqrt((1 + rho**2 / 2) / (count - 3))
    return float(np.tanh(np.arctanh(inner) - reach)), float(np.tanh(np.arctanh(inner) + reach))


def _strength(rho: float) -> str:
    """Name a correlation as Cohen (1988) does."""
    return "weak" if abs(rho) < 0.3 else "moderate" if abs(rho) < 0.5 else "strong"


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def _mean(values: object) -> float:
    array = np.asarray(values if values is not None else [], np.float64)
    return float(array.mean()) if array.size else np.nan


def _foreground(pixels: object) -> float:
    array = np.asarray(pixels if pixels is not None else [], np.float64)
    total = array.sum() if array.ndim else 0.0
    return float(array[1:].sum() / total) if total > 0 else np.nan
