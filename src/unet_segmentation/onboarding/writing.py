"""The `parameters.yml` of a new problem, with comments: what was found, what is unsure, and the other readings."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.onboarding.readings import Interpretation, Reading
from unet_segmentation.parameters import Parameters, validate_parameters

WIDTH = 118
MANY_IMAGES = 500
FOLDERS_OF_GROUPS = 10  # so many folders with several images each are taken for patients, slides or videos


@dataclass
class Draft:
    """What is to be written.

    Attributes:
        name: of the problem.
        title: the first line: what this is.
        source: what stands under `source`.
        remarks: comments under `source`.
        images: what stands under `images`.
        images_remark: what the images are.
        interpretation: of the masks.
        training: what stands under `training`.
        group_hint: a pattern that may tell groups; empty where there is none.
        quarantine: some files have no partner.
        licence: as it was found.
    """

    name: str
    title: str
    source: dict[str, Any]
    interpretation: Interpretation
    remarks: list[str] = field(default_factory=list)
    images: dict[str, Any] = field(default_factory=dict)
    images_remark: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    group_hint: str = ""
    quarantine: bool = False


def compose(draft: Draft) -> str:
    """Write the text."""
    parts = [
        _comment(f"{draft.title} Written by `kedro problem new`; look at every line marked CHECK."),
        _source(draft),
        _masks(draft.interpretation),
        _images(draft),
        _split(draft),
        _training(draft),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def validated(text: str, name: str, conf: Path) -> Parameters:
    """Check a text as `kedro run` would: merged over `conf/base`, and `conf/local` over it.

    Raises:
        ConfigurationError: a parameter is wrong.
    """
    from omegaconf import OmegaConf

    layers = [OmegaConf.load(file) for file in sorted((conf / "base").glob("parameters*.yml"))]
    layers.append(OmegaConf.create(text))
    layers += [OmegaConf.load(file) for file in sorted((conf / "local").glob("parameters*.yml"))]
    merged = OmegaConf.to_container(OmegaConf.merge(*layers), resolve=False)
    if not isinstance(merged, dict):
        raise ConfigurationError(f"conf/{name}/parameters.yml is no table of parameters.")
    parameters = {str(key): value for key, value in merged.items() if key != "tracking"}
    return validate_parameters(parameters | {"problem": name})


def suggested_training(samples: int, side: int, rarest: float) -> dict[str, Any]:
    """Choose how long and how to train, by the size of the data: minutes on a CPU, for a first look.

    Args:
        samples: with a mask.
        side: the shorter side of the image in the middle, in pixels.
        rarest: share of the rarest class.
    """
    training: dict[str, Any] = {"epochs": 10, "batch_size": 8}
    if samples < MANY_IMAGES:
        training |= {"minimum_steps": 50, "ema_decay": 0.98}
    if side > 256:
        training["patch_size"] = 128  # the default, 256, takes four times as long
    if rarest < 0.01:
        training["loss"] = {"class_weights": "auto"}
    return training


def _source(draft: Draft) -> str:
    lines = ["source:"]
    for key, value in draft.source.items():
        lines.append(f"  {key}: {_flow(value)}")
    lines += [_comment(remark, "  ") for remark in draft.remarks]
    if draft.group_hint and "group" not in draft.source:
        lines.append(
            _comment("CHECK: samples that belong together (a patient, a video, a slide) must share a split:", "  ")
        )
        lines.append(f"  # group: {_flow(draft.group_hint)}")
    lines.append("  licence: not stated  # CHECK: under which terms may the data be used?")
    return "\n".join(lines)


def _masks(interpretation: Interpretation) -> str:
    first, *others = interpretation.readings
    lines = [_comment(f"The masks: {interpretation.summary}.")]
    lines += [_comment(f"CHECK: {check}.") for check in interpretation.checks]
    lines.append(reading_text(first))
    for other in others:
        lines.append("")
        lines.append(_comment(f"Another reading ({other.why}): take these lines instead of those above."))
        lines.append(textwrap.indent(reading_text(other), "# "))
    return "\n".join(lines)


def reading_text(reading: Reading) -> str:
    """Write a reading as YAML."""
    flat = f"classes: {_flow(reading.classes)}"
    if len(flat) > WIDTH or len(reading.classes) > 12:
        flat = "classes:\n" + "\n".join(f"  - {_flow(name)}" for name in reading.classes)
    lines = [flat]
    notes = [f"{name}: {reading.found[name]}" for name in reading.classes if name in reading.found]
    if notes:
        lines.insert(0, _comment("; ".join(notes)))
    lines.append("masks:")
    for key, value in reading.masks.items():
        text = f"  {key}: {_flow(value)}"
        if len(text) > WIDTH and isinstance(value, Mapping):
            text = f"  {key}:\n" + "\n".join(f"    {_flow(name)}: {_flow(entry)}" for name, entry in value.items())
        lines.append(text)
    return "\n".join(lines)


def _images(draft: Draft) -> str:
    lines = [_comment(draft.images_remark)] if draft.images_remark else []
    if draft.images:
        lines.append("images:")
        lines += [f"  {key}: {_flow(value)}" for key, value in draft.images.items()]
    return "\n".join(lines)


def _split(draft: Draft) -> str:
    lines = []
    if not any(key in draft.source for key in ("splits", "lists", "table")):
        lines.append(_comment("There is no official split: these shares are drawn, the same ones every time."))
        lines.append("split: {validation: 0.15, test: 0.2, seed: 0}")
    if draft.quarantine:
        lines.append(_comment("To leave out samples with errors (an image without a mask, say) instead of stopping:"))
        lines.append("# inspection: {on_error: quarantine}")
    return "\n".join(lines)


def _training(draft: Draft) -> str:
    lines = [
        _comment(
            "For a first look on a CPU. More epochs are better; with a GPU take 50 or more, and larger patches "
            "(patch_size: 256)."
        ),
        "training:",
        *(f"  {key}: {_flow(value)}" for key, value in draft.training.items()),
        "",
        _comment("Images that know no up and down (a microscope, a view from above) learn more when they are turned:"),
        "# augmentation:",
        "#   transforms:",
        "#     - {name: D4}",
        "#     - {name: RandomBrightnessContrast, parameters: {brightness_limit: 0.15, contrast_limit: 0.15, p: 0.5}}",
    ]
    return "\n".join(lines)


def _comment(text: str, indent: str = "") -> str:
    """Wrap text into comment lines. What does not print would end the comment."""
    plain = "".join(sign if sign.isprintable() else "?" for sign in text)
    lines = textwrap.wrap(plain, WIDTH - 2 - len(indent), break_long_words=False, break_on_hyphens=False)
    return "\n".join(f"{indent}# {line}" for line in lines)


def _flow(value: Any) -> str:  # noqa: ANN401 - anything that YAML can hold
    """Write a value in one line; texts of globs and patterns in quotes, as people would."""
    if isinstance(value, str) and any(sign in value for sign in "{}*#\\"):
        quoted = yaml.safe_dump(value, default_style='"', width=10**6, allow_unicode=True)
        return quoted.strip()
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False, allow_unicode=True).strip()
    return text.removesuffix("...").strip()


def listed(items: Sequence[str], shown: int = 5) -> str:
    """Name a few of many."""
    return ", ".join(items[:shown]) + (f" and {len(items) - shown} more" if len(items) > shown else "")
