"""Several models of one kind, trained with different seeds and evaluated on the same images: their mean score.

The mean of their scores is one function of one table: the columns of all of them. Resampling images (the same for all
seeds), leaving one out and exchanging two kinds of models are then what they are for a single model; see `sums`. An
interval of such a mean says how much it depends on the images that were tested; the spread over the seeds says how much
a score depends on the training seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.errors import DataError
from unet_segmentation.metrics.definitions import Values
from unet_segmentation.metrics.sufficient_statistics import UnitSums


@dataclass(frozen=True)
class MultiSeedSums:
    """The sums of every unit by each of several models; the scores are means over the models.

    Attributes:
        each: of one model each, over the same units in the same order.
    """

    each: tuple[UnitSums, ...]

    @classmethod
    def of(cls, each: Sequence[UnitSums]) -> MultiSeedSums:
        """Combine models.

        Raises:
            DataError: they were not tested on the same images.
        """
        if any(sums.units != each[0].units or sums.shapes != each[0].shapes for sums in each):
            raise DataError("The networks were not tested on the same images: evaluate all on one split.")
        return cls(tuple(each))

    @property
    def table(self) -> Values:
        """(units, columns of all models)."""
        table: Values = np.concatenate([sums.table for sums in self.each], axis=1)
        return table

    @property
    def total(self) -> Values:
        """(columns of all models,): over all units."""
        return np.concatenate([sums.total for sums in self.each])

    @property
    def names(self) -> list[str]:
        """Names of the scores."""
        return self.each[0].names

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the units."""
        return self.each[0].units

    @property
    def kind(self) -> Literal["images", "groups"]:
        """Return what the units are."""
        return self.each[0].kind

    def scores(self, sums: Values) -> Values:
        """Compute the mean scores of sums: (..., columns of all models) to (..., scores)."""
        parts = np.split(sums, len(self.each), axis=-1)
        means: Values = np.mean([one.scores(part) for one, part in zip(self.each, parts, strict=True)], axis=0)
        return means

    def occurrences(self) -> NDArray[np.int64]:
        """Count, for each score, the units that say anything about it: by the model of which fewest do."""
        counts: NDArray[np.int64] = np.min([sums.occurrences() for sums in self.each], axis=0)
        return counts
