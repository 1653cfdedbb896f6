"""Families of files: those whose paths follow one pattern, with slots where they differ.

``images/p1/007.png`` and its siblings are the families ``images/p1/□.png``, ``images/□/□.png``, ``images/p1/00□.png``,
and more. Which of them is right shows when families of images and of masks are paired.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

from unet_segmentation.data.onboarding.file_types import PICTURES, ending
from unet_segmentation.data.onboarding.name_keywords import is_role, split_name, split_words

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


@dataclass
class FilenamePattern:
    """Files whose paths follow one pattern.

    Attributes:
        parts: the pattern's components, with `SLOT`, `STAR` and `SPLIT` in them; all else is literal.
        splits: the texts that `SPLIT` stands for, by the project's name for the split.
        files: path, text for the split (empty where the pattern has none) and the text in each slot.
        slots: how many there are.
    """

    parts: tuple[str, ...]
    splits: dict[str, str]
    files: list[tuple[str, str, Values]] = field(default_factory=list)

    @property
    def slots(self) -> int:
        """Number of texts in which files differ, without the split."""
        return sum(part.count(SLOT) for part in self.parts)

    @property
    def name_slot(self) -> bool:
        """Return whether the names of the files differ, and not only their folders."""
        return SLOT in self.parts[-1]

    @property
    def has_split(self) -> bool:
        """Return whether the paths tell a split."""
        return any(SPLIT in part for part in self.parts)

    @cached_property
    def paths(self) -> frozenset[str]:
        """Paths of the files."""
        return frozenset(path for path, _, _ in self.files)

    @property
    def folder(self) -> tuple[str, ...]:
        """Pattern of the folders."""
        return self.parts[:-1]

    @property
    def text(self) -> str:
        """Literal text, for its words."""
        return re.sub(f"[{SLOT}{STAR}{SPLIT}]", "", "/".join(self.parts))

    def glob(self, names: Sequence[str]) -> str:
        """Write the pattern in the layout language.

        Args:
            names: what each slot stands for: ``{id}``, ``{folder}``, ``{class}`` or ``*``.
        """
        placeholders = iter(names)
        text = "".join(next(placeholders) if sign == SLOT else sign for sign in "/".join(map(_escaped, self.parts)))
        return re.sub(r"\*+", "*", text.replace(STAR, "*").replace(SPLIT, "{split}"))


def subsample(paths: Sequence[str]) -> list[str]:
    """Leave out files of large folders, and folders with very many siblings: patterns show in a part of them.

    The first in the order of names stay, so that images and masks that belong together both stay.
    """
    inside: Counter[str] = Counter()
    siblings: dict[str, set[str]] = defaultdict(set)
    sampled = []
    for path in paths:
        folder = path.rpartition("/")[0]
        parents = folder.split("/") if folder else []
        counts = (f"{folder}/", ending(path))
        inside["/".join(counts)] += 1
        if inside["/".join(counts)] > SOME:
            continue
        places = [("/".join(parents[:depth]), name) for depth, name in enumerate(parents)]
        if any(name not in siblings[above] and len(siblings[above]) >= MOST_FOLDERS for above, name in places):
            continue
        for above, name in places:
            siblings[above].add(name)
        sampled.append(path)
    return sampled


def find_families(paths: Sequence[str]) -> list[FilenamePattern]:
    """Find the patterns that the paths may follow, each with its files. A path is in several.

    Args:
        paths: of files that may be data, relative to the root.
    """
    names: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for path in paths:
        *folders, name = path.split("/")
        names[tuple(folders)].append(name)
    patterns: dict[tuple[tuple[str, ...], str], FilenamePattern] = {}
    for pattern, inside in _folder_patterns(list(names)).items():
        members = [(folder, name) for folder in inside for name in names[folder]]
        for family in _families(pattern, members):
            patterns.setdefault((family.parts, str(sorted(family.splits.items()))), family)
    return list(patterns.values())


def _families(pattern: tuple[str, ...], members: Sequence[tuple[tuple[str, ...], str]]) -> Iterator[FilenamePattern]:
    """Yield the families of files whose folders follow a pattern."""
    groups: dict[str, list[tuple[tuple[str, ...], str]]] = defaultdict(list)
    for folder, name in members:
        groups[ending(name)].append((folder, name))
    pictures = [key for key in groups if key in PICTURES]
    written: dict[str, set[str]] = {  # extensions as they are written: .JPG and .jpg
        key: {name.rpartition(".")[2] for _, name in group} for key, group in groups.items()
    }
    groups |= {"": [member for key in pictures for member in groups[key]]} if len(pictures) > 1 else {}
    for key, group in groups.items():
        tail = f".{STAR}" if not key or len(written[key]) > 1 else f".{next(iter(written[key]))}"
        stems = [name.rpartition(".")[0] for _, name in group]
        in_folders = len({folder for folder, _ in group}) > 1
        for name in _name_patterns(stems, in_folders):
            parts = (*pattern, name + tail)
            if sum(part.count(SLOT) for part in parts) <= MOST_SLOTS:
                family = _filled(parts, group)
                if family is not None:
                    yield family


def _filled(parts: tuple[str, ...], members: Iterable[tuple[tuple[str, ...], str]]) -> FilenamePattern | None:
    """Return a pattern with the files that follow it; None without a file, or where a split cannot be told."""
    expression = re.compile(_expression("/".join(parts)), re.DOTALL)
    files = []
    for folder, name in members:
        path = "/".join((*folder, name))
        match = expression.fullmatch(path)
        if match is not None:
            groups = match.groupdict()
            values = tuple(text for key, text in groups.items() if key != "split")
            files.append((path, groups.get("split") or "", values))
    if not files:
        return None
    splits: dict[str, str] = {}
    if any(SPLIT in part for part in parts):
        for _, text, _ in files:
            if splits.setdefault(split_name(text), text) != text:
                return None  # `val` and `valid`: two texts for one split
        if len(splits) < 2:
            return None
    return FilenamePattern(parts, splits, files)


def _expression(pattern: str) -> str:
    translated, slot, split = "", 0, False
    for sign in pattern:
        if sign == SLOT:
            translated, slot = f"{translated}(?P<slot{slot}>[^/]+)", slot + 1
        elif sign == STAR:
            translated += "[^/]*"
        elif sign == SPLIT:
            translated += "(?P=split)" if split else "(?P<split>[A-Za-z]+?)"
            split = True
        else:
            translated += re.escape(sign)
    if split:  # only words that are names of splits
        from unet_segmentation.data.layout.predefined_splits import SYNONYMS

        words = "|".join(sorted(SYNONYMS, key=len, reverse=True))
        translated = translated.replace("[A-Za-z]+?", f"(?i:{words})|T[rs]")
    return translated


# --- folders ---


def _folder_patterns(folders: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], list[tuple[str, ...]]]:
    """Find patterns that folders may follow, each with its folders."""
    cousins: dict[int, set[str]] = defaultdict(set)
    siblings: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for folder in folders:
        for depth, name in enumerate(folder):
            cousins[depth].add(name)
            siblings[folder[:depth]].add(name)
    affixes = {depth: _affixes(sorted(names), MOST_AFFIXES) for depth, names in cousins.items()}
    folders_of: dict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
    for folder in folders:
        options = [
            _options(name, siblings[folder[:depth]], cousins[depth], affixes[depth])
            for depth, name in enumerate(folder)
        ]
        for pattern in product(*options):
            if sum(part.count(SLOT) for part in pattern) <= MOST_SLOTS:
                folders_of[pattern].append(folder)
    return {pattern: members for pattern, members in folders_of.items() if len(members) > 1 or not _is_open(pattern)}


def _is_open(pattern: tuple[str, ...]) -> bool:
    return any(SLOT in part or SPLIT in part for part in pattern)


def _options(name: str, siblings: set[str], cousins: set[str], affixes: Sequence[tuple[str, str]]) -> list[str]:
    """List what a folder's name may be in a pattern."""
    options = []
    splits = [f"{before}{SPLIT}{after}" for before, _, after in split_words(name)]
    if len(siblings) <= FEW_FOLDERS or splits or is_role(name):
        options.append(name)
    options += splits
    if len(cousins) > 1:
        options += [
            f"{before}{SLOT}{after}"
            for before, after in [("", ""), *affixes]
            if name.startswith(before) and name.endswith(after) and len(name) > len(before + after)
        ]
    return options


# --- names ---


def _name_patterns(stems: Sequence[str], in_folders: bool) -> list[str]:
    """List the patterns that the names of files, without their endings, may follow."""
    patterns = [SLOT]
    for before, after in _affixes(stems, MOST_AFFIXES):
        patterns.append(f"{before}{SLOT}{after}")
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


def _affixes(names: Sequence[str], most: int) -> list[tuple[str, str]]:
    """Find what many names begin or end with, cut between letters, digits and signs. All hold a letter."""
    least = max(1, len(names) // 50)
    ends: Counter[str] = Counter()
    begins: Counter[str] = Counter()
    for name in names:
        cuts = [cut.end() for cut in re.finditer(r"(?<=[^\W_])(?=[\W_])|(?=[-_ .])|(?<=\d)(?=[A-Za-z])", name)]
        ends.update(name[cut:] for cut in cuts[-4:] if cut and re.search("[A-Za-z]", name[cut:]))
        cuts = [cut.end() for cut in re.finditer(r"(?<=[\W_])(?=[^\W_])|(?<=[-_ .])|(?<=[A-Za-z])(?=\d)", name)]
        begins.update(name[:cut] for cut in cuts[:4] if re.search("[A-Za-z]", name[:cut]))
    often = [[text for text, count in counts.most_common(most) if count >= least] for counts in (begins, ends)]
    pairs = [("", end) for end in often[1]] + [(begin, "") for begin in often[0]]
    both: Counter[tuple[str, str]] = Counter()
    for name in names[:SOME]:
        both.update(
            (begin, end)
            for begin in often[0]
            for end in often[1]
            if name.startswith(begin) and name.endswith(end) and len(name) > len(begin + end)
        )
    return pairs + [pair for pair, count in both.most_common(most) if count >= max(2, least)]


# --- text ---


def _escaped(text: str) -> str:
    """Write literal text in the layout language, which has no way to escape: one sign of any kind stands for it."""
    return re.sub(r"[*?{}]", "?", text)
