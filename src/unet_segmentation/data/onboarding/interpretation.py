"""What masks may mean: one interpretation, and all of them with what a person has to check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from unet_segmentation.errors import ConfigurationError

TWO_CLASSES = ("background", "object")


@dataclass(frozen=True)
class MaskInterpretation:
    """One interpretation of the masks.

    Attributes:
        classes: names, in the order of their ids.
        masks: what is declared under `masks`.
        why: when this is right.
        contents: of each class, its value in the files and its share: `0 (53.1%)`.
    """

    classes: list[str]
    masks: dict[str, object]
    why: str
    contents: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskInterpretations:
    """All interpretations of the masks.

    Attributes:
        summary: what the masks are, for people.
        options: the likeliest first.
        checks: what a person has to check.
        values: what may be named or ignored, with shares: `("128", 0.21)`. In the order in which names are asked for.
        ignored: what the first interpretation ignores.
    """

    summary: str
    options: list[MaskInterpretation]
    checks: list[str] = field(default_factory=list)
    values: list[tuple[str, float]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


def name_two_classes(classes: Sequence[str] | None) -> list[str]:
    """Return the names of two classes.

    Args:
        classes: the names of both, or of the one that is not background; None for default names.

    Raises:
        ConfigurationError: there are more.
    """
    if classes is None:
        return list(TWO_CLASSES)
    if len(classes) == 1:
        return ["background", classes[0]]
    if len(classes) != 2:
        raise ConfigurationError(f"--classes: the masks hold two values, but there are {len(classes)} names.")
    return list(classes)
