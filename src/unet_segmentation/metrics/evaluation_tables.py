"""What an evaluation has counted in each image, one table per basis: all that scores and intervals are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.metrics.basis import EvaluatedImage, EvaluationSettings, Needs
from unet_segmentation.metrics.definitions import BASES

Measurements = dict[str, NDArray[Any]]  # of one image, by basis


@dataclass(frozen=True)
class EvaluationTables:
    """Tables of counts per image, by the name of their basis.

    These are `confusion`, `soft`, `calibration`, `objects`, and as far as they were measured `boundary` and
    `foreground`. Each has the columns sample_id, keys and columns of its basis. `soft` names all images; one whose
    pixels are all ignored has no row in the others.
    """

    tables: Mapping[str, pd.DataFrame]

    def __getitem__(self, basis: str) -> pd.DataFrame:
        """Return one table."""
        return self.tables[basis]

    def __contains__(self, basis: str) -> bool:
        """Return whether there is such a table."""
        return basis in self.tables

    @property
    def confusion(self) -> pd.DataFrame:
        """Pixels by true and predicted class: sample_id, truth, prediction, count."""
        return self.tables["confusion"]

    @property
    def soft(self) -> pd.DataFrame:
        """Sums of probabilities: sample_id, intersection, truth, prediction."""
        return self.tables["soft"]

    @property
    def sample_ids(self) -> list[str]:
        """Return the ids of the images, in the order in which they were evaluated."""
        return self.soft["sample_id"].astype(str).tolist()

    def where(self, column: str, value: object) -> EvaluationTables:
        """Return the rows with this value of a column that all tables have."""
        return EvaluationTables({name: table[table[column] == value] for name, table in self.tables.items()})

    def save(self, folder: Path) -> None:
        """Save each table as `<basis>.parquet` in an existing folder."""
        for name, table in self.tables.items():
            table.to_parquet(folder / f"{name}.parquet", index=False)

    @classmethod
    def load(cls, folder: Path) -> EvaluationTables:
        """Load the tables of a folder."""
        return cls({file.stem: pd.read_parquet(file) for file in sorted(folder.glob("*.parquet"))})


def measure_image(image: EvaluatedImage, settings: EvaluationSettings, needs: Needs) -> Measurements:
    """Measure an image for every basis that needs masks alone, or probabilities."""
    bases = (basis(settings) for basis in BASES if basis.needs == needs)
    return {basis.name: basis.measure(image) for basis in bases if basis.applies}


def build_tables(
    images: Iterable[tuple[str, Measurements]], settings: EvaluationSettings, needs: Needs
) -> EvaluationTables:
    """Build the tables of every basis that needs masks alone, or probabilities.

    `images` gives sample id and `measure_image` of each, one after the other: memory holds few arrays at a time.
    """
    bases = [basis(settings) for basis in BASES if basis.needs == needs]
    builders = {basis.name: basis.table_builder() for basis in bases if basis.applies}
    for sample_id, measurements in images:
        for name, builder in builders.items():
            builder.add(sample_id, measurements[name])
    return EvaluationTables({name: builder.build() for name, builder in builders.items()})
