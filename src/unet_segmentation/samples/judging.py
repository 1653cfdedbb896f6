"""The verdict on a data set: errors stop the run with one message that says what to declare."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import yaml

from unet_segmentation.errors import DataError
from unet_segmentation.parameters.preparation import MaskParameters

LISTED_FILES = 5
LISTED_VALUES = 16
MOST_EXTRA = 3  # values or colours beyond the declared ones that are proposed as ignored
VALUE_KINDS = {"undeclared_values", "undeclared_colours", "coloured_mask", "no_palette", "absent_class"}

HEADINGS = {  # in the order in which they are told: what causes others comes first
    "no_samples": "no samples",
    "unreadable_image": "images that cannot be read",
    "unreadable_mask": "masks that cannot be read",
    "missing_mask": "images without a mask",
    "missing_image": "masks without an image",
    "several_masks": "several masks for one image (they are not merged)",
    "size_mismatch": "image and mask of different size (width x height)",
    "mixed_depths": "images of different depth in one data set",
    "coloured_mask": "masks that hold colours, where the declared encoding reads grey values",
    "no_palette": "masks without a palette, where the declared encoding reads palette indices",
    "undeclared_values": "masks with undeclared values",
    "undeclared_colours": "masks with undeclared colours",
    "absent_class": "classes that occur in no mask",
    "constant_image": "images of one constant value",
    "ignored_mask": "masks in which every pixel is ignored",
    "several_pages": "files with several pages or frames",
    "rare_class": "rare classes",
    "alpha_dropped": "images with transparency",
    "grey_among_colour": "grey images among colour images",
    "same_pixels": "images that occur more than once",
    "mask_values": "values in the masks",
}
WAYS_OUT = {
    "no_samples": "Check source.images and source.masks against the names of the files.",
    "unreadable_image": "Replace or remove these files (a truncated one: fetch it again).",
    "unreadable_mask": "Replace or remove these files (a truncated one: fetch it again).",
    "missing_mask": "Add the masks or remove the images; check that {id} in source.masks fits the masks' names.",
    "missing_image": "Add the images or remove the masks; check that {id} in source.images fits the images' names.",
    "several_masks": "Narrow the pattern source.masks so that each image has one mask.",
    "size_mismatch": "Export the mask again at the image's size; a resized mask needs nearest-neighbour sampling.",
    "mixed_depths": "Save all images with the same depth, 8 or 16 bits.",
    "absent_class": "Remove the class from classes, or correct the declaration of the masks.",
}


def judge_findings(
    inspected: pd.DataFrame, findings: pd.DataFrame, classes: list[str], masks: MaskParameters
) -> dict[str, Any]:
    """Say whether the data can be trained on.

    Args:
        inspected: a row per sample.
        findings: severity, kind, sample_id, file, message, values (see `inspection.Finding`).
        classes: names, in the order of their ids.
        masks: how masks are declared.

    Returns:
        `status` (`passed`, `passed with warnings`), `samples`, `counts` by severity, `kinds` (count by kind),
        `messages` (one per kind of warning or note).

    Raises:
        DataError: there are errors. The message groups them by kind, lists files and values, and gives the YAML
            that would declare the values found.
    """
    errors = findings[findings["severity"] == "error"]
    if len(errors):
        raise DataError(_error_message(errors, findings, len(inspected), classes, masks))
    warnings = findings[findings["severity"] == "warning"]
    return {
        "status": "passed with warnings" if len(warnings) else "passed",
        "samples": len(inspected),
        "counts": {name: int((findings["severity"] == name).sum()) for name in ("error", "warning", "note")},
        "kinds": {kind: len(rows) for kind, rows in _by_kind(findings)},
        "messages": [
            *("warning: " + _in_one_line(kind, rows) for kind, rows in _by_kind(warnings)),
            *("note: " + _in_one_line(kind, rows) for kind, rows in _by_kind(findings[findings["severity"] == "note"])),
        ],
    }


def propose_declaration(values: dict[str, int], classes: list[str], masks: MaskParameters) -> tuple[str, str] | None:
    """Guess how the masks should be declared, from the values in them.

    Args:
        values: pixels by value, over all masks; `"128"`, or `"64,0,128"` for a colour.
        classes: names, in the order of their ids.
        masks: what is declared now.

    Returns:
        The YAML for `masks:` and a remark, or None where nothing can be guessed.
    """
    guess = _guess_colours if any("," in value for value in values) else _guess_values
    proposal = guess(values, classes, masks)
    if proposal is None:
        return None
    declaration, remark = proposal
    text = yaml.safe_dump(
        {"masks": declaration}, default_flow_style=True, width=10**6, sort_keys=False, allow_unicode=True
    )
    return text.strip()[1:-1], remark


ORDER = "the order is a guess, check it"
Proposal = tuple[dict[str, Any], str] | None


def _guess_values(  # noqa: PLR0911 - a list of cases, the most certain first
    found: dict[str, int], classes: list[str], masks: MaskParameters
) -> Proposal:
    values = sorted(map(int, found))
    declared = set(masks.values or range(len(classes)))
    extra = [value for value in values if value not in {*declared, *masks.ignore, 255}]
    near_ends = sum(count for value, count in found.items() if not 32 <= int(value) <= 223) / max(
        1, sum(found.values())
    )
    if len(classes) == 2 and values in ([0, 255], [0, 1]):
        declaration = {"encoding": "index", "values": dict(zip(values, classes, strict=True))}
        return declaration, "or {encoding: threshold}, which takes every value above 127 for the second class; " + ORDER
    if len(values) > len(classes) + 1 and len(classes) == 2 and near_ends > 0.9:
        remark = "values near 0 and 255 only: masks saved as JPEG, or with soft edges"
        return {"encoding": "threshold", "threshold": 127}, remark
    if declared <= set(values) and 0 < len(extra) <= MOST_EXTRA:
        kept = {"values": dict(masks.values)} if masks.values else {}
        remark = "pixels of these values would count nowhere" if len(extra) == 1 else "or add the missing classes"
        return {"encoding": masks.encoding, **kept, "ignore": [*masks.ignore, *extra]}, remark
    if len(values) == len(classes):
        return {"encoding": "index", "values": dict(zip(values, classes, strict=True))}, ORDER
    if len(values) == len(classes) + 1:
        declaration = {"encoding": "index", "values": dict(zip(values, classes, strict=False)), "ignore": values[-1:]}
        return declaration, "one value more than classes, taken for an unlabelled rest; " + ORDER
    if len(values) > LISTED_VALUES:
        return None
    named = {
        value: masks.values.get(value, classes[place] if place < len(classes) else "?")
        for place, value in enumerate(values)
    }
    return {"encoding": "index", "values": named}, "give every value one of the classes, or list it under ignore"


def _guess_colours(found: dict[str, int], classes: list[str], masks: MaskParameters) -> Proposal:
    colours = {name: [int(part) for part in name.split(",")] for name in found if "," in name}
    known = {tuple(colour) for colour in masks.colors.values()} | set(masks.ignore_colors)
    extra = [colour for colour in colours.values() if tuple(colour) not in known]
    if masks.colors and len(extra) <= MOST_EXTRA:
        given = {name: list(colour) for name, colour in masks.colors.items()}
        ignored = [list(colour) for colour in masks.ignore_colors] + extra
        return {"encoding": "colors", "colors": given, "ignore_colors": ignored}, "or give them to classes"
    if len(colours) > LISTED_VALUES + len(classes):
        return None
    declaration: dict[str, Any] = {"encoding": "colors", "colors": dict(zip(classes, colours.values(), strict=False))}
    if len(colours) > len(classes):
        declaration["ignore_colors"] = list(colours.values())[len(classes) :]
    return declaration, ORDER


def _error_message(
    errors: pd.DataFrame, findings: pd.DataFrame, samples: int, classes: list[str], masks: MaskParameters
) -> str:
    parts = [f"The data cannot be trained on ({samples} samples inspected). Nothing was trained."]
    for kind, rows in _by_kind(errors):
        lines = [_line(row) for row in rows[:LISTED_FILES]]
        if len(rows) > LISTED_FILES:
            lines.append(f"... and {len(rows) - LISTED_FILES} more")
        lines += [WAYS_OUT[kind]] if kind in WAYS_OUT else []
        parts.append(f"{HEADINGS.get(kind, kind)}: {len(rows)}\n" + "\n".join(f"  {line}" for line in lines))
    if VALUE_KINDS & set(errors["kind"]):
        parts.append(_declaration(errors, findings, classes, masks))
    return "\n\n".join(parts)


def _declaration(errors: pd.DataFrame, findings: pd.DataFrame, classes: list[str], masks: MaskParameters) -> str:
    values = _all_values(errors, findings)
    total = max(1, sum(values.values()))
    listed = ", ".join(f"{value} ({count / total:.1%})" for value, count in list(values.items())[:LISTED_VALUES])
    more = f" and {len(values) - LISTED_VALUES} other values" if len(values) > LISTED_VALUES else ""
    lines = [f"The masks hold: {listed or 'nothing'}{more}", f"Declared classes: {', '.join(classes)}"]
    proposal = propose_declaration(values, classes, masks) if values else None
    if proposal:
        lines += [f"Declare them in the problem's parameters.yml ({proposal[1]}):", "", f"    {proposal[0]}"]
    elif len(values) > LISTED_VALUES:
        lines.append("So many values are no classes: save the masks without loss (PNG, not JPEG), one value per class.")
    return "\n".join(lines)


def _all_values(errors: pd.DataFrame, findings: pd.DataFrame) -> dict[str, int]:
    """Pixels by value: over all masks that could be decoded, and those of the masks that could not."""
    sources = [*findings.loc[findings["kind"] == "mask_values", "values"]]
    sources += [*errors.loc[errors["kind"].isin({"coloured_mask", "no_palette"}), "values"]]
    total: dict[str, int] = {}
    for text in filter(None, sources):
        for value, count in json.loads(text).items():
            total[value] = total.get(value, 0) + count
    if any("," in value for value in total):  # grey files among coloured ones are written as colours, too
        total = {value if "," in value else ",".join([value] * 3): count for value, count in total.items()}
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def _by_kind(findings: pd.DataFrame) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Give kind and findings, in the order of `HEADINGS`."""
    rank = {kind: place for place, kind in enumerate(HEADINGS)}
    for kind in sorted(set(findings["kind"]), key=lambda kind: rank.get(kind, len(rank))):
        yield kind, findings[findings["kind"] == kind].to_dict("records")


def _line(row: dict[str, Any]) -> str:
    return f"{row['file']}: {row['message']}" if row["file"] else row["message"]


def _in_one_line(kind: str, rows: list[dict[str, Any]]) -> str:
    more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
    return f"{HEADINGS.get(kind, kind)}: {_line(rows[0])}{more}"
