"""What each image, or each group of images, adds to the sums that all scores are functions of.

Every score is a function of sums over images: of pixels by class, of pixels by confidence, of objects, or of values of
single images. The score of a split, resampling images, leaving one out and exchanging those of two runs are then all
one product of a matrix of weights with one table; for the score of the split all weights are 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.metrics.basis import EvaluationSettings, divided
from unet_segmentation.metrics.confusion_matrix import ClassCounts
from unet_segmentation.metrics.definitions import BASES, METRICS, Metric, Values, names_of
from unet_segmentation.metrics.evaluation_tables import EvaluationTables

_SUMMED = {metric.basis for metric in METRICS if not metric.per_image}


@dataclass(frozen=True)
class UnitSums:
    """The sums of every unit: an image, or a group of images that belong together.

    `shapes` says what the columns are, in their order: name and shape of each part. A part is a basis's sums, or those
    of a metric that is averaged over images: the sum of its values, and the number of images with one.
    """

    classes: tuple[str, ...]
    units: tuple[str, ...]  # their names
    table: Values  # (units, columns) float64; counts are exact up to 2^53
    shapes: Mapping[str, tuple[int, ...]]
    counted: NDArray[np.bool_]  # (units,) whether a unit has a counted pixel
    kind: Literal["images", "groups"]  # groups where some images belong together

    @classmethod
    def of(
        cls,
        tables: EvaluationTables,
        classes: Sequence[str],
        groups: Mapping[str, str] | None = None,
        threshold: float | None = None,
    ) -> UnitSums:
        """Add up the sums of each unit.

        Args:
            tables: counts per image. Metrics whose table is absent are left out.
            classes: their names.
            groups: sample id to group. An image that has none is a unit by itself. None: every image is.
            threshold: of the foreground, chosen on another split.
        """
        sample_ids = tables.sample_ids
        sums = sums_of_images(tables, EvaluationSettings(len(classes), threshold=threshold))
        parts: dict[str, NDArray[Any]] = {}
        for basis, values in sums.items():
            if basis in _SUMMED:
                parts[basis] = values
            for metric in METRICS:
                if metric.basis == basis and metric.per_image and metric.function is not None:
                    scores = metric.function(values)
                    parts[metric.name] = np.stack([np.nan_to_num(scores), ~np.isnan(scores)], axis=1)
        columns = [part.reshape(len(part), math.prod(part.shape[1:])) for part in parts.values()]
        by_image = np.concatenate(columns, axis=1, dtype=np.float64)
        units = [(groups or {}).get(name) or name for name in sample_ids]
        rows, names = pd.factorize(np.array(units, dtype=object))
        table = np.zeros((len(names), by_image.shape[1]))
        np.add.at(table, rows, by_image)
        pixels = ClassCounts.from_array(parts["confusion"]).support.sum(axis=1)
        return cls(
            classes=tuple(classes),
            units=tuple(map(str, names)),
            table=table,
            shapes={name: part.shape[1:] for name, part in parts.items()},
            counted=np.bincount(rows, weights=pixels, minlength=len(names)) > 0,
            kind="images" if len(names) == len(sample_ids) else "groups",
        )

    @property
    def metrics(self) -> list[Metric]:
        """Return the definitions of the scores, in the order of `METRICS`."""
        return [
            metric
            for metric in METRICS
            if metric.function is not None and (metric.name if metric.per_image else metric.basis) in self.shapes
        ]

    @property
    def names(self) -> list[str]:
        """Names of the scores."""
        return [name for metric in self.metrics for name in names_of(metric, self.classes)]

    @property
    def total(self) -> Values:
        """(columns,): over all units."""
        averaged = np.repeat(
            [name not in _SUMMED for name in self.shapes], [math.prod(shape) for shape in self.shapes.values()]
        )
        total: Values = self.table.sum(axis=0)
        total[averaged] = self.table.T[averaged].sum(axis=1)  # pairwise, as numpy.mean adds the values of images
        return total

    def scores(self, sums: Values) -> Values:
        """Compute the scores of sums (..., columns), such as weights (..., units) @ `table`.

        Returns:
            (..., scores) float64, in the order of `names`; NaN where a score is undefined.
        """
        parts = self._split(sums)
        columns = []
        for metric in self.metrics:
            if metric.per_image:
                values = divided(parts[metric.name][..., 0], parts[metric.name][..., 1])
            else:
                assert metric.function is not None
                values = metric.function(parts[metric.basis])
            columns.append(values.reshape(*sums.shape[:-1], len(names_of(metric, self.classes))))
        return np.concatenate(columns, axis=-1)

    def _split(self, sums: Values) -> dict[str, Values]:
        """Split sums into their parts: (..., *shape) each."""
        parts, start = {}, 0
        for name, shape in self.shapes.items():
            end = start + math.prod(shape)
            parts[name] = sums[..., start:end].reshape(*sums.shape[:-1], *shape)
            start = end
        return parts

    def occurrences(self) -> NDArray[np.int64]:
        """Count, for each score, the units that say anything about it: for a class, those where it occurs at all."""
        by_class = ClassCounts.from_array(self._split(self.table)["confusion"]).union
        of_class = (by_class > 0).sum(axis=0)
        of_any = self.counted.sum()
        counts = [
            of_class if "/class/" in metric.name else np.full(len(names_of(metric, self.classes)), of_any)
            for metric in self.metrics
        ]
        return np.concatenate(counts).astype(np.int64)


def sums_of_images(tables: EvaluationTables, settings: EvaluationSettings) -> dict[str, NDArray[Any]]:
    """Return what each image adds to the sums, (images, *shape), by the name that metrics know them by."""
    sums: dict[str, NDArray[Any]] = {}
    for basis in (basis(settings) for basis in BASES if basis.name in tables):
        sums |= basis.unit_sums(tables[basis.name], tables.sample_ids)
    return sums


def groups_of(samples: pd.DataFrame) -> dict[str, str]:
    """Return the group of each sample that has one, from columns sample_id and group (null for none)."""
    grouped = samples.dropna(subset="group")
    return dict(zip(grouped["sample_id"].astype(str), grouped["group"].astype(str), strict=True))
