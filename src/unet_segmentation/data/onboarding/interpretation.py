"""What masks may mean: one interpretation, and all of them with what a person has to check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from unet_segmentation.data.audit.suggested_config import Declaration
from unet_segmentation.errors import ConfigurationError

TWO_CLASSES = ["background", "object"]
MAX_CLASSES = 64  # different values or colors; more are hardly classes


@dataclass(frozen=True)
class MaskInterpretation:
    """One interpretation of the masks."""

    classes: list[str]  # in the order of their ids
    masks: Declaration
    why: str  # when this is right
    contents: Mapping[str, str] = field(default_factory=dict)  # by class, its value and its share: `0 (53.1%)`


@dataclass(frozen=True)
class MaskInterpretations:
    """All interpretations of the masks."""

    summary: str
    options: list[MaskInterpretation]  # the likeliest first
    checks: list[str] = field(default_factory=list)  # what a person has to check
    values: list[tuple[str, float]] = field(default_factory=list)  # to be named or ignored, with shares: `("128", 0.2)`
    ignored: list[str] = field(default_factory=list)  # by the first interpretation


def name_two_classes(classes: Sequence[str] | None) -> list[str]:
    """Return the names of two classes: both names, the one that is not background, or default names.

    Raises:
        ConfigurationError: there are more.
    """
    if classes is None:
        return TWO_CLASSES
    if len(classes) == 1:
        return ["background", classes[0]]
    if len(classes) != 2:
        raise ConfigurationError(f"--classes: the masks hold two values, but there are {len(classes)} names.")
    return list(classes)


def default_names(count: int) -> list[str]:
    """Return names for values or colors that nobody has named."""
    return TWO_CLASSES if count == 2 else [f"class_{number}" for number in range(count)]
