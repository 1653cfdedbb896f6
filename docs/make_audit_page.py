"""Write docs/reference/audit-checks.md from the table of findings: ``python docs/make_audit_page.py``."""

from __future__ import annotations

from pathlib import Path

from unet_segmentation.data.audit.findings import KINDS
from unet_segmentation.data.audit.settle import ALLOWED_KINDS, DATASET_KINDS
from unet_segmentation.data.audit.verdict import VALUE_KINDS

PAGE = Path("docs/reference/audit-checks.md")

INTRODUCTION = """\
# Dataset audit: checks and fixes

Generated from the table in `src/unet_segmentation/data/audit/findings.py` by `python docs/make_audit_page.py`; a test
checks that it is up to date.

Before anything is trained, every file is decoded once, measured and compared with the others, and the split is
checked. The findings go into `findings.parquet`, a row each: severity, kind, sample, file, message, and where it
applies the values and the other sample. The audit page (`audit.html`) shows them: the result on top, the data card,
then every kind with its files, pictures of the first samples (the image, without and with its mask) and the fix, and
at the end the checks without a finding. It opens without a network.

## Result

| status | when | the run |
|---|---|---|
| `passed` | nothing but notes | continues |
| `passed with warnings` | warnings, or samples set aside | continues; the warnings are in its log |
| `failed` | errors | stops before training, with one message: the errors by kind, five files of each, the fix |

Where the values in masks, the labels of annotations, the range of numbers or the number of masks are not what is
declared, the message ends with the line of `parameters.yml` that would declare what the files hold, and with the other
reading where the guess is risky (which of 0 and 255 is the background; whether the first or the last value is what
was not labelled; joined masks or instances):

    The masks hold: 0 (68.8%), 128 (18.9%), 255 (12.3%)
    Declared classes: background, cytoplasm, nucleus
    Declare them in the problem's parameters.yml (the order is a guess, check it):

        masks: {encoding: index, values: {0: background, 128: cytoplasm, 255: nucleus}}

A proposal declares every value in the masks. Values in fewer than 0.1% of the pixels are proposed as ignored where
there are enough others for the classes.

## Quarantine

`inspection: {on_error: quarantine}` continues without the samples that have an error, and says which and why
(`set_aside`). It still fails

* where no sample is to blame: the kinds that are marked "data set" below;
* where more than half of the samples would go: that is no data set with a few bad samples, but a wrong declaration;
* where nothing would be left of an official split.

Of images that are identical across official splits, the one for training goes, then the one for validation; the test
split keeps its own. If samples of the official test split are set aside for another reason, a warning says how many:
scores are then not those of the whole test.

## Allow list

`inspection: {allow: [KIND]}` turns errors of this kind into warnings; `KIND:SAMPLE_ID` does so for one sample, or for
the pairs that it belongs to. Only errors that leave the samples fit for training can be allowed; the tables below mark
them "may be allowed". Everything else must be fixed, declared or set aside.

## Checks

They are reported in this order, because what stands first often causes what comes after it.
"""
SEVERITIES = {
    "error": "### Errors stop the run",
    "warning": "### Warnings do not",
    "note": "### Notes are for information",
}


def markdown() -> str:
    """Return the page about the audit as Markdown."""
    lines = [INTRODUCTION]
    for severity, heading in SEVERITIES.items():
        lines += [heading, "", "| kind | what it means | fix |", "|---|---|---|"]
        for kind, entry in KINDS.items():
            if entry.severity == severity:
                cells = (f"`{kind}`", entry.heading + _marks(kind), _fix(kind))
                lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        lines.append("")
    return "\n".join(lines)


def _marks(kind: str) -> str:
    marks = ["data set"] * (kind in DATASET_KINDS) + ["may be allowed"] * (kind in ALLOWED_KINDS)
    return f" ({', '.join(marks)})" if marks else ""


def _fix(kind: str) -> str:
    if KINDS[kind].fix:
        return KINDS[kind].fix
    return "Declare the values; the message proposes how." if kind in VALUE_KINDS else ""


if __name__ == "__main__":
    PAGE.write_text(markdown(), encoding="utf-8")
