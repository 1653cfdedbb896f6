"""Count the pages of a file without decoding one."""

from __future__ import annotations

import logging

from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import TIFF_SIGNATURES

logger = logging.getLogger(__name__)

REDUCED, MASK = 1, 4  # bits of what TIFF calls a new subfile type


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
