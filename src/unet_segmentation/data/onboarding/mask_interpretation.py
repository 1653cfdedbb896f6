"""Propose what masks may mean: the likeliest interpretation first; where it could be wrong, the others follow.

Pixels tell which values there are, but not what these are called, nor which of them mean that nothing was labelled. So
an interpretation comes with what a person has to check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from unet_segmentation.data.audit.suggested_config import colour_name
from unet_segmentation.data.io.annotation_format import ANNOTATION_FORMATS
from unet_segmentation.data.onboarding.interpretation import (
    TWO_CLASSES,
    MaskInterpretation,
    MaskInterpretations,
    name_two_classes,
)
from unet_segmentation.data.onboarding.mask_survey import BORDER, Colour, MaskSurvey
from unet_segmentation.data.onboarding.two_value_masks import interpret_two_values
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.utils.ignore_index import IGNORE_INDEX

MAX_CLASSES = 64  # different values; more are hardly classes
MAX_COLOURS = 64
STRAY = 1e-4  # share of the pixels; colours below it are hardly classes
ONE_PIECE = 1.2  # connected parts of a value in a mask, on average, up to which it may be one instance


def propose_interpretations(
    survey: MaskSurvey, classes: Sequence[str] | None = None, ignore: Sequence[int] | None = None
) -> MaskInterpretations:
    """Propose what masks may mean.

    Args:
        survey: of the masks.
        classes: names, in the order of the values; None where there are none.
        ignore: values that belong to no class; None where nobody has named them.

    Raises:
        ConfigurationError: the names do not fit the values, or a value is ignored that cannot be.
    """
    is_coloured = survey.colourful > survey.read / 2
    if survey.kind in ANNOTATION_FORMATS:
        result = _annotations(survey, classes)
    elif survey.labels:
        result = _masks_by_class(survey, classes)
    elif is_coloured:
        result = _colours(survey, classes)
    else:
        result = _values(survey, classes, ignore)
    if ignore and not is_coloured and not any(_ignored_by(result.options[0])):
        result = replace(result, options=[_ignoring(option, ignore) for option in result.options])
    return result


def _ignoring(option: MaskInterpretation, ignore: Sequence[int]) -> MaskInterpretation:
    encoding = str(option.masks.get("encoding"))
    if encoding == "colors" or encoding in ANNOTATION_FORMATS:
        return option
    return replace(option, masks=option.masks | {"ignore": sorted({*_ignored_by(option), *ignore})})


def _ignored_by(option: MaskInterpretation) -> list[int]:
    return cast(list[int], option.masks.get("ignore", []))


# --- values ---


def _values(survey: MaskSurvey, classes: Sequence[str] | None, ignore: Sequence[int] | None) -> MaskInterpretations:
    """Read grey values, and indices of palettes."""
    values = sorted(survey.values)
    if not values:
        raise ConfigurationError("No mask could be read, so that their values are unknown.")
    ignored = set(ignore or ())
    if missing := ignored - set(values) - {IGNORE_INDEX}:
        note = f"--ignore-values: no mask that was read holds the value {min(missing)} (they hold {_listed(survey)})."
        raise ConfigurationError(note)
    if instances := _instances(survey, classes, ignored):
        return instances
    if soft := _soft(survey, classes):
        return soft
    if _is_black_and_white(survey) and not ignored:
        return interpret_two_values(survey, classes)
    if len([value for value in values if value not in ignored]) > MAX_CLASSES and classes is None:
        raise ConfigurationError(
            f"The masks hold {len(values)} different values, from {values[0]} to {values[-1]}: too many for classes, "
            "and no instances that are counted through. If they were saved as JPEG or resized, export them again as "
            "PNG without interpolation; if the right folder is another one, name it with --masks."
        )
    return _index(survey, values, classes, ignored)


def _index(
    survey: MaskSurvey, values: list[int], classes: Sequence[str] | None, ignored: set[int]
) -> MaskInterpretations:
    """Values are classes, in their order."""
    negative = {value for value in values if value < 0}
    unlabelled, checks = _ignored_values(survey, values, classes, ignored | negative)
    plain = [value for value in values if value not in unlabelled]
    if not plain:
        raise ConfigurationError("--ignore-values: nothing but ignored values would be left.")
    if classes is not None and (ids := _counted_through(plain, len(classes))):
        missing = ", ".join(str(number) for number in ids if number not in plain)
        checks.append(f"no mask that was read holds {missing}, which {len(classes)} classes need: are they rare?")
        unlabelled |= {value for value in plain if value not in ids}
        plain = ids
    if classes is not None and len(classes) != len(plain):
        _refuse_names(classes, plain, unlabelled, survey)
    names = list(classes) if classes is not None else _default_names(plain)
    if classes is None:
        checks.insert(0, "the names of the classes, in the order of the values")
    only = _single(plain, names)
    if plain == [0] and classes is None:  # empty masks: what was to be found is missing
        only = list(TWO_CLASSES)
    options = [_interpret_index(survey, plain, only or names, unlabelled, "the values are classes")]
    if len(plain) == 1:
        checks.append(f"the masks hold one value only, {plain[0]}: was everything else lost?")
    options += _other_options(survey, values, plain, names, unlabelled, checks)
    summary = f"values {_listed(survey)}"
    if survey.paletted:
        summary = f"palette images, indices {_listed(survey)}"
        checks.append(_palette_text(survey, plain))
        if survey.palettes_differ:
            checks.append("the palettes differ from mask to mask: one index has several colours; do the indices agree?")
    return MaskInterpretations(summary, options, checks, _shares(survey, values), sorted(map(str, unlabelled)))


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
    unlabelled, checks = set(ignored), []
    if negative := sorted(value for value in values if value < 0):
        checks.append(f"{negative[0]} is taken for what was not labelled, and ignored")
    plain = [value for value in values if value not in unlabelled]
    on_border = survey.borders.get(IGNORE_INDEX, 0) > BORDER
    if classes is not None and len(plain) == len(classes) + 1:
        extra = IGNORE_INDEX if IGNORE_INDEX in plain else plain[-1]
        unlabelled.add(extra)
        checks.append(f"{extra} is one value more than there are names, so it is ignored")
    elif classes is None and IGNORE_INDEX in plain and len(plain) > 2 and (on_border or _are_ids(plain[:-1])):
        unlabelled.add(IGNORE_INDEX)
        place = "lies along borders" if on_border else "stands apart from the others"
        checks.append(f"255 {place} and is taken for what was not labelled; it may be a class")
    return unlabelled, checks


def _are_ids(values: list[int]) -> bool:
    """Return whether values are small numbers close together, as ids are."""
    return bool(values) and values[-1] < 2 * len(values) + 2


def _other_options(
    survey: MaskSurvey, values: list[int], plain: list[int], names: list[str], unlabelled: set[int], checks: list[str]
) -> list[MaskInterpretation]:
    """List what else the values may mean, and add to what is to be checked."""
    others = []
    if IGNORE_INDEX in unlabelled and IGNORE_INDEX in values and len(plain) + 1 <= MAX_CLASSES:
        more = [*plain, IGNORE_INDEX]
        why = "if 255 is a class of its own"
        others.append(_interpret_index(survey, more, _with_more(names, more), unlabelled - {IGNORE_INDEX}, why))
    if len(plain) > 2 and plain[0] == 0 and not unlabelled:
        why = "if 0 is what was not labelled, and no class"
        others.append(_interpret_index(survey, plain[1:], names[1:], {0}, why))
    if len(plain) > 2 and not unlabelled and len(plain) <= MAX_CLASSES:
        last = plain[-1]
        if last == IGNORE_INDEX:
            checks.append("255 is read as a class; it may also be a border, or what was not labelled")
        others.append(_interpret_index(survey, plain[:-1], names[:-1], {last}, f"if {last} is what was not labelled"))
    gaps = [number for number in range(plain[0], plain[-1]) if number not in values]
    if gaps and _are_ids(plain):
        whole = [number for number in range(min(plain[0], 1), plain[-1] + 1) if number not in unlabelled]
        labels = _default_names(whole)
        if names != _default_names(plain):
            labels = [f"unseen_{number}" if number in gaps else names[plain.index(number)] for number in whole]
        missing = ", ".join(map(str, gaps))
        sampled = "" if survey.complete else f" (only {survey.read} of {survey.total} masks were read)"
        checks.append(f"the values have gaps: {missing} did not occur{sampled}; a rare class, or none?")
        others.append(
            _interpret_index(survey, whole, labels, unlabelled, f"if {missing} are rare classes that did not occur")
        )
    if 2 < len(plain) <= MAX_CLASSES and _may_be_instances(survey, plain) and not survey.paletted:
        checks.append("values may be numbers of instances instead of classes")
        why = "if every value but 0 is one more instance of the same class"
        others.append(MaskInterpretation(list(TWO_CLASSES), {"encoding": "instances"} | _ignore(unlabelled), why))
    return others


def _interpret_index(
    survey: MaskSurvey, values: list[int], names: Sequence[str], unlabelled: set[int], why: str
) -> MaskInterpretation:
    """Declare that values are classes, in their order; as ids where they are counted through."""
    encoding = "palette" if survey.read and survey.paletted == survey.read else "index"
    masks: dict[str, object] = {"encoding": encoding}
    shown = unlabelled - ({IGNORE_INDEX} if IGNORE_INDEX not in values else set())
    if values == [0] and list(names) == list(TWO_CLASSES):
        names = TWO_CLASSES[:1]
    elif len(values) == 1:
        masks["values"] = {values[0]: names[-1]}
    elif values == list(range(values[0], values[0] + len(values))):
        masks |= {"offset": values[0]} if values[0] else {}
    else:
        masks["values"] = dict(zip(values, names, strict=True))
    if IGNORE_INDEX in values and "values" not in masks:
        masks["values"] = dict(zip(values, names, strict=True))
    if survey.several:
        masks["merge"] = True
    contents = {
        name: f"{value} ({survey.share(value):.1%})" if value in survey.values else f"{value} (in no mask)"
        for value, name in zip(values, names[-len(values) :], strict=True)
    }
    return MaskInterpretation(
        list(TWO_CLASSES if names == TWO_CLASSES[:1] else names), masks | _ignore(shown), why, contents
    )


def _single(plain: list[int], names: list[str]) -> list[str] | None:
    """Two classes are the least, also where the masks hold one value."""
    return ["background", names[0]] if len(plain) == 1 else None


def _ignore(unlabelled: set[int]) -> dict[str, object]:
    return {"ignore": sorted(unlabelled)} if unlabelled else {}


def _with_more(names: list[str], values: list[int]) -> list[str]:
    return [*names, f"class_{len(values) - 1}" if f"class_{len(values) - 1}" not in names else "rest"]


def _default_names(values: list[int]) -> list[str]:
    return list(TWO_CLASSES) if len(values) == 2 else [f"class_{number}" for number in range(len(values))]


def _palette_text(survey: MaskSurvey, plain: list[int]) -> str:
    colours = (f"{value} {colour_name(survey.palette[value])}" for value in plain[:8] if value in survey.palette)
    return f"the masks are palette images; their indices are read, not their colours ({', '.join(colours)})"


# --- two values ---


def _is_black_and_white(survey: MaskSurvey) -> bool:
    """Two values that a viewer shows as black and something else, in whatever way they are stored."""
    return len(survey.shown) == 2 and survey.colourful == 0 and set(survey.shown) != {0, 1} and 0 in survey.shown


def _soft(survey: MaskSurvey, classes: Sequence[str] | None) -> MaskInterpretations | None:
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
            "cannot be told apart after that. Export them again as PNG, resized without interpolation if at all."
        )
    names = name_two_classes(classes)
    masks = {"encoding": "threshold", "threshold": (low + high) // 2} | ({"merge": True} if survey.several else {})
    shares = (dark / total, 1 - dark / total)
    contents = {
        name: f"{end} ({share:.1%})" for name, end, share in zip(names, ("dark", "bright"), shares, strict=True)
    }
    option = MaskInterpretation(names, masks, "the brighter half of the values is " + names[1], contents)
    checks = [] if classes is not None else ["the names of the two classes"]
    checks.append("the masks have soft borders (JPEG, or resized with interpolation); exact ones would be better")
    if shares[1] > 0.5:
        checks.append(f"bright covers {shares[1]:.1%} of the pixels: is it the background?")
    summary = f"two values near {low} and {high}, with {len(values) - 2} others in between"
    return MaskInterpretations(summary, [option], checks, [("dark", shares[0]), ("bright", shares[1])])


def _has_level_between(survey: MaskSurvey, low: float, high: float) -> bool:
    """Return whether there is a third class, whose pixels lie among their like, as those of soft borders do not."""
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
    objects = 1 - survey.share(0)
    contents = {names[0]: f"0 ({survey.share(0):.1%})", names[1]: f"all others ({objects:.1%})"}
    option = MaskInterpretation(
        names, {"encoding": "instances"} | _ignore(ignored), "every value but 0 is an instance", contents
    )
    options = [option]
    if len(values) <= MAX_CLASSES:
        by_value = _interpret_index(survey, values, _default_names(values), ignored, "if the values are classes")
        options.append(by_value)
    checks = [f"values run from 1 to {above[-1]} and are taken for numbers of instances, not for classes"]
    if classes is None:
        checks.insert(0, "the names of the two classes")
    summary = f"numbers of instances, up to {above[-1]}"
    return MaskInterpretations(summary, options, checks, [("0", survey.share(0)), ("others", objects)])


# --- one mask per class ---


def _masks_by_class(survey: MaskSurvey, classes: Sequence[str] | None) -> MaskInterpretations:
    """Interpret masks of one class each: the path says the class; what is not 0 is of it."""
    labels = list(survey.labels)
    labels.sort()
    soft = bool(survey.lossy or survey.ghostly)
    base: dict[str, object] = {"encoding": "threshold"} if soft else {"encoding": "index"}
    if classes is not None:
        names = list(classes) if len(classes) == len(labels) + 1 else ["background", *classes]
        if len(names) != len(labels) + 1:
            raise ConfigurationError(
                f"--classes: there are masks of {len(labels)} classes ({', '.join(labels)}); pass as many names, or "
                "one more, the first for what is around them."
            )
    else:
        names = ["background", *labels]
    if soft and len(names) != 2:
        base = {"encoding": "index"}
    mapping = {label: name for label, name in zip(labels, names[1:], strict=True) if label != name}
    masks = base | ({"labels": mapping} if mapping else {})
    contents = {name: f"{label} ({survey.labels[label]} masks)" for label, name in zip(labels, names[1:], strict=True)}
    options = [MaskInterpretation(names, masks, "each mask shows one class, and its path says which", contents)]
    if classes is None:
        one: dict[str, object] = {"encoding": "index", "labels": dict.fromkeys(labels, TWO_CLASSES[1])}
        options.append(MaskInterpretation(list(TWO_CLASSES), one, "if all of them are parts of the same class"))
    checks = ["the names of the classes are those in the paths; where masks overlap, the later lies above"]
    if soft:
        checks.append(
            "the masks have soft borders (JPEG?): every value above 0 counts as the class; export them as PNG"
        )
    summary = f"one mask for each class: {', '.join(labels)}"
    shares = [(label, survey.labels[label] / max(1, sum(survey.labels.values()))) for label in labels]
    return MaskInterpretations(summary, options, checks, shares)


# --- colours ---


def _colours(survey: MaskSurvey, classes: Sequence[str] | None) -> MaskInterpretations:
    """Each class has a colour."""
    shares = {colour: count / survey.pixels for colour, count in survey.colours.most_common()}
    count = len(shares)
    is_soft = bool(survey.ghostly or survey.lossy)
    if is_soft:
        shares = {colour: share for colour, share in shares.items() if share >= STRAY}
    checks = []
    if len(shares) > MAX_COLOURS and not survey.ghostly:
        names = name_two_classes(classes)
        option = MaskInterpretation(names, {"encoding": "instances"}, "every colour but black is an instance")
        check = f"{len(shares)} colours or more are taken for instances, each in a colour of its own"
        return MaskInterpretations("colours of instances", [option], [check])
    if len(shares) > MAX_COLOURS:
        raise ConfigurationError(
            f"The masks hold {count} colours or more, in-between ones along borders: they were saved as JPEG or "
            "resized with interpolation. Export them again as PNG, resized without interpolation if at all."
        )
    if is_soft:
        checks.append("in-between colours are errors: the masks were saved as JPEG or resized; export them as PNG")
    black = (0, 0, 0)
    order = sorted(shares, key=lambda colour: (colour != black, -shares[colour]))
    unlabelled: list[Colour] = []
    if classes is not None and len(order) == len(classes) + 1 and black in order:
        unlabelled = [black]
        checks.append("black is one colour more than there are names, so it is ignored")
    plain = [colour for colour in order if colour not in unlabelled]
    if classes is not None and len(classes) != len(plain):
        listed = ", ".join(f"{list(colour)} {colour_name(colour)}" for colour in plain)
        raise ConfigurationError(f"--classes: {len(classes)} names for {len(plain)} colours: {listed}.")
    names = list(classes) if classes is not None else _colour_names(plain)
    if classes is None:
        checks.insert(0, "the names of the classes; the order is black first, then by share")
    options = [_coloured(names, plain, unlabelled, shares, "each colour is a class")]
    if black in plain and len(plain) > 2 and classes is None:
        options.append(_coloured(names[1:], plain[1:], [black], shares, "if black is what was not labelled"))
    summary = f"{len(plain)} colours"
    values = [(f"{','.join(map(str, colour))} {colour_name(colour)}", shares[colour]) for colour in order]
    return MaskInterpretations(summary, options, checks, values, [",".join(map(str, colour)) for colour in unlabelled])


def _coloured(
    names: Sequence[str],
    colours: Sequence[Colour],
    unlabelled: Sequence[Colour],
    shares: Mapping[Colour, float],
    why: str,
) -> MaskInterpretation:
    masks: dict[str, object] = {"encoding": "colors"}
    masks["colors"] = {name: list(colour) for name, colour in zip(names, colours, strict=True)}
    if unlabelled:
        masks["ignore_colors"] = [list(colour) for colour in unlabelled]
    contents = {name: f"{colour_name(c)} ({shares[c]:.1%})" for name, c in zip(names, colours, strict=True)}
    return MaskInterpretation(list(names), masks, why, contents)


def _colour_names(colours: Sequence[Colour]) -> list[str]:
    if len(colours) == 2 and (0, 0, 0) in colours:
        return list(TWO_CLASSES)
    return [f"class_{number}" for number in range(len(colours))]


# --- annotations ---


def _annotations(survey: MaskSurvey, classes: Sequence[str] | None) -> MaskInterpretations:
    """Outlines with labels."""
    annotation_format = ANNOTATION_FORMATS[survey.kind]
    numbered = annotation_format.numbers_labels
    labels = annotation_format.sort_labels(survey.labels)
    if not labels:
        raise ConfigurationError("The annotation files that were read hold no object.")
    if classes is not None:
        names = list(classes) if len(classes) == len(labels) + 1 else ["background", *classes]
        if len(names) != len(labels) + 1:
            raise ConfigurationError(
                f"--classes: the annotations have {len(labels)} labels ({', '.join(labels)}); pass as many names, or "
                "one more, the first for what is around them."
            )
        mapping = dict(zip(labels, names[1:], strict=True))
    elif survey.names:
        names = ["background", *survey.names]
        mapping = {str(number): name for number, name in enumerate(survey.names)}
    else:
        names = ["background", *([f"class_{label}" for label in labels] if numbered else labels)]
        mapping = dict(zip(labels, names[1:], strict=True))
    mapping = {label: name for label, name in mapping.items() if label != name}
    masks: dict[str, object] = {"encoding": survey.kind} | ({"labels": mapping} if mapping else {})
    total = max(1, survey.pixels)
    shares = [(label, survey.labels[label] / total) for label in labels]
    by_name = {mapping.get(label, label): share for label, share in shares}
    contents = {name: f"{share:.1%}" for name, share in by_name.items()}
    checks = ["everything outside the outlines is taken for the background"]
    if survey.boxes:
        count = survey.files[0]
        checks.append(f"{survey.boxes} of {count} objects are boxes and no outlines: they would be filled as they are")
    if numbered and not survey.names and classes is None:
        checks.insert(0, "the names of the classes: no file says what the numbers mean")
    if not survey.complete:
        checks.append(f"{survey.read} of {survey.total} images were read; other labels may occur")
    option = MaskInterpretation(names, masks, f"outlines in {annotation_format.title} files", contents)
    summary = f"{annotation_format.title} annotations: {', '.join(labels[:12])}"
    return MaskInterpretations(summary, [option], checks, shares)


# --- text ---


def _listed(survey: MaskSurvey) -> str:
    values = sorted(survey.values)
    shown = values if len(values) <= 24 else [*values[:20], *values[-2:]]
    parts = [f"{value} ({survey.share(value):.1%})" for value in shown]
    return ", ".join(parts) + (f" and {len(values) - len(shown)} more" if len(shown) < len(values) else "")


def _shares(survey: MaskSurvey, values: Sequence[int]) -> list[tuple[str, float]]:
    return [(str(value), survey.share(value)) for value in values]


def _refuse_names(classes: Sequence[str], plain: list[int], unlabelled: set[int], survey: MaskSurvey) -> None:
    rest = f" besides {', '.join(map(str, sorted(unlabelled)))}, which would be ignored" if unlabelled else ""
    way = "pass one name for each value, in their order; values of no class with --ignore-values"
    if len(classes) > len(plain) and not survey.complete:
        way += f". Only {survey.read} of {survey.total} masks were read: if a rare class is missing, edit the YAML"
    raise ConfigurationError(
        f"--classes: {len(classes)} names ({', '.join(classes)}) for {len(plain)} values "
        f"({', '.join(map(str, plain))}){rest}; {way}."
    )
