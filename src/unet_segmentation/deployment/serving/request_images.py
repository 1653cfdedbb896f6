"""What a client sends becomes images: the bytes of image files, base64, arrays, paths; one or many. Needs no torch."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.data.io.image_decoders import UnreadableError
from unet_segmentation.data.io.image_reader import decode_image
from unet_segmentation.errors import DataError
from unet_segmentation.inference.channel_adaptation import image_parameters, with_channels
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters.data import ImageParameters

COLUMN = "image"  # of a table, and key of a record
WANTED = (
    "Send the bytes of an image file, as they are or in base64, or an array of pixels (height, width, channels); "
    "several of them as a list."
)


@dataclass(frozen=True)
class Batch:
    """What one call brought."""

    entries: Sequence[Any]  # images, each as it came: bytes, base64 text, a path or an array
    single: bool  # it was one image, not a list of one
    arrays: bool  # they are arrays of pixels; otherwise files, in some form


@dataclass(frozen=True)
class Reader:
    """Reads images as those of the training were read."""

    images: ImageParameters  # bands, range and transparency
    channels: int  # what the network takes
    max_pixels: int  # what an image may have
    read_paths: bool = False  # whether a text may name a file of this machine; a `Path` may: no request can hold one

    @classmethod
    def of(cls, spec: ModelSpec, *, max_pixels: int, read_paths: bool = False) -> Reader:
        """Make the reader of a specified network; older ones say less about their images."""
        return cls(image_parameters(spec), spec.in_channels, max_pixels, read_paths)

    def read(self, batch: Batch) -> Iterator[NDArray[Any]]:
        """Decode image by image.

        Yields:
            (height, width, channels) uint8 or uint16; arrays of pixels as they came.

        Raises:
            DataError: names the image (by its number, from 0) and says what is wrong with it.
        """
        for number, entry in enumerate(batch.entries):
            name = "the image" if len(batch.entries) == 1 else f"image {number}"
            yield self._array(entry, name) if isinstance(entry, np.ndarray) else self._file(entry, name)

    def _array(self, pixels: NDArray[Any], name: str) -> NDArray[Any]:
        if pixels.ndim not in {2, 3} or 0 in pixels.shape:
            raise DataError(f"{name} is an array {pixels.shape}, not (height, width, channels)")
        self._check_size(pixels.shape[0] * pixels.shape[1], name)
        return pixels

    def _file(self, entry: Any, name: str) -> NDArray[Any]:  # noqa: ANN401 - whatever a client sends
        data = self._bytes(entry, name)
        try:
            pixels = decode_image(data, name, self.images, largest=self.max_pixels).pixels
        except UnreadableError as error:
            raise DataError(str(error)) from None
        try:
            return with_channels(pixels, self.channels, self.images)
        except DataError as error:
            raise DataError(f"{name} {error}") from None

    def _bytes(self, entry: Any, name: str) -> bytes:  # noqa: ANN401
        if isinstance(entry, bytes | bytearray | memoryview):
            return bytes(entry)
        if isinstance(entry, Path):
            return _content(entry, name)
        if not isinstance(entry, str):
            raise DataError(f"{name} is of type {type(entry).__name__}. {WANTED}")
        if self.read_paths and _names_a_file(entry):
            return _content(Path(entry), name)
        return _from_base64(entry, name)

    def _check_size(self, pixels: int, name: str) -> None:
        if pixels > self.max_pixels:
            raise DataError(f"{name} is larger than {self.max_pixels / 1e6:.4g} million pixels: cut it first")


def as_batch(value: Any) -> Batch:  # noqa: ANN401 - whatever a client sends
    """Sort out what came: MLflow hands over tables, dictionaries, arrays of texts and lists, as the request had it.

    Raises:
        DataError: there is no image in it, or several columns and none is called `image`.
    """
    value = _column(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "OUS":
        value = value.item() if value.ndim == 0 else list(value.ravel())
    if isinstance(value, np.ndarray) and value.ndim == 4:
        return _checked(Batch(list(value), single=False, arrays=True))
    if isinstance(value, list | tuple):
        entries = [_column(entry) if isinstance(entry, Mapping) else entry for entry in value]
        entries = [entry.item() if _is_scalar(entry) else entry for entry in entries]
        arrays = bool(entries) and all(isinstance(entry, np.ndarray) for entry in entries)
        return _checked(Batch(entries, single=False, arrays=arrays))
    return _checked(Batch([value], single=True, arrays=isinstance(value, np.ndarray)))


def _column(value: Any) -> Any:  # noqa: ANN401
    """Return the column of a table (pandas) or the value of a dictionary that holds the images."""
    if isinstance(value, Mapping):
        names, take = list(value), value.__getitem__
    elif hasattr(value, "columns") and hasattr(value, "iloc"):
        names, take = list(value.columns), lambda name: list(value[name])
    else:
        return list(value) if hasattr(value, "iloc") else value
    if COLUMN in names:
        return take(COLUMN)
    if len(names) == 1:
        return take(names[0])
    raise DataError(f"there is no column {COLUMN!r}, but {', '.join(map(str, names)) or 'none'}. {WANTED}")


def _checked(batch: Batch) -> Batch:
    if not batch.entries or batch.entries[0] is None:
        raise DataError(f"there is no image. {WANTED}")
    return batch


def _is_scalar(entry: Any) -> bool:  # noqa: ANN401
    return isinstance(entry, np.ndarray) and entry.ndim == 0


def _names_a_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long, or with a character that no path has: it is base64
        return False


def _content(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{name}: {path} cannot be read ({error.strerror})") from None


def _from_base64(text: str, name: str) -> bytes:
    """Decode base64, with or without the beginning of a data URL."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise DataError(
            f"{name} is a text that is no base64. Send the bytes of the file in base64; in Python, name a file of this "
            "machine by a pathlib.Path"
        ) from None
