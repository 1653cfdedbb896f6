"""Masks of two values, such as 0 and 255: a list of rules proposes their interpretations, the likeliest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from unet_segmentation.data.onboarding.interpretation import (
    TWO_CLASSES,
    MaskInterpretation,
    MaskInterpretations,
    name_two_classes,
)
from unet_segmentation.data.onboarding.mask_survey import MaskSurvey
from unet_segmentation.utils.ignore_index import IGNORE_INDEX

FEW_PARTS = 3  # masks of one image, up to which they are rather parts than instances


@dataclass(frozen=True)
class TwoValues:
    """What the rules ask of the masks."""

    survey: MaskSurvey
    classes: Sequence[str] | None

    @cached_property
    def names(self) -> list[str]:
        """Names of the two classes."""
        return name_two_classes(self.classes)

    @cached_property
    def low_and_high(self) -> tuple[int, int]:
        """Two values, as a viewer shows them."""
        low, high = sorted(self.survey.shown)
        return low, high

    @cached_property
    def shares(self) -> tuple[float, float]:
        """Their shares of the pixels."""
        low, high = (self.survey.shown[value] for value in self.low_and_high)
        total = max(1, low + high)
        return low / total, high / total

    @property
    def contents(self) -> dict[str, str]:
        """Value and share of each class."""
        return {
            name: f"{value} ({share:.1%})"
            for name, value, share in zip(self.names, self.low_and_high, self.shares, strict=True)
        }

    @property
    def is_stored_as_shown(self) -> bool:
        """Return whether files hold these values; else they have one bit, or a palette."""
        return set(self.survey.values) == set(self.survey.shown)

    @property
    def is_stored_as_ids(self) -> bool:
        """Return whether files hold 0 and 1 (one bit, or indices of a palette), 1 for the brighter value."""
        survey = self.survey
        if self.is_stored_as_shown or set(survey.values) != {0, 1} or survey.palettes_differ:
            return False
        return not survey.palette or sum(survey.palette[0]) < sum(survey.palette[1])

    @property
    def is_paletted(self) -> bool:
        """Return whether all files have a palette."""
        return self.survey.paletted == self.survey.read

    @property
    def is_exact(self) -> bool:
        """Return whether an encoding by values is possible."""
        return self.is_stored_as_shown or self.is_stored_as_ids

    @property
    def has_several(self) -> bool:
        """Return whether images have several masks."""
        return bool(self.survey.several)

    @property
    def may_be_instances(self) -> bool:
        """Return whether each of several masks may show one instance."""
        return self.has_several and not (self.survey.ghostly or self.survey.lossy)

    @property
    def has_few_parts(self) -> bool:
        """Return whether several masks are so few that they are rather parts of one."""
        return self.survey.most <= FEW_PARTS

    @property
    def is_mostly_high(self) -> bool:
        """Return whether the brighter value may be the background."""
        return self.shares[1] > 0.5 and not self.has_several

    def interpretation(self, masks: dict[str, object], why: str) -> MaskInterpretation:
        """Build an interpretation with the names as they are."""
        joined: dict[str, object] = {"merge": True} if self.has_several and masks["encoding"] != "instances" else {}
        return MaskInterpretation(self.names, masks | joined, why, self.contents)


@dataclass(frozen=True)
class Rule:
    """An interpretation, and when it applies."""

    applies: Callable[[TwoValues], bool]
    interpret: Callable[[TwoValues], MaskInterpretation]


def _instances(facts: TwoValues) -> MaskInterpretation:
    return facts.interpretation({"encoding": "instances"}, f"each mask shows one {facts.names[1]}")


def _palette(facts: TwoValues) -> MaskInterpretation:
    return facts.interpretation({"encoding": "palette"}, "stored as 0 and 1, and read so")


def _ids(facts: TwoValues) -> MaskInterpretation:
    return facts.interpretation({"encoding": "index"}, "stored as 0 and 1, and read so")


def _values(facts: TwoValues) -> MaskInterpretation:
    values = dict(zip(facts.low_and_high, facts.names, strict=True))
    why = "exact values: any other value in a mask is an error"
    return facts.interpretation({"encoding": "index", "values": values}, why)


def _threshold(facts: TwoValues) -> MaskInterpretation:
    threshold = sum(facts.low_and_high) // 2
    why = f"the brighter value is {facts.names[1]}, also in masks with soft borders"
    return facts.interpretation({"encoding": "threshold", "threshold": threshold}, why)


def _inverted(facts: TwoValues) -> MaskInterpretation:
    """Make the brighter value class 0, the background."""
    low, high = (0, 1) if facts.is_stored_as_ids else facts.low_and_high
    names = TWO_CLASSES[::-1] if facts.classes is None else facts.names
    contents = list(facts.contents.values())
    return MaskInterpretation(
        [names[1], names[0]],
        {"encoding": "index", "values": {low: names[0], high: names[1]}},
        f"if {high} is the background, and {low} what you look for",
        {names[1]: contents[1], names[0]: contents[0]},
    )


RULES = (  # the likeliest first
    Rule(lambda facts: facts.may_be_instances and not facts.has_few_parts, _instances),
    Rule(lambda facts: facts.is_stored_as_ids and facts.is_paletted, _palette),
    Rule(lambda facts: facts.is_stored_as_ids and not facts.is_paletted, _ids),
    Rule(lambda facts: facts.is_stored_as_shown, _values),
    Rule(lambda facts: not (facts.is_exact and facts.may_be_instances and facts.has_few_parts), _threshold),
    Rule(lambda facts: facts.is_exact and facts.is_mostly_high, _inverted),
    Rule(lambda facts: facts.may_be_instances and facts.has_few_parts, _instances),
)


def interpret_two_values(survey: MaskSurvey, classes: Sequence[str] | None) -> MaskInterpretations:
    """Propose interpretations of masks that hold two values.

    Args:
        survey: of the masks.
        classes: their names; None where there are none.
    """
    facts = TwoValues(survey, classes)
    (low, high), shares = facts.low_and_high, facts.shares
    options = [rule.interpret(facts) for rule in RULES if rule.applies(facts)]
    summary = f"two values, {low} ({shares[0]:.1%}) and {high} ({shares[1]:.1%})"
    values = [(str(low), shares[0]), (str(high), shares[1])]
    return MaskInterpretations(summary, options, _checks(facts), values)


def _checks(facts: TwoValues) -> list[str]:
    checks = ["the names of the two classes"] if facts.classes is None else []
    low, high = facts.low_and_high
    if facts.is_mostly_high:
        share = f"{facts.shares[1]:.1%}"
        checks.append(f"{high} covers {share} of the pixels: is it the background, and {low} what you look for?")
    if facts.has_several:
        checks.append(
            f"{facts.survey.several} images have several masks (up to {facts.survey.most}): all of them are "
            f"{facts.names[1]}, whether they are instances or parts"
        )
    elif high == IGNORE_INDEX and not facts.is_stored_as_ids:
        checks.append("0 and 255 are read as two classes; 255 is not void here")
    return checks
