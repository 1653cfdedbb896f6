"""Ask what pixels cannot tell: values of no class, the names of the classes, which interpretation is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import click

from unet_segmentation.data.onboarding.create_problem import Request, describe
from unet_segmentation.data.onboarding.folder_survey import Survey
from unet_segmentation.data.onboarding.interpretation import MaskInterpretations
from unet_segmentation.data.onboarding.mask_interpretation import propose_interpretations
from unet_segmentation.errors import ConfigurationError

MAX_QUESTIONS = 24  # classes that are asked for one by one
BY_VALUE = {"index", "palette"}


def ask_questions(request: Request, survey: Survey, proposal: MaskInterpretations) -> MaskInterpretations:
    """Describe the survey, ask what the request does not say, and interpret the masks again with the answers."""
    for line in describe(survey, proposal):
        click.echo(line)
    click.echo("\nA few questions; Enter accepts the value in brackets.")
    ignore = request.ignore
    if ignore is None and proposal.options[0].masks["encoding"] in BY_VALUE and len(proposal.values) > 2:
        ignore = _ask_ignored(proposal)
    proposal = propose_interpretations(survey.masks, request.classes, ignore)
    if request.classes is None:
        proposal = _ask_names(survey, proposal, ignore)
    return _ask_interpretation(proposal)


def _ask_ignored(proposal: MaskInterpretations) -> list[int]:
    shown = ", ".join(f"{value} ({share:.1%})" for value, share in proposal.values)
    click.echo(f"\nThe masks hold {shown}.")
    while True:
        answer = click.prompt(
            "Values that mean nothing was labeled, or a border (none, or with commas)",
            default=",".join(proposal.ignored) or "none",
        )
        try:
            values = [] if answer.strip() == "none" else [int(part) for part in answer.split(",") if part.strip()]
        except ValueError:
            click.echo("Whole numbers with commas between them, please.")
            continue
        if absent := [value for value in values if str(value) not in dict(proposal.values)]:
            click.echo(f"No mask holds {absent[0]}.")
            continue
        return values


def _ask_names(survey: Survey, proposal: MaskInterpretations, ignore: list[int] | None) -> MaskInterpretations:
    names = proposal.options[0].classes
    if len(names) > MAX_QUESTIONS:
        click.echo(f"\n{len(names)} classes: name them in the YAML.")
        return proposal
    click.echo("\nWhat are the classes called?")
    while True:
        answers: list[str] = []
        for name in names:
            content = proposal.options[0].contents.get(name, "around the others")
            answers.append(_ask_name(content, name, answers))
        try:
            return proposal if answers == names else propose_interpretations(survey.masks, answers, ignore)
        except ConfigurationError as error:
            click.echo(str(error))


def _ask_name(content: str, default: str, used: Sequence[str]) -> str:
    while True:
        name = click.prompt(f"  {content}", default=default).strip()
        if name and name not in used:
            return name
        click.echo("  That name is taken already.")


def _ask_interpretation(proposal: MaskInterpretations) -> MaskInterpretations:
    """Ask which is right where there are several interpretations."""
    if len(proposal.options) < 2:
        return proposal
    click.echo("\nThe masks can be interpreted in several ways:")
    for number, option in enumerate(proposal.options, start=1):
        click.echo(f"  {number}  {option.why} (classes: {', '.join(option.classes)})")
    number = click.prompt("Which is right?", type=click.IntRange(1, len(proposal.options)), default=1)
    first = proposal.options[number - 1]
    others = [option for option in proposal.options if option is not first]
    return replace(proposal, options=[first, *others])
