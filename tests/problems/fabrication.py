"""Archives as the publishers of the built-in problems make them, with a few tiny images in each.

Layout, endings, modes and oddities are those of the real archives; sizes and numbers are not.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import tifffile
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from tests.data.ingestion.conftest import tarred, zipped

APPLE_DOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X        \0\2\0\0\0\x09\0\0\0\x32\0\0\0\x0e\0\0\0\2\0\0\0\0" + bytes(40)
IGNORED = 255


@dataclass(frozen=True)
class Fabricated:
    """Archives, and what must come of them.

    Attributes:
        archives: their bytes, by the end of their URL or their file's name.
        splits: the official split of each sample, by its id.
        truth: class ids of the masks of some samples.
        groups: of the samples; empty where each is a group of its own.
        left_out: images in the archives that are no samples of the problem.
        inside: of some samples, the region of interest.
        remarks: what the audit should say of the files, by kind of finding, and how often.
    """

    archives: dict[str, bytes]
    splits: dict[str, str | None]
    truth: dict[str, NDArray]
    groups: dict[str, str] = field(default_factory=dict)
    left_out: int = 0
    inside: dict[str, NDArray] = field(default_factory=dict)
    remarks: dict[str, int] = field(default_factory=dict)


# --- files ---


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    """Encode a picture."""
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def png(pixels: ArrayLike) -> bytes:
    """Encode gray or colors, by the number of dimensions."""
    return saved(Image.fromarray(np.asarray(pixels, np.uint8)), "PNG")


def jpeg(pixels: ArrayLike) -> bytes:
    return saved(Image.fromarray(np.asarray(pixels, np.uint8)), "JPEG", quality=90)


def paletted(ids: ArrayLike, palette: bytes, kind: str = "PNG") -> bytes:
    """Encode indices with a palette."""
    picture = Image.fromarray(np.asarray(ids, np.uint8), "P")
    picture.putpalette(palette)
    return saved(picture, kind)


def one_bit(mask: ArrayLike) -> bytes:
    return saved(Image.fromarray(np.asarray(mask, bool)), "PNG")


def stack(pages: Iterable[ArrayLike]) -> bytes:
    """Encode a volume, a page each."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.stack([np.asarray(page, np.uint8) for page in pages]), photometric="minisblack")
    return stream.getvalue()


def voc_palette() -> bytes:
    """Return the colors of Pascal VOC: the bits of the index, dealt to red, green and blue from the highest on."""
    numbers = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for place in range(8):
        for channel in range(3):
            colors[:, channel] |= ((numbers >> (3 * place + channel)) & 1).astype(np.uint8) << (7 - place)
    return colors.tobytes()


# --- pixels ---


def scene(seed: int, size: tuple[int, int] = (32, 40), channels: int = 3) -> NDArray[np.uint8]:
    """Draw noise: (height, width, channels), or (height, width) for one channel."""
    shape = size if channels == 1 else (*size, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def areas(values: Iterable[int], size: tuple[int, int] = (32, 40), seed: int = 0) -> NDArray[np.uint8]:
    """Draw a mask of upright stripes, a value each; the seed moves them on."""
    values = np.array(list(values), np.uint8)
    stripes = (np.arange(size[1]) * len(values) // size[1] + seed) % len(values)
    return np.broadcast_to(values[stripes], size).copy()


def disc(seed: int, size: tuple[int, int] = (32, 40)) -> NDArray[np.bool_]:
    """Draw an object: a disc somewhere near the center."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    return (rows - 14 - seed % 5) ** 2 + (columns - 18 - seed % 7) ** 2 < 60


def changed(ids: NDArray, table: dict[int, int]) -> NDArray[np.uint8]:
    """Replace values by a table."""
    lookup = np.zeros(256, np.uint8)
    lookup[list(table)] = list(table.values())
    return lookup[ids]


# --- the problems ---


def oxford_pet(*, three: bool = False) -> Fabricated:
    """Foreign formats under .jpg, stray .mat files, AppleDouble files beside the trimaps, lists with more columns."""
    names = ["Abyssinian_1", "Abyssinian_2", "Bengal_3", "shiba_inu_4", "pug_5"]
    sizes = [(32, 40), (40, 30), (36, 36), (32, 48), (30, 30)]
    pictures = [
        jpeg(scene(0, sizes[0])),
        png(scene(1, sizes[1], 4) | np.array([0, 0, 0, 255], np.uint8)),  # RGBA, opaque
        saved(Image.fromarray(scene(2, sizes[2])).quantize(64), "GIF"),
        jpeg(scene(3, sizes[3], 1)),  # gray
        jpeg(scene(4, sizes[4])),
    ]
    trimaps = [areas([2, 3, 1, 3, 2], size, seed) for seed, size in enumerate(sizes)]
    images = {f"images/{name}.jpg": picture for name, picture in zip(names, pictures, strict=True)}
    images |= {"images/Abyssinian_1.mat": b"MATLAB 5.0 MAT-file", "images/._Abyssinian_1.jpg": APPLE_DOUBLE}
    annotations = {
        "annotations/README": b"OXFORD-IIIT PET Dataset\n",
        "annotations/list.txt": b"#Image CLASS-ID SPECIES BREED ID\nAbyssinian_1 1 1 1\n",
        "annotations/trainval.txt": b"Abyssinian_1 1 1 1\nAbyssinian_2 1 1 1\nBengal_3 6 1 5\n",
        "annotations/test.txt": b"shiba_inu_4 33 2 23\n",
        "annotations/xmls/Abyssinian_1.xml": b"<annotation/>",
    }
    for name, trimap in zip(names, trimaps, strict=True):
        annotations[f"annotations/trimaps/{name}.png"] = png(trimap)
        annotations[f"annotations/trimaps/._{name}.png"] = APPLE_DOUBLE
    meaning = {1: 1, 2: 0, 3: 2 if three else 1}
    return Fabricated(
        {"images.tar.gz": tarred(images, "w:gz"), "annotations.tar.gz": tarred(annotations, "w:gz")},
        dict(zip(names[:4], ["train", "train", "train", "test"], strict=True)),
        {name: changed(trimap, meaning) for name, trimap in zip(names[:4], trimaps, strict=False)},
        left_out=1,
        remarks={"wrong_extension": 2, "alpha_dropped": 1, "gray_among_color": 1},
    )


def voc2012() -> Fabricated:
    """More images than masks, masks of objects beside those of classes, lists of the same name for other tasks."""
    top = "VOCdevkit/VOC2012"
    masks = {
        "2007_000032": areas([0, 255, 1, 20]),
        "2007_000033": areas([15, 255, 0]),
        "2008_000001": areas(range(21)),
        "2008_000002": areas([0, 19]),
    }
    files = {f"{top}/JPEGImages/{name}.jpg": jpeg(scene(seed)) for seed, name in enumerate([*masks, "2008_000009"])}
    for name, ids in masks.items():
        files[f"{top}/SegmentationClass/{name}.png"] = paletted(ids, voc_palette())
        files[f"{top}/SegmentationObject/{name}.png"] = paletted(ids > 0, voc_palette())
        files[f"{top}/Annotations/{name}.xml"] = b"<annotation/>"
    for task in ("Main", "Segmentation"):
        more = b"2008_000009\n" if task == "Main" else b""
        files[f"{top}/ImageSets/{task}/train.txt"] = b"2007_000032\n2008_000001\n2008_000002\n" + more
        files[f"{top}/ImageSets/{task}/val.txt"] = b"2007_000033\n"
    splits = dict.fromkeys(masks, "train") | {"2007_000033": "test"}
    return Fabricated({"VOCtrainval_11-May-2012.tar": tarred(files)}, splits, masks, left_out=1)


def dsb2018() -> Fabricated:
    """A folder for each image, named by a hash; images RGBA; a mask for every nucleus; sizes differ; resource forks."""
    files, truth = {}, {}
    for seed, (name, size) in enumerate({"00071198d0": (32, 32), "003cee89": (32, 40), "00ae65c1": (40, 36)}.items()):
        nuclei = [disc(seed, size), np.roll(disc(seed, size), 12, axis=1), np.roll(disc(seed, size), 9, axis=0)]
        image = np.repeat(scene(seed, size, 1)[..., None], 4, axis=2) | np.array([0, 0, 0, 255], np.uint8)
        files[f"{name}/images/{name}.png"] = png(image)
        files[f"__MACOSX/{name}/images/._{name}.png"] = APPLE_DOUBLE
        for number, nucleus in enumerate(nuclei):
            files[f"{name}/masks/{number:02x}5a8{name}.png"] = png(nucleus * 255)
        truth[name] = np.any(nuclei, axis=0)
    return Fabricated(
        {"stage1_train.zip": zipped(files)}, dict.fromkeys(truth, None), truth, remarks={"alpha_dropped": 3}
    )


def isbi2012_complete(top: str = "") -> Fabricated:
    """Volumes with a page for each slice; 0 is the membrane."""
    files, truth, splits = {f"{top}challenge-error-metrics.bsh": b"// BeanShell"}, {}, {}
    for split, seed in (("train", 0), ("test", 10)):
        membranes = [disc(seed + page) for page in range(3)]
        files[f"{top}{split}-volume.tif"] = stack(scene(seed + page, channels=1) for page in range(3))
        files[f"{top}{split}-labels.tif"] = stack(255 * ~membrane for membrane in membranes)
        for page, membrane in enumerate(membranes):
            truth[f"{split}-{page:03d}"], splits[f"{split}-{page:03d}"] = membrane, split
    return Fabricated({"ISBI-2012-challenge.zip": zipped(files)}, splits, truth)


def kvasir() -> Fabricated:
    """Masks that are color JPEG files of the images' names; sizes differ."""
    files, truth = {"Kvasir-SEG/kavsir_bboxes.json": b"{}"}, {}
    for seed, size in enumerate([(32, 40), (48, 40), (40, 56)]):
        name = f"cju{seed}qkwl35piu0993l0dewei2"
        truth[name] = disc(seed, size)
        files[f"Kvasir-SEG/images/{name}.jpg"] = jpeg(scene(seed, size))
        files[f"Kvasir-SEG/masks/{name}.jpg"] = jpeg(np.repeat(truth[name][..., None] * 255, 3, axis=2))
    return Fabricated({"kvasir-seg.zip": zipped(files)}, dict.fromkeys(truth, None), truth)


def chase_db1(top: str = "") -> Fabricated:
    """All in one folder: both eyes of a child, drawings of two observers, one bit per pixel."""
    eyes = [f"{child:02d}{eye}" for child in range(1, 15) for eye in "LR"]
    files = {}
    for seed, eye in enumerate(eyes):
        files[f"{top}Image_{eye}.jpg"] = jpeg(scene(seed))
        files[f"{top}Image_{eye}_1stHO.png"] = one_bit(disc(seed))
        files[f"{top}Image_{eye}_2ndHO.png"] = one_bit(disc(seed + 1))
    return Fabricated(
        {"CHASEDB1.zip": zipped(files)},
        {eye: "train" if number < 20 else "test" for number, eye in enumerate(eyes)},
        {eye: disc(seed) for seed, eye in enumerate(eyes)},
        {eye: eye[:2] for eye in eyes},
    )


def drive() -> Fabricated:
    """TIFF images, GIF masks in both modes, the camera's field of view, a second observer for the test split."""
    archives, truth, splits, inside = {}, {}, {}, {}
    for split, numbers in (("training", (21, 22, 23)), ("test", (1, 2))):
        files = {}
        for number in numbers:
            name, vessels, view = f"{number:02d}", disc(number), np.pad(np.ones((28, 36), bool), 2)
            image = saved(Image.fromarray(scene(number)), "TIFF", compression="tiff_lzw")
            files[f"{split}/images/{name}_{split}.tif"] = image
            files[f"{split}/1st_manual/{name}_manual1.gif"] = gif(vessels, with_palette=split == "test")
            files[f"{split}/mask/{name}_{split}_mask.gif"] = gif(view, with_palette=number % 2 == 0)
            if split == "test":
                files[f"{split}/2nd_manual/{name}_manual2.gif"] = gif(disc(number + 1), with_palette=False)
            truth[name], inside[name] = vessels, view
            splits[name] = "train" if split == "training" else "test"
        archives[f"{split}.zip?dl=1"] = zipped(files)
    return Fabricated(archives, splits, truth, inside=inside)


def gif(mask: NDArray[np.bool_], *, with_palette: bool) -> bytes:
    """Encode as indices 0 and 1 of a palette, or as gray values 0 and 255."""
    if with_palette:
        return paletted(mask, bytes([0, 0, 0, 255, 255, 255]), "GIF")
    return saved(Image.fromarray(mask.astype(np.uint8) * 255), "GIF", optimize=False)


def loveda() -> Fabricated:
    """Numbers that begin anew in town and country; 0 is no data."""
    archives, truth, splits = {}, {}, {}
    for split, first in (("Train", 0), ("Val", 2522)):
        files = {}
        for place, region in enumerate(("Rural", "Urban")):
            for number in (first, first + 1):
                values = areas(range(8), seed=number + place)
                files[f"{split}/{region}/images_png/{number}.png"] = png(scene(2 * number + place))
                files[f"{split}/{region}/masks_png/{number}.png"] = png(values)
                truth[f"{region}__{number}"] = values - 1  # uint8: 0 becomes 255
                splits[f"{region}__{number}"] = "train" if split == "Train" else "test"
        archives[f"{split}.zip?download=1"] = zipped(files)
    return Fabricated(archives, splits, truth)


def isic2018() -> Fabricated:
    """Six archives, three splits; a license and a list of authors in every one of them; sizes differ."""
    archives, truth, splits = {}, {}, {}
    for seed, (split, numbers) in enumerate({"Training": (0, 1, 3), "Validation": (12255,), "Test": (12169,)}.items()):
        inputs, masks = f"ISIC2018_Task1-2_{split}_Input", f"ISIC2018_Task1_{split}_GroundTruth"
        files: dict[str, dict[str, bytes]] = {}
        for folder in (inputs, masks):
            files[folder] = {f"{folder}/{name}.txt": name.encode() for name in ("ATTRIBUTION", "LICENSE")}
        for number in numbers:
            name, size = f"ISIC_{number:07d}", (32 + 4 * seed, 40 + number % 5)
            truth[name] = disc(number, size)
            splits[name] = {"Training": "train", "Validation": "validation", "Test": "test"}[split]
            files[inputs][f"{inputs}/{name}.jpg"] = jpeg(scene(number, size))
            files[masks][f"{masks}/{name}_segmentation.png"] = png(truth[name] * 255)
        archives |= {f"{folder}.zip": zipped(content) for folder, content in files.items()}
    return Fabricated(archives, splits, truth)


def ade20k() -> Fabricated:
    """Values 1 to 150, and 0 for what is none of them; lists of names beside them."""
    top, files, truth, splits = "ADEChallengeData2016", {}, {}, {}
    files |= {f"{top}/objectInfo150.txt": b"Idx Ratio", f"{top}/sceneCategories.txt": b"ADE_train_00000001 airport"}
    for split, short, numbers in (("training", "train", (1, 2, 3)), ("validation", "val", (1, 2))):
        for number in numbers:
            name, size = f"ADE_{short}_{number:08d}", (32, 160 + number)
            values = areas(range(151), size, seed=number)
            channels = 1 if number == 2 else 3  # a few are gray
            files[f"{top}/images/{split}/{name}.jpg"] = jpeg(scene(number + 10 * (short == "val"), size, channels))
            files[f"{top}/annotations/{split}/{name}.png"] = png(values)
            truth[name] = values - 1  # uint8: 0 becomes 255
            splits[name] = "train" if split == "training" else "test"
    return Fabricated({f"{top}.zip": zipped(files)}, splits, truth, remarks={"gray_among_color": 1})


CAMVID = {  # RGB to class id; the first of a class is that of its own name
    (128, 128, 128): 0,
    **dict.fromkeys([(128, 0, 0), (192, 0, 128), (0, 128, 64), (64, 0, 64), (64, 192, 0)], 1),
    **dict.fromkeys([(192, 192, 128), (0, 0, 64)], 2),
    **dict.fromkeys([(128, 64, 128), (128, 0, 192), (192, 0, 64)], 3),
    **dict.fromkeys([(0, 0, 192), (64, 192, 128), (128, 128, 192)], 4),
    **dict.fromkeys([(128, 128, 0), (192, 192, 0)], 5),
    **dict.fromkeys([(192, 128, 128), (128, 128, 64), (0, 64, 64)], 6),
    (64, 64, 128): 7,
    **dict.fromkeys([(64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)], 8),
    **dict.fromkeys([(64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)], 9),
    **dict.fromkeys([(0, 128, 192), (192, 0, 192)], 10),
    (0, 0, 0): IGNORED,
}


def camvid_full() -> Fabricated:
    """Masks of 32 colors without a folder of their own; a split in text files, with the paths of another machine."""
    names = {"0001TP_006690": "train", "0006R0_f00930": "train", "0016E5_07959": "validation", "Seq05VD_f00000": "test"}
    images, masks, truth = {"701_StillsRaw_full/Thumbs.db": b"x"}, {}, {}
    lines: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for seed, (name, split) in enumerate(names.items()):
        numbers = areas(range(len(CAMVID)), (32, 64), seed)
        images[f"701_StillsRaw_full/{name}.png"] = png(scene(seed, (32, 64)))
        masks[f"{name}_L.png"] = png(np.array(list(CAMVID))[numbers])
        truth[name] = np.array(list(CAMVID.values()), np.uint8)[numbers]
        short = "val" if split == "validation" else split
        lines[short].append(f"/SegNet/CamVid/{short}/{name}.png /SegNet/CamVid/{short}annot/{name}.png\n")
    archives = {"701_StillsRaw_full.zip": zipped(images), "LabeledApproved_full.zip": zipped(masks)}
    archives |= {f"{name}.txt": "".join(text).encode() for name, text in lines.items()}
    return Fabricated(archives, dict(names), truth)


def cityscapes() -> Fabricated:
    """Two archives with the same README; masks of four kinds for each image; a test split whose masks say nothing."""
    images = {"README": b"images", "license.txt": b"terms"}
    masks = {"README": b"masks", "license.txt": b"terms"}
    evaluated = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    meaning = dict.fromkeys(range(256), IGNORED) | {value: class_id for class_id, value in enumerate(evaluated)}
    truth, splits, groups = {}, {}, {}
    for seed, (split, city) in enumerate(
        [("train", "aachen"), ("train", "aachen"), ("train", "bochum"), ("val", "lindau"), ("test", "berlin")]
    ):
        name, size = f"{city}_{seed:06d}_000019", (16, 72)
        values = areas([*range(34), 255], size, seed) if split != "test" else np.full(size, 3, np.uint8)
        images[f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png"] = png(scene(seed, size))
        stem = f"gtFine/{split}/{city}/{name}_gtFine"
        masks[f"{stem}_labelIds.png"] = png(values)
        masks[f"{stem}_instanceIds.png"] = saved(Image.fromarray(values.astype(np.uint16) * 1000), "PNG")
        masks[f"{stem}_color.png"] = png(scene(seed, size, 4))
        masks[f"{stem}_polygons.json"] = json.dumps({"imgHeight": 16, "imgWidth": 72, "objects": []}).encode()
        if split != "test":
            truth[name], groups[name] = changed(values, meaning), city
            splits[name] = "train" if split == "train" else "test"
    return Fabricated(
        {"leftImg8bit_trainvaltest.zip": zipped(images), "gtFine_trainvaltest.zip": zipped(masks)},
        splits,
        truth,
        groups,
    )


def carvana() -> Fabricated:
    """Several sides of each car, GIF masks in both modes, resource forks."""
    images, masks, truth, groups = {}, {}, {}, {}
    for seed, car in enumerate(("0cdf5b5d0ce1", "a1f0d4b6b8e2", "fff9b3a5373f")):
        for side in (1, 2):
            name = f"{car}_{side:02d}"
            truth[name], groups[name] = disc(3 * seed + side), car
            images[f"train/{name}.jpg"] = jpeg(scene(2 * seed + side))
            masks[f"train_masks/{name}_mask.gif"] = gif(truth[name], with_palette=side == 1)
            masks[f"__MACOSX/train_masks/._{name}_mask.gif"] = APPLE_DOUBLE
    archives = {"train.zip": zipped(images), "train_masks.zip": zipped(masks)}
    return Fabricated(archives, dict.fromkeys(truth, None), truth, groups)


PROBLEMS: dict[str, tuple[str, Callable[[], Fabricated]]] = {
    "oxford_pet": ("oxford_pet", oxford_pet),
    "oxford_pet_trimap": ("oxford_pet_trimap", partial(oxford_pet, three=True)),
    "voc2012": ("voc2012", voc2012),
    "dsb2018": ("dsb2018", dsb2018),
    "isbi2012_complete": ("isbi2012_complete", isbi2012_complete),
    "isbi2012_complete, in folders": ("isbi2012_complete", partial(isbi2012_complete, "ISBI 2012/challenge/")),
    "kvasir": ("kvasir", kvasir),
    "chase_db1": ("chase_db1", chase_db1),
    "chase_db1, in a folder": ("chase_db1", partial(chase_db1, "CHASEDB1/")),
    "drive": ("drive", drive),
    "loveda": ("loveda", loveda),
    "isic2018": ("isic2018", isic2018),
    "ade20k": ("ade20k", ade20k),
    "camvid_full": ("camvid_full", camvid_full),
    "cityscapes": ("cityscapes", cityscapes),
    "carvana": ("carvana", carvana),
}
