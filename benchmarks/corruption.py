"""What becomes of broken data: hundreds of corrupted copies of good data sets, each with one thing wrong.

Good data sets are drawn by the embedded generator and written in the ways people have. Every kind of corruption is
applied to every data set that it can befall, several times with other files; then index, inspection, split, audit and
verdict run as in the pipeline, and the outcome is compared with what was done to the data:

* found: a finding of severity error or warning, or an error message, or the copy is harmless (the pixels that would be
  trained on are those of the good data set);
* explained: of a kind that says what was done, at the file it was done to, or harmless and without an error;
* bare: an exception that is no message of the project. There must be none.

Clean copies must give no error; their warnings are counted as false alarms, too.

    make bench NAME=corruption
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, PngImagePlugin

from unet_segmentation.data.audit.result import AuditResult
from unet_segmentation.data.ingestion.records import ExtractedFiles
from unet_segmentation.data.label_map import LabelMap
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.data.synthetic.cells import draw_sample
from unet_segmentation.errors import ProjectError
from unet_segmentation.parameters import (
    ImageParameters,
    InspectionParameters,
    MaskParameters,
    SourceParameters,
    SplitParameters,
)
from unet_segmentation.pipelines.data_ingestion import nodes as acquisition
from unet_segmentation.pipelines.data_preparation import nodes as preparation

CLASSES = ["background", "cytoplasm", "nucleus"]
COLORS = {"background": (0, 0, 0), "cytoplasm": (0, 128, 0), "nucleus": (128, 0, 0)}
PALETTE = [255, 255, 255, 0, 128, 0, 128, 0, 0]
SAMPLES = 24
HEIGHT, WIDTH = 96, 128

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Good:
    """A way to write a data set, and how it is declared."""

    name: str
    image: str = "images/{id}.png"
    mask: str = "masks/{id}.png"
    masks: dict[str, object] = field(default_factory=lambda: {"encoding": "index"})
    splits: dict[str, str] = field(default_factory=dict)
    images: dict[str, object] = field(default_factory=dict)
    encode: Callable[[np.ndarray], Image.Image] = Image.fromarray
    deep: bool = False

    @property
    def source(self) -> dict[str, object]:
        """The layout, as parameters have it."""
        return {"images": self.image, "masks": self.mask, "splits": self.splits}

    def paths(self, folder: Path, number: int) -> tuple[Path, Path]:
        """Where a sample's image and mask lie."""
        split = list(self.splits.values())[number * 3 // SAMPLES] if self.splits else ""
        return tuple(folder / glob.format(id=f"s{number:03d}", split=split) for glob in (self.image, self.mask))  # type: ignore[return-value]


def _paletted(mask: np.ndarray) -> Image.Image:
    picture = Image.fromarray(mask, mode="P")
    picture.putpalette(PALETTE)
    return picture


GOOD = [
    Good("ids"),
    Good("values", "data/{id}.bmp", "data/{id}.png", {"values": {0: "background", 128: "cytoplasm", 255: "nucleus"}},
         encode=lambda mask: Image.fromarray(np.array([0, 128, 255], np.uint8)[mask])),
    Good("official", "{split}/images/{id}.jpg", "{split}/labels/{id}.png",
         splits={"train": "training", "validation": "val", "test": "testing"}),
    Good("colors", masks={"encoding": "colors", "colors": COLORS},
         encode=lambda mask: Image.fromarray(np.array(list(COLORS.values()), np.uint8)[mask])),
    Good("palette", masks={"encoding": "palette"}, encode=_paletted),
    Good("deep", "images/{id}.tif", "masks/{id}.tif", deep=True),
]  # fmt: skip


class Copy:
    """One data set on the disk that something is done to."""

    def __init__(self, good: Good, folder: Path, pairs: list[Pair], seed: int) -> None:
        self.good, self.folder, self.pairs = good, folder, pairs
        self.random = np.random.default_rng(seed)
        self.classes, self.masks = list(CLASSES), dict(good.masks)
        self.number = int(self.random.integers(2, SAMPLES - 2))
        self.image, self.mask = good.paths(folder, self.number)
        self.touched = {self.image.name, self.mask.name}  # what a finding should name
        for number, (image, mask) in enumerate(pairs):
            paths = good.paths(folder, number)
            for path in paths:
                path.parent.mkdir(parents=True, exist_ok=True)
            save_image(image, paths[0], good.deep)
            good.encode(mask).save(paths[1])

    def pair(self, number: int | None = None) -> Pair:
        """The true image and mask of a sample."""
        return self.pairs[self.number if number is None else number]

    def save_mask(self, mask: np.ndarray, number: int | None = None, **options: object) -> None:
        """Write a mask as the data set's are."""
        path = self.good.paths(self.folder, self.number if number is None else number)[1]
        self.good.encode(mask).save(path, **options)


def save_image(image: np.ndarray, path: Path, deep: bool) -> None:
    """Write an RGB image; a deep data set holds 16 bit gray ones."""
    if deep:
        Image.fromarray((image.mean(axis=2) * 257).astype(np.uint16)).save(path)
    else:
        Image.fromarray(image).save(path, quality=95)


# -- what can go wrong: each does it, and gives the kinds of finding that explain it (none: it must be harmless)

Corruption = Callable[[Copy], set[str] | None]  # None: it cannot befall this data set
CORRUPTIONS: dict[str, Corruption] = {}
UNREADABLE_IMAGE, UNREADABLE_MASK = {"unreadable_image"}, {"unreadable_mask"}


def corruption(function: Corruption) -> Corruption:
    """Register a corruption under its name."""
    CORRUPTIONS[function.__name__] = function
    return function


def _cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@corruption
def truncated_image(copy: Copy) -> set[str]:
    _cut(copy.image, copy.random.uniform(0.2, 0.9))
    return UNREADABLE_IMAGE


@corruption
def truncated_mask(copy: Copy) -> set[str]:
    _cut(copy.mask, copy.random.uniform(0.2, 0.9))
    return UNREADABLE_MASK


@corruption
def image_without_bytes(copy: Copy) -> set[str]:
    copy.image.write_bytes(b"")
    return UNREADABLE_IMAGE


@corruption
def mask_without_bytes(copy: Copy) -> set[str]:
    copy.mask.write_bytes(b"")
    return UNREADABLE_MASK


@corruption
def garbage_for_an_image(copy: Copy) -> set[str]:
    copy.image.write_bytes(copy.random.bytes(5000))
    return UNREADABLE_IMAGE


@corruption
def error_page_for_an_image(copy: Copy) -> set[str]:
    copy.image.write_text("<!DOCTYPE html><title>404 Not Found</title>" * 20)
    return UNREADABLE_IMAGE


@corruption
def lfs_pointer_for_a_mask(copy: Copy) -> set[str]:
    copy.mask.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n")
    return UNREADABLE_MASK


@corruption
def flipped_bytes_in_a_mask(copy: Copy) -> set[str] | None:
    data = bytearray(copy.mask.read_bytes())
    if copy.mask.suffix != ".png":
        return None  # a TIFF without a checksum cannot tell
    start = data.index(b"IDAT") + 4
    for place in copy.random.integers(start, len(data) - 12, 20):
        data[place] ^= 0xFF
    copy.mask.write_bytes(data)
    return UNREADABLE_MASK


@corruption
def header_of_a_giant(copy: Copy) -> set[str] | None:
    if copy.image.suffix != ".png":
        return None
    data = bytearray(copy.image.read_bytes())
    data[16:24] = (200_000).to_bytes(4, "big") * 2
    copy.image.write_bytes(data)
    return UNREADABLE_IMAGE


@corruption
def mask_removed(copy: Copy) -> set[str]:
    copy.mask.unlink()
    return {"missing_mask"}


@corruption
def image_removed(copy: Copy) -> set[str]:
    copy.image.unlink()
    return {"missing_image"}


@corruption
def ending_in_capitals(copy: Copy) -> set[str]:
    copy.image.rename(copy.image.with_suffix(copy.image.suffix.upper()))
    return {"missing_image"}


@corruption
def link_to_nowhere(copy: Copy) -> set[str]:
    copy.image.unlink()
    copy.image.symlink_to("nowhere.png")
    return UNREADABLE_IMAGE


@corruption
def folder_for_an_image(copy: Copy) -> set[str]:
    copy.image.unlink()
    copy.image.mkdir()
    return {"missing_image", *UNREADABLE_IMAGE}


@corruption
def masks_swapped(copy: Copy) -> set[str]:
    other = copy.number + 1
    copy.touched |= {path.name for path in copy.good.paths(copy.folder, other)}
    copy.save_mask(copy.pair(other)[1])
    copy.save_mask(copy.pair()[1], other)
    return {"better_fit"}


@corruption
def masks_shifted_by_one(copy: Copy) -> set[str]:
    for number in range(4, SAMPLES):
        copy.save_mask(copy.pair(number - 1)[1], number)
        copy.touched |= {path.name for path in copy.good.paths(copy.folder, number)}
    return {"better_fit"}


@corruption
def undeclared_value(copy: Copy) -> set[str] | None:
    mask = copy.pair()[1].copy()
    mask[30:40, 30:40] = 7
    if copy.good.name == "values":
        Image.fromarray(
            np.where(mask == 7, 77, np.array([0, 128, 255] + [0] * 5, np.uint8)[mask]).astype(np.uint8)
        ).save(copy.mask)
    elif copy.good.name == "colors":
        colors = np.array([*COLORS.values(), *[(9, 9, 9)] * 5], np.uint8)
        Image.fromarray(colors[mask]).save(copy.mask)
    else:
        copy.save_mask(mask)
    return {"undeclared_values", "undeclared_colors"}


@corruption
def values_shifted_by_one(copy: Copy) -> set[str] | None:
    if copy.good.name in {"values", "colors"}:
        return None
    copy.save_mask(copy.pair()[1] + 1)
    return {"undeclared_values"}


@corruption
def values_scaled_to_255(copy: Copy) -> set[str] | None:
    if copy.good.name in {"values", "colors", "palette"}:
        return None
    Image.fromarray(np.array([0, 127, 254], np.uint8)[copy.pair()[1]]).save(copy.mask)
    return {"undeclared_values"}


@corruption
def mask_saved_as_jpeg(copy: Copy) -> set[str] | None:
    if copy.good.name != "values":
        return None
    stream = io.BytesIO()
    copy.good.encode(copy.pair()[1]).save(stream, "JPEG", quality=80)
    copy.mask.write_bytes(stream.getvalue())
    return {"ghost_values", "lossy_mask"}


@corruption
def mask_resized_smoothly(copy: Copy) -> set[str] | None:
    if copy.good.name not in {"values", "colors"}:
        return None
    picture = copy.good.encode(copy.pair()[1])
    picture.resize((WIDTH // 2, HEIGHT // 2)).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR).save(copy.mask)
    return {"ghost_values", "undeclared_colors"}


@corruption
def mask_of_another_size(copy: Copy) -> set[str]:
    copy.save_mask(copy.pair()[1][:-8, :-16])
    return {"size_mismatch"}


@corruption
def mask_on_its_side(copy: Copy) -> set[str]:
    copy.save_mask(np.ascontiguousarray(np.rot90(copy.pair()[1])))
    return {"turned_mask"}


@corruption
def image_turned_by_exif(copy: Copy) -> set[str] | None:
    if copy.image.suffix != ".jpg":
        return None
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(copy.pair()[0]).save(copy.image, exif=exif, quality=95)
    return {"turned_mask"}


@corruption
def colored_mask(copy: Copy) -> set[str] | None:
    if copy.good.name == "colors":
        return None
    Image.fromarray(np.array(list(COLORS.values()), np.uint8)[copy.pair()[1]]).save(copy.mask)
    return {"colored_mask", "no_palette"}


@corruption
def palette_lost(copy: Copy) -> set[str] | None:
    if copy.good.name != "palette":
        return None
    Image.fromarray(copy.pair()[1]).save(copy.mask)
    return {"no_palette"}


@corruption
def constant_image(copy: Copy) -> set[str]:
    save_image(np.full((HEIGHT, WIDTH, 3), 120, np.uint8), copy.image, copy.good.deep)
    return {"constant_image"}


@corruption
def empty_mask(copy: Copy) -> set[str]:
    copy.save_mask(np.zeros((HEIGHT, WIDTH), np.uint8))
    return {"empty_mask"}


@corruption
def mask_all_void(copy: Copy) -> set[str] | None:
    if copy.good.name in {"values", "colors", "palette"}:
        return None
    copy.save_mask(np.full((HEIGHT, WIDTH), 255, np.uint8))
    return {"ignored_mask"}


@corruption
def class_never_there(copy: Copy) -> set[str]:
    for number in range(SAMPLES):
        mask = copy.pair(number)[1]
        copy.save_mask(np.where(mask == 2, 1, mask).astype(np.uint8), number)
    return {"absent_class"}


@corruption
def identical_in_two_splits(copy: Copy) -> set[str] | None:
    if not copy.good.splits:
        return None
    first, last = copy.good.paths(copy.folder, 1), copy.good.paths(copy.folder, SAMPLES - 1)
    copy.touched = {first[0].name, last[0].name}
    shutil.copy(first[0], last[0])
    shutil.copy(first[1], last[1])
    return {"identical_across_splits"}


@corruption
def near_identical_in_two_splits(copy: Copy) -> set[str] | None:
    if not copy.good.splits:
        return None
    image, mask = copy.pair(1)
    path = copy.good.paths(copy.folder, SAMPLES - 1)[0]
    copy.touched = {path.name, copy.good.paths(copy.folder, 1)[0].name}
    Image.fromarray(np.clip(image.astype(int) + 6, 0, 255).astype(np.uint8)).save(path, quality=80)
    copy.save_mask(mask, SAMPLES - 1)
    return {"near_identical_across_splits", "near_identical"}


@corruption
def same_image_with_another_mask(copy: Copy) -> set[str]:
    other = copy.good.paths(copy.folder, copy.number + 1)[0]
    copy.touched.add(other.name)
    shutil.copy(other, copy.image)
    return {"same_image_other_mask", "identical_across_splits"}


@corruption
def another_depth(copy: Copy) -> set[str] | None:
    if copy.image.suffix not in {".png", ".tif"}:
        return None
    save_image(copy.pair()[0], copy.image, deep=not copy.good.deep)
    return {"mixed_depths", "mixed_channels"}


@corruption
def fractions_for_an_image(copy: Copy) -> set[str] | None:
    if not copy.good.deep:
        return None
    Image.fromarray((copy.pair()[0].mean(axis=2) / 255).astype(np.float32)).save(copy.image)
    return {"no_range"}


@corruption
def numbers_that_are_none(copy: Copy) -> set[str] | None:
    if not copy.good.deep:
        return None
    image = copy.pair()[0].mean(axis=2).astype(np.float32)
    image[3:5] = np.nan
    Image.fromarray(image).save(copy.image)
    return {"not_finite", "no_range"}


@corruption
def two_masks(copy: Copy) -> set[str] | None:
    if copy.good.name != "ids":
        return None
    copy.good = Good("ids", mask="masks*/{id}.png")
    (copy.folder / "masks_b").mkdir()
    copy.good.encode(copy.pair()[1]).save(copy.folder / "masks_b" / copy.mask.name)
    return {"several_masks"}


# -- harmless ones


@corruption
def ending_of_another_format(copy: Copy) -> set[str]:
    if copy.image.suffix == ".tif":
        return set()
    stream = io.BytesIO()
    Image.open(copy.image).save(stream, "PNG" if copy.image.suffix != ".png" else "TIFF")
    copy.image.write_bytes(stream.getvalue())
    return set()


@corruption
def strange_names(copy: Copy) -> set[str]:
    name = ("a b'c\"d", "größe-细胞", "x;y&z#1", "[brackets]{0}", "-dash", "new\nline")[int(copy.random.integers(6))]
    for path in (copy.image, copy.mask):
        path.rename(path.with_name(f"{name}{path.suffix}"))
    return set()


@corruption
def circle_of_links(copy: Copy) -> set[str]:
    (copy.image.parent / "again").symlink_to(copy.folder, target_is_directory=True)
    (copy.image.parent / "self").symlink_to("self")
    return set()


@corruption
def twins_of_a_file_manager(copy: Copy) -> set[str]:
    for path in (copy.image, copy.mask):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7" + bytes(100))
        (path.parent / "Thumbs.db").write_bytes(b"x")
        (path.parent / ".DS_Store").write_bytes(b"x")
    return set()


@corruption
def stray_files(copy: Copy) -> set[str]:
    (copy.image.parent / "notes.txt").write_text("remember the milk")
    (copy.mask.parent / "readme.md").write_text("masks")
    return set()


@corruption
def gray_mask_in_three_channels(copy: Copy) -> set[str] | None:
    if copy.good.name in {"colors", "palette", "deep"}:
        return None
    copy.good.encode(copy.pair()[1]).convert("RGB").save(copy.mask)
    return set()


@corruption
def transparency(copy: Copy) -> set[str] | None:
    if copy.image.suffix != ".png":
        return None
    Image.fromarray(copy.pair()[0]).convert("RGBA").save(copy.image)
    return set()


@corruption
def much_metadata(copy: Copy) -> set[str] | None:
    if copy.image.suffix != ".png":
        return None
    information = PngImagePlugin.PngInfo()
    information.add_text("Comment", "x" * 100_000, zip=True)
    Image.fromarray(copy.pair()[0]).save(copy.image, pnginfo=information)
    return set()


@corruption
def bytes_after_the_end(copy: Copy) -> set[str]:
    with copy.image.open("ab") as stream:
        stream.write(copy.random.bytes(500))
    return set()


@dataclass
class Outcome:
    """What came of one copy."""

    found: bool
    explained: bool
    bare: str = ""
    kinds: tuple[str, ...] = ()
    message: str = ""


def audit_copy(copy: Copy, work: Path) -> tuple[AuditResult, pd.DataFrame, str, PackedSamples]:
    """Run a copy through index, inspection, split and audit: verdict, findings, the page, and the packed samples.

    Args:
        copy: the data set.
        work: an empty folder for what comes of it.

    Raises:
        ProjectError: it does not come so far.
    """
    source = SourceParameters(folder=str(copy.folder), **copy.good.source)  # type: ignore[arg-type]
    packing, memory = work / "packed", work / "splits"
    for folder in (packing, memory):
        folder.mkdir(parents=True)
    images, masks = ImageParameters(**copy.good.images), MaskParameters(**copy.masks)  # type: ignore[arg-type]
    inspection, extracted = InspectionParameters(), ExtractedFiles(root=str(copy.folder), files=0)
    indexed = acquisition.index(extracted, source)
    label_map = LabelMap.from_names(copy.classes)
    inspected, first, packed = preparation.inspect(
        indexed, extracted, source, label_map, images, masks, inspection, packing
    )
    samples, second = preparation.split(inspected, first, SplitParameters(), memory, label_map)
    verdict, findings, page = preparation.audit(
        copy.good.name, inspected, samples, first, second, packed, extracted, source, label_map, images, masks,
        inspection,
    )  # fmt: skip
    return verdict, findings, page, packed


def judge_copy(copy: Copy, expected: set[str], work: Path) -> Outcome:
    """Audit a copy, and compare what was found with what was done to it."""
    try:
        verdict, findings, _, packed = audit_copy(copy, work)
    except ProjectError as error:
        return Outcome(True, any(name in str(error) for name in copy.touched), message=str(error))
    except Exception as error:  # what a user must never see
        return Outcome(False, False, bare=f"{type(error).__name__}: {error}")
    told = findings[findings["severity"].isin(["error", "warning"])]
    kinds = tuple(sorted(set(told["kind"])))
    if not expected:
        harmless = verdict.status != "failed" and same_pixels(packed, copy)
        return Outcome(harmless or bool(kinds), harmless, kinds=kinds, message=verdict.message)
    fitting = told[told["kind"].isin(expected)]
    at_place = fitting["file"].eq("") | fitting["file"].map(lambda file: Path(file).name in copy.touched)
    return Outcome(bool(kinds), bool(at_place.any()), kinds=kinds, message=verdict.message)


def same_pixels(packed: PackedSamples, copy: Copy) -> bool:
    """Return whether all masks are those of the good data set (samples in the order of their names)."""
    truth = sorted(mask.tobytes() for _, mask in copy.pairs)
    return truth == sorted(packed.mask(sample_id).tobytes() for sample_id in packed.sample_ids)


def good_pairs() -> list[Pair]:
    """Draw samples that show all classes each, so that nothing is to be told of them."""
    drawn = (draw_sample(number, 7, WIDTH) for number in count())
    whole = ((image[:HEIGHT], mask[:HEIGHT]) for image, mask in drawn if len(np.unique(mask[:HEIGHT])) == len(CLASSES))
    return list(islice(whole, SAMPLES))


def main() -> None:
    """Corrupt, judge, print a table and a line of JSON."""
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3, help="copies for each data set and kind")
    parser.add_argument("--kind", default="", help="this kind alone, with what was found")
    options = parser.parse_args()
    pairs = good_pairs()
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    for good in GOOD:
        for name, corrupt in {"(clean)": lambda _: set(), **CORRUPTIONS}.items():
            for seed in range(options.times if name != "(clean)" else 1):
                if options.kind not in {"", name}:
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    copy = Copy(good, Path(folder) / "data", pairs, seed)  # type: ignore[arg-type]
                    expected = corrupt(copy)
                    if expected is None:
                        continue
                    outcome = judge_copy(copy, expected, Path(folder) / "work")
                    outcomes[name].append(outcome)
                    if options.kind or outcome.bare:
                        print(good.name, name, outcome, os.linesep)
    report(outcomes)


def report(outcomes: dict[str, list[Outcome]]) -> None:
    """Print a row per kind, and the sums."""
    print(f"{'kind':32} copies  found  explained  bare   told of")
    for name, results in sorted(outcomes.items()):
        told = sorted({kind for outcome in results for kind in outcome.kinds})
        numbers = [sum(getattr(outcome, key) != "" and bool(getattr(outcome, key)) for outcome in results)
                   for key in ("found", "explained", "bare")]  # fmt: skip
        print(f"{name:32} {len(results):6} {numbers[0]:6} {numbers[1]:10} {numbers[2]:5}   {', '.join(told)}")
    clean = outcomes.pop("(clean)", [])
    bad = [outcome for results in outcomes.values() for outcome in results]
    result = {
        "copies": len(bad),
        "kinds": len(outcomes),
        "found": round(sum(outcome.found for outcome in bad) / max(1, len(bad)), 4),
        "explained": round(sum(outcome.explained for outcome in bad) / max(1, len(bad)), 4),
        "bare": sum(bool(outcome.bare) for outcome in bad + clean),
        "false_errors": sum(bool(outcome.message) for outcome in clean),
        "false_warnings": sum(bool(outcome.kinds) for outcome in clean),
        "clean": len(clean),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
