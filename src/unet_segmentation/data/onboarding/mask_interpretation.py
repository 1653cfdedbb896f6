"""Propose what masks may mean: the likeliest interpretation first; where it could be wrong, the others follow.

Pixels tell which values there are, but not what these are called, nor which of them mean that nothing was labeled. So
an interpretation comes with what a person has to check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from unet_segmentation.data.audit.suggested_config import Declaration, color_name
from unet_segmentation.data.io.annotation_format import ANNOTATION_FORMATS
from unet_segmentation.data.onboarding.gray_value_masks import interpret_gray_values
from unet_segmentation.data.onboarding.interpretation import (
    MAX_CLASSES,
    TWO_CLASSES,
    MaskInterpretation,
    MaskInterpretations,
    name_two_classes,
)
from unet_segmentation.data.onboarding.mask_survey import Color, MaskSurvey
from unet_segmentation.errors import ConfigurationError

BLACK = (0, 0, 0)
STRAY = 1e-4  # share of the pixels; colors below it are hardly classes


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
    elif survey.is_colored:
        result = _colors(survey, classes)
    else:
        result = interpret_gray_values(survey, classes, set(ignore or ()))
    if ignore and not survey.is_colored and not any(_ignored_by(result.options[0])):
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


# --- colors ---


def _colors(survey: MaskSurvey, classes: Sequence[str] | None) -> MaskInterpretations:
    """Each class has a color."""
    least = STRAY if survey.is_soft else 0
    shares = {color: count / survey.pixels for color, count in survey.colors.most_common()}
    shares = {color: share for color, share in shares.items() if share >= least}
    if len(shares) > MAX_CLASSES and not survey.ghostly:
        why = "every color but black is an instance"
        option = MaskInterpretation(name_two_classes(classes), {"encoding": "instances"}, why)
        check = f"{len(shares)} colors or more are taken for instances, each in a color of its own"
        return MaskInterpretations("colors of instances", [option], [check])
    if len(shares) > MAX_CLASSES:
        raise ConfigurationError(
            f"The masks hold {len(survey.colors)} colors or more, in-between ones along borders: they were saved as "
            "JPEG or resized with interpolation. Export them again as PNG, resized without interpolation if at all."
        )
    checks = []
    if classes is None:
        checks.append("the names of the classes; the order is black first, then by share")
    if survey.is_soft:
        checks.append("in-between colors are errors: the masks were saved as JPEG or resized; export them as PNG")
    order = sorted(shares, key=lambda color: (color != BLACK, -shares[color]))
    unlabeled: list[Color] = []
    if classes is not None and len(order) == len(classes) + 1 and BLACK in order:
        unlabeled = [BLACK]
        checks.append("black is one color more than there are names, so it is ignored")
    plain = order[len(unlabeled) :]
    if classes is not None and len(classes) != len(plain):
        listed = ", ".join(f"{list(color)} {color_name(color)}" for color in plain)
        raise ConfigurationError(f"--classes: {len(classes)} names for {len(plain)} colors: {listed}.")
    names = [f"class_{number}" for number in range(len(plain))] if classes is None else list(classes)
    if classes is None and len(plain) == 2 and BLACK in plain:
        names = TWO_CLASSES
    options = [_colored(names, plain, unlabeled, shares, "each color is a class")]
    if BLACK in plain and len(plain) > 2 and classes is None:
        options.append(_colored(names[1:], plain[1:], [BLACK], shares, "if black is what was not labeled"))
    values = [(f"{_text(color)} {color_name(color)}", shares[color]) for color in order]
    return MaskInterpretations(f"{len(plain)} colors", options, checks, values, list(map(_text, unlabeled)))


def _text(color: Color) -> str:
    return ",".join(map(str, color))


def _colored(
    names: list[str],
    colors: Sequence[Color],
    unlabeled: Sequence[Color],
    shares: Mapping[Color, float],
    why: str,
) -> MaskInterpretation:
    table = dict(zip(names, colors, strict=True))
    masks: Declaration = {"encoding": "colors", "colors": {name: list(color) for name, color in table.items()}}
    if unlabeled:
        masks["ignore_colors"] = [list(color) for color in unlabeled]
    contents = {name: f"{color_name(color)} ({shares[color]:.1%})" for name, color in table.items()}
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
