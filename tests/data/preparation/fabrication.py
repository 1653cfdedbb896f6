"""Small data sets of fabricated files."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from unet_segmentation.data.data_source import DataSource
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.layout.layout import Layout
from unet_segmentation.data.preparation.inspect_and_pack import inspect_samples
from unet_segmentation.data.preparation.sample_inspection import INDEX_COLUMNS
from unet_segmentation.parameters import ImageParameters, InspectionParameters, MaskParameters


class Fabricated:
    """A raw folder with its index; `inspect` runs the inspection over it."""

    def __init__(self, root: Path, packing: Path) -> None:
        self.root, self.packing = root, packing
        self.rows: list[dict] = []

    def add(self, sample_id, image="", masks=(), group=None, split=None, roi=""):
        """Add a row; arrays and PIL pictures are saved as PNG, strings are taken as paths."""
        names = [self._saved(mask, f"masks/{sample_id}_{n}.png") for n, mask in enumerate(masks)]
        row = {"sample_id": sample_id, "image": self._saved(image, f"images/{sample_id}.png"), "masks": names}
        self.rows.append(row | {"roi": self._saved(roi, f"roi/{sample_id}.png"), "group": group, "split": split})

    def _saved(self, picture, name):
        if isinstance(picture, str):
            return picture
        picture = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(self.root / name)
        return name

    @property
    def indexed(self):
        return pd.DataFrame(self.rows, columns=INDEX_COLUMNS)

    def inspect(self, classes=("a", "b"), threads=2, rare_class_fraction=0.0, images=None, roi=None, **masks):
        self.packing.mkdir(exist_ok=True)
        inspection = InspectionParameters(workers=threads, rare_class_fraction=rare_class_fraction)
        layout = Layout("images/{id}.png", "masks/{id}.png", roi=roi)
        parameters = ImageParameters(**(images or {})), MaskParameters(**masks)
        source = DataSource(FileStore(self.root), layout, list(classes), *parameters)
        return inspect_samples(self.indexed, source, inspection, self.packing)


def kinds(findings, severity="error"):
    """Return the kinds of findings of one severity."""
    return sorted(findings.loc[findings["severity"] == severity, "kind"])


def values(findings, kind):
    """Return the values of the first finding of a kind."""
    return json.loads(findings.loc[findings["kind"] == kind, "values"].iloc[0])


def picture(seed=0, size=(8, 10), channels=3, dtype=np.uint8):
    """Draw noise: (height, width, channels), or (height, width) for one channel."""
    random = np.random.default_rng(seed)
    shape = size if channels == 1 else (*size, channels)
    return random.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def mask(seed=0, size=(8, 10), options=(0, 1)):
    """Draw a mask of these values."""
    return np.random.default_rng(seed).choice(np.array(options, np.uint8), size)
