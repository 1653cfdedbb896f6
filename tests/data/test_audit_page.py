"""The page about the audit tells of every kind of finding, and is up to date."""

import re

from docs.make_audit_page import PAGE, markdown
from unet_segmentation.data.audit.findings import KINDS
from unet_segmentation.data.audit.resolution import ALLOWED_KINDS, DATASET_KINDS
from unet_segmentation.data.audit.verdict import VALUE_KINDS


def test_the_page_is_up_to_date(root):
    assert (root / PAGE).read_text(encoding="utf-8") == markdown(), "generate it: python docs/make_reference.py"


def test_every_kind_has_one_row_under_its_severity():
    sections = dict(zip(("error", "warning", "note"), markdown().split("\n### ")[1:], strict=True))
    for severity, text in sections.items():
        kinds = re.findall(r"^\| `(\w+)` \|", text, flags=re.M)
        assert kinds == [kind for kind, entry in KINDS.items() if entry.severity == severity]
        assert {row.count(" | ") for row in text.splitlines() if row.startswith("| `")} == {2}


def test_every_error_has_a_fix():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", markdown(), flags=re.M))
    for kind, entry in KINDS.items():
        if entry.severity == "error" and kind != "too_few_samples":  # its message says how many are missing
            assert rows[kind].rsplit(" | ", 1)[1].strip(), kind


def test_the_sets_of_kinds_name_errors_only():
    for kinds in (ALLOWED_KINDS, DATASET_KINDS, VALUE_KINDS):
        assert {KINDS[kind].severity for kind in kinds} == {"error"}
