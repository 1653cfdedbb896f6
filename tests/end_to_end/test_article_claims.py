"""The article's experiments on the `test` problem through the real command line: killed, and run again."""

from pathlib import Path

import pytest

from tests.conftest import Project
from tests.end_to_end.conftest import kill_at, run_notebook, succeeded

pytestmark = pytest.mark.slow

CONFIGURATION = """
article_claims:
  presets:
    short: {steps: 4, encoder_steps: 4, metric_epochs: 1, patch_size: 32}
  upsampling:
    models: {tiny: {architecture: unet_original, base_channels: 2, encoder_depth: 2}}
    cost_only_models: {tiny_whole: {architecture: unet_original}}
    modes: [bilinear, transposed]
    speed_size: 32
    speed_seconds: 0
  encoders: {names: [resnet18, efficientnet-b0], size: 32, seconds: 0}
  metrics:
    {shares: [0.3, 0.05], size: 64, training_images: 4, validation_images: 2, test_images: 6,
     model: {architecture: unet_original, base_channels: 2, encoder_depth: 2}}
"""
LAST = ("plot_upsampling", "draw_checkerboards", "plot_encoders", "judge_claims", "write_speeds")  # as in the Makefile
RUN = (
    "run", "--env", "test", "--pipelines", "data_ingestion,data_preparation,augmentation,training,article_claims",
    "--to-nodes", ",".join(f"article_claims.{name}" for name in LAST),
)  # fmt: skip
MEASURED = {"speeds.md", "upsampling_speeds.csv", "encoder_speeds.csv"}  # in seconds: another time, another figure


def make(make_project, name: str) -> Project:
    project = make_project(name, with_store=True)
    (project.path / "conf" / "local" / "parameters.yml").write_text(CONFIGURATION)
    return project


def left(project: Project) -> dict[str, bytes]:
    folder = project.path / "data" / "08_reporting" / "test" / "article_claims"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def undisturbed(make_project) -> tuple[Project, str]:
    """A project after the experiments, and what was printed."""
    project = make(make_project, "article_claims")
    return project, succeeded(project.kedro(*RUN))


def test_every_claim_has_a_verdict_on_a_page_with_its_pictures(undisturbed):
    project, output = undisturbed
    files = left(project)
    page = files["README.md"].decode()
    assert page.count("\n### ") == 9
    for line in page.splitlines():
        if line.startswith("!["):
            assert files[line.rpartition("(")[2].rstrip(")")].startswith(b"\x89PNG")
    assert page.count("\n![") == 4
    assert "| tiny_whole | transposed | 31 M |" in page, "what the paper's network costs at its width"
    assert files.keys() >= MEASURED
    assert "images/s" not in page
    assert output.count("Traceback") == output.count("Warning") == 0


def test_killed_and_run_again_it_comes_to_the_same_files(undisturbed, make_project):
    project = make(make_project, "again")
    kill_at(project, "training 2/2: efficientnet-b0", *RUN)
    output = succeeded(project.kedro(*RUN))
    assert output.count("training on cpu") < undisturbed[1].count("training on cpu"), (
        "what was finished is trained again"
    )
    first, second = left(undisturbed[0]), left(project)
    assert first.keys() == second.keys()
    different = {name for name in first if first[name] != second[name]} - MEASURED
    assert different == set()


def test_the_notebook_walks_through_them(undisturbed, monkeypatch):
    messages = run_notebook(undisturbed[0], "03_article_claims.ipynb", monkeypatch)
    assert any("checkerboards" in words and "verdict" in words for words in messages)
    names = {path.name for path in (Path(__file__).parents[2] / "notebooks").glob("*.ipynb")}
    assert names == {"01_look_at_the_data.ipynb", "02_look_at_the_runs.ipynb", "03_article_claims.ipynb"}, (
        "each has a test"
    )
