"""Survey masks: values and their shares, colors, palettes, labels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.data.io.annotation_format import ANNOTATION_FORMATS, read_annotation
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import Raster, UnreadableError, read_raster
from unet_segmentation.data.io.image_reader import colored
from unet_segmentation.data.io.mask_encodings import has_interpolation_artifacts
from unet_segmentation.data.onboarding.file_types import spread, track
from unet_segmentation.data.onboarding.image_mask_pairing import Pairing
from unet_segmentation.data.onboarding.mask_detection import mask_score, mask_variable

SAMPLE = 200  # masks that are decoded
DRAWN = 60  # annotations that are drawn
MOST_VALUES = 2000  # different values that are counted
NEARLY = 6  # by which the values of one area differ in JPEG files
PHOTOGRAPH = 0.2  # likeness to a mask, below which a file is none

Color = tuple[int, ...]  # RGB


@dataclass
class MaskSurvey:
    """Counts over a sample of the masks."""

    kind: str  # `picture`, `grid`, `matlab`, or of annotations
    total: int = 0  # mask files (or, for annotation files of many images, images)
    read: int = 0  # of these
    pixels: int = 0
    values: Counter[int] = field(default_factory=Counter)  # pixels by gray value (of palette images: by index)
    files: Counter[int] = field(default_factory=Counter)  # masks that hold a value
    colors: Counter[Color] = field(default_factory=Counter)  # pixels by color, of masks that are not all gray
    palette: dict[int, Color] = field(default_factory=dict)  # of indices that occur
    shown: Counter[int] = field(default_factory=Counter)  # pixels by gray value as a viewer shows palettes and one bit
    paletted: int = 0  # masks with a palette
    palettes_differ: bool = False  # an index has one color in one mask, and another elsewhere
    photographs: int = 0  # masks that look like none
    lossy: int = 0  # masks in files that lose information
    ghostly: int = 0  # masks with in-between values along borders
    colorful: int = 0  # masks with colors that are no gray
    edges: Counter[int] = field(default_factory=Counter)  # pixels of a value that lie next to another value
    inner: Counter[int] = field(default_factory=Counter)  # those that lie among nearly the same, unlike soft borders
    parts: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))  # of a value above 0, in each mask
    counted: int = 0  # masks whose values above 0 are 1, 2, 3, ... without a gap
    several: int = 0  # samples with more than one mask
    most: int = 0  # masks of one sample
    labels: Counter[str] = field(default_factory=Counter)  # of ``{class}``: masks; of annotations: pixels
    boxes: int = 0  # objects of annotations that are boxes and no outlines
    names: list[str] = field(default_factory=list)  # of the classes, where annotations number and a file names them
    unreadable: dict[str, str] = field(default_factory=dict)  # files, and why they cannot be read

    @property
    def complete(self) -> bool:
        """Return whether all masks were decoded, so that a value that did not occur is in none."""
        return self.read >= self.total

    @property
    def is_colored(self) -> bool:
        """Return whether colors tell the classes."""
        return self.colorful > self.read / 2

    @property
    def is_soft(self) -> bool:
        """Return whether values may be blurred along borders."""
        return bool(self.lossy or self.ghostly)

    @cached_property
    def pieces(self) -> dict[int, float]:
        """Connected parts of a value above 0 in a mask, on average."""
        return {value: sum(counts) / len(counts) for value, counts in self.parts.items()}

    def share(self, value: int) -> float:
        """Return a value's share of the pixels."""
        return self.values[value] / max(1, self.pixels)


def survey_masks(storage: FileStore, pairing: Pairing, paths: Sequence[str]) -> MaskSurvey:
    """Decode a sample of the masks, spread over all of them, and count what is in them.

    Of all `paths`, one may name the classes that annotations number.
    """
    survey = MaskSurvey(pairing.kind)
    counts = [len(sample.masks) for sample in pairing.pairs]
    survey.several, survey.most = sum(count > 1 for count in counts), max(counts, default=0)
    if pairing.kind in ANNOTATION_FORMATS:
        _survey_annotations(storage, pairing, paths, survey)
        return survey
    masks = [mask for sample in pairing.pairs for mask in sample.masks]
    chosen = spread(masks, SAMPLE)
    variable = mask_variable(storage, chosen[0]) if pairing.kind == "matlab" else None
    has_labels = False
    for path in track(chosen, "Reading masks"):
        try:
            _count(read_raster(storage, path, variable), survey)
            has_labels |= pairing.layout.label(path) is not None
        except UnreadableError as error:
            survey.unreadable[path] = str(error)
    if has_labels:  # of all masks, though not all were decoded
        survey.labels.update(label for mask in masks if (label := pairing.layout.label(mask)) is not None)
    survey.total = len(masks) - len(survey.unreadable)
    return survey


def _count(raster: Raster, survey: MaskSurvey) -> None:
    """Count what one mask holds."""
    shown = _whole_numbers(colored(raster))
    survey.read += 1
    survey.photographs += mask_score(raster)[0] < PHOTOGRAPH
    survey.lossy += raster.lossy
    pixels = shown
    if raster.palette is not None:
        survey.paletted += 1
        pixels = raster.pixels
        for value in np.unique(pixels).tolist():
            color = tuple(raster.palette[value][:3].tolist()) if value < len(raster.palette) else (0, 0, 0)
            survey.palettes_differ |= survey.palette.setdefault(value, color) != color
    elif raster.pixels.dtype == bool:
        pixels = raster.pixels.astype(np.uint8)
    if shown.ndim == 2:
        survey.shown.update(_counted(shown))
    survey.pixels += pixels.shape[0] * pixels.shape[1]
    if pixels.ndim == 3:
        survey.colorful += 1
        _count_colors(pixels, survey)
    else:
        _count_values(pixels, survey)


def _whole_numbers(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return one channel of gray masks, whole numbers of floats; raise where a mask can hold no such pixels."""
    if pixels.ndim == 3 and pixels.shape[2] in {1, 3} and bool((pixels == pixels[..., :1]).all()):
        pixels = pixels[..., 0]
    if pixels.ndim == 3 and pixels.shape[2] != 3:
        raise UnreadableError(f"has {pixels.shape[2]} bands: a mask has one, or three for colors")
    if pixels.dtype.kind == "f":
        whole = np.rint(pixels)
        if not np.isfinite(pixels).all() or not (whole == pixels).all():
            raise UnreadableError("holds fractions or NaN: the values of a mask are whole numbers")
        pixels = whole.astype(np.int64)
    return pixels


def _count_values(pixels: NDArray[Any], survey: MaskSurvey) -> None:
    """Count values, and note where they lie: along borders, in one piece or in many, counted through."""
    from scipy import ndimage

    counts = _counted(pixels)
    if len(survey.values) < MOST_VALUES:
        survey.values.update(counts)
        survey.files.update(counts.keys())
    if len(counts) > 4:
        survey.ghostly += has_interpolation_artifacts(pixels, _without_main(counts, 2))
    above = sorted(value for value in counts if value > 0)
    survey.counted += above == list(range(1, len(above) + 1))
    survey.edges.update(_counted(pixels[_is_near_other(pixels, 0)]))
    survey.inner.update(_counted(pixels[~_is_near_other(pixels, NEARLY)]))
    if len(above) <= 64:
        for value in above:
            survey.parts[value].append(int(ndimage.label(pixels == value, np.ones((3, 3)))[1]))


def _count_colors(pixels: NDArray[Any], survey: MaskSurvey) -> None:
    codes = pixels.astype(np.int64) @ np.array([65536, 256, 1])
    counts = _counted(codes)
    if len(counts) > 6:
        survey.ghostly += has_interpolation_artifacts(codes, _without_main(counts, 3))
    if len(survey.colors) < MOST_VALUES:
        for code, count in counts.items():
            survey.colors[code >> 16, code >> 8 & 255, code & 255] += count


def _is_near_other(pixels: NDArray[Any], tolerance: int) -> NDArray[np.bool_]:
    """Find pixels of which one of the four neighbors differs by more than a tolerance."""
    is_near = np.zeros(pixels.shape, bool)
    wide = pixels.astype(np.int64)
    rows, columns = (np.abs(np.diff(wide, axis=axis)) > tolerance for axis in (0, 1))
    is_near[1:] |= rows
    is_near[:-1] |= rows
    is_near[:, 1:] |= columns
    is_near[:, :-1] |= columns
    return is_near


def _counted(pixels: NDArray[Any]) -> dict[int, int]:
    values, counts = np.unique(pixels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _without_main(counts: dict[int, int], number: int) -> dict[int, int]:
    """Leave out the most frequent values."""
    return dict(Counter(counts).most_common()[number:])


def _survey_annotations(storage: FileStore, pairing: Pairing, paths: Sequence[str], survey: MaskSurvey) -> None:
    """Draw a sample of the annotations."""
    by_image = {sample.image: sample.masks for sample in pairing.pairs}
    survey.total = len(pairing.pairs)
    for image in track(spread(list(by_image), DRAWN), "Reading masks"):
        try:
            height, width = read_raster(storage, image).pixels.shape[:2]
            for path in by_image[image]:
                for shape in read_annotation(pairing.kind, storage, path, image, (height, width)).shapes:
                    survey.labels[shape.label] += int(shape.inside.sum())
                    survey.boxes += shape.inside.size > 0 and bool(shape.inside.all())
                    survey.files[0] += 1
            survey.read += 1
            survey.pixels += height * width
        except UnreadableError as error:
            survey.unreadable[by_image[image][0]] = str(error)
    annotation_format = ANNOTATION_FORMATS[pairing.kind]
    annotations = list(dict.fromkeys(mask for sample in pairing.pairs for mask in sample.masks))
    names = annotation_format.class_names(storage, annotations, paths)
    if annotation_format.numbers_labels:
        survey.names = names
    else:
        survey.labels.update(dict.fromkeys(names, 0))
