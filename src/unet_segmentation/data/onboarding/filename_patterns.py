"""Families of files: those whose paths follow one pattern, with slots where they differ.

``images/p1/007.png`` and its siblings are the families ``images/p1/□.png``, ``images/□/□.png``, ``images/p1/00□.png``,
and more. Which of them is right shows when families of images and of masks are paired.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from unet_segmentation.data.onboarding.file_types import PICTURES, ending
from unet_segmentation.data.onboarding.name_keywords import SPLIT_WORD, is_role, split_name, split_words

SLOT = "\0"  # in a pattern: any text, what files differ in
STAR = "\1"  # in a pattern: any text or none, which says nothing
SPLIT = "\2"  # in a pattern: the text for a split
SOME = 2000  # files of one folder that are read: enough to know the pattern
MOST_FOLDERS = 200  # of the same parent
FEW_FOLDERS = 12  # siblings, up to which each may be something of its own
FEW_NAMES = 6  # that all folders have: image.png and mask.png in each
MOST_AFFIXES = 10
MOST_SLOTS = 3

Values = tuple[str, ...]
Folder = tuple[str, ...]


@dataclass
class FilenamePattern:
    """Files whose paths follow one pattern."""

    parts: tuple[str, ...]  # components, with `SLOT`, `STAR` and `SPLIT` in them; all else is literal
    splits: dict[str, str]  # the texts that `SPLIT` stands for, by the project's name for the split
    files: list[tuple[str, str, Values]]  # path, text for the split (empty if there is none), text in each slot

    @property
    def slots(self) -> int:
        """Number of texts in which files differ, without the split."""
        return "".join(self.parts).count(SLOT)

    @property
    def has_split(self) -> bool:
        """Return whether the paths tell a split."""
        return SPLIT in "".join(self.parts)

    @cached_property
    def paths(self) -> frozenset[str]:
        """Paths of the files."""
        return frozenset(path for path, _, _ in self.files)

    @property
    def text(self) -> str:
        """Literal text, for its words."""
        return re.sub(f"[{SLOT}{STAR}{SPLIT}]", "", "/".join(self.parts))

    def glob(self, names: Sequence[str]) -> str:
        """Write the pattern in the layout language; `names` are `{id}`, `{folder}`, `{class}` or `*` for each slot."""
        # The language has no way to escape: one sign of any kind stands for its own signs.
        text = re.sub(r"[*?{}]", "?", "/".join(self.parts))
        for name in names:
            text = text.replace(SLOT, name, 1)
        return re.sub(r"\*+", "*", text.replace(STAR, "*").replace(SPLIT, "{split}"))


def subsample(paths: Sequence[str]) -> list[str]:
    """Leave out files of large folders, and folders with very many siblings: patterns show in a part of them.

    The first in the order of names stay, so that images and masks that belong together both stay.
    """
    inside: Counter[tuple[str, str]] = Counter()
    siblings: dict[str, set[str]] = defaultdict(set)
    sampled = []
    for path in paths:
        folder = path.rpartition("/")[0]
        inside[folder, ending(path)] += 1
        if inside[folder, ending(path)] > SOME:
            continue
        parents = folder.split("/") if folder else []
        places = [("/".join(parents[:depth]), name) for depth, name in enumerate(parents)]
        if any(name not in siblings[above] and len(siblings[above]) >= MOST_FOLDERS for above, name in places):
            continue
        for above, name in places:
            siblings[above].add(name)
        sampled.append(path)
    return sampled


def find_families(paths: Sequence[str]) -> list[FilenamePattern]:
    """Find the patterns that the paths of files may follow, each with its files. A path is in several."""
    names: dict[Folder, list[str]] = defaultdict(list)
    for path in paths:
        *folders, name = path.split("/")
        names[tuple(folders)].append(name)
    patterns: dict[tuple[Folder, str], FilenamePattern] = {}
    for pattern, inside in _folder_patterns(list(names)).items():
        members = [(folder, name) for folder in inside for name in names[folder]]
        for family in _families(pattern, members):
            patterns.setdefault((family.parts, str(sorted(family.splits.items()))), family)
    return list(patterns.values())


def _families(pattern: Folder, members: Sequence[tuple[Folder, str]]) -> Iterator[FilenamePattern]:
    """Yield the families of files whose folders follow a pattern."""
    groups: dict[str, list[tuple[Folder, str]]] = defaultdict(list)
    for folder, name in members:
        groups[ending(name)].append((folder, name))
    pictures = [key for key in groups if key in PICTURES]
    if len(pictures) > 1:
        groups[""] = [member for key in pictures for member in groups[key]]
    for group in groups.values():
        extensions = {name.rpartition(".")[2] for _, name in group}  # as they are written: .JPG and .jpg
        tail = f".{STAR}" if len(extensions) > 1 else f".{next(iter(extensions))}"
        stems = [name.rpartition(".")[0] for _, name in group]
        paths = ["/".join((*folder, name)) for folder, name in group]
        for name in _name_patterns(stems, in_folders=len({folder for folder, _ in group}) > 1):
            parts = (*pattern, name + tail)
            if "".join(parts).count(SLOT) <= MOST_SLOTS:
                family = _filled(parts, paths)
                if family is not None:
                    yield family


def _filled(parts: tuple[str, ...], paths: Sequence[str]) -> FilenamePattern | None:
    """Return a pattern with the files that follow it; None without a file, or where a split cannot be told."""
    text = re.escape("/".join(parts)).replace(STAR, "[^/]*").replace(SLOT, "([^/]+)")
    text = text.replace(SPLIT, f"(?P<split>{SPLIT_WORD}|T[rs])", 1).replace(SPLIT, "(?P=split)")
    expression = re.compile(text, re.DOTALL)
    at = expression.groupindex.get("split")
    files: list[tuple[str, str, Values]] = []
    splits: dict[str, str] = {}
    for path in paths:
        if (match := expression.fullmatch(path)) is None:
            continue
        split = match["split"] if at else ""
        files.append((path, split, tuple(value for n, value in enumerate(match.groups(), start=1) if n != at)))
        if at and splits.setdefault(split_name(split), split) != split:
            return None  # `val` and `valid`: two texts for one split
    if not files or (at and len(splits) < 2):
        return None
    return FilenamePattern(parts, splits, files)


# --- folders ---


def _folder_patterns(folders: Sequence[Folder]) -> dict[Folder, list[Folder]]:
    """Find patterns that folders may follow, each with its folders."""
    cousins: dict[int, set[str]] = defaultdict(set)
    siblings: dict[Folder, set[str]] = defaultdict(set)
    for folder in folders:
        for depth, name in enumerate(folder):
            cousins[depth].add(name)
            siblings[folder[:depth]].add(name)
    affixes = {
        depth: [("", ""), *_affixes(sorted(names))] if len(names) > 1 else [] for depth, names in cousins.items()
    }
    folders_of: dict[Folder, list[Folder]] = defaultdict(list)
    for folder in folders:
        options = [_options(name, siblings[folder[:depth]], affixes[depth]) for depth, name in enumerate(folder)]
        for pattern in product(*options):
            if "".join(pattern).count(SLOT) <= MOST_SLOTS:
                folders_of[pattern].append(folder)
    return {
        pattern: members
        for pattern, members in folders_of.items()
        if len(members) > 1 or not {SLOT, SPLIT} & set("".join(pattern))
    }


def _options(name: str, siblings: set[str], affixes: Sequence[tuple[str, str]]) -> list[str]:
    """List what a folder's name may be in a pattern."""
    splits = [f"{before}{SPLIT}{after}" for before, _, after in split_words(name)]
    options = [name, *splits] if len(siblings) <= FEW_FOLDERS or splits or is_role(name) else []
    slots = [f"{before}{SLOT}{after}" for before, after in affixes if _has_between(name, before, after)]
    return options + slots


# --- names ---


def _name_patterns(stems: Sequence[str], *, in_folders: bool) -> list[str]:
    """List the patterns that the names of files, without their endings, may follow."""
    patterns = [SLOT, *(f"{before}{SLOT}{after}" for before, after in _affixes(stems))]
    for pattern in list(patterns):
        numbered = re.fullmatch(rf"(.*{SLOT}.*?[^\d\W_])[-_ .]?\(?\d+\)?", pattern, re.DOTALL)
        if numbered:  # a_mask, a_mask_1, a_mask_2
            patterns.append(numbered[1] + STAR)
    patterns += [f"{SLOT}{sign}{SLOT}" for sign in "_-" if sum(sign in stem for stem in stems) > len(stems) / 2]
    names = Counter(stems)
    if in_folders and len(names) <= FEW_NAMES:
        patterns += [name for name, count in names.most_common(MOST_AFFIXES) if count > 1]
    elif len(names) <= 4:  # stacks: a file or two, each of which holds many images
        patterns += list(names)
    for pattern in list(patterns):
        patterns += [f"{before}{SPLIT}{after}" for before, _, after in split_words(pattern)]
    return list(dict.fromkeys(patterns))


def _affixes(names: Sequence[str]) -> list[tuple[str, str]]:
    """Find what many names begin or end with, cut between letters, digits and signs. All hold a letter."""
    least = max(1, len(names) // 50)
    all_begins: Counter[str] = Counter()
    all_ends: Counter[str] = Counter()
    for name in names:
        cuts = [cut.end() for cut in re.finditer(r"(?<=[^\W_])(?=[\W_])|(?=[-_ .])|(?<=\d)(?=[A-Za-z])", name)]
        all_ends.update(name[cut:] for cut in cuts[-4:] if cut and re.search("[A-Za-z]", name[cut:]))
        cuts = [cut.end() for cut in re.finditer(r"(?<=[\W_])(?=[^\W_])|(?<=[-_ .])|(?<=[A-Za-z])(?=\d)", name)]
        all_begins.update(name[:cut] for cut in cuts[:4] if re.search("[A-Za-z]", name[:cut]))
    begins, ends = (
        [text for text, count in counts.most_common(MOST_AFFIXES) if count >= least]
        for counts in (all_begins, all_ends)
    )
    both = Counter(pair for name in names[:SOME] for pair in product(begins, ends) if _has_between(name, *pair))
    often = [pair for pair, count in both.most_common(MOST_AFFIXES) if count >= max(2, least)]
    return [*(("", end) for end in ends), *((begin, "") for begin in begins), *often]


def _has_between(name: str, begin: str, end: str) -> bool:
    """Return whether a name begins and ends so, with something in between."""
    return name.startswith(begin) and name.endswith(end) and len(name) > len(begin + end)
