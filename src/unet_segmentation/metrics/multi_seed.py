"""Several models of one kind, trained with different seeds and evaluated on the same images: their mean score.

The mean of their scores is one function of one table: the columns of all of them. Resampling images (the same for all
seeds), leaving one out and exchanging two kinds of models are then what they are for a single model; see
`sufficient_statistics`. An interval of such a mean says how much it depends on the images that were tested; the spread
over the seeds says how much a score depends on the training seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.errors import DataError
from unet_segmentation.metrics.definitions import Values
from unet_segmentation.metrics.sufficient_statistics import UnitSums


class MultiSeedSums:
    """The sums of every unit by each of several models, with the attributes of `UnitSums`.

    Args:
        models: the sums of each, over the same units in the same order.

    Raises:
        DataError: they were not tested on the same images.
    """

    def __init__(self, models: Sequence[UnitSums]) -> None:
        first = models[0]
        if any(sums.units != first.units or sums.shapes != first.shapes for sums in models):
            raise DataError("The networks were not tested on the same images: evaluate all on one split.")
        self.models = models
        self.names: list[str] = first.names
        self.units: tuple[str, ...] = first.units
        self.kind: Literal["images", "groups"] = first.kind
        self.table: Values = np.concatenate([sums.table for sums in models], axis=1)  # (units, columns of all models)
        self.total: Values = np.concatenate([sums.total for sums in models])

    def scores(self, sums: Values) -> Values:
        """Compute the mean scores of sums: (..., columns of all models) to (..., scores)."""
        parts = np.split(sums, len(self.models), axis=-1)
        means: Values = np.mean([model.scores(part) for model, part in zip(self.models, parts, strict=True)], axis=0)
        return means

    def occurrences(self) -> NDArray[np.int64]:
        """Count, for each score, the units that say anything about it: by the model of which fewest do."""
        counts: NDArray[np.int64] = np.min([sums.occurrences() for sums in self.models], axis=0)
        return counts


Sums = UnitSums | MultiSeedSums
