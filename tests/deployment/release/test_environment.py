"""What a release touches elsewhere: parameters, the unfinished training, the page in Kedro-Viz."""

import pytest
from pydantic import ValidationError

from unet_segmentation.datasets import MarkdownDataset
from unet_segmentation.parameters import ReleaseParameters
from unet_segmentation.tracking.resume import Continuation, claim_training


@pytest.mark.parametrize("why", [None, "", "  "])
def test_force_needs_a_reason(why):
    with pytest.raises(ValidationError, match="say why"):
        ReleaseParameters(force=True, reason=why)
    assert ReleaseParameters(force=True, reason="asked for").force


def test_how_one_releases_is_no_parameter_of_a_training(tmp_path):
    parameters = {"training": {"epochs": 3, "resume": True}, "release": {"noninferiority_margin": 0.01, "run": None}}
    claim_training(tmp_path, parameters, "kedro run").finish("KILLED")
    other = parameters | {"release": {"noninferiority_margin": 0.02, "run": "abc"}}
    claim = claim_training(tmp_path, other, "kedro run")
    assert claim.continuation is Continuation.RESUME
    claim.finish("KILLED")


def test_a_markdown_page_keeps_its_underscores_in_the_preview(tmp_path):
    dataset = MarkdownDataset(filepath=str(tmp_path / "decision.md"))
    dataset.save("Refused: a_run_b <0.5\n")
    assert dataset.load() == "Refused: a_run_b <0.5\n"
    assert str(dataset.preview()) == "Refused: a&#95;run&#95;b &lt;0.5\n"
    assert [path.name for path in tmp_path.iterdir()] == ["decision.md"]
