"""What the tests of onboarding share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.data.onboarding.fabrication import DataSet
from unet_segmentation.data.onboarding.create_problem import Request, create_problem
from unet_segmentation.parameters import Parameters, validate_parameters

ROOT = Path(__file__).parents[3]


class Created:
    """A problem as it was written.

    Attributes:
        text: of its YAML.
        parameters: as a run reads them.
        lines: what was said.
        project: the project's root.
    """

    def __init__(self, project: Path, name: str, lines: list[str]) -> None:
        self.project, self.lines = project, lines
        self.text = (project / "conf" / name / "parameters.yml").read_text()
        self.parameters: Parameters = validate_parameters({**yaml.safe_load(self.text), "problem": name})

    @property
    def said(self) -> str:
        return "\n".join(self.lines)


def commented_readings(text: str) -> list[dict]:
    """Parse the readings that are commented out: they must be YAML, too."""
    blocks = re.findall(r"^# Another interpretation.*\n((?:#.*\n)+)", text, re.MULTILINE)
    return [yaml.safe_load(re.sub(r"^# ?", "", block, flags=re.MULTILINE)) for block in blocks]


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """An empty data set."""
    (tmp_path / "data set").mkdir()
    return DataSet(tmp_path / "data set")


@pytest.fixture
def create(tmp_path: Path) -> Callable[..., Created]:
    """Create a problem in an empty project."""

    def created(images: Path, masks: Path | None = None, name: str = "mine", **more: object) -> Created:
        project = tmp_path / "project"
        if not project.exists():
            (project / "conf").mkdir(parents=True)
            (project / "conf" / "base").symlink_to(ROOT / "conf" / "base")
        request = Request(name, str(images), None if masks is None else str(masks), **more)
        return Created(project, name, create_problem(request, project, project / "conf"))

    return created
