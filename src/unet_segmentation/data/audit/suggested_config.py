"""Proposals: from what is in the files to the lines of `parameters.yml` that would declare it.

A guess that could be wrong says so, and comes with the alternative. A proposal declares everything that is in the
files.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import yaml

from unet_segmentation.data.io.annotation_format import ANNOTATION_FORMATS
from unet_segmentation.parameters.data import MaskParameters
from unet_segmentation.utils.ignore_index import IGNORE_INDEX

LISTED_VALUES = 16  # values or colors beyond the classes that are still written out
MAX_EXTRA = 3  # values beyond the declared ones that are taken for a rest of no class
STRAY = 0.001  # share of the pixels; a value below it is hardly a class, if there are enough others
ENDS = 0.9  # share of the pixels near the two ends of the values, where a mask of two classes has soft borders
ORDER = "the order is a guess, check it"
BLACK = (0, 0, 0)

Declaration = dict[str, object]  # what is declared under `masks` or `images`


@dataclass(frozen=True)
class Proposal:
    """Lines for a problem's `parameters.yml`."""

    declaration: Declaration
    remark: str  # what the proposal rests on, or what else is possible
    key: str = "masks"  # or `images`

    @property
    def text(self) -> str:
        """Declaration as one line of YAML."""
        text = yaml.safe_dump(
            {self.key: self.declaration}, default_flow_style=True, width=10**6, sort_keys=False, allow_unicode=True
        )
        return text.strip()[1:-1]


def propose_values(pixels: Mapping[str, int], classes: Sequence[str], masks: MaskParameters) -> list[Proposal]:
    """Propose how masks could be declared, from the values in them.

    Args:
        pixels: by value, over all masks; `"128"`, or `"64,0,128"` for a color.
        classes: names, in the order of their ids.
        masks: what is declared now.

    Returns:
        The likeliest first; nothing where nothing can be guessed, or everything is declared already.
    """
    colors = {name: count for name, count in pixels.items() if "," in name}
    try:
        values = {int(value): count for value, count in pixels.items() if value not in colors}
    except ValueError:  # fractions, or names: no pixel values that an encoding could map
        return []
    return _propose_colors(colors, classes, masks) if colors else _propose_grays(values, classes, masks)


def propose_labels(undeclared: Iterable[str], classes: Sequence[str], masks: MaskParameters) -> list[Proposal]:
    """Propose what undeclared labels of annotation files mean: the class of the most similar name, or nothing."""
    plain = {_plain(name): name for name in classes}
    labels, ignored = dict(masks.labels), list(masks.ignore_labels)
    for label in undeclared:
        close = difflib.get_close_matches(_plain(label), plain, n=1, cutoff=0.8)
        if close:
            labels[label] = plain[close[0]]
        elif label not in ignored:
            ignored.append(label)
    declaration = (
        _explicit(masks) | ({"labels": labels} if labels else {}) | ({"ignore_labels": ignored} if ignored else {})
    )
    remark = "what resembles no class is ignored here; name its class under labels, or add it to classes"
    if ignored == masks.ignore_labels:
        remark = "by the similarity of names, check it"
    return [Proposal(declaration, remark)]


def propose_joining(classes: Sequence[str], masks: MaskParameters) -> list[Proposal]:
    """Propose the two meanings that several masks of one image can have."""
    which: Declaration = {} if len(classes) == 2 else {"instance_class": masks.instance_class or classes[-1]}
    return [
        Proposal(_explicit(masks) | {"merge": True}, "if they are laid over each other, the later above"),
        Proposal({"encoding": "instances", **which}, "if each file shows one instance of the same class"),
    ]


def propose_range(low: float, high: float) -> Proposal:
    """Propose `images.range` from the least and the greatest value of all images."""
    for least, greatest in ((0.0, 1.0), (-1.0, 1.0)):
        if least <= low < high <= greatest and high - low > (greatest - least) / 4:
            return Proposal({"range": [least, greatest]}, "all values lie within", "images")
    span = high - low if high > low else 1.0
    step = 10.0 ** (math.floor(math.log10(span)) - 1)
    digits = max(0, -math.floor(math.log10(step)))
    least = 0.0 if 0 <= low < span / 2 else round(math.floor(low / step) * step, digits)
    greatest = round(math.ceil(max(high, low + span) / step) * step, digits)
    remark = "the range of all values, rounded; a few outliers may make a narrower range the better one"
    return Proposal({"range": [least, greatest]}, remark, "images")


def ignore_declaration(values: Iterable[int]) -> Declaration:
    """Return the declaration of the values of no class."""
    ignored = sorted(set(values))
    return {"ignore": ignored} if ignored else {}


def color_name(color: Sequence[int]) -> str:
    """Return the nearest of the common names of colors (RGB, 0 to 255)."""
    return min(_COLORS, key=lambda name: sum((a - b) ** 2 for a, b in zip(_COLORS[name], color, strict=True)))


_COLORS = {
    **{"black": BLACK, "white": (255, 255, 255), "gray": (128, 128, 128), "light gray": (192, 192, 192)},
    **{"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0), "cyan": (0, 255, 255)},
    **{"magenta": (255, 0, 255), "dark red": (128, 0, 0), "dark green": (0, 128, 0), "dark blue": (0, 0, 128)},
    **{"olive": (128, 128, 0), "teal": (0, 128, 128), "purple": (128, 0, 128), "orange": (255, 128, 0)},
    **{"brown": (128, 64, 0), "pink": (255, 128, 192), "light blue": (128, 192, 255), "beige": (224, 224, 192)},
}


# --- gray values and indices ---


def _propose_grays(  # noqa: PLR0911 - a list of cases, the most certain first
    pixels: Mapping[int, int], classes: Sequence[str], masks: MaskParameters
) -> list[Proposal]:
    indexed = masks.encoding in ("index", "palette")
    declared = (
        dict(masks.values) or {number + masks.offset: name for number, name in enumerate(classes)} if indexed else {}
    )
    ignored = {*masks.ignore, *(value for value in pixels if value < 0 and value not in declared)}
    values = sorted(set(pixels) - ignored)
    plain = [value for value in values if value != IGNORE_INDEX]
    extra = [value for value in plain if value not in declared]
    free = [name for name in classes if name not in {declared.get(value) for value in plain}]
    # 255 may be the class that seems absent.
    hidden = IGNORE_INDEX in values and IGNORE_INDEX not in declared and bool(plain and free)
    if masks.encoding == "instances" or masks.encoding in ANNOTATION_FORMATS or (not indexed and len(values) < 2):
        return []  # no table of values would help
    if not values or (indexed and not (extra or hidden or ignored > set(masks.ignore))):
        return []  # everything is declared
    if len(classes) == 2 and len(values) > MAX_EXTRA + 2:
        proposals = _propose_threshold_or_instances(pixels, values, classes, ignored)
        if proposals:
            return proposals
    base: Declaration = {"encoding": "palette" if masks.encoding == "palette" else "index"}
    two_of_two = len(classes) == 2 and len(values) == 2 and IGNORE_INDEX in values
    if indexed and not two_of_two and set(declared) - {IGNORE_INDEX} <= set(plain) and len(extra) <= MAX_EXTRA:
        remark = "or add the missing classes" if len(extra) > 1 else "pixels of these values would be ignored"
        proposals = [Proposal(_explicit(masks) | {"ignore": [*sorted(ignored), *extra]}, remark)]
        if plain == list(range(len(classes) + 1)) and not masks.values and not masks.offset:
            shifted = base | {"offset": 1, "ignore": [*sorted(ignored), 0]}
            proposals.append(Proposal(shifted, "if 0 is what was not labeled"))
        return proposals
    if indexed and not two_of_two and not extra and hidden:
        table = {value: declared[value] for value in plain} | {IGNORE_INDEX: free[0]}
        remark = f"if 255 is {free[0]}; if it is what was not labeled, remove {free[0]} from classes"
        return [Proposal(base | {"values": table} | ignore_declaration(ignored), remark)]
    few = [value for value in extra if pixels[value] < STRAY * sum(pixels.values())]
    if few and len(values) - len(few) >= len(classes):  # single pixels, and enough values without them
        common = [value for value in values if value not in few]
        proposals = _propose_in_order(common, classes, base, ignored | set(few))
        return [Proposal(entry.declaration, f"rare values are ignored; {entry.remark}") for entry in proposals]
    return _propose_in_order(values, classes, base, ignored)


def _propose_in_order(  # noqa: PLR0911 - a list of cases, the most certain first
    values: Sequence[int], classes: Sequence[str], base: Declaration, ignored: set[int]
) -> list[Proposal]:
    """Propose values for classes in their order."""
    plain = [value for value in values if value != IGNORE_INDEX]

    def named(order: Sequence[int], remark: str, *more_ignored: int) -> Proposal:
        table = {"values": dict(sorted(zip(order, classes, strict=False)))}
        return Proposal(base | table | ignore_declaration(ignored.union(more_ignored)), remark)

    if len(classes) == 2 and len(values) == 2 and IGNORE_INDEX in values:
        remark = f"or {{encoding: threshold}}, which takes every value above 127 for {classes[1]}; {ORDER}"
        return [named(values, remark), named(values[::-1], "the other way round")]
    if plain and plain == list(range(plain[0], plain[0] + len(classes))):
        shift = {"offset": plain[0]} if plain[0] else {}
        pairs = ", ".join(f"{value} {name}" for value, name in zip(plain[:3], classes, strict=False))
        remark = f"ids that begin with {plain[0]}: {pairs}" + (", ..." if len(plain) > 3 else "")
        return [Proposal(base | shift | ignore_declaration(ignored), remark)]
    if len(values) == len(classes):
        return [named(values, ORDER)]
    if len(plain) == len(classes):
        return [named(plain, f"255 is taken for what was not labeled; {ORDER}", IGNORE_INDEX)]
    if len(values) == len(classes) + 1:
        remark = f"one value more than classes, taken for an unlabeled rest; {ORDER}"
        other = f"if {values[0]} is what was not labeled"
        return [named(values[:-1], remark, values[-1]), named(values[1:], other, values[0])]
    if len(values) < len(classes):
        return [named(values, f"no value remains for {', '.join(classes[len(values) :])}; {ORDER}")]
    if len(values) > len(classes) + LISTED_VALUES:
        return []
    remark = "values beyond the classes are ignored here; several values may name one class"
    return [named(values[: len(classes)], remark, *values[len(classes) :])]


def _propose_threshold_or_instances(
    pixels: Mapping[int, int], values: Sequence[int], classes: Sequence[str], ignored: set[int]
) -> list[Proposal]:
    """Propose declarations of many values for two classes: numbers of instances, or two values with soft borders."""
    low, high = values[0], values[-1]
    proposals = []
    if low == 0 and high != IGNORE_INDEX and len(values) > 0.8 * (high + 1):
        instances: Declaration = {"encoding": "instances"} | ignore_declaration(ignored)
        proposals.append(Proposal(instances, f"values are counted through: each a {classes[1]}?"))
    quarter = (high - low) / 4
    near = sum(pixels[value] for value in values if not low + quarter < value < high - quarter)
    if near > ENDS * sum(pixels[value] for value in values):
        middle = (low + high) // 2
        remark = f"values near {low} and {high} only: masks saved as JPEG, or with soft edges"
        remark += f"; above {middle} is {classes[1]}, so if that is {classes[0]}, swap the two in classes"
        threshold = {"encoding": "threshold", "threshold": middle} | ignore_declaration(ignored)
        proposals.append(Proposal(threshold, remark))
    return proposals


# --- colors ---


def _propose_colors(pixels: Mapping[str, int], classes: Sequence[str], masks: MaskParameters) -> list[Proposal]:
    by_share = sorted(pixels, key=lambda name: -pixels[name])
    colors = [tuple(int(part) for part in name.split(",")) for name in by_share]
    if all(red == green == blue for red, green, blue in colors) and masks.encoding != "colors":
        grays = {int(name.split(",")[0]): count for name, count in pixels.items()}
        return _propose_grays(grays, classes, masks)
    if masks.colors:
        declared = {color for _, color in masks.named_colors} | set(masks.ignore_colors)
        extra = [color for color in colors if color not in declared]
        if not 0 < len(extra) <= LISTED_VALUES:
            return []
        table = masks.model_dump(mode="json")["colors"]
        free = [name for name in classes if name not in table]
        table |= {name: list(color) for name, color in zip(free, extra, strict=False)}
        remark = f"{ORDER}: {', '.join(free)}" if free else "pixels of these colors would be ignored"
        return [Proposal(_color_declaration(table, [*masks.ignore_colors, *extra[len(free) :]]), remark)]
    if len(colors) > LISTED_VALUES + len(classes):
        return []
    ordered = sorted(colors, key=lambda color: color != BLACK)  # background is usually black; the rest by share
    count = len(classes)
    table = dict(zip(classes, ordered, strict=False))
    pairs = ", ".join(f"{name} {color_name(color)}" for name, color in table.items())
    missing = f"; no value remains for {', '.join(classes[len(ordered) :])}" if len(ordered) < count else ""
    proposals = [Proposal(_color_declaration(table, ordered[count:]), f"{pairs}{missing}; {ORDER}")]
    if len(ordered) == count + 1 and ordered[0] == BLACK:
        table = dict(zip(classes, ordered[1:], strict=True))
        proposals.append(Proposal(_color_declaration(table, [BLACK]), "if black is what was not labeled"))
    return proposals


def _color_declaration(table: Mapping[str, Sequence[int]], ignored: Sequence[Sequence[int]]) -> Declaration:
    declaration: Declaration = {"encoding": "colors", "colors": {name: list(table[name]) for name in table}}
    return declaration | ({"ignore_colors": list(map(list, ignored))} if ignored else {})


def _explicit(masks: MaskParameters) -> Declaration:
    """Return what is declared and is not the default."""
    values = {"values": dict(masks.values)} if masks.values else {}  # JSON would make the keys texts
    return {"encoding": masks.encoding} | masks.model_dump(mode="json", exclude_defaults=True) | values


def _plain(name: str) -> str:
    return name.casefold().replace("_", " ").replace("-", " ").strip()
