"""How images and masks are read, what inspection checks, and how samples are split."""

import difflib
import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from unet_segmentation.parameters.base import StrictModel

RGB = tuple[int, int, int]


class ImageParameters(StrictModel):
    """How the values of an image file become the input of the model.

    8 and 16 bit images stay as they are; the model subtracts the mean of the training split and divides by its
    standard deviation. Everything else (floating point, signed, 32 bit) needs `range`.

    Attributes:
        bands: numbers (from 0) of the bands that are used, in this order; null uses all. For RGB files, colors.
        range: values that are mapped to 0 and to 65535, linearly and clipped: `[0, 1]`, `[-1000, 3000]`, ...
        alpha: `drop` transparency, or `keep` it as one more channel.
    """

    bands: list[int] | None = Field(default=None, min_length=1)
    range: tuple[float, float] | None = None
    alpha: Literal["drop", "keep"] = "drop"

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError("range: the first number must be below the second")
        if self.bands is not None and (min(self.bands) < 0 or len(set(self.bands)) < len(self.bands)):
            raise ValueError("bands: numbers from 0, each once")
        return self


PIXEL_ENCODINGS = ("index", "threshold", "palette", "colors", "instances")
ANNOTATION_FORMATS = Path(__file__).parents[1] / "data" / "io" / "annotations"


def mask_encodings() -> tuple[str, ...]:
    """Return the names of all mask encodings: those of pixels, and annotation formats, of which each is a module.

    The modules are listed, not imported: parameters are checked at every command.
    """
    return (*PIXEL_ENCODINGS, *sorted(file.stem for file in ANNOTATION_FORMATS.glob("[a-z]*.py")))


class MaskParameters(StrictModel):
    """How the pixel values of a mask file, or the polygons of an annotation file, become class ids.

    Attributes:
        encoding: `index` (values are class ids, or what `values` maps to them), `threshold` (two classes: values
            above `threshold` are class 1), `palette` (indices of a palette image), `colors` (RGB by class),
            `instances` (every value but 0 is an instance of `instance_class`; one file for all or a file for each), or
            an annotation format: a module of `data/io/annotations` (`coco`, `yolo`, `labelme`, `pascal`).
        values: mask value to class name, where ids are not 0..n-1. Several values may name one class.
        offset: the value of class 0, where ids are shifted: 1 where masks hold 1..n. Not together with `values`.
        colors: class name to RGB, or to a list of them where several colors are one class.
        threshold: see above.
        ignore: mask values of pixels that belong to no class, negative ones included. 255 is always ignored in `index`
            and `palette` masks unless `values` says otherwise.
        ignore_colors: RGB colors of pixels that belong to no class.
        merge: several masks of one image are laid over each other in the order of their paths; class 0 covers nothing.
            Without it they are an error (but for `instances` and `{class}`, which mean several).
        instance_class: class of the instances; null takes the only class but class 0.
        labels: for polygons, and for `{class}` in `source.masks`: the label in the file (or path) to the class name.
            A label that is a class name itself needs no entry.
        ignore_labels: labels of pixels that belong to no class.
        variable: of a `.mat` file, the variable that holds the mask, with dots into structures
            (`GTcls.Segmentation`); null takes the only one that fits.
    """

    encoding: str = "index"
    values: dict[int, str] = Field(default_factory=dict)
    offset: int = 0
    colors: dict[str, RGB | list[RGB]] = Field(default_factory=dict)
    threshold: int = 127
    ignore: list[int] = Field(default_factory=list)
    ignore_colors: list[RGB] = Field(default_factory=list)
    merge: bool = False
    instance_class: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    ignore_labels: list[str] = Field(default_factory=list)
    variable: str | None = None

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, encoding: str) -> str:
        names = mask_encodings()
        if encoding not in names:
            near = difflib.get_close_matches(encoding, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
            raise ValueError(f"there is no mask encoding {encoding!r}; {hint}")
        return encoding

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.encoding == "colors") != bool(self.colors):
            raise ValueError("encoding colors and the table colors go together: declare both or neither")
        of_class: dict[RGB, str] = {}
        for name, color in self.named_colors:
            if of_class.setdefault(color, name) != name:
                raise ValueError(
                    f"colors: {list(color)} is {of_class[color]!r} and {name!r}: declare it for one of them"
                )
        if self.values and self.offset:
            raise ValueError("offset and values both say which class a value is: declare one of them")
        return self

    @property
    def named_colors(self) -> list[tuple[str, RGB]]:
        """Every color of `colors`, with the name of its class."""
        return [
            (name, color)
            for name, colors in self.colors.items()
            for color in (colors if isinstance(colors, list) else [colors])
        ]


class InspectionParameters(StrictModel):
    """How files are inspected, and what follows from findings.

    Attributes:
        workers: threads that decode files; 0 means one per core.
        rare_class_fraction: a class below this share of the pixels is reported as rare (a warning).
        on_error: `stop` the run, or `quarantine`: set the samples with an error aside, and list them.
        allow: kinds of errors that are accepted, and so become warnings: `identical_across_splits`, or, for
            one sample alone, `identical_across_splits:SAMPLE_ID`.
        near_duplicate_threshold: images are reported as near-identical where the details of their thumbnails, once
            aligned, correlate at least that much.
    """

    workers: int = Field(default=0, ge=0)
    rare_class_fraction: float = Field(default=0.001, ge=0, le=1)
    on_error: Literal["stop", "quarantine"] = "stop"
    allow: list[str] = Field(default_factory=list)
    near_duplicate_threshold: float = Field(default=0.96, gt=0, le=1)


class BlockParameters(StrictModel):
    r"""Spatial blocks, for samples that are tiles of one raster: neighboring tiles stay together.

    Attributes:
        pattern: searched in the sample's id; has the named groups `row` and `column` (whole numbers: of the tile, or
            in pixels) and may have `raster`, as in `^(?P<raster>.+)_(?P<row>\d+)_(?P<column>\d+)$`.
        side: of a block, in the unit of row and column.
    """

    pattern: str
    side: int = Field(ge=1)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        try:
            names = set(re.compile(self.pattern).groupindex)
        except re.error as error:
            raise ValueError(f"{self.pattern!r} is no regular expression: {error}") from None
        if not {"row", "column"} <= names:
            raise ValueError("pattern needs the named groups (?P<row>...) and (?P<column>...)")
        return self


class SplitParameters(StrictModel):
    """How samples are split where the source has no official split, or none for validation.

    Attributes:
        seed: same seed and samples, same split.
        validation: share of the samples for validation.
        test: share of the samples for testing. With `folds`, 1/folds.
        folds: number of folds for cross-validation: the samples are cut into as many parts, each as similar to the
            whole as possible; part number `fold` is the test split (the validation split, where there is an
            official test).
        fold: from 0.
        blocks: keep neighboring tiles of one raster together.
    """

    seed: int = Field(default=0, ge=0)
    validation: float = Field(default=0.15, gt=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)
    folds: int | None = Field(default=None, ge=2)
    fold: int = Field(default=0, ge=0)
    blocks: BlockParameters | None = None

    @model_validator(mode="after")
    def _leaves_training(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must leave samples for training")
        if self.fold >= (self.folds or 1):
            raise ValueError("fold counts from 0, so it must be below folds")
        return self
