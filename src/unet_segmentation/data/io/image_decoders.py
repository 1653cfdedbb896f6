"""A file becomes the numbers it holds, whatever its format.

PNG, JPEG, BMP, GIF, WebP, PPM and JPEG 2000 are read by Pillow; plain PNG, where it is faster, and PNG with colors of
16 bits, which Pillow would cut to 8, by imagecodecs; TIFF by tifffile; `.npy` by numpy; `.mat` by `matlab`; number
grids (`.txt`, `.csv`) by numpy.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.data.io.filesystem import FileStore, split_page
from unet_segmentation.data.io.matlab import read_matrices

if TYPE_CHECKING:
    from PIL import Image as PIL
    from tifffile import TiffFile, TiffPage

Note = tuple[str, str]  # a kind of finding (a key of `findings.KINDS`) and its message

SEVERAL_PAGES: Note = ("several_pages", "has several pages or frames: only the first is used")
TOO_LARGE = "is larger than {:.4g} million pixels or 2 GiB: cut it into smaller images first"
LARGEST = 178_956_970  # pixels of an image; Pillow's own limit
LARGEST_TILE = 4096 * 4096  # pixels of a tile that is larger than its image
LARGEST_BYTES = 2**31  # of an image in memory; a damaged header may declare anything

FORMATS = {
    "PNG": ("png",),
    "JPEG": ("jpg", "jpeg"),
    "BMP": ("bmp",),
    "GIF": ("gif",),
    "WEBP": ("webp",),
    "PPM": ("ppm", "pgm"),
    "JPEG2000": ("jp2",),
    "TIFF": ("tif", "tiff"),
}  # others of Pillow's start programs (EPS) or guess (TGA)
ENDINGS = {ending: name for name, endings in FORMATS.items() for ending in endings} | {"npy": "NPY"}
MANY_FRAMES = {"GIF", "PNG", "WEBP"}  # JPEG's second frames (MPO) are thumbnails of cameras

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
NPY_SIGNATURE = b"\x93NUMPY"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_HEADER = 33  # bytes of the signature and the first chunk
PNG_EXTRAS = (b"tRNS", b"acTL", b"eXIf", b"Raw profile type")  # transparency, frames, the camera's orientation
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and BigTIFF, either byte order
REDUCED, MASK = 1, 4  # bits of what TIFF calls a new subfile type
ORIENTATION = 0x0112  # the tag, in EXIF and TIFF
LOSSY_TIFF = {6, 7, 33003, 33005, 34712, 50001, 50002}  # JPEG, JPEG 2000, WebP and JPEG XL inside TIFF
WHITE_IS_ZERO, PALETTE, CMYK, YCBCR, CIELAB = 0, 3, 5, 6, 8  # what TIFF calls a photometric interpretation
TRANSPARENCY = {1, 2}  # what TIFF calls an extra sample: associated and unassociated alpha

logger = logging.getLogger(__name__)
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)  # it logs what it also raises, or what is harmless


class UnreadableError(Exception):
    """A file that cannot be read; the message says why."""

    def __init__(self, message: str, kind: str = "unreadable_image") -> None:
        super().__init__(message)
        self.kind = kind  # of the finding: a key of `findings.KINDS`


@dataclass(frozen=True)
class Raster:
    """The content of a file, with what was done to it or is odd."""

    pixels: NDArray[Any]  # (height, width) or (height, width, bands), any type; bool where the file has one bit
    format: str  # of the content, as Pillow calls it; `NPY`, `MAT`, `TEXT`
    palette: NDArray[np.uint8] | None = None  # (entries, 3) where pixels are indices; (entries, 4) with transparency
    alpha: bool = False  # the last band is transparency
    lossy: bool = False  # the format does not keep values exactly (JPEG, lossy WebP, ...)
    sha256: str = ""  # of the file's bytes; of the pixels and their shape where one page of several was read
    notes: tuple[Note, ...] = ()


def read_raster(storage: FileStore, path: str, variable: str | None = None) -> Raster:
    """Read a file, or one page of it: `volume.tif#3` is page 3, and only that is read.

    Of a `.mat` file ``variable``, with dots into structures, is read; None takes the only two-dimensional one.

    Raises:
        UnreadableError: the file is missing, damaged or of an unknown format.
    """
    name, page = split_page(path)
    ending = name.rpartition(".")[2].lower()
    with explained():
        if page is None:
            raster = _decode(read_bytes(storage, name), ending, variable, LARGEST)
        else:
            raster = _decode_page(storage, name, page)
    if ENDINGS.get(ending, raster.format) != raster.format:
        return replace(raster, notes=(*raster.notes, ("wrong_extension", f"is a {raster.format} file")))
    return raster


def decode_raster(data: bytes, *, largest: int = LARGEST) -> Raster:
    """Decode the bytes of an image file, whatever its name was.

    Raises:
        UnreadableError: the bytes are damaged, of an unknown format, or declare more pixels than ``largest``.
    """
    with explained():
        _check_content(data)
        return _decode(data, "", None, largest)


def read_bytes(storage: FileStore, path: str, *, may_be_empty: bool = False) -> bytes:
    """Return the bytes of a file.

    Raises:
        UnreadableError: it is not there, a pointer of Git LFS, or empty where it must not be.
    """
    with _file_errors():
        data = storage.read(path)
    if data or not may_be_empty:
        _check_content(data)
    return data


def count_pages(storage: FileStore, path: str) -> int:
    """Count the pages of a TIFF, or the frames of a GIF, APNG or WebP; only headers are read.

    A file that cannot be read has one page, so that it becomes a sample that the inspection reports.
    """
    import tifffile
    from PIL import Image

    try:
        with storage.open(path) as stream:
            is_tiff = stream.read(4) in TIFF_SIGNATURES
            stream.seek(0)
            if is_tiff:
                with tifffile.TiffFile(stream) as file:
                    if not len(file.pages):
                        raise ValueError("it holds none")
                    # An overview of a raster (a smaller copy) or its mask of valid pixels is no page of its own.
                    types = [getattr(page, "subfiletype", 0) for page in file.pages[1:]]
                    return 1 if all(each & (REDUCED | MASK) for each in types) else len(file.pages)
            with Image.open(stream) as image:
                return int(getattr(image, "n_frames", 1))
    except Exception as error:  # whatever a broken file makes the readers raise
        logger.warning("The pages of %s cannot be counted: %s", path, str(error) or type(error).__name__)
        return 1


def _check_content(data: bytes) -> None:
    if not data:
        raise UnreadableError("is empty (0 bytes)")
    if data.startswith(b"version https://git-lfs"):
        raise UnreadableError("is a pointer of Git LFS, not the file itself: run 'git lfs pull' where it came from")


def pixel_sha256(pixels: NDArray[Any]) -> str:
    """Hash decoded pixels with their shape and depth: the same picture in another file format gives the same hash."""
    digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn whatever a decoder raises on a damaged file into `UnreadableError`."""
    try:
        yield
    except UnreadableError:
        raise
    except MemoryError:  # decoders raise it themselves at what a damaged header asks for
        raise UnreadableError("is damaged, or needs more memory than there is") from None
    except Exception as error:
        kind = type(error).__name__
        if kind == "UnidentifiedImageError":
            raise UnreadableError("is not an image of a known format, or its beginning is damaged") from None
        if kind == "DecompressionBombError":
            raise UnreadableError(TOO_LARGE.format(LARGEST / 1e6)) from None
        reason = " ".join(str(error).split())[:200]
        if "input stream too small" in reason:  # libpng's words
            reason = "its end is missing"
        raise UnreadableError(f"is damaged ({reason or kind})") from None


def _decode(data: bytes, ending: str, variable: str | None, largest: int) -> Raster:
    if data.startswith(NPY_SIGNATURE):
        raster = _numpy(data, largest)
    elif data.startswith(TIFF_SIGNATURES):
        raster = _tiff(io.BytesIO(data), None, largest)
    elif ending == "mat":
        raster = _matlab(data, variable)
    elif ending in {"txt", "csv"}:
        raster = _numbers(data)
    else:
        raster = _picture(data, None, largest)
    return replace(raster, sha256=hashlib.sha256(data).hexdigest())


def _decode_page(storage: FileStore, path: str, page: int) -> Raster:
    with _file_errors(), storage.open(path) as stream:
        is_tiff = stream.read(4) in TIFF_SIGNATURES
        stream.seek(0)
        raster = _tiff(stream, page, LARGEST) if is_tiff else _picture(stream.read(), page, LARGEST)
    return replace(raster, sha256=pixel_sha256(raster.pixels))


@contextlib.contextmanager
def _file_errors() -> Iterator[None]:
    """Return why a file cannot be opened; decoders raise OSError, too, but without a number."""
    try:
        yield
    except FileNotFoundError:
        raise UnreadableError("is not there") from None
    except OSError as error:
        if error.errno is None:
            raise
        raise UnreadableError(f"cannot be read ({error.strerror})") from None


def _picture(data: bytes, page: int | None, largest: int) -> Raster:
    """Decode with Pillow, upright."""
    if page is None and _is_plain_png(data):
        return _png(data, largest)
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # _check_size raises it as an error
        picture = Image.open(io.BytesIO(data), formats=list(FORMATS))
    try:
        picture.seek(page or 0)
    except EOFError:
        raise UnreadableError(f"has no page {page} (counted from 0)") from None
    _check_size(picture.height, picture.width, bands=len(picture.getbands()), itemsize=1, largest=largest)
    if page is None and data.startswith(PNG_SIGNATURE) and data[24] == 16 and data[25] in {2, 4, 6}:
        return _png(data, largest)  # Pillow would cut it down to 8 bits
    name = "JPEG" if picture.format == "MPO" else str(picture.format)
    notes: tuple[Note, ...] = ()
    if page is None and name in MANY_FRAMES and getattr(picture, "is_animated", False):
        notes = (SEVERAL_PAGES,)
    picture.load()
    orientation = 1
    if name != "TIFF":  # which Pillow turns by itself
        with contextlib.suppress(Exception):  # damaged EXIF data: the pixels are good, the orientation is unknown
            orientation = picture.getexif().get(ORIENTATION, 1)
    pixels, palette, alpha = _modes(picture)
    lossy = name in {"JPEG", "JPEG2000"} or (name == "WEBP" and _webp_is_lossy(data))
    raster = Raster(pixels, name, palette, alpha, lossy, notes=notes)
    return _upright(raster, orientation)


def _modes(picture: PIL.Image) -> tuple[NDArray[Any], NDArray[np.uint8] | None, bool]:
    """Return pixels, palette, and whether the last band is transparency."""
    transparency = picture.info.get("transparency")
    if picture.mode == "P":
        palette = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
        return np.asarray(picture), _with_transparency(palette, transparency), False
    if picture.mode in {"L", "RGB"} and transparency is not None:  # one gray or color stands for transparent
        picture = picture.convert({"L": "LA", "RGB": "RGBA"}[picture.mode])
    elif picture.mode in {"PA", "RGBa", "La"}:
        picture = picture.convert("LA" if picture.mode == "La" else "RGBA")
    elif picture.mode not in {"1", "L", "LA", "RGB", "RGBA", "I", "F"} and not picture.mode.startswith("I;16"):
        picture = picture.convert("RGB")
    return np.asarray(picture), None, picture.mode in {"LA", "RGBA"}


def _with_transparency(palette: NDArray[np.uint8], transparency: bytes | int | None) -> NDArray[np.uint8]:
    if transparency is None:
        return palette
    alpha = np.full((len(palette), 1), 255, np.uint8)
    if isinstance(transparency, bytes):
        values = np.frombuffer(transparency, np.uint8)[: len(palette)]
        alpha[: len(values), 0] = values
    else:
        alpha[transparency : transparency + 1] = 0
    return np.hstack([palette, alpha])


def _upright(raster: Raster, orientation: object) -> Raster:
    """Turn and mirror as the camera noted: 1 is upright, 2 to 8 as EXIF numbers them."""
    turns = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)}
    if orientation not in turns:
        return raster
    quarters, mirrored = turns[orientation]  # type: ignore[index]
    pixels = np.rot90(raster.pixels, quarters)
    pixels = np.ascontiguousarray(pixels[:, ::-1] if mirrored else pixels)
    note = ("turned_by_exif", f"was turned upright (orientation {orientation})")
    return replace(raster, pixels=pixels, notes=(*raster.notes, note))


def _is_plain_png(data: bytes) -> bool:
    """Return whether a file is plain gray or RGB of 8 bits, as most are."""
    if not data.startswith(PNG_SIGNATURE) or data[12:16] != b"IHDR" or len(data) < PNG_HEADER:
        return False
    return data[24] == 8 and data[25] in {0, 2} and not any(mark in data for mark in PNG_EXTRAS)


def _png(data: bytes, largest: int) -> Raster:
    """Decode with libpng over zlib-ng: 1.6 times as fast as Pillow, which is most of the time that inspection takes."""
    import imagecodecs

    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    _check_size(height, width, bands=4, itemsize=data[24] // 8, largest=largest)
    pixels = imagecodecs.png_decode(data)
    return Raster(pixels, "PNG", alpha=pixels.ndim == 3 and pixels.shape[2] in {2, 4})


def _webp_is_lossy(data: bytes) -> bool:
    """Find the chunk that holds the (first) picture."""
    place = 12
    while place + 8 <= len(data):
        name = data[place : place + 4]
        if name in {b"VP8 ", b"VP8L"}:
            return name == b"VP8 "
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        place += 24 if name == b"ANMF" else 8 + size + size % 2  # a frame of an animation holds chunks itself
    return False


def _tiff(stream: IO[bytes], page: int | None, largest: int) -> Raster:
    """Decode one page with tifffile: any number of bands and any type of number."""
    import tifffile

    with tifffile.TiffFile(stream) as file:
        try:
            frame = file.pages[page or 0]
        except IndexError:
            raise UnreadableError(f"has no page {page} (counted from 0)") from None
        assert isinstance(frame, tifffile.TiffPage)
        notes = (SEVERAL_PAGES,) if page is None and _has_second_page(file) else ()
        if frame.photometric in {CMYK, YCBCR, CIELAB}:  # Pillow knows these color spaces
            stream.seek(0)
            return replace(_picture(stream.read(), page or 0, largest), notes=notes)
        _check_whole(frame, stream, largest)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = frame.asarray(maxworkers=1)
        if frame.axes == "SYX":
            pixels = np.ascontiguousarray(np.moveaxis(pixels, 0, -1))
        elif frame.axes not in {"YX", "YXS"} or pixels.ndim != len(frame.axes):
            raise UnreadableError(f"is no image but an array of {pixels.shape} numbers in one page")
        palette = None
        if frame.photometric == PALETTE and frame.colormap is not None:
            palette = (frame.colormap >> (8 if frame.colormap.max() > 255 else 0)).astype(np.uint8).T
        elif frame.photometric == WHITE_IS_ZERO and pixels.dtype.kind in "bu":
            pixels = ~pixels if pixels.dtype == bool else (2**frame.bitspersample - 1 - pixels).astype(pixels.dtype)
        extra = frame.extrasamples
        tag = frame.tags.get(ORIENTATION)
        raster = Raster(
            pixels,
            "TIFF",
            palette,
            alpha=bool(extra) and extra[-1] in TRANSPARENCY and pixels.ndim == 3,
            lossy=int(frame.compression) in LOSSY_TIFF,
            notes=notes,
        )
    return _upright(raster, tag.value if tag else 1)


def _has_second_page(file: TiffFile) -> bool:
    """Return whether pages are a stack, and no overviews (smaller copies of the first page)."""
    try:
        second = file.pages[1]
    except IndexError:
        return False
    return not getattr(second, "is_reduced", False)


def _check_whole(frame: TiffPage, stream: IO[bytes], largest: int) -> None:
    """Refuse what tifffile would fill up with zeros: pages whose data reach beyond the end of the file."""
    bands = frame.samplesperpixel * max(1, frame.imagedepth)
    if frame.dtype is None:
        raise UnreadableError("holds numbers of an unknown type")
    itemsize = frame.dtype.itemsize
    _check_size(frame.imagelength, frame.imagewidth, bands=bands, itemsize=itemsize, largest=largest)
    end = stream.seek(0, io.SEEK_END)
    parts = [(offset, count) for offset, count in zip(frame.dataoffsets, frame.databytecounts, strict=False) if count]
    if any(offset + count > end for offset, count in parts):
        raise UnreadableError("is truncated: its data reach beyond its end")
    if frame.is_tiled:
        rows, columns = max(1, frame.tilelength), max(1, frame.tilewidth)
        _check_size(rows, columns, bands=bands, itemsize=itemsize, largest=max(largest, LARGEST_TILE))
    else:
        rows, columns = max(1, min(frame.rowsperstrip, frame.imagelength)), max(1, frame.imagewidth)
    declared = -(-frame.imagelength // rows) * -(-frame.imagewidth // columns)
    declared *= frame.samplesperpixel if frame.planarconfig == 2 and frame.samplesperpixel > 1 else 1
    if len(frame.dataoffsets) < declared:
        raise UnreadableError(f"is damaged: {declared} parts are declared, {len(frame.dataoffsets)} are there")
    if frame.compression == 1 and not frame.is_tiled and len(parts) == len(frame.dataoffsets):
        bits = frame.imagelength * frame.imagewidth * frame.samplesperpixel * frame.bitspersample
        if sum(count for _, count in parts) < bits // 8:
            raise UnreadableError("is truncated: it holds fewer data than it declares")


def _numpy(data: bytes, largest: int) -> Raster:
    """Read an array (height, width) or (height, width, bands); never objects, which could run code."""
    stream = io.BytesIO(data)
    major, _ = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(stream)
    if len(shape) not in {2, 3} or 0 in shape or dtype.kind not in "biuf":
        raise UnreadableError(f"holds an array {shape} of {dtype}, not (height, width) or (height, width, bands)")
    count = int(np.prod(shape, dtype=object))
    if len(data) - stream.tell() < count * dtype.itemsize:
        raise UnreadableError("is truncated: it holds fewer data than it declares")
    _check_size(shape[0], shape[1], bands=shape[2] if len(shape) == 3 else 1, itemsize=1, largest=largest)
    pixels = np.frombuffer(data, dtype, count, stream.tell()).reshape(shape, order="F" if fortran else "C")
    return Raster(np.ascontiguousarray(pixels), "NPY")


def _matlab(data: bytes, variable: str | None) -> Raster:
    if data[124:126] in {b"\0\2", b"\2\0"} or data.startswith(HDF5_SIGNATURE):
        raise UnreadableError(
            "is a MATLAB file of version 7.3 (HDF5). Save it again in MATLAB: save('name.mat', 'variable', '-v7')"
        )
    matrices = read_matrices(data)
    listed = ", ".join(f"{name} ({' x '.join(map(str, array.shape))})" for name, array in matrices.items()) or "none"
    if variable is not None:
        if variable not in matrices:
            raise UnreadableError(f"has no variable {variable} (masks.variable) that is a matrix of numbers: {listed}")
        return Raster(matrices[variable], "MAT")
    grids = [array for array in matrices.values() if min(array.shape) > 1]
    if len(grids) != 1:
        raise UnreadableError(f"holds {len(grids)} matrices of numbers; name one in masks.variable: {listed}")
    return Raster(grids[0], "MAT")


def _numbers(data: bytes) -> Raster:
    """Read a grid of numbers: a line per row, separated by spaces, tabs, commas or semicolons."""
    text = data.decode("utf-8-sig")
    separator = next((sign for sign in ",;" if sign in text), None)
    if not re.fullmatch(r"[-+0-9.eE\s,;]*", text):
        raise UnreadableError("is no grid of numbers: it holds other text")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        grid = np.loadtxt(io.StringIO(text), delimiter=separator, ndmin=2, comments=None)
    if not grid.size:
        raise UnreadableError("is no grid of numbers: it holds none")
    return Raster(grid, "TEXT")


def _check_size(height: int, width: int, *, bands: int, itemsize: int, largest: int) -> None:
    if height * width > largest or height * width * bands * itemsize > LARGEST_BYTES:
        raise UnreadableError(TOO_LARGE.format(largest / 1e6))
