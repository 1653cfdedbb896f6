"""Where the files of a problem are, which of them belong together, and how they are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.mask_decoder import MaskDecoder
from unet_segmentation.data.layout.layout import Layout
from unet_segmentation.parameters import ImageParameters, MaskParameters, SourceParameters

FORMAT = 5  # raise it when the same files and parameters would give other tables or arrays


@dataclass(frozen=True)
class DataSource:
    """The raw files of a problem."""

    storage: FileStore
    layout: Layout
    classes: Sequence[str]  # names, in the order of their ids
    images: ImageParameters = field(default_factory=ImageParameters)
    masks: MaskParameters = field(default_factory=MaskParameters)

    @classmethod
    def from_parameters(
        cls, root: str, source: SourceParameters, classes: Sequence[str], images: ImageParameters, masks: MaskParameters
    ) -> DataSource:
        """Build the data source of a problem, whose files are in the folder or at the URL ``root``."""
        return cls(FileStore(root, source.storage_options), Layout.of(source), classes, images, masks)

    @cached_property
    def mask_decoder(self) -> MaskDecoder:
        """Reads the masks."""
        return MaskDecoder(self.storage, self.masks, self.classes, self.layout.label)

    def digest(self) -> str:
        """Compute a hash of all that decides what a file becomes."""
        declared = [list(self.classes), self.images.model_dump(mode="json"), self.masks.model_dump(mode="json")]
        return hashlib.sha256(json.dumps([FORMAT, *declared, self.layout.masks]).encode()).hexdigest()
