"""A catalog dataset that holds one typed object: a pydantic model or a dataclass, as JSON."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import JSONPreview
from pydantic import TypeAdapter

from unet_segmentation.utils.atomic_io import atomic_write


class ModelDataset(AbstractDataset[Any, Any]):
    """A typed object as a JSON file, written whole and readable by people; loading validates it.

    Args:
        filepath: of the JSON file.
        model: dotted path of the class, imported when the file is loaded or saved.
        optional: whether the file may be missing; it loads as None then.
        metadata: of the catalog entry.
    """

    def __init__(
        self, *, filepath: str, model: str, optional: bool = False, metadata: dict[str, object] | None = None
    ) -> None:
        self._filepath = Path(filepath)
        self._model = model
        self.optional = optional
        self.metadata = metadata

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

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, object]:
        return {"filepath": str(self._filepath), "model": self._model}
