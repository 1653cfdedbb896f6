"""`kedro problem list`: the problems, without loading anything heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HIDDEN = {"base", "local", "template", "test"}


@dataclass(frozen=True)
class Problem:
    """A line of the table.

    Attributes:
        name: of the folder under `conf/`.
        title: the first line of its YAML.
        classes: how many there are; None where the file cannot be read.
        samples: number of samples of the last preparation; None where there was none.
        license: of the data.
        data: whether the data is here.
    """

    name: str
    title: str
    classes: int | None
    samples: int | None
    license: str
    data: str


def list_problems(project: Path, conf: Path) -> list[Problem]:
    """List the problems under `conf/`, in the order of their names.

    Args:
        project: the project's root.
        conf: its folder of configurations.
    """
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
        return Problem(name, title or "its YAML cannot be read", None, None, "", "")
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
    if _holds_files(raw / "files"):
        return "here"
    if _holds_files(raw / "archives"):
        return "downloaded"
    archives = source.get("archives")
    archives = archives if isinstance(archives, list) else []
    by_hand = any(isinstance(entry, dict) and not entry.get("url") for entry in archives)
    return "to be got by hand" if by_hand else "to be downloaded"


def _holds_files(folder: Path) -> bool:
    return folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir())
