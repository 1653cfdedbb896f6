"""From the mask files of one sample to class ids: files are decoded, shapes drawn, and several masks joined."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.data.io.annotation_format import ANNOTATION_FORMATS, read_annotation
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import Note, UnreadableError, read_raster
from unet_segmentation.data.io.mask_encodings import (
    DecodedMask,
    EncodingError,
    decode_raster,
    label_class_id,
    most_frequent_values,
)
from unet_segmentation.parameters.data import MaskParameters
from unet_segmentation.utils.ignore_index import IGNORE_INDEX

LISTED_OVERLAPS = 4  # pairs of classes


@dataclass(frozen=True)
class MaskDecoder:
    """Reads the masks of a data set."""

    storage: FileStore
    masks: MaskParameters
    classes: Sequence[str]  # names, in the order of their ids
    label_of: Callable[[str], str | None] = lambda _: None  # the class that a mask shows, where each shows one

    def decode(self, paths: Sequence[str], image: str, size: tuple[int, int]) -> DecodedMask:
        """Read all mask files of one sample and lay them over each other.

        Args:
            paths: of the files, from the lowest to the uppermost.
            image: path of the sample's image, which annotation files for many images name.
            size: height and width of the image as it was decoded.

        Raises:
            UnreadableError: a file is missing or damaged, or lists no such image.
            EncodingError: a file is not of the declared kind, there is none, there are several without a declaration
                that says what that means, or sizes differ.
        """
        if not paths:
            raise EncodingError("missing_mask", "has no mask")
        if len(paths) == 1:
            return self._decode_file(paths[0], image, size, prefix="")
        if not (self.masks.merge or self.masks.encoding == "instances" or any(map(self.label_of, paths))):
            raise EncodingError("several_masks", f"has {len(paths)} masks")
        layers = (self._decode_file(path, image, size, prefix=f"{path}: ") for path in paths)
        return self._join(next(layers), layers, paths)

    def _decode_file(self, path: str, image: str, size: tuple[int, int], *, prefix: str) -> DecodedMask:
        with _mask_errors(prefix):
            if self.masks.encoding in ANNOTATION_FORMATS:
                return self._draw(path, image, size)
            raster = read_raster(self.storage, path, self.masks.variable)
            decoded = decode_raster(raster, self.masks, self.classes, self.label_of(path))
            lossy = (("lossy_mask", f"is a {raster.format} file"),) if raster.lossy else ()
            return replace(decoded, sha256=raster.sha256, notes=raster.notes + lossy)

    def _draw(self, path: str, image: str, size: tuple[int, int]) -> DecodedMask:
        """Draw the shapes of an annotation file, the later over the earlier. A crowd is ignored."""
        annotation = read_annotation(self.masks.encoding, self.storage, path, image, size)
        if annotation.size not in {None, size}:
            height, width = annotation.size or size
            kind = "turned_mask" if (width, height) == size else "size_mismatch"
            raise EncodingError(kind, f"annotates an image of {width} x {height}; {image} is {size[1]} x {size[0]}")
        ids = np.zeros(size, np.uint8)
        values: Counter[str] = Counter()
        undeclared: Counter[str] = Counter()
        overlaps = _Overlaps(self.classes)
        for shape in annotation.shapes:
            pixels = int(shape.inside.sum())
            values[shape.label] += pixels
            class_id = label_class_id(shape.label, self.masks, self.classes)
            if class_id is None:
                undeclared[shape.label] += pixels
            class_id = IGNORE_INDEX if class_id is None or shape.crowd else class_id
            box = ids[shape.rows, shape.columns]
            below = box[shape.inside]
            overlaps.add(below, np.full_like(below, class_id))
            box[shape.inside] = class_id
        kind, listed = "undeclared_labels" if undeclared else "", most_frequent_values(undeclared)
        return DecodedMask(ids, most_frequent_values(values), listed, annotation.sha256, overlaps.notes(), kind)

    def _join(self, lowest: DecodedMask, others: Iterator[DecodedMask], paths: Sequence[str]) -> DecodedMask:
        """Lay masks over each other, one at a time: class 0 covers nothing."""
        ids = lowest.ids.copy()
        values, undeclared = Counter(lowest.values), Counter(lowest.undeclared)
        kind, notes, hashes = lowest.undeclared_kind, dict.fromkeys(lowest.notes), [lowest.sha256]
        overlaps = _Overlaps(self.classes)
        for path, layer in zip(paths[1:], others, strict=True):
            if layer.ids.shape != ids.shape:
                sizes = " and ".join(f"{width} x {height}" for height, width in (layer.ids.shape, ids.shape))
                raise EncodingError("size_mismatch", f"{path} and {paths[0]} are masks of different sizes, {sizes}")
            covers = layer.ids != 0
            overlaps.add(ids[covers], layer.ids[covers])
            np.copyto(ids, layer.ids, where=covers)
            values.update(layer.values)
            undeclared.update(layer.undeclared)
            kind, hashes = kind or layer.undeclared_kind, [*hashes, layer.sha256]
            notes |= dict.fromkeys(layer.notes)
        digest = hashlib.sha256(json.dumps(sorted(zip(paths, hashes, strict=True))).encode()).hexdigest()
        kind, listed = kind if undeclared else "", most_frequent_values(undeclared)
        return DecodedMask(ids, most_frequent_values(values), listed, digest, (*notes, *overlaps.notes()), kind)


@contextmanager
def _mask_errors(prefix: str) -> Iterator[None]:
    """Make errors about an image errors about a mask, and begin their messages with the prefix."""
    try:
        yield
    except UnreadableError as error:
        error.args = (f"{prefix}{error}",)
        if error.kind == "unreadable_image":
            error.kind = "unreadable_mask"
        raise


class _Overlaps:
    """Counts pixels that one class but class 0 takes from another."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = classes
        self._pairs: Counter[tuple[int, int]] = Counter()

    def add(self, below: NDArray[np.uint8], above: NDArray[np.uint8]) -> None:
        overlap = (below != above) & (below != 0) & (below != IGNORE_INDEX) & (above != 0) & (above != IGNORE_INDEX)
        if overlap.any():
            pairs, counts = np.unique(np.stack([below[overlap], above[overlap]], axis=1), axis=0, return_counts=True)
            self._pairs.update(dict(zip(map(tuple, pairs.tolist()), counts.tolist(), strict=True)))

    def notes(self) -> tuple[Note, ...]:
        parts = [
            f"{self._classes[above]} covers {count} pixels of {self._classes[below]}"
            for (below, above), count in self._pairs.most_common(LISTED_OVERLAPS)
        ]
        return (("overlapping_masks", ", ".join(parts)),) if parts else ()
