"""Image and mask files become arrays: each file is read once, hashed and decoded from the same bytes."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image as PIL

MANY_PAGES = {"GIF", "TIFF", "PNG", "WEBP"}  # JPEG's second frames (MPO) are thumbnails of cameras
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TIFF_BITS_PER_SAMPLE = 258


class UnreadableError(Exception):
    """A file that cannot be decoded; the message says why."""


@dataclass(frozen=True)
class DecodedImage:
    """An image file.

    Attributes:
        pixels: (height, width, channels) uint8 or uint16; channels is 1 or 3.
        sha256: of the file's bytes.
        notes: what was done to it, by kind: `alpha_dropped`, `several_pages`.
    """

    pixels: NDArray
    sha256: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class RawMask:
    """A mask file before its encoding is applied.

    Attributes:
        pixels: (height, width) values or palette indices, or (height, width, 3) colours.
        palette: (entries, 3) uint8 colours where the pixels are palette indices; 1-bit files have black and white.
        sha256: of the file's bytes.
        notes: as for images.
    """

    pixels: NDArray
    palette: NDArray[np.uint8] | None
    sha256: str
    notes: tuple[str, ...]


def read_image(file: Path) -> DecodedImage:
    """Decode an image: PNG, JPEG, BMP, GIF, TIFF and whatever else Pillow reads, in 8 or 16 bits.

    The camera's orientation (EXIF) is applied, palettes become colours, alpha is dropped.

    Raises:
        UnreadableError: the file is missing, damaged, or of a depth that is not supported.
    """
    data = _bytes(file)
    with _explained():
        picture, notes = _open(data)
        if _is_deep_colour(picture, data):
            pixels, alpha = _deep_colour(data)
            return DecodedImage(pixels, _sha256(data), notes + alpha)
        if picture.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in picture.info:
            notes += ("alpha_dropped",)
        if picture.mode in {"1", "LA", "La"}:
            picture = picture.convert("L")
        elif picture.mode not in {"L", "RGB", "I", "F"} and not picture.mode.startswith("I;16"):
            picture = picture.convert("RGB")
        pixels = _whole_numbers(np.asarray(picture))
    return DecodedImage(pixels if pixels.ndim == 3 else pixels[:, :, None], _sha256(data), notes)


def read_mask(file: Path) -> RawMask:
    """Decode a mask without interpreting it: palette indices stay indices.

    Raises:
        UnreadableError: as `read_image`.
    """
    data = _bytes(file)
    with _explained():
        picture, notes = _open(data)
        if _is_deep_colour(picture, data):
            raise UnreadableError("is a colour image of 16 bits per channel, which no mask encoding knows")
        palette = None
        if picture.mode == "1":
            palette = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
        elif picture.mode == "P":
            palette = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
        elif picture.mode in {"LA", "La"}:
            picture = picture.convert("L")
        elif picture.mode not in {"L", "RGB", "I", "F"} and not picture.mode.startswith("I;16"):
            picture = picture.convert("RGB")
        pixels = np.asarray(picture)
        pixels = pixels.astype(np.uint8) if pixels.dtype == bool else _whole_numbers(pixels)
    return RawMask(pixels, palette, _sha256(data), notes)


def pixel_sha256(pixels: NDArray) -> str:
    """Hash decoded pixels with their shape and depth: the same picture in another file format gives the same hash."""
    digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _bytes(file: Path) -> bytes:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise UnreadableError("is not there") from None
    except OSError as error:
        raise UnreadableError(f"cannot be read ({error.strerror})") from None
    if not data:
        raise UnreadableError("is empty (0 bytes)")
    if data.startswith(b"version https://git-lfs"):
        raise UnreadableError("is a pointer of Git LFS, not the image itself: run 'git lfs pull' where it came from")
    return data


def _open(data: bytes) -> tuple[PIL.Image, tuple[str, ...]]:
    """Decode with Pillow, upright."""
    from PIL import Image, ImageOps

    picture = Image.open(io.BytesIO(data))
    pages = picture.format in MANY_PAGES and getattr(picture, "is_animated", False)
    picture.load()
    with contextlib.suppress(Exception):  # damaged EXIF data: the pixels are good, the orientation is unknown
        ImageOps.exif_transpose(picture, in_place=True)
    return picture, ("several_pages",) if pages else ()


def _is_deep_colour(picture: PIL.Image, data: bytes) -> bool:
    """Tell colour files of 16 bits per channel, which Pillow would cut down to 8."""
    if picture.format == "PNG":
        return data.startswith(PNG_SIGNATURE) and data[24] == 16 and data[25] in {2, 6}
    bits = getattr(picture, "tag_v2", {}).get(TIFF_BITS_PER_SAMPLE, (8,))
    return picture.mode != "L" and len(bits) > 1 and max(bits) == 16


def _deep_colour(data: bytes) -> tuple[NDArray, tuple[str, ...]]:
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3:
        raise UnreadableError("is a colour image of 16 bits per channel in a layout that cannot be read")
    return np.ascontiguousarray(pixels[:, :, 2::-1]), ("alpha_dropped",) if pixels.shape[2] == 4 else ()


def _whole_numbers(pixels: NDArray) -> NDArray:
    """Give uint8 or uint16 in the machine's byte order, or refuse."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind in "iu" and pixels.min() >= 0 and pixels.max() <= 65535:
        return pixels.astype(np.uint16)
    raise UnreadableError(f"holds {pixels.dtype} numbers outside 0..65535 or fractions: save it with 8 or 16 bits")


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn whatever a decoder raises on a damaged file into `UnreadableError`."""
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except (UnreadableError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise UnreadableError("is not an image of a known format, or its beginning is damaged") from None
    except Image.DecompressionBombError:
        raise UnreadableError("is larger than 178 million pixels: cut it into smaller images first") from None
    except Exception as error:
        raise UnreadableError(f"is damaged ({error})") from None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
