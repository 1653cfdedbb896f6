"""Count the pages of a file without decoding one."""

from __future__ import annotations

import logging
from typing import Any

from unet_segmentation.data.io.filesystem import FileStore

logger = logging.getLogger(__name__)

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and BigTIFF, either byte order
REDUCED, MASK = 1, 4  # bits of what TIFF calls a new subfile type


def count_pages(storage: FileStore, path: str) -> int:
    """Count the pages of a TIFF, or the frames of a GIF, APNG or WebP; only headers are read.

    A file that cannot be read has one page, so that it becomes a sample that the inspection reports.

    Args:
        storage: where the file lies.
        path: relative to its root.
    """
    import tifffile
    from PIL import Image

    try:
        with storage.open(path) as stream:
            signature = stream.read(4)
            stream.seek(0)
            if signature in TIFF:
                with tifffile.TiffFile(stream) as file:
                    if not len(file.pages):
                        raise ValueError("it holds none")
                    return 1 if all(map(_belongs_to_the_first, file.pages[1:])) else len(file.pages)
            with Image.open(stream) as image:
                return int(getattr(image, "n_frames", 1))
    except Exception as error:  # whatever a broken file makes the readers raise
        logger.warning("The pages of %s cannot be counted: %s", path, str(error) or type(error).__name__)
        return 1


def _belongs_to_the_first(page: Any) -> bool:  # noqa: ANN401 - tifffile's pages and frames
    """Return whether a page is an overview of a raster (a smaller copy) or its mask of valid pixels, and no page."""
    return bool(getattr(page, "subfiletype", 0) & (REDUCED | MASK))
