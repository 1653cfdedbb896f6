"""Masks of gray values or palette indices: as classes, as two values, with soft borders, or as instances."""

from __future__ import annotations

from collections.abc import Sequence

from unet_segmentation.data.audit.suggested_config import Declaration, color_name, ignore_declaration
from unet_segmentation.data.onboarding.interpretation import (
    MAX_CLASSES,
    TWO_CLASSES,
    MaskInterpretation,
    MaskInterpretations,
    default_names,
    name_two_classes,
)
from unet_segmentation.data.onboarding.mask_survey import MaskSurvey
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.utils.ignore_index import IGNORE_INDEX

FEW_PARTS = 3  # masks of one image, up to which they are rather parts than instances
ONE_PIECE = 1.2  # connected parts of a value in a mask, on average, up to which it may be one instance
BORDER = 0.6  # share of a value's pixels next to another value, from which on it is a border


def interpret_gray_values(survey: MaskSurvey, classes: Sequence[str] | None, ignored: set[int]) -> MaskInterpretations:
    """Propose what gray values, or indices of palettes, mean.

    Raises:
        ConfigurationError: the names do not fit the values, or a value is ignored that cannot be.
    """
    values = sorted(survey.values)
    if not values:
        raise ConfigurationError("No mask could be read, so that their values are unknown.")
    if missing := ignored - set(values) - {IGNORE_INDEX}:
        note = f"--ignore-values: no mask that was read holds the value {min(missing)} (they hold {_listed(survey)})."
        raise ConfigurationError(note)
    if instances := _instances(survey, classes, ignored):
        return instances
    if soft := _soft(survey, classes):
        return soft
    shown = set(survey.shown)  # black and something else, in whatever way they are stored
    if len(shown) == 2 and 0 in shown and shown != {0, 1} and survey.colorful == 0 and not ignored:
        return _two_values(survey, classes)
    if len(set(values) - ignored) > MAX_CLASSES and classes is None:
        raise ConfigurationError(
            f"The masks hold {len(values)} different values, from {values[0]} to {values[-1]}: too many for classes, "
            "and no instances that are counted through. If they were saved as JPEG or resized, export them again as "
            "PNG without interpolation; if the right folder is another one, name it with --masks."
        )
    return _index(survey, values, classes, ignored)


# --- values are classes ---


def _index(
    survey: MaskSurvey, values: list[int], classes: Sequence[str] | None, ignored: set[int]
) -> MaskInterpretations:
    unlabeled, checks = _ignored_values(survey, values, classes, ignored)
    plain = [value for value in values if value not in unlabeled]
    if not plain:
        raise ConfigurationError("--ignore-values: nothing but ignored values would be left.")
    if classes is None:
        names = default_names(len(plain))
        checks.insert(0, "the names of the classes, in the order of the values")
    else:
        names = list(classes)
        if ids := _counted_through(plain, len(names)):
            missing = ", ".join(str(number) for number in ids if number not in plain)
            checks.append(f"no mask that was read holds {missing}, which {len(names)} classes need: are they rare?")
            unlabeled |= set(plain) - set(ids)
            plain = ids
        if len(names) != len(plain):
            _refuse_names(names, plain, unlabeled, survey)
    first = ["background", names[0]] if len(plain) == 1 else names  # two classes are the least
    if plain == [0] and classes is None:  # empty masks: what was to be found is missing
        first = TWO_CLASSES
    options = [_interpret_index(survey, plain, first, unlabeled, "the values are classes")]
    if len(plain) == 1:
        checks.append(f"the masks hold one value only, {plain[0]}: was everything else lost?")
    options += _other_options(survey, plain, names, unlabeled, checks)
    summary = f"values {_listed(survey)}"
    if survey.paletted:
        summary = f"palette images, indices {_listed(survey)}"
        colors = ", ".join(f"{v} {color_name(survey.palette[v])}" for v in plain[:8] if v in survey.palette)
        checks.append(f"the masks are palette images; their indices are read, not their colors ({colors})")
        if survey.palettes_differ:
            checks.append("the palettes differ from mask to mask: one index has several colors; do the indices agree?")
    shares = [(str(value), survey.share(value)) for value in values]
    return MaskInterpretations(summary, options, checks, shares, sorted(map(str, unlabeled)))


def _counted_through(plain: Sequence[int], count: int) -> list[int]:
    """Return the ids 0, 1, 2, ... (or 1, 2, ...) of `count` classes, where they explain values with gaps; else nothing.

    Names are in the order of the values. Where one did not occur, the names after it must not move up.
    """
    first = min(plain[0], 1)
    ids = list(range(first, first + count))
    present = [value for value in plain if value in ids]
    beyond = [value for value in plain if value not in ids]
    if len(present) == count or count > 2 * len(present):
        return []
    has_inner_gap = len(present) < present[-1] - first + 1
    return ids if not beyond or (beyond == [IGNORE_INDEX] and has_inner_gap) else []


def _ignored_values(
    survey: MaskSurvey, values: list[int], classes: Sequence[str] | None, ignored: set[int]
) -> tuple[set[int], list[str]]:
    """Return the values of no class: those that were named, negative ones, 255 next to ids, one more than names."""
    negative = [value for value in values if value < 0]
    unlabeled = ignored | set(negative)
    checks = [f"{negative[0]} is taken for what was not labeled, and ignored"] if negative else []
    plain = [value for value in values if value not in unlabeled]
    on_border = survey.edges[IGNORE_INDEX] / max(1, survey.values[IGNORE_INDEX]) > BORDER
    if classes is not None and len(plain) == len(classes) + 1:
        extra = IGNORE_INDEX if IGNORE_INDEX in plain else plain[-1]
        unlabeled.add(extra)
        checks.append(f"{extra} is one value more than there are names, so it is ignored")
    elif classes is None and IGNORE_INDEX in plain and len(plain) > 2 and (on_border or _are_ids(plain[:-1])):
        unlabeled.add(IGNORE_INDEX)
        place = "lies along borders" if on_border else "stands apart from the others"
        checks.append(f"255 {place} and is taken for what was not labeled; it may be a class")
    return unlabeled, checks


def _are_ids(values: list[int]) -> bool:
    """Return whether values are small numbers close together, as ids are."""
    return bool(values) and values[-1] < 2 * len(values) + 2


def _other_options(
    survey: MaskSurvey, plain: list[int], names: list[str], unlabeled: set[int], checks: list[str]
) -> list[MaskInterpretation]:
    """List what else the values may mean, and add to what is to be checked."""
    others = []
    if IGNORE_INDEX in unlabeled and IGNORE_INDEX in survey.values and len(plain) < MAX_CLASSES:
        name = f"class_{len(plain)}" if f"class_{len(plain)}" not in names else "rest"
        more = [*plain, IGNORE_INDEX], [*names, name], unlabeled - {IGNORE_INDEX}
        others.append(_interpret_index(survey, *more, "if 255 is a class of its own"))
    if len(plain) > 2 and not unlabeled:
        if plain[0] == 0:
            why = "if 0 is what was not labeled, and no class"
            others.append(_interpret_index(survey, plain[1:], names[1:], {0}, why))
        if len(plain) <= MAX_CLASSES:
            if plain[-1] == IGNORE_INDEX:
                checks.append("255 is read as a class; it may also be a border, or what was not labeled")
            why = f"if {plain[-1]} is what was not labeled"
            others.append(_interpret_index(survey, plain[:-1], names[:-1], {plain[-1]}, why))
    gaps = [number for number in range(plain[0], plain[-1]) if number not in survey.values]
    if gaps and _are_ids(plain):
        whole = [number for number in range(min(plain[0], 1), plain[-1] + 1) if number not in unlabeled]
        labels = default_names(len(whole))
        if names != default_names(len(plain)):
            labels = [f"unseen_{number}" if number in gaps else names[plain.index(number)] for number in whole]
        missing = ", ".join(map(str, gaps))
        sampled = "" if survey.complete else f" (only {survey.read} of {survey.total} masks were read)"
        checks.append(f"the values have gaps: {missing} did not occur{sampled}; a rare class, or none?")
        why = f"if {missing} are rare classes that did not occur"
        others.append(_interpret_index(survey, whole, labels, unlabeled, why))
    if 2 < len(plain) <= MAX_CLASSES and _may_be_instances(survey, plain) and not survey.paletted:
        checks.append("values may be numbers of instances instead of classes")
        masks: Declaration = {"encoding": "instances"} | ignore_declaration(unlabeled)
        why = "if every value but 0 is one more instance of the same class"
        others.append(MaskInterpretation(TWO_CLASSES, masks, why))
    return others


def _interpret_index(
    survey: MaskSurvey, values: list[int], names: list[str], unlabeled: set[int], why: str
) -> MaskInterpretation:
    """Declare that values are classes, in their order; as ids where they are counted through."""
    masks: Declaration = {"encoding": _index_encoding(survey)}
    is_empty = values == [0] and names == TWO_CLASSES
    named = names[:1] if is_empty else names[-len(values) :]
    counted = values == list(range(values[0], values[0] + len(values)))
    if IGNORE_INDEX in values or not (is_empty or (counted and len(values) > 1)):
        masks["values"] = dict(zip(values, named, strict=True))
    elif values[0]:
        masks["offset"] = values[0]
    if survey.several:
        masks["merge"] = True
    contents = {
        name: f"{value} ({survey.share(value):.1%})" if value in survey.values else f"{value} (in no mask)"
        for value, name in zip(values, named, strict=True)
    }
    return MaskInterpretation(names, masks | ignore_declaration(unlabeled - {IGNORE_INDEX}), why, contents)


def _index_encoding(survey: MaskSurvey) -> str:
    return "palette" if survey.read and survey.paletted == survey.read else "index"


def _refuse_names(classes: Sequence[str], plain: list[int], unlabeled: set[int], survey: MaskSurvey) -> None:
    rest = f" besides {', '.join(map(str, sorted(unlabeled)))}, which would be ignored" if unlabeled else ""
    way = "pass one name for each value, in their order; values of no class with --ignore-values"
    if len(classes) > len(plain) and not survey.complete:
        way += f". Only {survey.read} of {survey.total} masks were read: if a rare class is missing, edit the YAML"
    raise ConfigurationError(
        f"--classes: {len(classes)} names ({', '.join(classes)}) for {len(plain)} values "
        f"({', '.join(map(str, plain))}){rest}; {way}."
    )


def _listed(survey: MaskSurvey) -> str:
    values = sorted(survey.values)
    shown = values if len(values) <= 24 else [*values[:20], *values[-2:]]
    parts = [f"{value} ({survey.share(value):.1%})" for value in shown]
    return ", ".join(parts) + (f" and {len(values) - len(shown)} more" if len(shown) < len(values) else "")


# --- two values ---


def _two_values(survey: MaskSurvey, classes: Sequence[str] | None) -> MaskInterpretations:
    """Propose the interpretations of two values, such as 0 and 255."""
    total = max(1, sum(survey.shown.values()))
    shares = {value: survey.shown[value] / total for value in sorted(survey.shown)}
    summary = "two values, " + " and ".join(f"{value} ({share:.1%})" for value, share in shares.items())
    checks = ["the names of the two classes"] if classes is None else []
    low, high = shares
    if shares[high] > 0.5 and not survey.several:
        checks.append(
            f"{high} covers {shares[high]:.1%} of the pixels: is it the background, and {low} what you look for?"
        )
    if survey.several:
        checks.append(
            f"{survey.several} images have several masks (up to {survey.most}): all of them are "
            f"{name_two_classes(classes)[1]}, whether they are instances or parts"
        )
    elif high == IGNORE_INDEX and not _are_stored_as_ids(survey):
        checks.append("0 and 255 are read as two classes; 255 is not void here")
    values = [(str(value), share) for value, share in shares.items()]
    return MaskInterpretations(summary, _two_value_options(survey, classes, shares), checks, values)


def _two_value_options(
    survey: MaskSurvey, classes: Sequence[str] | None, shares: dict[int, float]
) -> list[MaskInterpretation]:
    """Return the interpretations whose rule applies, the likeliest first."""
    names = name_two_classes(classes)
    (low, low_text), (high, high_text) = ((value, f"{value} ({share:.1%})") for value, share in shares.items())
    as_ids, as_shown = _are_stored_as_ids(survey), set(survey.values) == set(survey.shown)
    may_be_instances, few_parts = bool(survey.several) and not survey.is_soft, survey.most <= FEW_PARTS
    is_exact, mostly_high = as_ids or as_shown, shares[high] > 0.5 and not survey.several

    def option(why: str, **masks: object) -> MaskInterpretation:
        merge = {"merge": True} if survey.several and masks["encoding"] != "instances" else {}
        return MaskInterpretation(names, masks | merge, why, {names[0]: low_text, names[1]: high_text})

    instances = option(f"each mask shows one {names[1]}", encoding="instances")
    ids = option("stored as 0 and 1, and read so", encoding=_index_encoding(survey))
    why = "exact values: any other value in a mask is an error"
    values = option(why, encoding="index", values={low: names[0], high: names[1]})
    why = f"the brighter value is {names[1]}, also in masks with soft borders"
    threshold = option(why, encoding="threshold", threshold=(low + high) // 2)
    dark, bright = names if classes is not None else TWO_CLASSES[::-1]
    stored_low, stored_high = (0, 1) if as_ids else (low, high)
    inverted = MaskInterpretation(
        [bright, dark],
        {"encoding": "index", "values": {stored_low: dark, stored_high: bright}},
        f"if {stored_high} is the background, and {stored_low} what you look for",
        {bright: high_text, dark: low_text},
    )
    rules = (
        (may_be_instances and not few_parts, instances),
        (as_ids, ids),
        (as_shown, values),
        (not (is_exact and may_be_instances and few_parts), threshold),
        (is_exact and mostly_high, inverted),
        (may_be_instances and few_parts, instances),
    )
    return [interpretation for applies, interpretation in rules if applies]


def _are_stored_as_ids(survey: MaskSurvey) -> bool:
    """Return whether files hold 0 and 1 (one bit, or indices of a palette), 1 for the brighter of the values shown."""
    if set(survey.values) == set(survey.shown) or set(survey.values) != {0, 1} or survey.palettes_differ:
        return False
    return not survey.palette or sum(survey.palette[0]) < sum(survey.palette[1])


def _soft(survey: MaskSurvey, classes: Sequence[str] | None) -> MaskInterpretations | None:
    """Two values with in-between ones: masks saved as JPEG, or resized with interpolation."""
    values = sorted(survey.shown)
    if len(values) <= 4 or not (survey.ghostly > 0.1 * survey.read or survey.lossy) or survey.is_colored:
        return None
    low, high = values[0], values[-1]
    total, quarter = sum(survey.shown.values()), (high - low) / 4
    middle = sum(count for value, count in survey.shown.items() if low + quarter < value < high - quarter)
    # Pixels of a third class lie among their like; those of soft borders do not.
    inner = sum(count for value, count in survey.inner.items() if low + quarter < value < high - quarter)
    if middle > 0.1 * total or inner > 0.003 * survey.pixels:
        levels = sorted(value for value, _ in survey.shown.most_common(6))
        raise ConfigurationError(
            f"The masks hold {len(values)} values, most of them between others ({', '.join(map(str, levels))} "
            "are the most frequent): they were saved as JPEG or resized with interpolation, and more than two classes "
            "cannot be told apart after that. Export them again as PNG, resized without interpolation if at all."
        )
    names = name_two_classes(classes)
    masks = {"encoding": "threshold", "threshold": (low + high) // 2} | ({"merge": True} if survey.several else {})
    dark = sum(count for value, count in survey.shown.items() if value <= (low + high) // 2) / total
    contents = {names[0]: f"dark ({dark:.1%})", names[1]: f"bright ({1 - dark:.1%})"}
    option = MaskInterpretation(names, masks, "the brighter half of the values is " + names[1], contents)
    checks = [] if classes is not None else ["the names of the two classes"]
    checks.append("the masks have soft borders (JPEG, or resized with interpolation); exact ones would be better")
    if 1 - dark > 0.5:
        checks.append(f"bright covers {1 - dark:.1%} of the pixels: is it the background?")
    summary = f"two values near {low} and {high}, with {len(values) - 2} others in between"
    return MaskInterpretations(summary, [option], checks, [("dark", dark), ("bright", 1 - dark)])


# --- instances ---


def _may_be_instances(survey: MaskSurvey, plain: list[int]) -> bool:
    """Values from 1 on, counted through in every mask, the higher the rarer, each in one piece."""
    above = [value for value in plain if value > 0]
    if survey.counted < 0.9 * survey.read or len(above) < 2:
        return False
    files = [survey.files[value] for value in above]
    in_one_piece = sum(survey.pieces.get(value, 9) <= ONE_PIECE for value in above) > 0.8 * len(above)
    return in_one_piece and files == sorted(files, reverse=True)


def _instances(survey: MaskSurvey, classes: Sequence[str] | None, ignored: set[int]) -> MaskInterpretations | None:
    """Numbers of instances: many values, counted through, each in one piece; the numbers differ from mask to mask."""
    values = sorted(value for value in survey.values if value not in ignored)
    above = [value for value in values if value > 0]
    if survey.paletted or 0 not in values or (classes is not None and len(classes) > 2):
        return None
    uneven = len({survey.files[value] for value in above}) > 1
    many = len(above) > MAX_CLASSES or (len(above) > 3 and uneven and _may_be_instances(survey, values))
    pieces = [survey.pieces[value] for value in above if value in survey.pieces]
    whole = sum(piece <= ONE_PIECE for piece in pieces) >= 0.8 * len(pieces)
    soft = survey.lossy or (survey.ghostly > survey.read / 2 and survey.counted < 0.9 * survey.read)
    if not many or not whole or soft:
        return None
    names = name_two_classes(classes)
    background, objects = survey.share(0), 1 - survey.share(0)
    contents = {names[0]: f"0 ({background:.1%})", names[1]: f"all others ({objects:.1%})"}
    masks: Declaration = {"encoding": "instances"} | ignore_declaration(ignored)
    options = [MaskInterpretation(names, masks, "every value but 0 is an instance", contents)]
    if len(values) <= MAX_CLASSES:
        by_value = default_names(len(values))
        options.append(_interpret_index(survey, values, by_value, ignored, "if the values are classes"))
    checks = [f"values run from 1 to {above[-1]} and are taken for numbers of instances, not for classes"]
    if classes is None:
        checks.insert(0, "the names of the two classes")
    summary = f"numbers of instances, up to {above[-1]}"
    return MaskInterpretations(summary, options, checks, [("0", background), ("others", objects)])
