"""Catalog datasets that hold a folder each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import ImagePreview, TablePreview

from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.datasets.files import LocalFile, image_preview
from unet_segmentation.utils.atomic_io import atomic_write

if TYPE_CHECKING:
    from unet_segmentation.metrics.evaluation_tables import EvaluationTables


class LocalFolder(AbstractDataset[Any, Any]):
    """The base of datasets that are one local folder."""

    def __init__(self, *, path: str, metadata: dict[str, object] | None = None) -> None:
        self._path = Path(path)
        self.metadata = metadata

    def _exists(self) -> bool:
        return self._path.is_dir()

    def _describe(self) -> dict[str, object]:
        return {"path": str(self._path)}


class WorkingFolderDataset(LocalFolder):
    """A folder that nodes work in: loading creates it and returns its path. It cannot be saved."""

    def load(self) -> Path:
        """Create the folder, if it is missing, and return its path."""
        self._path.mkdir(parents=True, exist_ok=True)
        return self._path

    def save(self, data: Any) -> None:  # noqa: ANN401
        """Refuse: a working folder is an input only."""
        raise NotImplementedError("a working folder is filled by the nodes that work in it, not by the catalog")

    def _exists(self) -> bool:
        return True  # loading creates it, so it is never missing


class FolderDataset(LocalFolder):
    """A folder that is written whole: saves a writer, which streams the files into it; loads its path."""

    def load(self) -> Path:
        """Return the path of the folder."""
        if not self._path.is_dir():
            raise FileNotFoundError(f"{self._path} is not there: run the pipeline that makes it first")
        return self._path

    def save(self, data: Callable[[Path], None]) -> None:
        """Fill a new folder with the writer; it then replaces the former one."""
        with atomic_write(self._path) as temporary:
            temporary.mkdir()
            data(temporary)


class EvaluationTablesDataset(LocalFolder):
    """The tables per image of an evaluation: a Parquet file each, written whole."""

    def load(self) -> EvaluationTables:
        """Load all tables."""
        from unet_segmentation.metrics.evaluation_tables import EvaluationTables  # importing SciPy takes time

        return EvaluationTables.load(self._path)

    def save(self, data: EvaluationTables) -> None:
        """Save all tables; they replace those of before."""
        with atomic_write(self._path) as temporary:
            temporary.mkdir()
            data.save(temporary)

    def preview(self) -> TablePreview:
        """Return the name, the number of rows and the columns of every table for Kedro-Viz."""
        tables = self.load().tables
        rows = [[name, len(table), ", ".join(map(str, table))] for name, table in tables.items()]
        return TablePreview({"index": list(range(len(rows))), "columns": ["table", "rows", "columns"], "data": rows})


class MaskFolderDataset(FolderDataset):
    """A folder of masks."""

    def preview(self, masks: int = 16) -> ImagePreview:
        """Show the first masks in the colors of their classes."""
        import numpy as np
        from PIL import Image

        from unet_segmentation.visualization import color_mask, contact_sheet

        files = sorted(self._path.rglob("*.png"))[:masks]
        return image_preview(contact_sheet([color_mask(np.array(Image.open(file))) for file in files], columns=8))


class PackedSamplesDataset(LocalFile):
    """Packed images and masks: the file names the folder that holds them."""

    def load(self) -> PackedSamples:
        """Open the arrays; pixels are read when they are asked for."""
        folder = json.loads(self._filepath.read_text(encoding="utf-8"))["folder"]
        return PackedSamples(self._filepath.parent / folder)

    def save(self, data: PackedSamples) -> None:
        """Write the path of the arrays, relative to this file."""
        with atomic_write(self._filepath) as temporary:
            folder = os.path.relpath(data.folder, self._filepath.parent)
            temporary.write_text(
                json.dumps({"folder": Path(folder).as_posix(), "samples": len(data)}), encoding="utf-8"
            )

    def preview(self, samples: int = 16) -> ImagePreview:
        """Show the first samples, each next to its mask."""
        from unet_segmentation.visualization import color_mask, contact_sheet, displayable

        packed = self.load()
        tiles = []
        for sample_id in packed.sample_ids[:samples]:
            tiles += [displayable(packed.image(sample_id)), color_mask(packed.mask(sample_id))]
        return image_preview(contact_sheet(tiles, columns=8))
