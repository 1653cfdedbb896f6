"""`kedro problem`: start one from a folder of images, check its data, list all."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from unet_segmentation.cli.base import Command, params_option, show_table
from unet_segmentation.cli.session import open_session, project_root
from unet_segmentation.errors import ProjectError

if TYPE_CHECKING:
    from pathlib import Path

    from kedro.io import CatalogProtocol


@click.group("problem")
def problem_group() -> None:
    """Problems: start one from a folder of images, check its data, list all."""


@problem_group.command("new", cls=Command)
@click.argument("name")
@click.option("--images", required=True, help="Folder of the images; or the one that holds images and masks.")
@click.option("--masks", help="Folder of the masks, where it is not below that of the images.")
@click.option("--classes", help="Names of the classes, with commas, in the order of the mask values.")
@click.option("--ignore-values", help="Mask values whose pixels count nowhere, with commas.")
@click.option("--overwrite", is_flag=True, help="Overwrite a problem of this name.")
def problem_new(
    name: str, images: str, masks: str | None, classes: str | None, ignore_values: str | None, overwrite: bool
) -> None:
    """Work out a folder of images and masks, and write conf/NAME.

    On a terminal it asks what pixels cannot tell, unless --classes and --ignore-values say it.
    """
    from unet_segmentation.data.onboarding.create_problem import Request, create_problem
    from unet_segmentation.data.onboarding.prompts import ask_questions

    root = project_root()
    request = Request(name, images, masks, _names(classes), _numbers(ignore_values), overwrite)
    ask = ask_questions if sys.stdin.isatty() and sys.stdout.isatty() else None
    for line in create_problem(request, root, root / "conf", ask):
        click.echo(line)


def _names(text: str | None) -> list[str] | None:
    """Read names with commas between them."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if "" in names:
        raise ProjectError(f"--classes {text!r}: a name is empty. Write the names with commas, as in: background,cell")
    return names


def _numbers(text: str | None) -> list[int] | None:
    """Read whole numbers with commas between them."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ProjectError(f"--ignore-values {text!r}: write whole numbers with commas, as in: 0,255") from None


@problem_group.command("audit", cls=Command)
@click.argument("name")
def problem_audit(name: str, params: dict[str, object]) -> None:
    """Audit every file of a problem, without training; a page shows the findings."""
    from unet_segmentation.hooks.state import path_of

    untracked = {**params, "mlflow": {"enabled": False}}
    with open_session(name, untracked) as session:
        catalog = session.load_context().catalog
        page = project_root() / (path_of(catalog["audit"]) or "")
        before = page.stat().st_mtime_ns if page.is_file() else 0
        try:
            session.run(pipeline_names=["data_ingestion", "data_preparation"])
        finally:
            if page.is_file() and page.stat().st_mtime_ns != before:
                _show_summary(catalog, page)


problem_audit.params += [params_option]


def _show_summary(catalog: CatalogProtocol[Any, Any], page: Path) -> None:
    """Summarize the samples, the classes and the findings as the audit resolved them."""
    from unet_segmentation.data.audit.findings import KINDS

    names = ("inspected_samples", "split_samples", "findings", "audit_result", "label_map")
    inspected, samples, findings, audit, label_map = (catalog.load(name) for name in names)
    used = samples[~samples["sample_id"].isin(audit.set_aside)]
    counts = used["split"].value_counts()
    splits = ", ".join(f"{name} {counts[name]}" for name in ("train", "validation", "test") if name in counts)
    lines = ["", f"Samples   {len(inspected)} inspected" + (f": {splits}" if splits else "")]
    if audit.set_aside:
        lines.append(f"          {len(audit.set_aside)} set aside, because of errors")
    pixels = inspected.loc[inspected["sample_id"].isin(used["sample_id"]), "class_pixels"]
    if len(pixels):
        totals = [sum(column) for column in zip(*pixels, strict=True)]
        for number, (name, count) in enumerate(zip(label_map.names, totals, strict=True)):
            lines.append(f"{'' if number else 'Classes':<10}{name:<24} {count / max(1, sum(totals)):6.1%}")
    lines.append(f"Verdict   {audit.status}")
    for severity in ("error", "warning", "note"):
        kinds = findings.loc[findings["severity"] == severity, "kind"].value_counts()
        lines += [f"  {severity:<8}{count:>6}  {KINDS[kind].heading}" for kind, count in kinds.items()]
    for line in [*lines, f"Audit     {page}"]:
        click.echo(line)


@problem_group.command("list", cls=Command)
def problem_list() -> None:
    """Show all problems: classes, samples, license, and whether their data is here."""
    from unet_segmentation.data.onboarding.list_problems import list_problems

    root = project_root()
    header = ("NAME", "CLASSES", "SAMPLES", "DATA", "LICENSE", "TITLE")
    rows = []
    for problem in list_problems(root, root / "conf"):
        counts = ("-" if count is None else str(count) for count in (problem.classes, problem.samples))
        rows.append((problem.name, *counts, problem.data, problem.license, problem.title))
    show_table(header, rows)
