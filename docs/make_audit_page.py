"""Write docs/reference/audit-checks.md from the table of findings: ``python docs/make_audit_page.py``."""

from __future__ import annotations

from pathlib import Path

from unet_segmentation.data.audit.findings import KINDS
from unet_segmentation.data.audit.resolution import ALLOWED_KINDS, DATASET_KINDS
from unet_segmentation.data.audit.verdict import VALUE_KINDS

PAGE = Path("docs/reference/audit-checks.md")

INTRODUCTION = """\
# Audit checks

Generated from the table in `src/unet_segmentation/data/audit/findings.py` by `python docs/make_reference.py`; a test
checks that it is up to date.

Every kind of finding, with its fix. How to use them: [fix audit findings](../how-to/fix-audit-findings.md). Findings go
into `findings.parquet`, one row each ([columns](data-schemas.md#findings)); `audit.html` shows them with pictures.

## Result

| status | when | the run |
|---|---|---|
| `passed` | nothing but notes | continues |
| `passed with warnings` | warnings, or samples set aside | continues; the warnings are in its log |
| `failed` | errors | stops before training, with one message: errors by kind, five files of each, the fix |

If mask values, annotation labels, the range of numbers or the number of masks are not as declared, the message ends
with the line of `parameters.yml` that would declare what the files hold. Where the guess is risky, it also gives the
alternative: which of 0 and 255 is the background, whether the first or the last value means unlabeled, joined masks or
instances.

    The masks hold: 0 (68.8%), 128 (18.9%), 255 (12.3%)
    Declared classes: background, cytoplasm, nucleus
    Declare them in the problem's parameters.yml (the order is a guess, check it):

        masks: {encoding: index, values: {0: background, 128: cytoplasm, 255: nucleus}}

A proposal declares every value in the masks. Values in fewer than 0.1% of the pixels are proposed as ignored if enough
others are left for the classes.

## Quarantine

`inspection: {on_error: quarantine}` continues without the samples that have an error. It still fails

* for kinds marked "data set" below, because no single sample is to blame;
* if more than half of the samples would go, because then the declaration is probably wrong;
* if nothing would be left of an official split.

Of images that are identical across official splits, the training copy goes first, then the validation copy; the test
split keeps its own. If test samples are set aside for another reason, a warning says how many.

## Allow list

`inspection: {allow: [KIND]}` turns errors of a kind into warnings; `KIND:SAMPLE_ID` does so for one sample or its
pairs. Only kinds marked "may be allowed" can be allowed, because they leave the samples fit for training.

## Checks

In the order in which they are reported: what stands first often causes what follows.
"""
SEVERITIES = {
    "error": "### Errors",
    "warning": "### Warnings",
    "note": "### Notes",
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
