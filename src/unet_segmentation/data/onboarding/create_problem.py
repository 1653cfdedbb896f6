"""`kedro problem new`: survey a folder, ask what pixels cannot tell, write the problem and describe it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from unet_segmentation.data.onboarding.config_writer import (
    check_name,
    has_split,
    problem_text,
    root_text,
    sizes_text,
    split_counts,
    unsure,
    validated,
    write_problem,
)
from unet_segmentation.data.onboarding.contact_sheet import write_sheet
from unet_segmentation.data.onboarding.folder_survey import Progress, Survey, locate, survey_folder
from unet_segmentation.data.onboarding.interpretation import MaskInterpretations
from unet_segmentation.data.onboarding.mask_interpretation import propose_interpretations

LISTED_FILES = 5
Ask = Callable[[Survey, MaskInterpretations], MaskInterpretations]


@dataclass(frozen=True)
class Request:
    """The arguments of the command.

    Attributes:
        name: of the problem.
        images: folder, or URL.
        masks: folder of the masks; None to search for them.
        classes: names in the order of the values; None where there are none.
        ignore: values that belong to no class; None where nobody has named them.
        force: overwrite a problem of this name.
    """

    name: str
    images: str
    masks: str | None = None
    classes: list[str] | None = None
    ignore: list[int] | None = None
    force: bool = False


def create_problem(request: Request, project: Path, conf: Path, ask: Ask | None = None) -> list[str]:
    """Create a problem from a folder.

    Args:
        request: the arguments of the command.
        project: the project's root.
        conf: its folder of configurations.
        ask: asks what pixels cannot tell; None where nobody can be asked.

    Returns:
        A description, line by line.

    Raises:
        ProjectError: the folder cannot be made a problem; the message says why.
    """
    check_name(request.name, conf, force=request.force)
    folders = locate(request.images, request.masks)
    with _progress() as progress:
        survey = survey_folder(folders, progress)
    proposal = propose_interpretations(survey.masks, request.classes, request.ignore)
    if ask is not None:
        proposal = ask(survey, proposal)
    text = problem_text(request.name, survey, proposal, root_text(folders.root, project))
    parameters = validated(text, conf, request.name, survey)
    sheet = project / "data" / "08_reporting" / request.name / "onboarding.png"
    problems = write_sheet(sheet, survey, parameters)
    file = write_problem(text, conf, request.name)
    lines = describe(survey, proposal)
    lines += [f"Unreadable  {line}" for line in problems if line.partition(":")[0] not in survey.unreadable][
        :LISTED_FILES
    ]
    lines += ["", f"Written     {_shown(file, project)}"]
    if sheet.is_file():
        lines.append(f"Preview     {_shown(sheet, project)}      (images next to their masks, as they are read now)")
    lines.append(f"Next        kedro problem audit {request.name}")
    return [*lines, f"            kedro run --env {request.name}"]


def describe(survey: Survey, proposal: MaskInterpretations) -> list[str]:
    """Describe the data and the proposed parameters, and what is not certain."""
    pairing, images = survey.pairing, survey.images
    option = proposal.options[0]
    channels = " or ".join(f"{count}" for count in sorted(images.channels))
    formats = f"{', '.join(sorted(images.formats))}, {channels} {'channel' if channels == '1' else 'channels'}"
    lines = [
        f"Folder      {survey.folders.root}: {len(survey.paths)} files",
        f"Images      {sum(bool(sample.image) for sample in survey.samples)}: {pairing.images}",
        f"            {formats}, {', '.join(sorted(images.depths))}, {sizes_text(survey)}",
        f"Masks       {len(pairing.pairs)} images have one: {pairing.masks}",
        f"            {proposal.summary}",
        f"Read as     {option.masks['encoding']}: {option.why}",
    ]
    for name in option.classes:
        content = option.contents.get(name, "not in the files of its own: what is around the others")
        lines.append(f"            {name:<20} {content}")
    if proposal.ignored:
        lines.append(f"            {'(ignored)':<20} {', '.join(proposal.ignored)}")
    if pairing.roi is not None:
        lines.append(f"Region      {pairing.roi}")
    lines.append(f"Split       {_split(survey)}")
    lines += _unused_files(survey)
    checks = unsure(survey, proposal)
    if checks:
        lines += ["", "Unsure of (marked CHECK in the YAML)"]
        lines += [f"  * {check}" for check in checks]
    if len(proposal.options) > 1:
        lines += ["", "Other interpretations (in the YAML, commented out)"]
        lines += [f"  * {other.why}: classes {', '.join(other.classes)}" for other in proposal.options[1:]]
    return lines


def _split(survey: Survey) -> str:
    if not has_split(survey):
        return "none is predefined: random, with a seed"
    counts = ", ".join(f"{name} {count}" for name, count in split_counts(survey).items())
    if survey.official is None:
        return f"official, by folders or names: {counts}"
    if survey.official.table is not None:
        return f"official, by the table {survey.official.table.file}: {counts}"
    return f"official, by the lists {', '.join(survey.official.lists.values())}: {counts}"


def _unused_files(survey: Survey) -> list[str]:
    pairing = survey.pairing
    lines = []
    for paths, reason in (
        (pairing.without_mask, "images have no mask"),
        (pairing.without_image, "masks have no image"),
        (pairing.unused, "other pictures are not used"),
        ([f"{path} {error}" for path, error in survey.unreadable.items()], "files cannot be read and were skipped"),
    ):
        if paths:
            lines.append(f"Left over   {len(paths)} {reason}: {_some(paths)}")
    return lines


def _some(paths: Sequence[str]) -> str:
    return ", ".join(paths[:LISTED_FILES]) + (", ..." if len(paths) > LISTED_FILES else "")


def _shown(path: Path, project: Path) -> str:
    return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show a progress bar, on a terminal only."""
    from rich import get_console
    from rich.progress import Progress as Bars

    with Bars(console=get_console(), transient=True, disable=not get_console().is_terminal) as bars:
        task = bars.add_task("", total=1.0)
        yield lambda step, share: bars.update(task, description=step, completed=share)
