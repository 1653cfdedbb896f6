"""A run of the `test` problem, made again from what MLflow holds."""

import re
import shutil

import pytest

from tests.conftest import ROOT
from tests.end_to_end.conftest import succeeded
from tests.experiments.reproduce.toy import git

pytestmark = pytest.mark.slow


def test_a_run_is_reproduced_to_the_last_bit(make_project):
    project = make_project("reproduced", with_store=True)
    for name in (".gitignore", "requirements.lock"):
        shutil.copy(ROOT / name, project.path / name)
    git(project.path, "init", "--quiet")
    git(project.path, "add", ".")
    git(project.path, "commit", "--quiet", "-m", "all")
    first = succeeded(project.kedro("run", "--env", "test", "--params", "training.seed=4,inspection.workers=2"))
    run_id = re.search(r"/runs/(\w{32})", first.replace("\n", ""))[1]
    metrics = project.path / "data/08_reporting/test/metrics.json"
    before = metrics.stat().st_mtime_ns
    output = succeeded(project.kedro("reproduce", run_id))
    for title in ("Scores", "Weights", "Data", "Plan", "Versions", "Machine"):
        assert re.search(rf"^{title} +The same", output, re.MULTILINE), output
    assert not re.search(r"warning|deprecat|traceback", output, re.IGNORECASE), output
    assert metrics.stat().st_mtime_ns == before, "the project's own results were touched"
    assert not list((project.path / "data").glob(".rep*"))
