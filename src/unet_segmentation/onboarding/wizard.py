"""`kedro problem new`: from a folder to a folder under `conf/`, with all that was found and all that is unsure."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unet_segmentation.atomic import whole
from unet_segmentation.errors import ConfigurationError, DataError
from unet_segmentation.onboarding.files import PICTURES, ending, may_be_data
from unet_segmentation.onboarding.looks import Looks
from unet_segmentation.onboarding.masks import MaskSurvey, survey_masks
from unet_segmentation.onboarding.official import Official, find_official
from unet_segmentation.onboarding.pairing import Pairing, find_pairing
from unet_segmentation.onboarding.pictures import ImageSurvey, survey_images
from unet_segmentation.onboarding.readings import Interpretation, interpret
from unet_segmentation.onboarding.sheet import write_contact_sheet
from unet_segmentation.onboarding.writing import (
    FOLDERS_OF_GROUPS,
    Draft,
    compose,
    listed,
    suggested_training,
    validated,
)
from unet_segmentation.samples.proposing import propose_range
from unet_segmentation.sources.layout import find_samples, some
from unet_segmentation.storage import Storage

RESERVED = {"base", "local", "template", "test"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

Progress = Callable[[str, float], None]
Ask = Callable[[Interpretation], tuple[list[str] | None, list[int] | None]]
"""Is shown what the masks hold, and gives the names of the classes and the void values; None for either: unsaid."""


@dataclass
class Onboarding:
    """What was found and written.

    Attributes:
        name: of the problem.
        root: folder that holds all that is used.
        file: the written `parameters.yml`.
        sheet: the contact sheet.
        pairing: of images and masks.
        official: split in lists or a table.
        masks: what is in them.
        images: what is in them.
        interpretation: of the masks.
        draft: what was written.
        unsure: what a person should look at.
        found: what was found, line by line: heading and text.
    """

    name: str
    root: Path
    file: Path
    sheet: Path
    pairing: Pairing
    official: Official | None
    masks: MaskSurvey
    images: ImageSurvey
    interpretation: Interpretation
    draft: Draft
    unsure: list[str] = field(default_factory=list)
    found: list[tuple[str, str]] = field(default_factory=list)


def check_name(name: str, conf: Path, *, force: bool) -> None:
    """Make sure that a problem can be called so.

    Raises:
        ConfigurationError: it cannot, or there is one of this name.
    """
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot be the name of a problem: letters, digits, _ and - only, a letter or a digit first."
        )
    if name.lower() in RESERVED:
        raise ConfigurationError(f"{name!r} is a folder of the project's own under conf/: choose another name.")
    if (conf / name).exists() and not force:
        raise ConfigurationError(
            f"There is a problem {name!r} already ({conf / name}). Choose another name, or replace its parameters.yml "
            "with --force."
        )


def onboard(
    name: str,
    images: Path,
    masks: Path | None,
    project: Path,
    *,
    classes: Sequence[str] | None = None,
    ignore: Sequence[int] | None = None,
    force: bool = False,
    ask: Ask | None = None,
    progress: Progress = lambda *_: None,
) -> Onboarding:
    """Look at a folder and write `conf/NAME/parameters.yml` for it.

    Args:
        name: of the new problem.
        images: folder with the images; or with everything, where `masks` is not given.
        masks: folder with the masks.
        project: the project's root.
        classes: names in the order of the values; None where nobody has said them.
        ignore: mask values that are void.
        force: replace a `parameters.yml` that is there.
        ask: asks a person for what pixels cannot tell; None takes the likeliest.
        progress: is told what is done and the share of it.

    Raises:
        ConfigurationError: the name, the names of the classes or the ignored values do not do.
        DataError: the folder is not there or empty, or there is nothing in it that pairs.
    """
    conf = project / "conf"
    check_name(name, conf, force=force)
    top = _top(images, masks)
    progress("files", 0)
    storage, paths, pairing = _paired(top, images, masks)
    official = None if pairing.splits else find_official(storage, paths, pairing.samples)
    root, pairing, official = _narrowed(Path(storage.root), pairing, official)
    storage = Storage(root)
    paths = list(storage.walk())
    shown = _with_split(pairing, official)
    mask_survey = survey_masks(storage, shown, paths, lambda share: progress("masks", share))
    image_survey = survey_images(
        storage, [sample.image for sample in shown.samples if sample.image], lambda share: progress("images", share)
    )
    if not image_survey.read:
        path, why = next(iter(image_survey.unreadable.items()))
        raise DataError(f"None of the images that were looked at can be read: {path} {why}.")
    interpretation = interpret(mask_survey, classes, ignore)
    if ask is not None and (classes is None or ignore is None):
        said = ask(interpretation)
        interpretation = interpret(
            mask_survey, said[0] if classes is None else classes, said[1] if ignore is None else ignore
        )
    draft = _draft(name, root, project, pairing, official, mask_survey, image_survey, interpretation)
    text = compose(draft)
    parameters = validated(text, name, conf)
    for reading in interpretation.readings[1:]:  # what is offered must be valid, too
        validated(compose(replace(draft, interpretation=replace(interpretation, readings=[reading]))), name, conf)
    file = conf / name / "parameters.yml"
    sheet = project / "data" / "08_reporting" / name / "onboarding.png"
    problems = write_contact_sheet(storage, shown.pairs, parameters, sheet)
    new_folder = not file.parent.exists()
    try:
        with whole(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except BaseException:
        if new_folder and file.parent.is_dir() and not any(file.parent.iterdir()):
            file.parent.rmdir()
        raise
    result = Onboarding(
        name, root, file, sheet, pairing, official, mask_survey, image_survey, interpretation, draft
    )
    result.found = _found(result)
    result.unsure = _unsure(result, problems)
    return result


# --- folders ---


def _top(images: Path, masks: Path | None) -> Path:
    """Check the folders and give the one that holds everything."""
    for option, folder in (("--images", images), ("--masks", masks)):
        if folder is not None and not folder.is_dir():
            what = "is a file, no folder" if folder.exists() else "is not there"
            raise DataError(f"{option} {folder} {what}: name the folder that holds the files.")
    if masks is None:
        return images.resolve()
    if images.resolve() == masks.resolve():
        raise DataError(
            f"--images and --masks are the same folder, {images}. Where one folder holds both, name it with --images "
            "alone."
        )
    return Path(os.path.commonpath([images.resolve(), masks.resolve()]))


def _paired(top: Path, images: Path, masks: Path | None) -> tuple[Storage, list[str], Pairing]:
    """Walk over the files and pair them."""
    storage = Storage(top)
    if masks is None:
        paths = list(storage.walk())
    else:  # not the whole of a common parent, which may be the whole disk
        parts = [folder.resolve() for folder in (images, masks)]
        inside = sorted({parent for parent in parts if not any(other in parent.parents for other in parts)})
        prefixes = [part.relative_to(top).as_posix() for part in inside]
        paths = sorted(
            path if prefix == "." else f"{prefix}/{path}"
            for part, prefix in zip(inside, prefixes, strict=True)
            for path in Storage(part).walk()
        )
    if not paths:
        raise DataError(f"The folder {images} is empty: name the folder that holds the images.")
    is_image, is_mask = _sides(top, images, masks)
    pictures = [path for path in paths if ending(path) in PICTURES and is_image(path)]
    if not pictures:
        raise DataError(
            f"There is no image in {images}. Files there: {some([path for path in paths if is_image(path)] or paths)}. "
            f"Images end in {', '.join(sorted(PICTURES))}."
        )
    pairing = find_pairing(paths, Looks(storage), is_image, is_mask)
    if pairing is None:
        raise DataError(_no_pairs(images, masks, paths, is_image, is_mask))
    return storage, paths, pairing


def _sides(top: Path, images: Path, masks: Path | None) -> tuple[Callable[[str], bool], Callable[[str], bool]]:
    """Say of a path whether it may be an image, and whether it may be a mask."""
    if masks is None:
        return (lambda _: True), (lambda _: True)
    first, second = (_prefix(folder, top) for folder in (images, masks))

    def is_mask(path: str) -> bool:
        return path.startswith(second) and not (first.startswith(second) and first != second and path.startswith(first))

    return (lambda path: path.startswith(first) and not is_mask(path)), is_mask


def _prefix(folder: Path, top: Path) -> str:
    relative = folder.resolve().relative_to(top).as_posix()
    return "" if relative == "." else f"{relative}/"


def _no_pairs(
    images: Path,
    masks: Path | None,
    paths: Sequence[str],
    is_image: Callable[[str], bool],
    is_mask: Callable[[str], bool],
) -> str:
    pictures = [path for path in paths if ending(path) in PICTURES and is_image(path)]
    if masks is None:
        folders = Counter(path.rpartition("/")[0] or "." for path in pictures)
        where = ", ".join(f"{count} in {folder}" for folder, count in folders.most_common(6))
        return (
            f"There are {len(pictures)} images in {images} ({where}), but no masks that pair with them. Names there: "
            f"{some(pictures, 8)}. To train, each image needs a mask of the same size: a picture whose pixel values "
            "say the class, or an annotation file, of the image's name (a.jpg and a.png in another folder, or "
            "a_mask.png beside it). If the masks lie in another folder, name it with --masks; if names differ, rename "
            "them."
        )
    others = [path for path in paths if may_be_data(path) and is_mask(path)]
    if not others:
        return f"There is no mask in {masks}: no picture and no annotation file. Name the folder that holds the masks."
    return (
        f"No image in {images} has a mask in {masks}. Names of the images: {some(pictures, 8)}. Names of the masks: "
        f"{some(others, 8)}. A part of the name (or the name of a folder) must be the same: rename one side."
    )


def _narrowed(root: Path, pairing: Pairing, official: Official | None) -> tuple[Path, Pairing, Official | None]:
    """Make the deepest folder that holds all that is used the root, so that globs are short."""
    globs = [glob for glob in (pairing.images, pairing.masks, pairing.roi, *pairing.others) if glob is not None]
    lists = list(official.lists.values()) if official is not None else []
    if official is not None and official.table is not None:
        lists.append(official.table.file)
    used = [sample.path for sample in pairing.samples] + [mask for s in pairing.samples for mask in s.masks]
    shared = os.path.commonpath([*(os.path.dirname(path) for path in used + lists), *map(_literal_folder, globs)])
    if not shared:
        return root, pairing, official
    depth = shared.count("/") + 1

    def cut(path: str) -> str:
        return "/".join(path.split("/")[depth:])

    root = root / shared
    short = replace(
        pairing,
        images=cut(pairing.images),
        masks=None if pairing.masks is None else cut(pairing.masks),
        roi=None if pairing.roi is None else cut(pairing.roi),
        others=[cut(glob) for glob in pairing.others],
        unused=[cut(path) for path in pairing.unused if path.startswith(f"{shared}/")],
    )
    looks = Looks(Storage(root))
    short.samples = find_samples(list(Storage(root).walk()), short.layout, str(root), looks.pages)
    if official is not None:
        table = official.table and official.table.model_copy(update={"file": cut(official.table.file)})
        samples = [
            replace(s, image=cut(s.image), masks=[cut(m) for m in s.masks], roi=cut(s.roi) if s.roi else "")
            for s in official.samples
        ]
        lists_cut = {split: cut(path) for split, path in official.lists.items()}
        official = replace(official, lists=lists_cut, table=table, samples=samples)
    return root, short, official


def _literal_folder(glob: str) -> str:
    """Give the folders of a glob before the first that is not literal."""
    folders = []
    for part in glob.split("/")[:-1]:
        if re.search(r"[{*?]", part):
            break
        folders.append(part)
    return "/".join(folders)


def _with_split(pairing: Pairing, official: Official | None) -> Pairing:
    """Give the samples that will be used."""
    return pairing if official is None else replace(pairing, samples=official.samples)


# --- what is written ---


def _draft(
    name: str,
    root: Path,
    project: Path,
    pairing: Pairing,
    official: Official | None,
    masks: MaskSurvey,
    images: ImageSurvey,
    interpretation: Interpretation,
) -> Draft:
    source: dict[str, Any] = {"folder": _folder(root, project), "images": pairing.images, "masks": pairing.masks}
    if pairing.roi is not None:
        source["roi"] = pairing.roi
    if pairing.splits:
        source["splits"] = dict(pairing.splits)
    if official is not None and official.lists:
        source["lists"] = dict(official.lists)
        if official.unlisted != "leave_out":
            source["unlisted"] = official.unlisted
    if official is not None and official.table is not None:
        source["table"] = official.table.model_dump(exclude_none=True, exclude_defaults=True)
    shown = _with_split(pairing, official)
    group, certain = _group(pairing, official)
    if group and certain:
        source["group"] = group
    shares = [share for _, share in interpretation.values if share > 0]
    training = suggested_training(len(shown.pairs), images.median_side, min(shares, default=1.0))
    options, remark = _image_options(images)
    count = len(shown.pairs)
    quarantine = bool(shown.without_mask or shown.without_image)
    remarks = []
    if pairing.others:
        remarks.append(f"CHECK: other masks of the same images, not used: {listed(pairing.others)}")
    if group and certain:
        remarks.append("CHECK: images of one folder stay in one split, as those of a patient or a video should.")
    return Draft(
        name,
        f"{name}: {count} images with masks.",
        source,
        interpretation,
        remarks,
        options,
        remark,
        training,
        "" if certain else group,
        quarantine,
    )


def _folder(root: Path, project: Path) -> str:
    """Write the folder relative to the project where it lies inside, so that both can be moved together."""
    try:
        return root.relative_to(project.resolve()).as_posix()
    except ValueError:
        return str(root)


def _group(pairing: Pairing, official: Official | None) -> tuple[str, bool]:
    """Guess a pattern that tells groups, and whether it is rather certain."""
    if pairing.splits or official is not None:
        return "", False
    ids = [sample.id for sample in pairing.pairs]
    for pattern in ("^([^/]+)/", r"^(.*?)[-_ ]?(?:[A-Za-z]{0,2}\d+)$"):
        found = [match[1] if (match := re.search(pattern, name)) else "" for name in ids]
        groups = Counter(found)
        if all(found) and 1 < len(groups) <= len(ids) / 2 and min(groups.values()) > 1:
            return pattern, pattern == "^([^/]+)/" and len(groups) >= FOLDERS_OF_GROUPS
    return "", False


def _image_options(images: ImageSurvey) -> tuple[dict[str, Any], str]:
    """Choose what stands under `images`, and say what they are."""
    options: dict[str, Any] = {}
    remarks = [f"The images: {_images_text(images)}."]
    if images.low is not None and images.high is not None:
        proposal = propose_range(images.low[1], images.high[1])
        options["range"] = proposal.declaration["range"]
        remarks.append(
            f"CHECK: their numbers are no 8 or 16 bit values. 99.8% of them lie within {images.low[1]:.6g} and "
            f"{images.high[1]:.6g}, all within {images.low[0]:.6g} and {images.high[0]:.6g} (of {images.read} images); "
            "what lies outside the range is clipped to black and white."
        )
    channels = sorted(images.channels)
    if channels[-1] > 4:
        remarks.append(
            f"All {channels[-1]} bands are used; to choose some, by their numbers from 0: images: {{bands: [0, 1, 2]}}."
        )
    if len(set(channels) - {1, 3}) and len(channels) > 1:
        remarks.append("CHECK: the numbers of channels differ, which is an error unless bands chooses those that all have.")
    return options, " ".join(remarks)


def _images_text(images: ImageSurvey) -> str:
    kinds = {1: "grey", 3: "colour"}
    channels = ", ".join(kinds.get(number, f"{number} bands") for number in sorted(images.channels))
    heights, widths = zip(*images.sizes, strict=True)
    size = f"{widths[0]} x {heights[0]}"
    if len(images.sizes) > 1:
        size = f"{min(widths)} x {min(heights)} to {max(widths)} x {max(heights)}"
    formats = ", ".join(name for name, _ in images.formats.most_common())
    text = f"{images.total} {formats}, {channels}, {', '.join(sorted(images.depths))}, {size} pixels"
    return text + (", with transparency, which is not used" if images.alpha else "")


# --- what is told ---


def _found(result: Onboarding) -> list[tuple[str, str]]:
    pairing, official = result.pairing, result.official
    lines = [
        ("Folder", str(result.root)),
        ("Images", f"{pairing.images}   {_images_text(result.images)}"),
        ("Masks", f"{pairing.masks}   {len(pairing.pairs)} pairs; {result.interpretation.summary}"),
    ]
    if pairing.roi is not None:
        lines.append(("Region", f"{pairing.roi}   pixels outside are ignored"))
    used = _with_split(pairing, official)
    counts = Counter(sample.split for sample in used.pairs if sample.split is not None)
    if counts:
        where = "folders" if pairing.splits else "lists" if official is not None and official.lists else "a table"
        split = ", ".join(f"{counts[name]} {name}" for name in ("train", "validation", "test") if counts[name])
        lines.append(("Split", f"official, by {where}: {split}"))
    else:
        lines.append(("Split", "none is official: it will be drawn by chance"))
    first = result.interpretation.readings[0]
    for number, name in enumerate(first.classes):
        lines.append(("Classes" if number == 0 else "", f"{number} {name}   {first.found.get(name, '')}".rstrip()))
    if result.interpretation.void:
        lines.append(("Ignored", ", ".join(result.interpretation.void)))
    return lines


def _unsure(result: Onboarding, problems: Sequence[str]) -> list[str]:
    pairing, used = result.pairing, _with_split(result.pairing, result.official)
    unsure = list(result.interpretation.checks)
    others = result.interpretation.readings[1:]
    if others:
        unsure.append(f"the YAML offers {len(others)} other ways to read the masks: {'; '.join(r.why for r in others)}")
    if pairing.others:
        unsure.append(f"other masks of the same images are not used: {listed(pairing.others)}")
    unsure += [f"not used: {dropped}" for dropped in pairing.dropped]
    if used.without_mask:
        unsure.append(f"{len(used.without_mask)} images have no mask: {listed(used.without_mask)}")
    if used.without_image:
        unsure.append(f"{len(used.without_image)} masks have no image: {listed(used.without_image)}")
    if result.official is not None and result.official.left_out:
        unsure.append(f"{result.official.left_out} images with masks are on no list of the split, and not used")
    unused = [path for path in pairing.unused if not any(path in dropped for dropped in pairing.dropped)]
    if unused:
        unsure.append(f"{len(unused)} pictures are not used: {some(unused)}")
    for survey in (result.masks, result.images):
        for path, why in list(survey.unreadable.items())[:5]:
            unsure.append(f"{path} {why}")
    if not result.masks.complete and result.masks.kind not in {"coco"}:
        unsure.append(f"{result.masks.read} of {result.masks.total} masks were read; the check reads all of them")
    if result.draft.images.get("range"):
        low, high = result.draft.images["range"]
        unsure.append(f"images.range [{low}, {high}] is taken from the images that were read: is it that of the device?")
    if result.draft.group_hint:
        unsure.append(f"names look like groups (a patient, a video?): source.group {result.draft.group_hint!r} keeps them together")
    return unsure + [f"with these parameters, {problem}" for problem in problems[:5]]
