"""Survey masks: values and their shares, colours, palettes, labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.data.io.annotation_format import ANNOTATION_FORMATS, read_annotation
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import Raster, UnreadableError, read_raster
from unet_segmentation.data.io.image_reader import coloured
from unet_segmentation.data.io.mask_encodings import has_interpolation_artifacts
from unet_segmentation.data.onboarding.file_types import spread
from unet_segmentation.data.onboarding.image_mask_pairing import Pairing
from unet_segmentation.data.onboarding.mask_detection import mask_score, mask_variable

SAMPLE = 200  # masks that are decoded
DRAWN = 60  # annotations that are drawn
MOST_VALUES = 2000  # different values that are counted
NEARLY = 6  # by which the values of one area differ in JPEG files
PHOTOGRAPH = 0.2  # likeness to a mask, below which a file is none
BORDER = 0.6  # share of a value's pixels next to another value, from which on it is a border

Colour = tuple[int, int, int]


@dataclass
class MaskSurvey:
    """Counts over a sample of the masks.

    Attributes:
        kind: `picture`, `grid`, `matlab`, or of annotations.
        total: mask files (or, for annotation files of many images, images).
        read: how many of them were decoded.
        pixels: that were counted.
        values: pixels by grey value (of palette images: by index).
        files: masks that hold a value.
        colours: pixels by colour, of masks with colours that are no grey.
        palette: of indices that occur; empty without a palette.
        shown: grey values of palette images and of one bit, as a viewer shows them; equal to `values` for others.
        paletted: masks that have a palette.
        palettes_differ: an index has one colour in one mask, and another elsewhere.
        photographs: masks that look like none.
        one_bit: masks of one bit.
        lossy: masks in files that lose information.
        ghostly: masks with in-between values along borders.
        colourful: masks with colours that are no grey.
        borders: of a value, the share of its pixels that lie next to another value.
        inner: pixels of a value that lie among values nearly the same, as those of soft borders do not.
        pieces: of a value above 0, the connected parts it has in a mask, on average.
        counted: masks whose values above 0 are 1, 2, 3, ... without a gap.
        several: samples with more than one mask.
        most: masks of one sample.
        labels: of ``{class}`` or of annotations: their pixels, or how often they occur.
        boxes: objects of annotations that are boxes and no outlines.
        names: of the classes, where annotations number them and a file names them.
        variable: of `.mat` files.
        unreadable: files, and why they cannot be read.
    """

    kind: str
    total: int = 0
    read: int = 0
    pixels: int = 0
    values: Counter[int] = field(default_factory=Counter)
    files: Counter[int] = field(default_factory=Counter)
    colours: Counter[Colour] = field(default_factory=Counter)
    palette: dict[int, Colour] = field(default_factory=dict)
    shown: Counter[int] = field(default_factory=Counter)
    paletted: int = 0
    palettes_differ: bool = False
    photographs: int = 0
    one_bit: int = 0
    lossy: int = 0
    ghostly: int = 0
    colourful: int = 0
    borders: dict[int, float] = field(default_factory=dict)
    inner: Counter[int] = field(default_factory=Counter)
    pieces: dict[int, float] = field(default_factory=dict)
    counted: int = 0
    several: int = 0
    most: int = 1
    labels: Counter[str] = field(default_factory=Counter)
    boxes: int = 0
    names: list[str] = field(default_factory=list)
    variable: str | None = None
    unreadable: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Return whether all masks were decoded, so that a value that did not occur is in none."""
        return self.read >= self.total

    def share(self, value: int) -> float:
        """Return a value's share of the pixels."""
        return self.values[value] / max(1, self.pixels)


def survey_masks(
    storage: FileStore, pairing: Pairing, paths: Sequence[str], progress: Callable[[float], None] = lambda _: None
) -> MaskSurvey:
    """Decode a sample of the masks, spread over all of them, and count what is in them.

    Args:
        storage: where the files are.
        pairing: which files are masks.
        paths: all files; one may name the classes that annotations number.
        progress: called with the share that is done.
    """
    pairs = pairing.pairs
    survey = MaskSurvey(pairing.kind)
    survey.several = sum(len(sample.masks) > 1 for sample in pairs)
    survey.most = max((len(sample.masks) for sample in pairs), default=0)
    if pairing.kind in ANNOTATION_FORMATS:
        _survey_annotations(storage, pairing, paths, survey, progress)
        return survey
    masks = [mask for sample in pairs for mask in sample.masks]
    survey.total = len(masks)
    chosen = spread(masks, SAMPLE)
    if pairing.kind == "matlab":
        survey.variable = mask_variable(storage, chosen[0])
    edges: Counter[int] = Counter()
    parts: dict[int, list[int]] = {}
    for number, path in enumerate(chosen):
        try:
            raster = read_raster(storage, path, survey.variable)
            _count(raster, survey, edges, parts)
        except UnreadableError as error:
            survey.unreadable[path] = str(error)
        else:
            label = pairing.layout.label(path)
            if label is not None:
                survey.labels[label] += 1
        progress((number + 1) / len(chosen))
    if survey.labels:  # all of them, though not all masks were decoded
        survey.labels = Counter(label for mask in masks if (label := pairing.layout.label(mask)) is not None)
    survey.borders = {value: edges[value] / count for value, count in survey.values.items()}
    survey.pieces = {value: sum(counts) / len(counts) for value, counts in parts.items()}
    survey.total -= len(survey.unreadable)
    return survey


def _count(raster: Raster, survey: MaskSurvey, edges: Counter[int], parts: dict[int, list[int]]) -> None:
    """Count what one mask holds."""
    pixels = coloured(raster)
    if pixels.ndim == 3 and pixels.shape[2] in {1, 3}:
        is_grey = pixels.shape[2] == 1 or bool((pixels == pixels[..., :1]).all())
        pixels = pixels[..., 0] if is_grey else pixels
    if pixels.ndim == 3 and pixels.shape[2] != 3:
        raise UnreadableError(f"has {pixels.shape[2]} bands: a mask has one, or three for colours")
    if pixels.dtype.kind == "f":
        whole = np.rint(pixels)
        if not np.isfinite(pixels).all() or not (whole == pixels).all():
            raise UnreadableError("holds fractions or NaN: the values of a mask are whole numbers")
        pixels = whole.astype(np.int64)
    survey.read += 1
    survey.photographs += mask_score(raster)[0] < PHOTOGRAPH
    survey.lossy += raster.lossy
    survey.one_bit += raster.pixels.dtype == bool
    if raster.palette is not None:
        survey.paletted += 1
        if pixels.ndim == 2:
            survey.shown.update(_counted(pixels))
        pixels = raster.pixels
        for value in np.unique(pixels).tolist():
            colour = raster.palette[value][:3] if value < len(raster.palette) else (0, 0, 0)
            plain: Colour = (int(colour[0]), int(colour[1]), int(colour[2]))
            survey.palettes_differ |= survey.palette.setdefault(value, plain) != plain
    elif raster.pixels.dtype == bool:
        survey.shown.update(_counted(pixels))
        pixels = raster.pixels.astype(np.uint8)
    if pixels.ndim == 3:
        survey.colourful += 1
        survey.pixels += pixels.shape[0] * pixels.shape[1]
        _count_colours(pixels, survey)
        return
    survey.pixels += pixels.size
    counts = _counted(pixels)
    if raster.palette is None and raster.pixels.dtype != bool:
        survey.shown.update(counts)
    if len(survey.values) < MOST_VALUES:
        survey.values.update(counts)
        survey.files.update(counts.keys())
    _describe(pixels, counts, survey, edges, parts)


def _describe(
    pixels: NDArray, counts: dict[int, int], survey: MaskSurvey, edges: Counter[int], parts: dict[int, list[int]]
) -> None:
    """Note where values lie: along borders, in one piece or in many, counted through."""
    from scipy import ndimage

    main = [value for value, _ in Counter(counts).most_common(4)]
    if len(counts) > 4:
        survey.ghostly += has_interpolation_artifacts(
            pixels, {value: count for value, count in counts.items() if value not in main[:2]}
        )
    above = sorted(value for value in counts if value > 0)
    survey.counted += above == list(range(1, len(above) + 1))
    is_edge = np.zeros(pixels.shape, bool)
    is_edge[:, 1:] |= pixels[:, 1:] != pixels[:, :-1]
    is_edge[:, :-1] |= pixels[:, 1:] != pixels[:, :-1]
    is_edge[1:] |= pixels[1:] != pixels[:-1]
    is_edge[:-1] |= pixels[1:] != pixels[:-1]
    edges.update(_counted(pixels[is_edge]))
    survey.inner.update(_counted(pixels[_is_inner(pixels)]))
    if len(above) <= 64:
        for value in above:
            parts.setdefault(value, []).append(int(ndimage.label(pixels == value, np.ones((3, 3)))[1]))


def _is_inner(pixels: NDArray) -> NDArray[np.bool_]:
    """Find pixels whose four neighbours have nearly the same value."""
    wide = pixels.astype(np.int32)
    inner = np.ones(pixels.shape, bool)
    rows, columns = (np.abs(np.diff(wide, axis=axis)) <= NEARLY for axis in (0, 1))
    inner[1:] &= rows
    inner[:-1] &= rows
    inner[:, 1:] &= columns
    inner[:, :-1] &= columns
    return inner


def _count_colours(pixels: NDArray, survey: MaskSurvey) -> None:
    codes = pixels.astype(np.int64) @ np.array([65536, 256, 1])
    counts = _counted(codes)
    main = {code for code, _ in Counter(counts).most_common(3)}
    if len(counts) > 6:
        survey.ghostly += has_interpolation_artifacts(
            codes, {code: count for code, count in counts.items() if code not in main}
        )
    if len(survey.colours) < MOST_VALUES:
        for code, count in counts.items():
            survey.colours[code >> 16, code >> 8 & 255, code & 255] += count


def _counted(pixels: NDArray) -> dict[int, int]:
    values, counts = np.unique(pixels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _survey_annotations(
    storage: FileStore, pairing: Pairing, paths: Sequence[str], survey: MaskSurvey, progress: Callable[[float], None]
) -> None:
    """Draw a sample of the annotations."""
    pairs = pairing.pairs
    survey.total = len(pairs)
    by_image = {sample.image: sample.masks for sample in pairs}
    chosen = spread(list(by_image), DRAWN)
    for number, image in enumerate(chosen):
        try:
            size = read_raster(storage, image).pixels.shape[:2]
            for path in by_image[image]:
                annotation = read_annotation(pairing.kind, storage, path, image, (size[0], size[1]))
                for shape in annotation.shapes:
                    survey.labels[shape.label] += int(shape.inside.sum())
                    survey.boxes += shape.inside.size > 0 and bool(shape.inside.all())
                    survey.files[0] += 1
        except UnreadableError as error:
            survey.unreadable[by_image[image][0]] = str(error)
        else:
            survey.read += 1
            survey.pixels += size[0] * size[1]
        progress((number + 1) / len(chosen))
    annotation_format = ANNOTATION_FORMATS[pairing.kind]
    annotations = list(dict.fromkeys(mask for sample in pairs for mask in sample.masks))
    names = annotation_format.class_names(storage, annotations, paths)
    if annotation_format.numbers_labels:
        survey.names = names
    else:
        survey.labels.update(dict.fromkeys(names, 0))
