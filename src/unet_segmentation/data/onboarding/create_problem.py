"""`kedro problem new`: survey a folder, ask what pixels cannot tell, write the problem and describe it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_segmentation.data.layout.layout import samples_table
from unet_segmentation.data.onboarding.config_writer import problem_text, sizes_text, unsure
from unet_segmentation.data.onboarding.contact_sheet import write_sheet
from unet_segmentation.data.onboarding.folder_survey import Survey, locate, survey_folder
from unet_segmentation.data.onboarding.interpretation import MaskInterpretations
from unet_segmentation.data.onboarding.mask_interpretation import propose_interpretations
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.parameters import Parameters, validate_parameters
from unet_segmentation.utils.atomic_io import atomic_write

RESERVED = {"base", "local", "template", "test"}
LISTED_FILES = 5


@dataclass(frozen=True)
class Request:
    """The arguments of the command."""

    name: str  # of the problem
    images: str  # folder, or URL
    masks: str | None = None  # folder; None to search for them
    classes: list[str] | None = None  # in the order of the values; None where nobody has named them
    ignore: list[int] | None = None  # values that belong to no class
    force: bool = False  # overwrite a problem of this name


Ask = Callable[[Request, Survey, MaskInterpretations], MaskInterpretations]


def create_problem(request: Request, project: Path, conf: Path, ask: Ask | None = None) -> list[str]:
    """Create a problem from a folder; return a description, line by line.

    Args:
        request: the arguments of the command.
        project: the project's root.
        conf: its folder of configurations.
        ask: asks what pixels cannot tell; None where nobody can be asked.

    Raises:
        ProjectError: the folder cannot be made a problem; the message says why.
    """
    _check_name(request, conf)
    folders = locate(request.images, request.masks)
    survey = survey_folder(folders)
    proposal = propose_interpretations(survey.masks, request.classes, request.ignore)
    if ask is not None:
        proposal = ask(request, survey, proposal)
    folder = folders.root if "://" in folders.root else _shown(Path(folders.root), project)
    text = problem_text(request.name, survey, proposal, folder)
    parameters = _validated(text, conf, request.name, survey)
    sheet = project / "data" / "08_reporting" / request.name / "onboarding.png"
    problems = write_sheet(sheet, survey, parameters)
    file = conf / request.name / "parameters.yml"
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    lines = describe(survey, proposal)
    lines += [f"Unreadable  {line}" for line in problems if line.partition(":")[0] not in survey.unreadable][
        :LISTED_FILES
    ]
    lines += ["", f"Written     {_shown(file, project)}"]
    if sheet.is_file():
        lines.append(f"Preview     {_shown(sheet, project)}      (images next to their masks, as they are read now)")
    lines.append(f"Next        kedro problem audit {request.name}")
    return [*lines, f"            kedro run --env {request.name}"]


def _check_name(request: Request, conf: Path) -> None:
    """Raise where the name of a new problem cannot be used, or is in use."""
    name = request.name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ConfigurationError(
            f"{name!r} cannot be the name of a problem: use letters, digits, _ and -, and begin with a letter or digit."
        )
    if name in RESERVED:
        raise ConfigurationError(f"{name!r} is reserved by the project: choose another name.")
    if (conf / name).is_dir() and any((conf / name).iterdir()) and not request.force:
        raise ConfigurationError(
            f"{conf / name} is there already. Choose another name, or overwrite it with --overwrite."
        )


def _validated(text: str, conf: Path, name: str, survey: Survey) -> Parameters:
    """Load the parameters as a run would, and check that they select samples."""
    from omegaconf import OmegaConf

    layers = [OmegaConf.load(file) for file in sorted((conf / "base").glob("parameters*.yml"))]
    merged = OmegaConf.merge(*layers, OmegaConf.create(text), {"problem": name})
    parameters = validate_parameters(OmegaConf.to_container(merged))  # type: ignore[arg-type]
    samples_table(survey.samples, parameters.source.group, survey.folders.root)
    return parameters


def describe(survey: Survey, proposal: MaskInterpretations) -> list[str]:
    """Describe the data and the proposed parameters, and what is not certain."""
    pairing, images = survey.pairing, survey.images
    option = proposal.options[0]
    channels = " or ".join(map(str, sorted(images.channels)))
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
    if not survey.has_split:
        return "none is predefined: random, with a seed"
    splits = [sample.split for sample in survey.samples if sample.image and sample.masks]
    counts = [f"{name} {splits.count(name)}" for name in ("train", "validation", "test") if name in splits]
    means = "folders or names"
    if survey.official is not None:
        table = survey.official.table
        means = f"the table {table.file}" if table else f"the lists {', '.join(survey.official.lists.values())}"
    return f"official, by {means}: {', '.join(counts)}"


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
    """Return a path relative to the project, so that the project can be moved; the whole path where it is outside."""
    return path.relative_to(project).as_posix() if path != project and path.is_relative_to(project) else str(path)
