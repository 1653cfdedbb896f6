"""What each image, or each group of images, adds to the sums that all scores are made of.

Every score is a function of sums over images: of pixels by class, or of values of single images. Resampling images,
leaving one out and exchanging those of two runs are then all one product of a matrix of weights with one table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.scoring.counting import ClassCounts, class_counts
from unet_segmentation.scoring.metrics import METRICS, Values, names_of, soft_sums

_SCORES = [metric for metric in METRICS if metric.basis in ("split", "class", "image", "soft")]
_BY_IMAGE = [metric for metric in _SCORES if metric.basis in ("image", "soft")]


@dataclass(frozen=True)
class Sums:
    """The sums of every unit: an image, or a group of images that belong together.

    Attributes:
        classes: names of the classes.
        units: names of the units.
        table: (units, columns) float64: per class the hits, the true and the predicted pixels; then for each score
            that is a mean over images the sum of its values, and how many of them are defined. Counts are exact up to
            2^53.
        counted: (units,) whether a unit has a counted pixel.
        kind: `images`, or `groups` where some images belong together.
    """

    classes: tuple[str, ...]
    units: tuple[str, ...]
    table: Values
    counted: NDArray[np.bool_]
    kind: Literal["images", "groups"]

    @classmethod
    def of(
        cls,
        confusion: pd.DataFrame,
        soft: pd.DataFrame,
        classes: Sequence[str],
        groups: Mapping[str, str] | None = None,
    ) -> Sums:
        """Add up the counts of each unit.

        Args:
            confusion: sparse counts per image: sample_id, truth, prediction, count.
            soft: the article's sums per image: sample_id, intersection, truth, prediction. It names all images.
            classes: names of the classes.
            groups: sample id to group. An image that has none is a unit by itself. None: every image is.
        """
        ids = soft["sample_id"].astype(str).tolist()
        counts = class_counts(confusion, len(classes), ids)
        values = [metric.function(counts if metric.basis == "image" else soft_sums(soft)) for metric in _BY_IMAGE]
        columns: list[NDArray[Any]] = [counts.hits, counts.truth, counts.predicted]
        for value in values:
            columns += [np.nan_to_num(value)[:, None], ~np.isnan(value)[:, None]]
        by_image = np.concatenate([column.astype(np.float64) for column in columns], axis=1)
        units = [(groups or {}).get(name) or name for name in ids]
        places, names = pd.factorize(np.array(units, dtype=object))
        table = np.zeros((len(names), by_image.shape[1]))
        np.add.at(table, places, by_image)
        counted = np.bincount(places, weights=counts.truth.sum(axis=1), minlength=len(names)) > 0
        kind: Literal["images", "groups"] = "images" if len(names) == len(ids) else "groups"
        return cls(tuple(classes), tuple(map(str, names)), table, counted, kind)

    @property
    def names(self) -> list[str]:
        """Names of the scores, in the order of `METRICS`."""
        return [name for metric in _SCORES for name in names_of(metric, self.classes)]

    @property
    def total(self) -> Values:
        """(columns,): over all units."""
        total: Values = self.table.sum(axis=0)
        return total

    def scores(self, sums: Values) -> Values:
        """Make scores of sums.

        Args:
            sums: (..., columns), such as weights (..., units) @ `table`.

        Returns:
            (..., scores) float64, in the order of `names`; NaN where a score is undefined.
        """
        size = len(self.classes)
        hits, truth, predicted = (sums[..., place * size : (place + 1) * size] for place in range(3))
        counts = ClassCounts(hits, truth, predicted)
        means = iter(range(3 * size, sums.shape[-1], 2))
        found = []
        for metric in _SCORES:
            if metric in _BY_IMAGE:
                place = next(means)
                found.append(_mean(sums[..., place], sums[..., place + 1])[..., None])
            else:
                values = metric.function(counts)
                found.append(values if metric.basis == "class" else np.asarray(values)[..., None])
        return np.concatenate(found, axis=-1)

    def occurrences(self) -> NDArray[np.int64]:
        """Count, for each score, the units that say anything about it: for a class, those where it occurs at all."""
        size = len(self.classes)
        hits, truth, predicted = (self.table[:, place * size : (place + 1) * size] for place in range(3))
        of_class = (truth + predicted - hits > 0).sum(axis=0)
        of_any = self.counted.sum(keepdims=True)
        counts = [of_class if metric.basis == "class" else of_any for metric in _SCORES]
        return np.concatenate(counts).astype(np.int64)


def _mean(total: Values, count: Values) -> Values:
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=np.asarray(count) > 0)
