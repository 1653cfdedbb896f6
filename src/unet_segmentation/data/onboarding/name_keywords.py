"""Keywords in the names of files and folders: of images, of masks, and of splits."""

from __future__ import annotations

import re
from collections.abc import Iterable

from unet_segmentation.data.layout.predefined_splits import SYNONYMS

IMAGE_WORDS = ("image", "img", "photo", "input", "frame", "raw", "original", "leftimg8bit", "cxr", "volume", "sat")
MASK_WORDS = (
    *("mask", "label", "annotation", "annot", "anno", "groundtruth", "ground_truth", "ground truth", "truth", "manual"),
    *("segmentation", "segmented", "trimap", "target", "gt", "seg", "lab", "1stho", "map", "regions"),
)
ROI_WORDS = ("fov", "roi", "field_of_view", "fieldofview", "aperture")
# Parts of other words; they must stand alone.
SHORT = {"img", "gt", "seg", "lab", "map", "sat", "raw", "cxr", *ROI_WORDS}
MORE = ("trainids", "1st", "manual1", "class", "regions")  # in names of the main masks, where there are several kinds
# Second opinions, pictures of masks.
LESS = ("object", "instance", "colou?r", "edge", "boundar", "2nd", "pred", "overlay", "preview", "poly", "layers")
MASK_ENDINGS = re.compile(r"_(l|m|p)$")  # of the names that LandCover.ai, CamVid and others give to masks


def _any(words: Iterable[str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


SPLIT_WORD = f"(?i:{_any(SYNONYMS)})"
_ROLE = _any(IMAGE_WORDS + MASK_WORDS)


def image_words(text: str) -> set[str]:
    """Return the keywords of images in a path or glob."""
    return _words(text, IMAGE_WORDS)


def mask_words(text: str) -> set[str]:
    """Return the keywords of masks in a path or glob."""
    words = _words(text, MASK_WORDS)
    stem = re.sub(r"\.[^./]*$", "", text).lower()
    return words | {"_"} if MASK_ENDINGS.search(stem) else words


def preference(text: str) -> int:
    """Return whether masks of this name are probably the main ones (above 0), or others (below)."""
    lower = text.lower()
    return sum(word in lower for word in MORE) - sum(bool(re.search(word, lower)) for word in LESS)


def says_roi(text: str) -> bool:
    """Return whether a path or glob names a region of interest."""
    return bool(_words(text, ROI_WORDS))


def is_role(name: str) -> bool:
    """Return whether the name of a folder says what is in it rather than which of many it is."""
    return bool(image_words(name) or mask_words(name) or says_roi(name))


def split_words(name: str) -> list[tuple[str, str, str]]:
    """Find words for a split in a name: ``trainannot`` gives ``("", "train", "annot")``.

    Such a word stands alone (between signs, digits or a change of case) or next to a word for images or masks, so that
    ``values`` is not the ``val`` of ``ues``.

    Returns:
        Of each: what stands before it, the word as it is written, what stands after it.
    """
    words = []
    for match in re.finditer(f"{SPLIT_WORD}|(?<=[a-z])T[rs](?![a-z])", name):
        before, word, after = name[: match.start()], match.group(), name[match.end() :]
        begins = not before[-1:].isalpha() or (before[-1].islower() and word[0].isupper())
        ends = not after[:1].isalpha() or (word[-1].islower() and after[0].isupper())
        if (begins or re.search(f"({_ROLE})s?$", before.lower())) and (ends or re.match(_ROLE, after.lower())):
            words.append((before, word, after))
    return words


def split_name(word: str) -> str:
    """Return the project's name for a split."""
    return {"tr": "train", "ts": "test"}.get(word.lower()) or SYNONYMS[word.lower()]


def _words(text: str, words: tuple[str, ...]) -> set[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)  # SegmentationClass: two words
    spaced = f"{text} {spaced}".lower()
    return {
        word
        for word in words
        if re.search(rf"(?<![a-z]){word}s?(?![a-z])" if word in SHORT else re.escape(word), spaced)
    }
