"""Survey a folder of images and masks: which belong together, and what is in the files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath

from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.layout.layout import Sample
from unet_segmentation.data.onboarding.file_types import PICTURES, ending, may_be_data, spread
from unet_segmentation.data.onboarding.image_mask_pairing import Pairing, find_pairing
from unet_segmentation.data.onboarding.image_survey import ImageSurvey, survey_images
from unet_segmentation.data.onboarding.mask_detection import PixelProbe
from unet_segmentation.data.onboarding.mask_survey import MaskSurvey, survey_masks
from unet_segmentation.data.onboarding.name_keywords import mask_words
from unet_segmentation.data.onboarding.predefined_splits import Official, find_official
from unet_segmentation.errors import DataError

PROBED = 60  # pictures that are read to explain why nothing pairs
LISTED_FILES = 6  # in a message
PATIENTS = 8  # folders that belong to the ids, from which on they are taken for patients or scenes


@dataclass(frozen=True)
class Folders:
    """The folders of the files."""

    root: str  # what becomes `source.folder`: a path, or a URL
    images: str = ""  # relative to the root; empty for the root itself
    masks: str | None = None  # the same; None to search for them

    def may_be_image(self, path: str) -> bool:
        """Return whether a path lies where images are."""
        return _is_in(path, self.images) and not _is_apart(path, self.masks, self.images)

    def may_be_mask(self, path: str) -> bool:
        """Return whether a path lies where masks are."""
        return self.masks is None or (_is_in(path, self.masks) and not _is_apart(path, self.images, self.masks))


@dataclass(frozen=True)
class Survey:
    """A survey of a folder."""

    folders: Folders
    storage: FileStore
    paths: Sequence[str]
    pairing: Pairing
    official: Official | None  # the predefined split of lists or of a table
    images: ImageSurvey
    masks: MaskSurvey

    @property
    def samples(self) -> list[Sample]:
        """All samples, with their predefined split."""
        return self.pairing.samples if self.official is None else self.official.samples

    @property
    def unreadable(self) -> dict[str, str]:
        """Files that cannot be read, and why."""
        return self.images.unreadable | self.masks.unreadable

    @property
    def has_split(self) -> bool:
        """Return whether the data come with a predefined split."""
        return bool(self.pairing.splits) or self.official is not None

    @property
    def has_groups(self) -> bool:
        """Return whether folders that belong to the ids seem to be patients or scenes."""
        ids = [sample.id for sample in self.samples if sample.image]
        folders = {name.rpartition("/")[0] for name in ids}
        together = len(folders) >= PATIENTS and "" not in folders and len(ids) >= 2 * len(folders)
        return together and not self.has_split


def locate(images: str, masks: str | None = None) -> Folders:
    """Find the folder that holds both images and masks: folders, or URLs; without masks, one that holds everything.

    Raises:
        DataError: a folder is not there, both are the same, or they have nothing in common.
    """
    if "://" in images or "://" in (masks or ""):
        return _located_urls(images, masks)
    image_folder = _own_folder(images, "--images")
    if masks is None:
        return Folders(image_folder)
    mask_folder = _own_folder(masks, "--masks")
    if os.path.samefile(image_folder, mask_folder):
        raise DataError(
            f"--images and --masks are the same folder, {image_folder}. Leave --masks out: what are images and what "
            "are masks is then worked out."
        )
    root = Path(os.path.commonpath([image_folder, mask_folder]))
    if root == Path(root.anchor) or root in {Path.home(), *Path.home().parents}:
        raise DataError(
            f"{image_folder} and {mask_folder} have only {root} in common, which is too much to search. Bring both "
            "into one folder, by links if you like:\n"
            f"    mkdir my_data; ln -s '{image_folder}' my_data/images; ln -s '{mask_folder}' my_data/masks"
        )
    inside = [os.path.relpath(folder, root) for folder in (image_folder, mask_folder)]
    return Folders(str(root), *("" if folder == "." else folder for folder in inside))


def survey_folder(folders: Folders) -> Survey:
    """Survey the folders of images and masks.

    Raises:
        DataError: there is nothing, there are no images or no masks, or none belong together.
    """
    from rich import get_console

    storage = FileStore(folders.root)
    with get_console().status("Listing files"):
        paths = list(storage.walk())
    if not paths:
        raise DataError(f"There is no file in {folders.root}. Name the folder that holds your images.")
    _check_names(paths, folders.root)
    if not any(ending(path) in PICTURES and folders.may_be_image(path) for path in paths):
        raise DataError(_no_images(folders, paths))
    probe = PixelProbe(storage)
    with get_console().status("Pairing names"):
        pairing = find_pairing(paths, probe, folders.may_be_image, folders.may_be_mask)
    if pairing is None:
        raise DataError(_no_pairs(folders, paths, probe))
    official = None if pairing.splits else find_official(storage, paths, pairing.samples)
    images = survey_images(storage, [sample.image for sample in pairing.samples if sample.image])
    masks = survey_masks(storage, pairing, paths)
    _check_read(images, masks, pairing)
    return Survey(folders, storage, paths, pairing, official, images, masks)


def _check_names(paths: Sequence[str], root: str) -> None:
    """Raise where a name cannot be written to YAML and tables."""
    for path in paths:
        try:
            path.encode()
        except UnicodeEncodeError:
            name = path.encode("utf-8", "backslashreplace").decode()
            raise DataError(f"The name of the file {name} (in {root}) is not UTF-8: rename it.") from None


def _check_read(images: ImageSurvey, masks: MaskSurvey, pairing: Pairing) -> None:
    """Raise where no image or no mask could be read, or masks look like photographs."""
    for read, unreadable, noun in (
        (len(images.sizes), images.unreadable, "image"),
        (masks.read, masks.unreadable, "mask"),
    ):
        if not read:
            reasons = "\n".join(f"    {path} {why}" for path, why in list(unreadable.items())[:LISTED_FILES])
            raise DataError(f"No {noun} can be read:\n{reasons}")
    if masks.photographs > masks.read / 2:
        raise DataError(
            f"The files of {pairing.masks} look like photographs, not like masks: nearly every pixel differs from its "
            "neighbors. If other files are the masks, name their folder with --masks."
        )


def _own_folder(folder: str, option: str) -> str:
    path = os.path.abspath(os.path.expanduser(folder))
    if os.path.isfile(path):
        raise DataError(
            f"{option} {folder} is a file. Name a folder; an archive has to be unpacked first (or name it in the YAML: "
            "source.archives, see docs/how-to/download-and-describe-a-dataset.md)."
        )
    if not os.path.isdir(path):
        raise DataError(f"There is no folder {path} ({option} {folder}).")
    return path


def _located_urls(images: str, masks: str | None) -> Folders:
    if masks is None:
        return Folders(images.rstrip("/"))
    one, other = images.rstrip("/").split("/"), masks.rstrip("/").split("/")
    if one == other:
        raise DataError(f"--images and --masks are the same folder, {images}. Leave --masks out.")
    common = [part for part, _ in takewhile(lambda parts: parts[0] == parts[1], zip(one, other, strict=False))]
    if len(common) < 3:
        raise DataError(f"{images} and {masks} are in different stores: bring both into one folder.")
    return Folders("/".join(common), "/".join(one[len(common) :]), "/".join(other[len(common) :]))


def _is_in(path: str, folder: str) -> bool:
    return not folder or path == folder or path.startswith(f"{folder}/")


def _is_apart(path: str, other: str | None, own: str) -> bool:
    """Of two folders, one in the other, the inner one's files are its own."""
    return other is not None and other != own and _is_in(other, own) and _is_in(path, other)


def _no_images(folders: Folders, paths: Sequence[str]) -> str:
    where = str(PurePosixPath(folders.root, folders.images)) if folders.images else folders.root
    extensions = sorted({f".{ending(path)}" for path in paths if ending(path)})
    archives = [path for path in paths if path.lower().endswith((".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"))]
    hint = f" Unpack {archives[0]} first." if archives else ""
    return (
        f"There is no image in {where}, but {len(paths)} other files "
        f"({', '.join(extensions[:LISTED_FILES]) or 'without endings'}). "
        f"Images end with {', '.join(f'.{name}' for name in sorted(PICTURES))}.{hint}"
    )


def _no_pairs(folders: Folders, paths: Sequence[str], probe: PixelProbe) -> str:
    """Explain why nothing pairs: there are no masks, or they have other names."""
    data = [path for path in paths if may_be_data(path)]
    if folders.masks is not None:
        images = [path for path in data if folders.may_be_image(path)]
        masks = [path for path in data if folders.may_be_mask(path)]
    else:
        pictures = spread([path for path in data if ending(path) in PICTURES], PROBED)
        masks = [path for path in pictures if probe.score_mask(path).score > 0.5]
        if not masks and len({path.rpartition("/")[0] for path in pictures}) > 1:
            masks = [path for path in pictures if mask_words(path)]
        images = [path for path in pictures if path not in set(masks)]
    if not masks:
        return (
            f"There are images in {folders.root} ({_some(images)}), but no masks: no file there looks like one or is "
            "named so. To learn, every image needs a mask of the same name, in which each pixel holds its class "
            "(0 for the background, 1 for ..., or black and white), or an annotation file (COCO, YOLO, LabelMe, "
            f"Pascal VOC). {_where_masks_may_be(folders)}"
        )
    if not images:
        return (
            f"All pictures in {folders.root} look like masks ({_some(masks)}): there are no images. "
            "Name the folders: --images FOLDER --masks FOLDER."
        )
    return (
        f"No image in {folders.root} has a mask: their names do not fit together.\n"
        f"    Images: {_some(images)}\n    Masks:  {_some(masks)}\n"
        "Rename them so that an image and its mask share a name (a.jpg and a.png, or a.jpg and a_mask.png). If "
        "other folders are meant, name them with --images and --masks."
    )


def _where_masks_may_be(folders: Folders) -> str:
    """Return a hint at a sibling folder whose name is one of masks."""
    root = Path(folders.root)
    if folders.masks is None and root.is_dir():
        siblings = sorted(
            path for path in root.parent.iterdir() if path != root and path.is_dir() and mask_words(path.name)
        )
        if siblings:
            return f"Are they in a folder next to it? Then add: --masks '{siblings[0]}'"
    return "If the masks are in another folder, name it with --masks."


def _some(paths: Sequence[str]) -> str:
    return ", ".join(spread(paths, LISTED_FILES)) + (", ..." if len(paths) > LISTED_FILES else "")
