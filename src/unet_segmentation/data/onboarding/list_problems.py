"""`kedro problem list`: the problems, without loading anything heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HIDDEN = {"base", "local", "template", "test"}


@dataclass(frozen=True)
class Problem:
    """A line of the table."""

    name: str  # of the folder under `conf/`
    title: str  # the first line of its YAML
    classes: int | None = None  # None where the file cannot be read
    samples: int | None = None  # of the last preparation; None where there was none
    license: str = ""
    data: str = ""  # whether it is here


def list_problems(project: Path, conf: Path) -> list[Problem]:
    """List the problems of a project in its folder of configurations, in the order of their names."""
    names = {file.parent.name for file in conf.glob("*/parameters*.yml")} - HIDDEN
    return [_problem(name, project, conf) for name in sorted(names)]


def _problem(name: str, project: Path, conf: Path) -> Problem:
    import yaml

    title = ""
    parameters: dict[str, object] = {}
    try:
        for file in sorted((conf / name).glob("parameters*.yml")):
            text = file.read_text(encoding="utf-8")
            title = title or _title(text, name)
            loaded = yaml.safe_load(text)
            parameters |= loaded if isinstance(loaded, dict) else {}
    except (OSError, ValueError, yaml.YAMLError):
        return Problem(name, title or "its YAML cannot be read")
    source = parameters.get("source")
    source = source if isinstance(source, dict) else {}
    classes = parameters.get("classes")
    return Problem(
        name,
        title,
        len(classes) if isinstance(classes, list) else None,
        _samples(project / "data" / "03_primary" / name / "samples.parquet"),
        " ".join(str(source.get("license") or "not stated").split()),
        _whereabouts(name, source, project),
    )


def _title(text: str, name: str) -> str:
    """Return the first sentence of the comment that the file begins with."""
    first = text.lstrip().partition("\n")[0]
    if not first.startswith("#"):
        return ""
    words = first.lstrip("# ").strip().removeprefix(f"{name}: ")
    return words.partition(". ")[0].rstrip(".,;:")


def _samples(file: Path) -> int | None:
    if not file.is_file():
        return None
    import pyarrow.parquet

    try:
        return int(pyarrow.parquet.read_metadata(file).num_rows)
    except (OSError, ValueError):
        return None


def _whereabouts(name: str, source: Mapping[str, object], project: Path) -> str:
    """Describe where the data is: drawn, unpacked, downloaded, in a folder, or missing."""
    if source.get("generator") is not None:
        return "drawn when needed"
    if folder := source.get("folder"):
        if "://" in str(folder):
            return "in a store"
        return "here" if (project / Path(str(folder)).expanduser()).is_dir() else f"missing: {folder}"
    raw = project / "data" / "01_raw" / name
    for place, description in (("files", "here"), ("archives", "downloaded")):
        if any(not entry.name.startswith(".") for entry in (raw / place).glob("*")):
            return description
    archives = source.get("archives")
    archives = archives if isinstance(archives, list) else []
    by_hand = any(isinstance(entry, dict) and not entry.get("url") for entry in archives)
    return "to be got by hand" if by_hand else "to be downloaded"
