"""The catalog dataset of the counts per image of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import TablePreview

from unet_segmentation.utils.atomic_io import atomic_write

if TYPE_CHECKING:
    from unet_segmentation.metrics.evaluation_tables import EvaluationTables


class EvaluationTablesDataset(AbstractDataset[Any, Any]):
    """A directory with one Parquet file per table, written whole."""

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(path)
        self.metadata = metadata

    def load(self) -> EvaluationTables:
        """Load all tables."""
        from unet_segmentation.metrics.evaluation_tables import EvaluationTables  # importing SciPy takes time

        return EvaluationTables.load(self._path)

    def save(self, data: EvaluationTables) -> None:
        """Save all tables; they replace those of before."""
        with atomic_write(self._path) as temporary:
            temporary.mkdir()
            data.save(temporary)

    def _exists(self) -> bool:
        return self._path.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path)}

    def preview(self) -> TablePreview:
        """Return the name, the number of rows and the columns of every table for Kedro-Viz."""
        tables = self.load().tables
        rows = [[name, len(table), ", ".join(map(str, table))] for name, table in tables.items()]
        return TablePreview({"index": list(range(len(rows))), "columns": ["table", "rows", "columns"], "data": rows})
