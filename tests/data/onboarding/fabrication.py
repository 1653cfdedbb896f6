"""Data sets as people have them: each writes its files and says which masks and which split belong to which image."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

SIZE = (40, 48)


@dataclass
class DataSet:
    """Files under a root, and the truth about them.

    Attributes:
        root: of the files.
        truth: of every image that is labeled: its masks, and its split if there is an official one.
        roi: of an image, its region of interest.
    """

    root: Path
    truth: dict[str, tuple[list[str], str | None]] = field(default_factory=dict)
    roi: dict[str, str] = field(default_factory=dict)
    seed: int = 0

    def pair(self, image: str, mask: str, split: str | None = None, **kinds: object) -> None:
        """Write an image and its mask."""
        self.image(image)
        self.mask(mask, **kinds)
        self.truth[image] = ([mask], split)

    def image(self, path: str, mode: str = "RGB") -> None:
        """Write a picture: smooth, with noise."""
        self.seed += 1
        save(self.root / path, picture(self.seed, mode=mode))

    def mask(
        self, path: str, values: tuple[int, ...] = (0, 255), palette: list[int] | None = None, size: tuple = SIZE
    ) -> None:
        """Write a mask of the last image."""
        save(self.root / path, blobs(self.seed, values, size), palette)

    def text(self, path: str, text: str) -> None:
        """Write a text file."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def picture(seed: int, size: tuple[int, int] = SIZE, mode: str = "RGB") -> NDArray[np.uint8]:
    """Draw a photograph: a gradient with noise, so that neighbors differ."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    bands = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    base = 90 + 60 * np.sin(rows / 9 + seed)[..., None] * np.cos(columns / 11)[..., None]
    noisy = np.clip(base + generator.normal(0, 18, (*size, bands)), 0, 255).astype(np.uint8)
    return noisy[..., 0] if bands == 1 else noisy


def blobs(seed: int, values: tuple[int, ...], size: tuple[int, int] = SIZE) -> NDArray:
    """Draw a mask: the first value all over, a rectangle of each other value, in a place that the seed says."""
    generator = np.random.default_rng(seed)
    dtype = np.uint8 if min(values) >= 0 and max(values) <= 255 else np.int32
    mask = np.full(size, values[0], dtype)
    height, width = size[0] // 3, max(3, size[1] // (len(values) + 1))
    for number, value in enumerate(values[1:]):
        top = generator.integers(1, size[0] - height)
        mask[top : top + height, 1 + number * width : number * width + width] = value
    return mask


def save(file: Path, pixels: NDArray, palette: list[int] | None = None, **options: object) -> None:
    """Write pixels in the format that the ending says."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix in {".tif", ".tiff"}:
        tifffile.imwrite(file, pixels, photometric="rgb" if pixels.ndim == 3 and pixels.shape[2] == 3 else "minisblack")
        return
    image = Image.fromarray(pixels)
    if palette is not None:
        image.putpalette(palette)
    image.save(file, **options)


def flat_folders(data: DataSet) -> None:
    for name in "abcdefghijkl":
        data.pair(f"images/{name}.jpg", f"masks/{name}.png")


def one_folder_with_suffix(data: DataSet) -> None:
    for number in range(12):
        data.pair(f"cell {number}.png", f"cell {number}_mask.png")


def carvana(data: DataSet) -> None:
    for number in range(12):
        data.pair(f"train/{number:012x}_{number:02d}.jpg", f"train_masks/{number:012x}_{number:02d}_mask.gif")


def patients(data: DataSet) -> None:
    for patient in range(4):
        for number in range(4):
            name = f"patient{patient}/slice_{number:03d}.png"
            data.pair(f"imgs/{name}", f"labels/{name}", values=(0, 1, 2))


def patients_outside(data: DataSet) -> None:
    for patient in range(15):
        for number in range(2):
            data.pair(f"case_{patient}/image/{number}.tif", f"case_{patient}/seg/{number}.tif", values=(0, 1))


def a_folder_per_sample(data: DataSet) -> None:
    for patient in range(8):
        data.pair(f"case{patient}/image.png", f"case{patient}/mask.png")


def split_folders(data: DataSet) -> None:
    for text, split, count in (("training", "train", 6), ("valid", "validation", 3), ("testing", "test", 4)):
        for number in range(count):
            data.pair(f"images/{text}/ADE_{number:05d}.jpg", f"annotations/{text}/ADE_{number:05d}.png", split)


def split_outside(data: DataSet) -> None:
    for text, split, count in (("Train", "train", 6), ("Val", "validation", 3)):
        for part in ("Urban", "Rural"):
            for number in range(count):
                data.pair(
                    *(f"{text}/{part}/{kind}_png/{number}.png" for kind in ("images", "masks")),
                    split=split,
                    values=(0, 1, 2, 3, 4, 5, 6, 7),
                )
    for number in range(3):
        data.image(f"Test/Urban/images_png/{number}.png")


def deep_crack(data: DataSet) -> None:
    for split, count in (("train", 6), ("test", 4)):
        for number in range(count):
            data.pair(f"{split}_img/{number}.jpg", f"{split}_lab/{number}.png", split)


def drive(data: DataSet) -> None:
    for text, split, first in (("training", "train", 21), ("test", "test", 1)):
        for number in range(first, first + 6):
            image = f"{text}/images/{number:02d}_{text}.tif"
            inside = np.zeros(SIZE, np.uint8)
            inside[4:-4, 6:-6] = 255
            data.seed += 1
            save(data.root / image, picture(data.seed) * (inside[..., None] > 0))
            data.mask(f"{text}/1st_manual/{number:02d}_manual1.gif")
            save(data.root / f"{text}/mask/{number:02d}_{text}_mask.gif", inside)
            if split == "test":
                data.mask(f"{text}/2nd_manual/{number:02d}_manual2.gif")
            data.truth[image] = ([f"{text}/1st_manual/{number:02d}_manual1.gif"], split)
            data.roi[image] = f"{text}/mask/{number:02d}_{text}_mask.gif"


def voc(data: DataSet) -> None:
    palette = [0, 0, 0, 128, 0, 0, 0, 128, 0, *[0] * 756, 224, 224, 192]
    names = [f"2007_{number:06d}" for number in range(20)]
    for number, name in enumerate(names):
        if number % 2:
            data.image(f"VOC2012/JPEGImages/{name}.jpg")
            continue
        mask = f"VOC2012/SegmentationClass/{name}.png"
        data.pair(f"VOC2012/JPEGImages/{name}.jpg", mask, "train" if number < 12 else "validation")
        data.mask(mask, (0, 1, 2, 255), palette)
        data.mask(f"VOC2012/SegmentationObject/{name}.png", (0, 1, 2, 3, 255), palette)
    for part, used in (("Segmentation", names[::2]), ("Main", names)):
        data.text(f"VOC2012/ImageSets/{part}/train.txt", "\n".join(n for n in used if n < names[12]) + "\n")
        data.text(f"VOC2012/ImageSets/{part}/val.txt", "\n".join(n for n in used if n >= names[12]) + "\n")
        data.text(f"VOC2012/ImageSets/{part}/trainval.txt", "\n".join(used) + "\n")


def nuclei(data: DataSet) -> None:
    generator = np.random.default_rng(3)
    for number in range(8):
        name = generator.bytes(8).hex()
        image = f"{name}/images/{name}.png"
        data.image(image, mode="RGBA")
        masks = []
        for instance in range(1 + number % 4):
            data.seed += 100
            masks.append(f"{name}/masks/{generator.bytes(8).hex()}.png")
            mask = np.zeros(SIZE, np.uint8)
            mask[5 + 8 * instance : 10 + 8 * instance, 10:20] = 255
            save(data.root / masks[-1], mask)
        data.truth[image] = (sorted(masks), None)


def lungs(data: DataSet) -> None:
    for number in range(8):
        image = f"CXR_png/MCU_{number:04d}.png"
        data.image(image, mode="L")
        masks = []
        for side, columns in (("left", slice(3, 20)), ("right", slice(26, 44))):
            mask = np.zeros(SIZE, np.uint8)
            mask[6:30, columns] = 255
            masks.append(f"ManualMask/{side}Mask/MCU_{number:04d}.png")
            save(data.root / masks[-1], mask)
        data.truth[image] = (masks, None)


def ultrasound(data: DataSet) -> None:
    for kind in ("benign", "malignant"):
        for number in range(6):
            image = f"{kind}/{kind} ({number}).png"
            data.image(image, mode="L")
            masks = [f"{kind}/{kind} ({number})_mask.png"]
            if number == 4:
                masks.append(f"{kind}/{kind} ({number})_mask_1.png")
            for place, path in enumerate(masks):
                mask = np.zeros(SIZE, np.uint8)
                mask[6 + 15 * place : 15 + 15 * place, 8:30] = 255
                save(data.root / path, mask)
            data.truth[image] = (masks, None)


def stacks(data: DataSet) -> None:
    pages = [picture(seed, mode="L") for seed in range(6)]
    save(data.root / "train-volume.tif", np.stack(pages))
    save(data.root / "train-labels.tif", np.stack([blobs(seed, (255, 0)) for seed in range(6)]))
    for page in range(6):
        data.truth[f"train-volume.tif#{page}"] = ([f"train-labels.tif#{page}"], None)


def cell_tracking(data: DataSet) -> None:
    for movie in ("01", "02"):
        for number in range(8):
            image = f"{movie}/t{number:03d}.tif"
            data.image(image, mode="L")
            if number % 2 == 0:
                mask = f"{movie}_GT/SEG/man_seg{number:03d}.tif"
                save(data.root / mask, blobs(data.seed, tuple(range(3 + number % 3))).astype(np.uint16))
                data.truth[image] = ([mask], None)


def retina(data: DataSet) -> None:
    for number in range(1, 7):
        for eye in "LR":
            name = f"Image_{number:02d}{eye}"
            data.pair(f"{name}.jpg", f"{name}_1stHO.png")
            data.mask(f"{name}_2ndHO.png")


def cityscapes(data: DataSet) -> None:
    for split, name in (("train", "train"), ("val", "validation")):
        for city in ("aachen", "ulm") if split == "train" else ("lindau",):
            for number in range(4):
                stem = f"{split}/{city}/{city}_{number:06d}_000019"
                mask = f"gtFine/{stem}_gtFine_labelTrainIds.png"
                data.pair(f"leftImg8bit/{stem}_leftImg8bit.png", mask, name, values=(255, 0, 1, 2))
                data.mask(f"gtFine/{stem}_gtFine_labelIds.png", (0, 7, 8, 11))
                save(data.root / f"gtFine/{stem}_gtFine_instanceIds.png", blobs(data.seed, (0, 1, 2, 3)))
                data.text(f"gtFine/{stem}_gtFine_polygons.json", '{"imgHeight": 40, "imgWidth": 48, "objects": []}')


def camvid_full(data: DataSet) -> None:
    names = [f"0006R0_f{number:05d}" for number in range(12)]
    for number, name in enumerate(names):
        split = "validation" if number > 8 else "train"
        data.pair(f"camvid/images/{name}.png", f"camvid/labels/{name}_P.png", split, values=(0, 4, 17, 21))
    data.text("camvid/valid.txt", "\n".join(f"{name}.png" for name in names[9:]))
    data.text("camvid/codes.txt", "Animal\nArchway\n")


def stanford(data: DataSet) -> None:
    for number in range(8):
        image, mask = f"images/{number:07d}.jpg", f"labels/{number:07d}.regions.txt"
        data.image(image)
        grid = blobs(data.seed, (-1, 0, 1, 2))
        data.text(mask, "\n".join(" ".join(map(str, row)) for row in grid))
        data.truth[image] = ([mask], None)


def labelme(data: DataSet) -> None:
    for number in range(6):
        image, mask = f"photos/{number}.jpg", f"photos/{number}.json"
        data.image(image)
        shapes = [
            {"label": label, "shape_type": "polygon", "points": [[x, 5], [x + 12, 5], [x + 6, 20]]}
            for label, x in (("leaf", 2), ("stem", 20))
        ]
        data.text(mask, json.dumps({"shapes": shapes, "imageHeight": SIZE[0], "imageWidth": SIZE[1]}))
        data.truth[image] = ([mask], None)


def coco(data: DataSet) -> None:
    for text, split, count in (("train", "train", 6), ("val", "validation", 4)):
        images = []
        annotations = []
        for number in range(count):
            image = f"{text}2017/{number:06d}.jpg"
            data.image(image)
            images.append({"id": number, "file_name": f"{number:06d}.jpg", "height": SIZE[0], "width": SIZE[1]})
            polygon = [[4, 4, 20, 4, 20, 18, 4, 18]]
            annotations.append({"id": number, "image_id": number, "category_id": 7, "segmentation": polygon})
            data.truth[image] = ([f"annotations/instances_{text}2017.json"], split)
        categories = [{"id": 7, "name": "car"}, {"id": 9, "name": "never drawn"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        data.text(f"annotations/instances_{text}2017.json", json.dumps(content))


def yolo(data: DataSet) -> None:
    for text, split, count in (("train", "train", 6), ("val", "validation", 4)):
        for number in range(count):
            image, mask = f"images/{text}/{number}.jpg", f"labels/{text}/{number}.txt"
            data.image(image)
            data.text(mask, "0 0.1 0.1 0.4 0.1 0.4 0.6\n1 0.5 0.5 0.9 0.5 0.9 0.9\n" if number else "")
            data.truth[image] = ([mask], split)
    data.text("data.yaml", "names: {0: cat, 1: dog}\n")


def mixed_endings(data: DataSet) -> None:
    for number in range(12):
        data.pair(f"images/{number}.{('jpg', 'png', 'JPG')[number % 3]}", f"masks/{number}.png")


def with_junk(data: DataSet) -> None:
    flat_folders(data)
    for name in "abc":
        data.text(f"masks/._{name}.png", "\0\5\26\7")
        data.text(f"__MACOSX/images/._{name}.jpg", "x")
    data.text("images/Thumbs.db", "x")
    data.text(".DS_Store", "x")
    data.text("README.txt", "Please cite us.")


def eyes_by_class(data: DataSet) -> None:
    """IDRiD: a folder and a suffix per class."""
    for number in range(1, 9):
        image = f"original/IDRiD_{number:02d}.jpg"
        data.image(image)
        masks = []
        for place, (folder, code) in enumerate((("1. Microaneurysms", "MA"), ("2. Haemorrhages", "HE"))):
            mask = np.zeros(SIZE, np.uint8)
            mask[5 + 16 * place : 15 + 16 * place, 5:20] = 255
            masks.append(f"truth/{folder}/IDRiD_{number:02d}_{code}.tif")
            save(data.root / masks[-1], mask)
        data.truth[image] = (masks, None)


def prefixes(data: DataSet) -> None:
    for number in range(10):
        data.pair(f"data/img_{number}.png", f"data/mask_{number}.png", values=(0, 1, 2))


def no_words(data: DataSet) -> None:
    """Names say nothing: pixels tell which are masks."""
    for number in range(10):
        data.pair(f"zeta/{number}.png", f"alpha/{number}.png", values=(0, 1, 2))


LAYOUTS: dict[str, Callable[[DataSet], None]] = {
    function.__name__: function
    for function in (
        *(flat_folders, one_folder_with_suffix, carvana, patients, patients_outside, a_folder_per_sample),
        *(split_folders, split_outside, deep_crack, drive, voc, nuclei, lungs, ultrasound, stacks, cell_tracking),
        *(retina, cityscapes, camvid_full, stanford, labelme, coco, yolo, mixed_endings, with_junk, eyes_by_class),
        *(prefixes, no_words),
    )
}


def write(name: str, root: Path) -> DataSet:
    """Write a data set."""
    data = DataSet(root)
    LAYOUTS[name](data)
    return data


def png_bytes(pixels: NDArray) -> bytes:
    """Encode pixels."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
