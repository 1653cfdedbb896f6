"""What each image, or each group of images, adds to the sums that all scores are made of.

Every score is a function of sums over images: of pixels by class, of pixels by confidence, of objects, or of values of
single images. Resampling images, leaving one out and exchanging those of two runs are then all one product of a matrix
of weights with one table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.metrics import boundary, calibration, object_recall, thresholds
from unet_segmentation.metrics.confusion_matrix import ClassCounts, class_counts
from unet_segmentation.metrics.count_tables import dense
from unet_segmentation.metrics.definitions import METRICS, Metric, Values, names_of, soft_sums

_BY_IMAGE = [metric for metric in METRICS if metric.basis in ("image", "soft")]
_CHOSEN = "optimal_threshold/value"  # a choice, made on other images: it has no interval

Shape = tuple[int, ...]


@dataclass(frozen=True)
class UnitSums:
    """The sums of every unit: an image, or a group of images that belong together.

    Attributes:
        classes: names of the classes.
        units: names of the units.
        table: (units, columns) float64. Counts are exact up to 2^53.
        shapes: what the columns are, in their order: name and shape of each part.
        counted: (units,) whether a unit has a counted pixel.
        kind: `images`, or `groups` where some images belong together.
        threshold: of the foreground, where one was chosen.
    """

    classes: tuple[str, ...]
    units: tuple[str, ...]
    table: Values
    shapes: Mapping[str, Shape]
    counted: NDArray[np.bool_]
    kind: Literal["images", "groups"]
    threshold: float | None = None

    @classmethod
    def of(
        cls,
        confusion: pd.DataFrame,
        soft: pd.DataFrame,
        classes: Sequence[str],
        groups: Mapping[str, str] | None = None,
        *,
        calibration_counts: pd.DataFrame | None = None,
        object_counts: pd.DataFrame | None = None,
        boundary_counts: pd.DataFrame | None = None,
        foreground_histogram: pd.DataFrame | None = None,
        threshold: float | None = None,
    ) -> UnitSums:
        """Add up what each unit has.

        Args:
            confusion: sparse counts per image: sample_id, truth, prediction, count.
            soft: the article's sums per image: sample_id, intersection, truth, prediction. It names all images.
            classes: names of the classes.
            groups: sample id to group. An image that has none is a unit by itself. None: every image is.
            calibration_counts: this and the others as for `metrics.scores`; scores whose table is not given are left
                out.
            object_counts: likewise.
            boundary_counts: likewise.
            foreground_histogram: likewise.
            threshold: likewise.
        """
        ids = soft["sample_id"].astype(str).tolist()
        counts = class_counts(confusion, len(classes), ids)
        parts = {"counts": np.stack([counts.hits, counts.truth, counts.predicted], axis=1)}
        for metric in _BY_IMAGE:
            values = metric.function(counts if metric.basis == "image" else soft_sums(soft))
            parts[metric.name] = np.stack([np.nan_to_num(values), ~np.isnan(values)], axis=1)
        if calibration_counts is not None:
            columns = ["pixels", "confidence", "correct"]
            parts["calibration"] = dense(calibration_counts, ids, ["bin"], columns, [calibration.BINS])
        if object_counts is not None:
            shape = [len(classes), len(object_recall.SIZES)]
            parts["objects"] = dense(object_counts, ids, ["class", "size"], ["objects", "found"], shape)
        if boundary_counts is not None:
            for name, rows in boundary.boundary_sums(boundary_counts).items():
                parts[name] = dense(rows, ids, ["class"], ["above", "below"], [len(classes)])
        if foreground_histogram is not None:
            columns = ["background", "foreground"]
            parts["foreground"] = dense(foreground_histogram, ids, ["bin"], columns, [thresholds.BINS])
        by_image = np.concatenate([part.reshape(len(ids), -1).astype(np.float64) for part in parts.values()], axis=1)
        units = [(groups or {}).get(name) or name for name in ids]
        places, names = pd.factorize(np.array(units, dtype=object))
        table = np.zeros((len(names), by_image.shape[1]))
        np.add.at(table, places, by_image)
        return cls(
            classes=tuple(classes),
            units=tuple(map(str, names)),
            table=table,
            shapes={name: part.shape[1:] for name, part in parts.items()},
            counted=np.bincount(places, weights=counts.truth.sum(axis=1), minlength=len(names)) > 0,
            kind="images" if len(names) == len(ids) else "groups",
            threshold=threshold if foreground_histogram is not None else None,
        )

    @property
    def metrics(self) -> list[Metric]:
        """The definitions of the scores, in the order of `METRICS`."""
        known = {"split", "class", "image", "soft", *self.shapes} | ({"threshold"} if self.threshold else set())
        return [metric for metric in METRICS if metric.basis in known and metric.name != _CHOSEN]

    @property
    def names(self) -> list[str]:
        """Names of the scores."""
        return [name for metric in self.metrics for name in names_of(metric, self.classes)]

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
        parts = self._parts(sums)
        given = self._given(parts)
        found = []
        for metric in self.metrics:
            mean = metric in _BY_IMAGE
            values = boundary.ratio(parts[metric.name]) if mean else metric.function(given[metric.basis])
            found.append(np.reshape(values, (*sums.shape[:-1], len(names_of(metric, self.classes)))))
        return np.concatenate(found, axis=-1)

    def _parts(self, sums: Values) -> dict[str, Values]:
        """Cut sums into their parts: (..., *shape) each."""
        parts, start = {}, 0
        for name, shape in self.shapes.items():
            end = start + math.prod(shape)
            parts[name] = sums[..., start:end].reshape(*sums.shape[:-1], *shape)
            start = end
        return parts

    def _given(self, parts: Mapping[str, Values]) -> dict[str, Any]:
        """Make of the parts what the metrics' functions take, by their basis."""
        counts = ClassCounts(*np.moveaxis(parts["counts"], -2, 0))
        given: dict[str, Any] = {"split": counts, "class": counts}
        given |= {name: parts[name] for name in ("calibration", "objects", "foreground") if name in parts}
        given |= {name: boundary.ratio(parts[name]) for name in boundary.MEASURES if name in parts}
        if self.threshold is not None:
            given["threshold"] = self.threshold, thresholds.counts_at(parts["foreground"], self.threshold)
        return given

    def occurrences(self) -> NDArray[np.int64]:
        """Count, for each score, the units that say anything about it: for a class, those where it occurs at all."""
        by_class = ClassCounts(*np.moveaxis(self._parts(self.table)["counts"], -2, 0)).union
        of_class = (by_class > 0).sum(axis=0)
        of_any = self.counted.sum()
        counts = [
            of_class if "/class/" in metric.name else np.full(len(names_of(metric, self.classes)), of_any)
            for metric in self.metrics
        ]
        return np.concatenate(counts).astype(np.int64)
