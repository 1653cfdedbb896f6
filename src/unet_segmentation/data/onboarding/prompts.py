"""Questions about what pixels cannot tell: which value is void, what the classes are called, which reading is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import click

from unet_segmentation.data.onboarding.create_problem import Request, describe
from unet_segmentation.data.onboarding.folder_survey import Survey
from unet_segmentation.data.onboarding.mask_interpretation import Interpretation, propose_interpretations
from unet_segmentation.errors import ConfigurationError

MOST_QUESTIONS = 24  # classes that are asked for one by one
BY_VALUE = {"index", "palette"}


class Questions:
    """Asks on a terminal.

    Args:
        request: what the user said already is not asked again.
    """

    def __init__(self, request: Request) -> None:
        self._classes, self._ignore = request.classes, request.ignore

    def __call__(self, survey: Survey, found: Interpretation) -> Interpretation:
        """Show what was found, ask, and read the masks anew with the answers."""
        for line in describe(survey, found):
            click.echo(line)
        click.echo("\nA few questions; Enter takes what stands in brackets.")
        ignore = self._ignore
        if ignore is None and found.readings[0].masks["encoding"] in BY_VALUE and len(found.values) > 2:
            ignore = self._ask_void(found)
        found = propose_interpretations(survey.masks, self._classes, ignore)
        if self._classes is None:
            found = self._ask_names(survey, found, ignore)
        return _ask_reading(found)

    def _ask_void(self, found: Interpretation) -> list[int]:
        shown = ", ".join(f"{value} ({share:.1%})" for value, share in found.values)
        click.echo(f"\nThe masks hold {shown}.")
        while True:
            given = click.prompt(
                "Values that mean nothing was labelled, or a border (none, or with commas)",
                default=",".join(found.void) or "none",
            )
            try:
                values = [] if given.strip() == "none" else [int(part) for part in given.split(",") if part.strip()]
            except ValueError:
                click.echo("Whole numbers with commas between them, please.")
                continue
            if unknown := [value for value in values if str(value) not in {name for name, _ in found.values}]:
                click.echo(f"No mask holds {unknown[0]}.")
                continue
            return values

    def _ask_names(self, survey: Survey, found: Interpretation, ignore: list[int] | None) -> Interpretation:
        names = found.readings[0].classes
        if len(names) > MOST_QUESTIONS:
            click.echo(f"\n{len(names)} classes: name them in the YAML.")
            return found
        click.echo("\nWhat are the classes called?")
        while True:
            given: list[str] = []
            for name in names:
                what = found.readings[0].found.get(name, "around the others")
                given.append(_ask_name(what, name, given))
            try:
                return found if given == names else propose_interpretations(survey.masks, given, ignore)
            except ConfigurationError as error:
                click.echo(str(error))


def _ask_name(what: str, default: str, taken: Sequence[str]) -> str:
    while True:
        name = click.prompt(f"  {what}", default=default).strip()
        if name and name not in taken:
            return name
        click.echo("  That name is taken already.")


def _ask_reading(found: Interpretation) -> Interpretation:
    """Let the user choose where the masks can be read in several ways."""
    if len(found.readings) < 2:
        return found
    click.echo("\nThe masks can be read in several ways:")
    for number, reading in enumerate(found.readings, start=1):
        click.echo(f"  {number}  {reading.why} (classes: {', '.join(reading.classes)})")
    chosen = click.prompt("Which is right?", type=click.IntRange(1, len(found.readings)), default=1)
    first = found.readings[chosen - 1]
    others = [reading for reading in found.readings if reading is not first]
    return replace(found, readings=[first, *others])
