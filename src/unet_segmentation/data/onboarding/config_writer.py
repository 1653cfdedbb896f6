"""Write `conf/NAME/parameters.yml` from a survey, with comments that say what is certain and what is not."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import yaml

from unet_segmentation.data.audit.suggested_config import Declaration, propose_range
from unet_segmentation.data.onboarding.folder_survey import Survey
from unet_segmentation.data.onboarding.interpretation import MaskInterpretation, MaskInterpretations

FEW, MANY = 100, 1000  # samples
CPU_PATCH = 128  # pixels
RARE = 0.01  # share of the pixels
WIDTH = 116  # of a line of comment


def problem_text(name: str, survey: Survey, proposal: MaskInterpretations, folder: str) -> str:
    """Format the parameters of a problem: the first interpretation is declared, the others are comments."""
    blocks = [
        _head(name, survey, proposal),
        _source(survey, folder),
        _images(survey),
        _classes(survey, proposal),
        *(_other(other) for other in proposal.options[1:]),
        _training(survey, proposal),
    ]
    return "\n".join(block for block in blocks if block)


# --- blocks ---


def _head(name: str, survey: Survey, proposal: MaskInterpretations) -> str:
    pairs, classes = len(survey.pairing.pairs), len(proposal.options[0].classes)
    lines = [
        f"{name}: {pairs} images of {sizes_text(survey)}, {classes} classes.",
        "",
        "Written by kedro problem new from what is in the files. Correct what is wrong; whatever is not here",
        "keeps its default (conf/base). Then:",
        "",
        f"    kedro problem audit {name}     checks every file, without training",
        f"    kedro run --env {name}         trains and evaluates",
    ]
    checks = unsure(survey, proposal)
    if checks:
        lines += ["", "CHECK, because pixels cannot tell:"]
        lines += [line for check in checks for line in _wrapped(f"  * {check}", 4)]
    return _commented(lines)


def _source(survey: Survey, folder: str) -> str:
    pairing, official = survey.pairing, survey.official
    lines = ["source:", f"  folder: {_flow(folder)}", f"  images: {_quoted(pairing.images)}"]
    lines.append(f"  masks: {_quoted(pairing.masks)}")
    lines += [f"  # masks: {_quoted(glob)}      # these fit the same images" for glob in pairing.others]
    if pairing.roi is not None:
        lines += ["  # Pixels outside the region of interest count nowhere.", f"  roi: {_quoted(pairing.roi)}"]
    if pairing.splits:
        lines.append(f"  splits: {_flow(pairing.splits)}")
    lines += [f"  # Left out: {dropped}." for dropped in pairing.dropped]
    if official is not None and official.lists:
        lines.append(f"  split_lists: {_flow(official.lists)}")
        if official.unlisted != "exclude":
            lines.append(f"  unlisted: {official.unlisted}      # samples on no list")
    if official is not None and official.table is not None:
        lines.append(f"  split_table: {_flow(official.table.model_dump(mode='json', exclude_defaults=True))}")
    lines += _group(survey)
    lines += [
        "  # Under which terms the data may be used, and what to cite.",
        "  license: not stated",
        '  citation: ""',
        "",
    ]
    return "\n".join(lines)


def _group(survey: Survey) -> list[str]:
    """Keep the images of a folder together where the folders seem to be patients or scenes."""
    if survey.has_groups:
        return [
            "  # The images of one folder (a patient, a scene) stay together in a split. CHECK: remove it if a folder",
            "  # is no such thing.",
            '  group: "^(.+)/"',
        ]
    if survey.has_split:
        return []
    return [
        "  # Samples that must stay together in a split (a patient, a video, a slide): a pattern that picks the group",
        "  # out of the sample's name; here, what stands before the first underscore.",
        '  # group: "^([^_]+)_"',
    ]


def _images(survey: Survey) -> str:
    images = survey.images
    depths = ", ".join(sorted(images.depths))
    lines = []
    if images.low is not None and images.high is not None:
        narrow = propose_range(images.low[1], images.high[1])
        wide = propose_range(images.low[0], images.high[0])
        lines += [
            f"# The images hold {depths} numbers from {images.low[0]:.6g} to {images.high[0]:.6g},",
            f"# most of them (99.8%) within {images.low[1]:.6g} and {images.high[1]:.6g}.",
            "# CHECK: the range becomes black to white; what lies outside is clipped.",
            narrow.text,
        ]
        if wide.declaration != narrow.declaration:
            lines.append(f"# {wide.text}      # all values")
    channels = max(images.channels, default=3)
    if channels not in {1, 3}:
        lines += [
            f"# The images have {channels} bands, and all are used. To choose some, by their numbers from 0:",
            "# images: {bands: [3, 2, 1]}" if not lines else "#     bands: [3, 2, 1]      (under images)",
        ]
    if images.alpha:
        lines.append("# Transparency is dropped; images: {alpha: keep} makes it one more channel.")
    return "\n".join([*lines, ""]) if lines else ""


def _classes(survey: Survey, proposal: MaskInterpretations) -> str:
    option, masks = proposal.options[0], survey.masks
    remarks = [
        f"In the masks: {proposal.summary}. {masks.read} of {masks.total} masks were read.",
        f"Interpretation: {option.why}.",
        *["CHECK the names, in the order of the values."] * any("names of the" in check for check in proposal.checks),
        "Class 0 is the background, if there is one.",
    ]
    lines = [f"# {line}" for text in remarks for line in _wrapped(text, 0)]
    lines.append("classes:")
    for name in option.classes:
        content = option.contents.get(name, "")
        lines.append(f"  - {_flow(name)}" + (f"      # {_line(content)}" if content else ""))
    return "\n".join([*lines, _masks(option.masks), ""])


def _masks(masks: Declaration) -> str:
    return yaml.safe_dump(
        {"masks": _escaped(masks)}, default_flow_style=None, width=100, sort_keys=False, allow_unicode=True
    ).rstrip()


def _other(option: MaskInterpretation) -> str:
    comma = "," if option.why.startswith("if ") else ":"
    lines = [f"Another interpretation{comma} {option.why}:", f"classes: {_flow(option.classes)}"]
    return _commented([*lines, *_masks(option.masks).splitlines()])


def _training(survey: Survey, proposal: MaskInterpretations) -> str:
    """Format training parameters by number and size of the images: a few minutes on two cores for small data."""
    count, sides = len(survey.pairing.pairs), sorted(map(min, survey.images.sizes))
    lines = []
    if not survey.has_split:
        lines += [
            "# There is no official split: samples are put on their side by chance, by this seed.",
            "# split: {validation: 0.15, test: 0.2, seed: 0}",
            "",
        ]
    lines += [
        "# What training does to its samples. For pictures that know no up and down (microscopes, satellites), "
        "D4 turns\n# and mirrors them.",
        "# augmentation:",
        "#   transforms:",
        "#     - {name: D4}",
        "",
    ]
    if count < MANY:
        lines += [
            f"# For {count} images: some minutes without a GPU. More epochs are better; with a GPU, larger patches too."
        ]
        settings = {"epochs": 10, "min_steps_per_epoch": 50, "batch_size": 4 if count < FEW else 8}
    else:
        lines += [f"# For {count} images, with a GPU. Without one, for a first look: --params training.epochs=2"]
        settings = {"epochs": 20 if count < 10 * MANY else 10, "batch_size": 8}
    lines.append("training:")
    lines += [f"  {key}: {value}" for key, value in settings.items()]
    if sides[len(sides) // 2] > CPU_PATCH and count < MANY:
        lines.append(f"  patch_size: {CPU_PATCH}")
    shares = [share for value, share in proposal.values if value not in proposal.ignored]
    if len(shares) > 2 and 0 < min(shares) < RARE:
        lines.append(f"  loss: {{class_weights: auto}}      # the rarest class has {min(shares):.1%} of the pixels")
    return "\n".join([*lines, ""])


# --- remarks ---


def unsure(survey: Survey, proposal: MaskInterpretations) -> list[str]:
    """Return what a person has to check: of the masks, of the images and of the pairing."""
    checks = list(proposal.checks)
    masks, images, pairing = survey.masks, survey.images, survey.pairing
    if not masks.complete:
        checks.append(f"only {masks.read} of {masks.total} masks were read; kedro problem audit reads all")
    if pairing.others:
        checks.append(
            f"other masks fit the same images: {', '.join(pairing.others)}; those of {pairing.masks} are used"
        )
    if pairing.roi is not None:
        checks.append(f"{pairing.roi} is taken for the region of interest: pixels outside it count nowhere")
    if survey.has_groups:
        checks.append("images of one folder are taken to belong together (a patient, a scene) and stay in one split")
    if survey.official is not None and survey.official.left_out:
        checks.append(f"{survey.official.left_out} labeled samples are on no list of the official split, and left out")
    if images.low is not None:
        checks.append("images.range: which numbers become black and white")
    if len(images.depths) > 1:
        checks.append(f"the images have different depths ({', '.join(sorted(images.depths))}), which a run refuses")
    if images.channels - {1, 3} and len(images.channels) > 1:
        checks.append(f"the images have different numbers of bands ({', '.join(map(str, sorted(images.channels)))})")
    return checks


def sizes_text(survey: Survey) -> str:
    """Format the range of image sizes."""
    heights, widths = zip(*survey.images.sizes, strict=True)
    least, most = f"{min(widths)} x {min(heights)}", f"{max(widths)} x {max(heights)}"
    return f"{most} pixels" if least == most else f"{least} to {most} pixels"


# --- text ---


def _commented(lines: Sequence[str]) -> str:
    return "\n".join(f"# {_line(line)}".rstrip() for line in lines) + "\n"


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(_line(text), WIDTH, subsequent_indent=" " * indent, break_long_words=False)


def _line(text: str) -> str:
    """Keep names with line breaks within a comment."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _flow(value: object) -> str:
    text = yaml.safe_dump(_escaped(value), default_flow_style=True, width=10**6, sort_keys=False, allow_unicode=True)
    return text.strip().removesuffix("...").strip()


def _quoted(glob: str) -> str:
    text = yaml.safe_dump(_escaped(glob), default_style='"', width=10**6, allow_unicode=True)
    return text.strip()


def _escaped(value: object) -> object:
    """Escape ``${``, which would refer to another parameter."""
    if isinstance(value, str):
        return value.replace("${", "\\${")
    if isinstance(value, Mapping):
        return {_escaped(key): _escaped(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(entry) for entry in value]
    return value
