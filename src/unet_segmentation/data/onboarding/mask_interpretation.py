"""Readings: what masks may mean. The likeliest comes first; where it could be wrong, the others follow.

Pixels tell which values there are. They do not tell what these are called, nor which of them mean that nothing was
labelled. So a reading says what is to be checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unet_segmentation.data.audit.suggested_config import colour_name
from unet_segmentation.data.onboarding.image_mask_pairing import POLYGONS
from unet_segmentation.data.onboarding.mask_survey import BORDER, Colour, MaskSurvey
from unet_segmentation.errors import ConfigurationError

VOID = 255  # always ignored in index and palette masks, unless masks.values names it
MOST_CLASSES = 64  # different values, from which on they are hardly classes
MOST_COLOURS = 64
STRAY = 1e-4  # share of the pixels; colours below it are hardly classes
ONE_PIECE = 1.2  # connected parts of a value in a mask, on average, up to which it may be one instance
TWO = ("background", "object")


@dataclass(frozen=True)
class MaskInterpretation:
    """A way to read the masks.

    Attributes:
        classes: names, in the order of their ids.
        masks: what stands under `masks`.
        why: when this is right.
        found: of each class, what it is in the files and its share: `0 (53.1%)`.
    """

    classes: list[str]
    masks: dict[str, Any]
    why: str
    found: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Interpretation:
    """All that is known and unknown about the masks.

    Attributes:
        summary: what the masks are, for people.
        readings: the likeliest first.
        checks: what a person has to check.
        values: what may be named or ignored, with shares: `("128", 0.21)`. In the order in which names are given.
        void: what the first reading ignores.
    """

    summary: str
    readings: list[MaskInterpretation]
    checks: list[str] = field(default_factory=list)
    values: list[tuple[str, float]] = field(default_factory=list)
    void: list[str] = field(default_factory=list)


def propose_interpretations(
    survey: MaskSurvey, classes: Sequence[str] | None = None, ignore: Sequence[int] | None = None
) -> Interpretation:
    """Describe what masks may mean.

    Args:
        survey: what is in them.
        classes: their names, in the order of the values; None where nobody has said them.
        ignore: values that are void; None where nobody has said it.

    Raises:
        ConfigurationError: the names do not fit the values, or a value is ignored that cannot be.
    """
    if survey.kind in POLYGONS:
        found = _annotations(survey, classes)
    elif survey.labels:
        found = _masks_by_class(survey, classes)
    elif survey.colourful > survey.read / 2:
        found = _colours(survey, classes)
    else:
        found = _values(survey, classes, ignore)
    if ignore and not any(found.readings[0].masks.get("ignore", ())) and survey.colourful <= survey.read / 2:
        found = replace(found, readings=[_ignoring(reading, ignore) for reading in found.readings])
    return found


def _ignoring(reading: MaskInterpretation, ignore: Sequence[int]) -> MaskInterpretation:
    if reading.masks.get("encoding") in {"colors", *POLYGONS}:
        return reading
    return replace(reading, masks=reading.masks | {"ignore": sorted({*reading.masks.get("ignore", ()), *ignore})})


# --- values ---


def _values(survey: MaskSurvey, classes: Sequence[str] | None, ignore: Sequence[int] | None) -> Interpretation:
    """Read grey values, and indices of palettes."""
    values = sorted(survey.values)
    if not values:
        raise ConfigurationError("No mask could be read: nothing can be said about their values.")
    ignored = set(ignore or ())
    if missing := ignored - set(values) - {VOID}:
        note = f"--ignore-values: no mask that was looked at holds the value {min(missing)} (found: {_listed(survey)})."
        raise ConfigurationError(note)
    if instances := _instances(survey, classes, ignored):
        return instances
    if soft := _soft(survey, classes):
        return soft
    if _is_black_and_white(survey) and not ignored:
        return _binary(survey, classes)
    if len([value for value in values if value not in ignored]) > MOST_CLASSES and classes is None:
        raise ConfigurationError(
            f"The masks hold {len(values)} different values, from {values[0]} to {values[-1]}: too many for classes, "
            "and no instances that are counted through. If they were saved as JPEG or resized, export them anew as "
            "PNG without interpolation; if the right folder is another one, name it with --masks."
        )
    return _index(survey, values, classes, ignored)


def _index(survey: MaskSurvey, values: list[int], classes: Sequence[str] | None, ignored: set[int]) -> Interpretation:
    """Values are classes, in their order."""
    negative = {value for value in values if value < 0}
    void, checks = _void(survey, values, classes, ignored | negative)
    plain = [value for value in values if value not in void]
    if not plain:
        raise ConfigurationError("--ignore-values: nothing but ignored values would be left.")
    if classes is not None and (ids := _counted_through(plain, len(classes))):
        missing = ", ".join(str(number) for number in ids if number not in plain)
        checks.append(f"no mask that was read holds {missing}, which {len(classes)} classes need: are they rare?")
        void |= {value for value in plain if value not in ids}
        plain = ids
    if classes is not None and len(classes) != len(plain):
        _refuse_names(classes, plain, void, survey)
    names = list(classes) if classes is not None else _default_names(plain)
    if classes is None:
        checks.insert(0, "the names of the classes, in the order of the values")
    only = _single(plain, names)
    if plain == [0] and classes is None:  # empty masks: what was to be found is missing
        only = list(TWO)
    readings = [_reading(survey, plain, only or names, void, "the values are classes")]
    if len(plain) == 1:
        checks.append(f"the masks hold one value only, {plain[0]}: was everything else lost?")
    readings += _other_readings(survey, values, plain, names, void, checks)
    summary = f"values {_listed(survey)}"
    if survey.paletted:
        summary = f"palette images, indices {_listed(survey)}"
        checks.append(_palette_text(survey, plain))
        if survey.palettes_differ:
            checks.append("the palettes differ from mask to mask: one index has several colours; do the indices agree?")
    return Interpretation(summary, readings, checks, _shares(survey, values), sorted(map(str, void)))


def _counted_through(plain: Sequence[int], count: int) -> list[int]:
    """Return the ids 0, 1, 2, ... (or 1, 2, ...) of so many classes, where they explain values with gaps; else nothing.

    Names are given in the order of the values. Where one did not occur, the names after it must not move up.
    """
    first = min(plain[0], 1)
    ids = list(range(first, first + count))
    found = [value for value in plain if value in ids]
    beyond = [value for value in plain if value not in ids]
    if len(found) == count or count > 2 * len(found):
        return []
    has_inner_gap = len(found) < found[-1] - first + 1
    return ids if not beyond or (beyond == [VOID] and has_inner_gap) else []


def _void(
    survey: MaskSurvey, values: list[int], classes: Sequence[str] | None, ignored: set[int]
) -> tuple[set[int], list[str]]:
    """Choose the values that count nowhere: those that are said, negative ones, 255 beside ids, one more than names."""
    void, checks = set(ignored), []
    if negative := sorted(value for value in values if value < 0):
        checks.append(f"{negative[0]} is taken for what was not labelled, and ignored")
    plain = [value for value in values if value not in void]
    on_border = survey.borders.get(VOID, 0) > BORDER
    if classes is not None and len(plain) == len(classes) + 1:
        extra = VOID if VOID in plain else plain[-1]
        void.add(extra)
        checks.append(f"{extra} is one value more than there are names, so it is ignored")
    elif classes is None and VOID in plain and len(plain) > 2 and (on_border or _are_ids(plain[:-1])):
        void.add(VOID)
        place = "lies along borders" if on_border else "stands apart from the others"
        checks.append(f"255 {place} and is taken for what was not labelled; it may be a class")
    return void, checks


def _are_ids(values: list[int]) -> bool:
    """Whether values are small numbers close together, as ids are."""
    return bool(values) and values[-1] < 2 * len(values) + 2


def _other_readings(
    survey: MaskSurvey, values: list[int], plain: list[int], names: list[str], void: set[int], checks: list[str]
) -> list[MaskInterpretation]:
    """List what else the values may mean, and add to what is to be checked."""
    others = []
    if VOID in void and VOID in values and len(plain) + 1 <= MOST_CLASSES:
        more = [*plain, VOID]
        why = "if 255 is a class of its own"
        others.append(_reading(survey, more, _with_more(names, more), void - {VOID}, why))
    if len(plain) > 2 and plain[0] == 0 and not void:
        why = "if 0 is what was not labelled, and no class"
        others.append(_reading(survey, plain[1:], names[1:], {0}, why))
    if len(plain) > 2 and not void and len(plain) <= MOST_CLASSES:
        last = plain[-1]
        if last == VOID:
            checks.append("255 is read as a class; it may also be a border, or what was not labelled")
        others.append(_reading(survey, plain[:-1], names[:-1], {last}, f"if {last} is what was not labelled"))
    gaps = [number for number in range(plain[0], plain[-1]) if number not in values]
    if gaps and _are_ids(plain):
        whole = [number for number in range(min(plain[0], 1), plain[-1] + 1) if number not in void]
        labels = _default_names(whole)
        if names != _default_names(plain):
            labels = [f"unseen_{number}" if number in gaps else names[plain.index(number)] for number in whole]
        missing = ", ".join(map(str, gaps))
        sampled = "" if survey.complete else f" (only {survey.read} of {survey.total} masks were read)"
        checks.append(f"the values have gaps: {missing} did not occur{sampled}; a rare class, or none?")
        others.append(_reading(survey, whole, labels, void, f"if {missing} are rare classes that did not occur"))
    if 2 < len(plain) <= MOST_CLASSES and _may_be_instances(survey, plain) and not survey.paletted:
        checks.append("values may be numbers of instances instead of classes")
        why = "if every value but 0 is one more instance of the same class"
        others.append(MaskInterpretation(list(TWO), {"encoding": "instances"} | _ignore(void), why))
    return others


def _reading(
    survey: MaskSurvey, values: list[int], names: Sequence[str], void: set[int], why: str
) -> MaskInterpretation:
    """Declare that values are classes, in their order; as ids where they are counted through."""
    encoding = "palette" if survey.read and survey.paletted == survey.read else "index"
    masks: dict[str, Any] = {"encoding": encoding}
    shown = void - ({VOID} if VOID not in values else set())
    if values == [0] and list(names) == list(TWO):
        names = TWO[:1]
    elif len(values) == 1:
        masks["values"] = {values[0]: names[-1]}
    elif values == list(range(values[0], values[0] + len(values))):
        masks |= {"offset": values[0]} if values[0] else {}
    else:
        masks["values"] = dict(zip(values, names, strict=True))
    if VOID in values and "values" not in masks:
        masks["values"] = dict(zip(values, names, strict=True))
    if survey.several:
        masks["merge"] = True
    found = {
        name: f"{value} ({survey.share(value):.1%})" if value in survey.values else f"{value} (not found)"
        for value, name in zip(values, names[-len(values) :], strict=True)
    }
    return MaskInterpretation(list(TWO if names == TWO[:1] else names), masks | _ignore(shown), why, found)


def _single(plain: list[int], names: list[str]) -> list[str] | None:
    """Two classes are the least, also where the masks hold one value."""
    return ["background", names[0]] if len(plain) == 1 else None


def _ignore(void: set[int]) -> dict[str, Any]:
    return {"ignore": sorted(void)} if void else {}


def _with_more(names: list[str], values: list[int]) -> list[str]:
    return [*names, f"class_{len(values) - 1}" if f"class_{len(values) - 1}" not in names else "rest"]


def _default_names(values: list[int]) -> list[str]:
    return list(TWO) if len(values) == 2 else [f"class_{number}" for number in range(len(values))]


def _palette_text(survey: MaskSurvey, plain: list[int]) -> str:
    colours = (f"{value} {colour_name(survey.palette[value])}" for value in plain[:8] if value in survey.palette)
    return f"the masks are palette images; their indices are read, not their colours ({', '.join(colours)})"


# --- two values ---


def _is_black_and_white(survey: MaskSurvey) -> bool:
    """Two values that a viewer shows as black and something else, in whatever way they are stored."""
    return len(survey.shown) == 2 and survey.colourful == 0 and set(survey.shown) != {0, 1} and 0 in survey.shown


def _binary(survey: MaskSurvey, classes: Sequence[str] | None) -> Interpretation:
    """Two values, such as 0 and 255: read by their values, or by a threshold."""
    low, high = sorted(survey.shown)
    names = _two_names(classes)
    checks = [] if classes is not None else ["the names of the two classes"]
    shares = _binary_shares(survey, low, high)
    if shares[1] > 0.5 and not survey.several:
        checks.append(
            f"{high} covers {shares[1]:.1%} of the pixels: is it the background, and {low} what you look for?"
        )
    found = {name: f"{value} ({share:.1%})" for name, value, share in zip(names, (low, high), shares, strict=True)}
    mixed = set(survey.values) != set(survey.shown)  # of one bit, or palettes: stored as 0 and 1
    joined = {"merge": True} if survey.several else {}
    threshold = MaskInterpretation(
        names,
        {"encoding": "threshold", "threshold": (low + high) // 2} | joined,
        f"the brighter value is {names[1]}, also in masks with soft borders",
        found,
    )
    by_value = MaskInterpretation(
        names,
        {"encoding": "index", "values": {low: names[0], high: names[1]}} | joined,
        "exact values: any other value in a mask is an error",
        found,
    )
    indices = MaskInterpretation(names, {"encoding": "index"} | joined, "stored as 0 and 1, and read so", found)
    pure = mixed and set(survey.values) == {0, 1} and not survey.palettes_differ
    pure &= not survey.palette or sum(survey.palette[0]) < sum(survey.palette[1])
    readings = [indices, threshold] if pure else [threshold] if mixed else [by_value, threshold]
    if pure and survey.paletted == survey.read:
        readings[0] = replace(indices, masks={"encoding": "palette"} | joined)
    if shares[1] > 0.5 and not survey.several and (pure or not mixed):
        readings.append(_swapped(by_value, classes, *((0, 1) if pure else (low, high))))
    if survey.several:
        readings = _several(survey, names, readings, checks)
    elif high == VOID and not pure:
        checks.append("0 and 255 are read as two classes; 255 is not void here")
    summary = f"two values, {low} ({shares[0]:.1%}) and {high} ({shares[1]:.1%})"
    return Interpretation(summary, readings, checks, [(str(low), shares[0]), (str(high), shares[1])])


def _swapped(reading: MaskInterpretation, classes: Sequence[str] | None, low: int, high: int) -> MaskInterpretation:
    """Make the brighter value class 0, the background."""
    by_value = dict(zip((low, high), TWO[::-1] if classes is None else reading.classes, strict=True))
    shares = dict(zip(reading.classes, reading.found.values(), strict=True))
    found = {by_value[high]: shares[reading.classes[1]], by_value[low]: shares[reading.classes[0]]}
    masks = reading.masks | {"values": by_value}
    return MaskInterpretation(
        [by_value[high], by_value[low]], masks, f"if {high} is the background, and {low} what you look for", found
    )


def _several(
    survey: MaskSurvey, names: list[str], readings: list[MaskInterpretation], checks: list[str]
) -> list[MaskInterpretation]:
    """Several masks of an image: one for each instance, or parts to be laid over each other."""
    checks.append(
        f"{survey.several} images have several masks (up to {survey.most}): all of them are {names[1]}, whether they "
        "are instances or parts"
    )
    if survey.ghostly or survey.lossy:
        return readings
    instances = MaskInterpretation(
        names, {"encoding": "instances"}, f"each mask shows one {names[1]}", readings[0].found
    )
    return [instances, *readings] if survey.most > 3 else [*readings[:1], instances]


def _binary_shares(survey: MaskSurvey, low: int, high: int) -> tuple[float, float]:
    total = max(1, survey.shown[low] + survey.shown[high])
    return survey.shown[low] / total, survey.shown[high] / total


def _two_names(classes: Sequence[str] | None) -> list[str]:
    if classes is None:
        return list(TWO)
    if len(classes) == 1:
        return ["background", classes[0]]
    if len(classes) != 2:
        raise ConfigurationError(f"--classes: the masks hold two values, but {len(classes)} names are given.")
    return list(classes)


def _soft(survey: MaskSurvey, classes: Sequence[str] | None) -> Interpretation | None:
    """Two values with in-between ones: masks saved as JPEG, or resized with interpolation."""
    values = sorted(survey.shown)
    if (
        len(values) <= 4
        or not (survey.ghostly > 0.1 * survey.read or survey.lossy)
        or survey.colourful > survey.read / 2
    ):
        return None
    low, high = values[0], values[-1]
    total = sum(survey.shown.values())
    quarter = (high - low) / 4
    middle = sum(count for value, count in survey.shown.items() if low + quarter < value < high - quarter)
    dark = sum(count for value, count in survey.shown.items() if value <= (low + high) // 2)
    if middle > 0.1 * total or _has_level_between(survey, low + quarter, high - quarter):
        levels = [value for value, _ in survey.shown.most_common(6)]
        raise ConfigurationError(
            f"The masks hold {len(values)} values, most of them between others ({', '.join(map(str, sorted(levels)))} "
            "are the most frequent): they were saved as JPEG or resized with interpolation, and more than two classes "
            "cannot be told apart after that. Export them anew as PNG, resized without interpolation if at all."
        )
    names = _two_names(classes)
    masks = {"encoding": "threshold", "threshold": (low + high) // 2} | ({"merge": True} if survey.several else {})
    shares = (dark / total, 1 - dark / total)
    found = {name: f"{end} ({share:.1%})" for name, end, share in zip(names, ("dark", "bright"), shares, strict=True)}
    reading = MaskInterpretation(names, masks, "the brighter half of the values is " + names[1], found)
    checks = [] if classes is not None else ["the names of the two classes"]
    checks.append("the masks have soft borders (JPEG, or resized with interpolation); exact ones would be better")
    if shares[1] > 0.5:
        checks.append(f"bright covers {shares[1]:.1%} of the pixels: is it the background?")
    summary = f"two values near {low} and {high}, with {len(values) - 2} others in between"
    return Interpretation(summary, [reading], checks, [("dark", shares[0]), ("bright", shares[1])])


def _has_level_between(survey: MaskSurvey, low: float, high: float) -> bool:
    """Tell a third class, whose pixels lie among their like, from soft borders, whose pixels do not."""
    between = {value: count for value, count in survey.inner.items() if low < value < high}
    return sum(between.values()) > 0.003 * survey.pixels


# --- instances ---


def _may_be_instances(survey: MaskSurvey, plain: list[int]) -> bool:
    """Values from 1 on, counted through in every mask, the higher the rarer, each in one piece."""
    above = [value for value in plain if value > 0]
    if survey.counted < 0.9 * survey.read or len(above) < 2:
        return False
    files = [survey.files[value] for value in above]
    in_one_piece = sum(survey.pieces.get(value, 9) <= ONE_PIECE for value in above) > 0.8 * len(above)
    return in_one_piece and files == sorted(files, reverse=True)


def _instances(survey: MaskSurvey, classes: Sequence[str] | None, ignored: set[int]) -> Interpretation | None:
    """Numbers of instances: many values, counted through, each in one piece; the numbers differ from mask to mask."""
    values = sorted(value for value in survey.values if value not in ignored)
    above = [value for value in values if value > 0]
    if survey.paletted or 0 not in values or (classes is not None and len(classes) > 2):
        return None
    uneven = len({survey.files[value] for value in above}) > 1
    many = len(above) > MOST_CLASSES or (len(above) > 3 and uneven and _may_be_instances(survey, values))
    pieces = [survey.pieces[value] for value in above if value in survey.pieces]
    whole = sum(piece <= ONE_PIECE for piece in pieces) >= 0.8 * len(pieces)
    soft = survey.lossy or (survey.ghostly > survey.read / 2 and survey.counted < 0.9 * survey.read)
    if not many or not whole or soft:
        return None
    names = _two_names(classes)
    objects = 1 - survey.share(0)
    found = {names[0]: f"0 ({survey.share(0):.1%})", names[1]: f"all others ({objects:.1%})"}
    reading = MaskInterpretation(
        names, {"encoding": "instances"} | _ignore(ignored), "every value but 0 is an instance", found
    )
    readings = [reading]
    if len(values) <= MOST_CLASSES:
        by_value = _reading(survey, values, _default_names(values), ignored, "if the values are classes")
        readings.append(by_value)
    checks = [f"values run from 1 to {above[-1]} and are taken for numbers of instances, not for classes"]
    if classes is None:
        checks.insert(0, "the names of the two classes")
    summary = f"numbers of instances, up to {above[-1]}"
    return Interpretation(summary, readings, checks, [("0", survey.share(0)), ("others", objects)])


# --- one mask per class ---


def _masks_by_class(survey: MaskSurvey, classes: Sequence[str] | None) -> Interpretation:
    """The path says the class; what is not 0 is of it."""
    labels = list(survey.labels)
    labels.sort()
    soft = bool(survey.lossy or survey.ghostly)
    base: dict[str, Any] = {"encoding": "threshold"} if soft else {"encoding": "index"}
    if classes is not None:
        names = list(classes) if len(classes) == len(labels) + 1 else ["background", *classes]
        if len(names) != len(labels) + 1:
            raise ConfigurationError(
                f"--classes: there are masks of {len(labels)} classes ({', '.join(labels)}); give as many names, or "
                "one more, the first for what is around them."
            )
    else:
        names = ["background", *labels]
    if soft and len(names) != 2:
        base = {"encoding": "index"}
    mapping = {label: name for label, name in zip(labels, names[1:], strict=True) if label != name}
    masks = base | ({"labels": mapping} if mapping else {})
    found = {name: f"{label} ({survey.labels[label]} masks)" for label, name in zip(labels, names[1:], strict=True)}
    readings = [MaskInterpretation(names, masks, "each mask shows one class, and its path says which", found)]
    if classes is None:
        one = {"encoding": "index", "labels": dict.fromkeys(labels, TWO[1])}
        readings.append(MaskInterpretation(list(TWO), one, "if all of them are parts of the same class"))
    checks = ["the names of the classes are those in the paths; where masks overlap, the later lies above"]
    if soft:
        checks.append(
            "the masks have soft borders (JPEG?): every value above 0 counts as the class; export them as PNG"
        )
    summary = f"one mask for each class: {', '.join(labels)}"
    shares = [(label, survey.labels[label] / max(1, sum(survey.labels.values()))) for label in labels]
    return Interpretation(summary, readings, checks, shares)


# --- colours ---


def _colours(survey: MaskSurvey, classes: Sequence[str] | None) -> Interpretation:
    """Each class has a colour."""
    found = [(colour, count / survey.pixels) for colour, count in survey.colours.most_common()]
    kept = [entry for entry in found if entry[1] >= STRAY] if survey.ghostly or survey.lossy else found
    checks = []
    if len(kept) > MOST_COLOURS and not survey.ghostly:
        names = _two_names(classes)
        reading = MaskInterpretation(names, {"encoding": "instances"}, "every colour but black is an instance")
        check = f"{len(kept)} colours or more are taken for instances, each in a colour of its own"
        return Interpretation("colours of instances", [reading], [check])
    if len(kept) > MOST_COLOURS:
        raise ConfigurationError(
            f"The masks hold {len(found)} colours or more, in-between ones along borders: they were saved as JPEG or "
            "resized with interpolation. Export them anew as PNG, resized without interpolation if at all."
        )
    if survey.ghostly or survey.lossy:
        checks.append("in-between colours are errors: the masks were saved as JPEG or resized; export them as PNG")
    black = (0, 0, 0)
    order = [colour for colour, _ in sorted(kept, key=lambda entry: (entry[0] != black, -entry[1]))]
    shares = dict(kept)
    void: list[Colour] = []
    if classes is not None and len(order) == len(classes) + 1 and black in order:
        void = [black]
        checks.append("black is one colour more than there are names, so it is ignored")
    plain = [colour for colour in order if colour not in void]
    if classes is not None and len(classes) != len(plain):
        listed = ", ".join(f"{list(colour)} {colour_name(colour)}" for colour in plain)
        raise ConfigurationError(f"--classes: {len(classes)} names for {len(plain)} colours: {listed}.")
    names = list(classes) if classes is not None else _colour_names(plain)
    if classes is None:
        checks.insert(0, "the names of the classes; the order is black first, then by share")
    readings = [_coloured(names, plain, void, shares, "each colour is a class")]
    if black in plain and len(plain) > 2 and classes is None:
        readings.append(_coloured(names[1:], plain[1:], [black], shares, "if black is what was not labelled"))
    summary = f"{len(plain)} colours"
    values = [(f"{','.join(map(str, colour))} {colour_name(colour)}", shares[colour]) for colour in order]
    return Interpretation(summary, readings, checks, values, [",".join(map(str, colour)) for colour in void])


def _coloured(
    names: Sequence[str], colours: Sequence[Colour], void: Sequence[Colour], shares: Mapping[Colour, float], why: str
) -> MaskInterpretation:
    masks: dict[str, Any] = {"encoding": "colors"}
    masks["colors"] = {name: list(colour) for name, colour in zip(names, colours, strict=True)}
    if void:
        masks["ignore_colors"] = [list(colour) for colour in void]
    found = {name: f"{colour_name(c)} ({shares[c]:.1%})" for name, c in zip(names, colours, strict=True)}
    return MaskInterpretation(list(names), masks, why, found)


def _colour_names(colours: Sequence[Colour]) -> list[str]:
    if len(colours) == 2 and (0, 0, 0) in colours:
        return list(TWO)
    return [f"class_{number}" for number in range(len(colours))]


# --- annotations ---


def _annotations(survey: MaskSurvey, classes: Sequence[str] | None) -> Interpretation:
    """Outlines with labels."""
    yolo = survey.kind == "yolo"
    labels = sorted(survey.labels, key=int) if yolo else list(survey.labels)
    if not labels:
        raise ConfigurationError("The annotation files that were looked at hold no object.")
    if not yolo and survey.kind != "coco":
        labels.sort()
    known = survey.names if yolo else []
    if classes is not None:
        names = list(classes) if len(classes) == len(labels) + 1 else ["background", *classes]
        if len(names) != len(labels) + 1:
            raise ConfigurationError(
                f"--classes: the annotations have {len(labels)} labels ({', '.join(labels)}); give as many names, or "
                "one more, the first for what is around them."
            )
        mapping = dict(zip(labels, names[1:], strict=True))
    elif yolo and known:
        names = ["background", *known]
        mapping = {str(number): name for number, name in enumerate(known)}
    else:
        names = ["background", *([f"class_{label}" for label in labels] if yolo else labels)]
        mapping = dict(zip(labels, names[1:], strict=True))
    mapping = {label: name for label, name in mapping.items() if label != name}
    masks: dict[str, Any] = {"encoding": survey.kind} | ({"labels": mapping} if mapping else {})
    total = max(1, survey.pixels)
    shares = [(label, survey.labels[label] / total) for label in labels]
    by_name = {mapping.get(label, label): share for label, share in shares}
    found = {name: f"{share:.1%}" for name, share in by_name.items()}
    checks = ["everything outside the outlines is taken for the background"]
    if survey.boxes:
        count = survey.files[0]
        checks.append(f"{survey.boxes} of {count} objects are boxes and no outlines: they would be filled as they are")
    if yolo and not known and classes is None:
        checks.insert(0, "the names of the classes: no file says what the numbers mean")
    if not survey.complete:
        checks.append(f"{survey.read} of {survey.total} images were looked at; other labels may occur")
    reading = MaskInterpretation(names, masks, f"outlines in {_KINDS[survey.kind]} files", found)
    return Interpretation(f"{_KINDS[survey.kind]} annotations: {', '.join(labels[:12])}", [reading], checks, shares)


_KINDS = {"coco": "COCO", "yolo": "YOLO", "labelme": "LabelMe", "pascal": "Pascal VOC"}


# --- text ---


def _listed(survey: MaskSurvey) -> str:
    values = sorted(survey.values)
    shown = values if len(values) <= 24 else [*values[:20], *values[-2:]]
    parts = [f"{value} ({survey.share(value):.1%})" for value in shown]
    return ", ".join(parts) + (f" and {len(values) - len(shown)} more" if len(shown) < len(values) else "")


def _shares(survey: MaskSurvey, values: Sequence[int]) -> list[tuple[str, float]]:
    return [(str(value), survey.share(value)) for value in values]


def _refuse_names(classes: Sequence[str], plain: list[int], void: set[int], survey: MaskSurvey) -> None:
    rest = f" beside {', '.join(map(str, sorted(void)))}, which would be ignored" if void else ""
    way = "give one name for each value, in their order; values that count nowhere with --ignore-values"
    if len(classes) > len(plain) and not survey.complete:
        way += f". Only {survey.read} of {survey.total} masks were read: if a rare class is missing, edit the YAML"
    raise ConfigurationError(
        f"--classes: {len(classes)} names ({', '.join(classes)}) for {len(plain)} values "
        f"({', '.join(map(str, plain))}){rest}; {way}."
    )
