"""Catalog datasets that hold one file each."""

from __future__ import annotations

import base64
import copy
import html
import importlib
import io
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

import yaml
from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import HTMLPreview, ImagePreview, JSONPreview, TablePreview
from kedro_datasets.json import JSONDataset as _JSONDataset
from kedro_datasets.pandas import CSVDataset as _CSVDataset
from kedro_datasets.pandas import ParquetDataset as _ParquetDataset
from kedro_datasets.plotly import JSONDataset as _PlotlyDataset
from pydantic import TypeAdapter

from unet_segmentation.utils.atomic_io import atomic_write, link_or_copy

if TYPE_CHECKING:
    from torch import Tensor

    from unet_segmentation.training.plan_rules import ProposedPlan

PREVIEW_SIDE = 1600  # pixels; what travels to the browser for one picture


class _Atomic:
    """Makes ``save`` of a Kedro dataset all or nothing: a file is never seen half-written."""

    _filepath: PurePosixPath

    def save(self, data: object) -> None:
        """Write to a temporary name, then rename."""
        with atomic_write(Path(self._filepath)) as temporary:
            writer = copy.copy(self)
            writer._filepath = PurePosixPath(temporary.as_posix())
            try:
                super(_Atomic, writer).save(data)  # type: ignore[misc]
            except DatasetError as error:  # Kedro's around what happened, by which `whole` knows a full disk
                raise error.__cause__ or error from None


class JSONDataset(_Atomic, _JSONDataset):
    """A JSON file, written whole and readable by people."""

    DEFAULT_SAVE_ARGS: ClassVar = {"indent": 2, "allow_nan": False}


class OptionalJSONDataset(JSONDataset):
    """A JSON file that may be missing, and loads as None then: an output of another pipeline."""

    optional = True  # a run that starts from it does without (hooks.check_inputs)

    def load(self) -> Any:  # noqa: ANN401 - any JSON value
        """Read the file; None where there is none."""
        return super().load() if self._exists() else None


class ParquetDataset(_Atomic, _ParquetDataset):
    """A table as a Parquet file, written whole."""

    def preview(self, nrows: int = 5) -> TablePreview:
        """Return the first rows for Kedro-Viz."""
        return _table_preview(self.load(), nrows)


class CSVDataset(_Atomic, _CSVDataset):
    """A table as a CSV file, written whole."""

    DEFAULT_SAVE_ARGS: ClassVar = {"index": False}

    def preview(self, nrows: int = 5) -> TablePreview:
        """Return the first rows for Kedro-Viz."""
        return _table_preview(self.load(), nrows)


class PlotlyDataset(_Atomic, _PlotlyDataset):
    """A Plotly figure as JSON, written whole."""


class LocalFile(AbstractDataset[Any, Any]):
    """The base of datasets that are one local file."""

    def __init__(self, *, filepath: str, metadata: dict[str, object] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, object]:
        return {"filepath": str(self._filepath)}


class FileDataset(LocalFile):
    """Any file, as a path: saving links or copies the file, loading returns its path."""

    def load(self) -> Path:
        """Return the path of the file."""
        if not self._filepath.is_file():
            raise FileNotFoundError(f"{self._filepath} is not there: run the pipeline that makes it first")
        return self._filepath

    def save(self, data: Path) -> None:
        """Publish a finished file under the catalog's name."""
        with atomic_write(self._filepath) as temporary:
            link_or_copy(data, temporary)


class OptionalFileDataset(FileDataset):
    """A file that need not be there, and loads as None then: what another pipeline may have written."""

    optional = True  # a run that starts from it does without (hooks.check_inputs)

    def load(self) -> Path | None:  # type: ignore[override]
        """Return the path of the file; None where there is none."""
        return self._filepath if self._filepath.is_file() else None


class WeightsDataset(LocalFile):
    """Network weights as safetensors: no code is executed on loading. Loads the path, saves a state dict."""

    def load(self) -> Path:
        """Return the path of the weights."""
        return self._filepath

    def save(self, data: Mapping[str, Tensor]) -> None:
        """Write a state dict of tensors."""
        from safetensors.torch import save_file

        with atomic_write(self._filepath) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in data.items()}, temporary)


class ModelDataset(LocalFile):
    """A typed object, a pydantic model or a dataclass, as a JSON file that people can read; loading validates it.

    Args:
        filepath: of the JSON file.
        model: dotted path of the class, imported when the file is loaded or saved.
        optional: whether the file may be missing; it loads as None then.
        metadata: of the catalog entry.
    """

    def __init__(
        self, *, filepath: str, model: str, optional: bool = False, metadata: dict[str, object] | None = None
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._model = model
        self.optional = optional

    def load(self) -> Any:  # noqa: ANN401 - an instance of the class
        """Read the file and validate it."""
        if self.optional and not self._exists():
            return None
        return self._adapter().validate_json(self._filepath.read_bytes())

    def save(self, data: Any) -> None:  # noqa: ANN401 - an instance of the class
        """Write the object."""
        with atomic_write(self._filepath) as temporary:
            temporary.write_bytes(self._adapter().dump_json(data, indent=2))

    def preview(self) -> JSONPreview:
        """Show the file as it is."""
        return JSONPreview(self._filepath.read_text(encoding="utf-8") if self._exists() else "null")

    def _adapter(self) -> TypeAdapter[Any]:
        module, _, name = self._model.rpartition(".")
        return TypeAdapter(getattr(importlib.import_module(module), name))


class ProposedPlanDataset(LocalFile):
    """The proposed plan as YAML, keys in their order, for people to edit; loading validates what they wrote."""

    def load(self) -> ProposedPlan:
        """Read the file; raise a ConfigurationError that names the key of a wrong edit."""
        from unet_segmentation.training.plan_rules import validate_proposed_plan

        return validate_proposed_plan(yaml.safe_load(self._filepath.read_text(encoding="utf-8")))

    def save(self, data: ProposedPlan) -> None:
        """Write values and reasons."""
        document = yaml.safe_dump(data.model_dump(), sort_keys=False, allow_unicode=True, width=1000)
        with atomic_write(self._filepath) as temporary:
            temporary.write_text(document, encoding="utf-8")

    def preview(self) -> JSONPreview:
        """Show values and reasons."""
        return JSONPreview(json.dumps(yaml.safe_load(self._filepath.read_text(encoding="utf-8"))))


class _Text(LocalFile):
    """A text file."""

    def load(self) -> str:
        """Read the text."""
        return self._filepath.read_text(encoding="utf-8")

    def save(self, data: str) -> None:
        """Write the text."""
        with atomic_write(self._filepath) as temporary:
            temporary.write_text(data, encoding="utf-8")


class MarkdownDataset(_Text):
    """A short text for people, in Markdown."""

    def preview(self) -> HTMLPreview:
        """Show the text; an underscore would begin italics there."""
        return HTMLPreview(html.escape(self.load(), quote=False).replace("_", "&#95;"))


class HTMLDataset(_Text):
    """A self-contained HTML page."""

    def preview(self) -> HTMLPreview:
        """Link to the page: Kedro-Viz runs no scripts inside a preview."""
        if not self._filepath.is_file():
            return HTMLPreview("<p>not made yet</p>")
        size = self._filepath.stat().st_size / 1e6
        name = html.escape(str(self._filepath)).replace("_", "&#95;")
        return HTMLPreview(f"<p>Open in a browser ({size:.1f} MB):</p><p><a href='file://{name}'>{name}</a></p>")


class ImageDataset(LocalFile):
    """A picture for people: saves a PIL image as PNG, loads the path."""

    def load(self) -> Path:
        """Return the path of the picture."""
        return self._filepath

    def save(self, data: Any) -> None:  # noqa: ANN401 - a PIL image; PIL is not imported for the annotation alone
        """Write the picture."""
        with atomic_write(self._filepath) as temporary:
            data.save(temporary, format="PNG")

    def preview(self) -> ImagePreview:
        """Show the picture, made smaller where it is large."""
        from PIL import Image

        with Image.open(self._filepath) as picture:
            return image_preview(picture)


def image_preview(picture: Any) -> ImagePreview:  # noqa: ANN401 - a PIL image
    """Encode a PIL image for Kedro-Viz."""
    picture = picture.convert("RGB")
    picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return ImagePreview(base64.b64encode(stream.getvalue()).decode())


def _table_preview(table: Any, rows: int) -> TablePreview:  # noqa: ANN401 - a data frame
    """Build a preview of plain values: lists and arrays become text, missing values empty."""

    def plain(value: Any) -> Any:  # noqa: ANN401
        if hasattr(value, "tolist"):
            value = value.tolist()
        if isinstance(value, list):
            return ", ".join(f"{part:.4g}" if isinstance(part, float) else str(part) for part in value)
        return "" if value is None or value != value else value  # noqa: PLR0124 - NaN is not itself

    head = table.head(rows)
    data = [[plain(value) for value in row] for row in head.itertuples(index=False)]
    return TablePreview({"index": list(range(len(head))), "columns": list(map(str, head.columns)), "data": data})
