"""Propose what masks may mean: the likeliest interpretation first; where it could be wrong, the others follow.

Pixels tell which values there are, but not what these are called, nor which of them mean that nothing was labelled. So
an interpretation comes with what a person has to check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from unet_segmentation.data.audit.suggested_config import Declaration, colour_name
from unet_segmentation.data.io.annotation_format import ANNOTATION_FORMATS
from unet_segmentation.data.onboarding.grey_value_masks import interpret_grey_values
from unet_segmentation.data.onboarding.interpretation import (
    MAX_CLASSES,
    TWO_CLASSES,
    MaskInterpretation,
    MaskInterpretations,
    name_two_classes,
)
from unet_segmentation.data.onboarding.mask_survey import Colour, MaskSurvey
from unet_segmentation.errors import ConfigurationError

BLACK = (0, 0, 0)
STRAY = 1e-4  # share of the pixels; colours below it are hardly classes


def propose_interpretations(
    survey: MaskSurvey, classes: Sequence[str] | None = None, ignore: Sequence[int] | None = None
) -> MaskInterpretations:
    """Propose what masks may mean, with the names of the classes and the values of no class that a user has named.

    Raises:
        ConfigurationError: the names do not fit the values, or a value is ignored that cannot be.
    """
    if survey.kind in ANNOTATION_FORMATS:
        return _annotations(survey, classes)
    if survey.labels:
        result = _masks_by_class(survey, classes)
    elif survey.is_coloured:
        result = _colours(survey, classes)
    else:
        result = interpret_grey_values(survey, classes, set(ignore or ()))
    if ignore and not survey.is_coloured and not any(_ignored_by(result.options[0])):
        options = [
            replace(option, masks=option.masks | {"ignore": sorted({*_ignored_by(option), *ignore})})
            for option in result.options
        ]
        return replace(result, options=options)
    return result


def _ignored_by(option: MaskInterpretation) -> list[int]:
    return cast(list[int], option.masks.get("ignore", []))


def _with_background(classes: Sequence[str], labels: Sequence[str], what: str) -> list[str]:
    """Return the names of the background and of each label."""
    if len(classes) not in {len(labels), len(labels) + 1}:
        raise ConfigurationError(
            f"--classes: {what} ({', '.join(labels)}); pass as many names, or one more, the first for what is around "
            "them."
        )
    return list(classes) if len(classes) > len(labels) else ["background", *classes]


def _masks_by_class(survey: MaskSurvey, classes: Sequence[str] | None) -> MaskInterpretations:
    """Interpret masks of one class each: the path says the class; what is not 0 is of it."""
    labels = sorted(survey.labels)
    what = f"there are masks of {len(labels)} classes"
    names = ["background", *labels] if classes is None else _with_background(classes, labels, what)
    by_label = dict(zip(labels, names[1:], strict=True))
    masks: Declaration = {"encoding": "threshold" if survey.is_soft and len(names) == 2 else "index"}
    if renamed := {label: name for label, name in by_label.items() if label != name}:
        masks["labels"] = renamed
    contents = {name: f"{label} ({survey.labels[label]} masks)" for label, name in by_label.items()}
    options = [MaskInterpretation(names, masks, "each mask shows one class, and its path says which", contents)]
    if classes is None:
        one: Declaration = {"encoding": "index", "labels": dict.fromkeys(labels, TWO_CLASSES[1])}
        options.append(MaskInterpretation(TWO_CLASSES, one, "if all of them are parts of the same class"))
    checks = ["the names of the classes are those in the paths; where masks overlap, the later lies above"]
    if survey.is_soft:
        checks.append(
            "the masks have soft borders (JPEG?): every value above 0 counts as the class; export them as PNG"
        )
    total = max(1, sum(survey.labels.values()))
    shares = [(label, survey.labels[label] / total) for label in labels]
    return MaskInterpretations(f"one mask for each class: {', '.join(labels)}", options, checks, shares)


# --- colours ---


def _colours(survey: MaskSurvey, classes: Sequence[str] | None) -> MaskInterpretations:
    """Each class has a colour."""
    least = STRAY if survey.is_soft else 0
    shares = {colour: count / survey.pixels for colour, count in survey.colours.most_common()}
    shares = {colour: share for colour, share in shares.items() if share >= least}
    if len(shares) > MAX_CLASSES and not survey.ghostly:
        why = "every colour but black is an instance"
        option = MaskInterpretation(name_two_classes(classes), {"encoding": "instances"}, why)
        check = f"{len(shares)} colours or more are taken for instances, each in a colour of its own"
        return MaskInterpretations("colours of instances", [option], [check])
    if len(shares) > MAX_CLASSES:
        raise ConfigurationError(
            f"The masks hold {len(survey.colours)} colours or more, in-between ones along borders: they were saved as "
            "JPEG or resized with interpolation. Export them again as PNG, resized without interpolation if at all."
        )
    checks = []
    if classes is None:
        checks.append("the names of the classes; the order is black first, then by share")
    if survey.is_soft:
        checks.append("in-between colours are errors: the masks were saved as JPEG or resized; export them as PNG")
    order = sorted(shares, key=lambda colour: (colour != BLACK, -shares[colour]))
    unlabelled: list[Colour] = []
    if classes is not None and len(order) == len(classes) + 1 and BLACK in order:
        unlabelled = [BLACK]
        checks.append("black is one colour more than there are names, so it is ignored")
    plain = order[len(unlabelled) :]
    if classes is not None and len(classes) != len(plain):
        listed = ", ".join(f"{list(colour)} {colour_name(colour)}" for colour in plain)
        raise ConfigurationError(f"--classes: {len(classes)} names for {len(plain)} colours: {listed}.")
    names = [f"class_{number}" for number in range(len(plain))] if classes is None else list(classes)
    if classes is None and len(plain) == 2 and BLACK in plain:
        names = TWO_CLASSES
    options = [_coloured(names, plain, unlabelled, shares, "each colour is a class")]
    if BLACK in plain and len(plain) > 2 and classes is None:
        options.append(_coloured(names[1:], plain[1:], [BLACK], shares, "if black is what was not labelled"))
    values = [(f"{_text(colour)} {colour_name(colour)}", shares[colour]) for colour in order]
    return MaskInterpretations(f"{len(plain)} colours", options, checks, values, list(map(_text, unlabelled)))


def _text(colour: Colour) -> str:
    return ",".join(map(str, colour))


def _coloured(
    names: list[str],
    colours: Sequence[Colour],
    unlabelled: Sequence[Colour],
    shares: Mapping[Colour, float],
    why: str,
) -> MaskInterpretation:
    table = dict(zip(names, colours, strict=True))
    masks: Declaration = {"encoding": "colors", "colors": {name: list(colour) for name, colour in table.items()}}
    if unlabelled:
        masks["ignore_colors"] = [list(colour) for colour in unlabelled]
    contents = {name: f"{colour_name(colour)} ({shares[colour]:.1%})" for name, colour in table.items()}
    return MaskInterpretation(names, masks, why, contents)


def _annotations(survey: MaskSurvey, classes: Sequence[str] | None) -> MaskInterpretations:
    """Outlines with labels."""
    annotation_format = ANNOTATION_FORMATS[survey.kind]
    numbered = annotation_format.numbers_labels
    labels = annotation_format.sort_labels(survey.labels)
    if not labels:
        raise ConfigurationError("The annotation files that were read hold no object.")
    mapped = labels
    if classes is not None:
        names = _with_background(classes, labels, f"the annotations have {len(labels)} labels")
    elif survey.names:
        names = ["background", *survey.names]
        mapped = [str(number) for number in range(len(survey.names))]
    else:
        names = ["background", *([f"class_{label}" for label in labels] if numbered else labels)]
    mapping = {label: name for label, name in zip(mapped, names[1:], strict=True) if label != name}
    masks: Declaration = {"encoding": survey.kind} | ({"labels": mapping} if mapping else {})
    shares = [(label, survey.labels[label] / max(1, survey.pixels)) for label in labels]
    contents = {mapping.get(label, label): f"{share:.1%}" for label, share in shares}
    checks = []
    if numbered and not survey.names and classes is None:
        checks.append("the names of the classes: no file says what the numbers mean")
    checks.append("everything outside the outlines is taken for the background")
    if survey.boxes:
        count = survey.files[0]
        checks.append(f"{survey.boxes} of {count} objects are boxes and no outlines: they would be filled as they are")
    if not survey.complete:
        checks.append(f"{survey.read} of {survey.total} images were read; other labels may occur")
    option = MaskInterpretation(names, masks, f"outlines in {annotation_format.title} files", contents)
    summary = f"{annotation_format.title} annotations: {', '.join(labels[:12])}"
    return MaskInterpretations(summary, [option], checks, shares)
