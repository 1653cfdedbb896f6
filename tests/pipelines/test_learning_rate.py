import json

from safetensors.torch import save_file

from tests.pipelines.test_training import CLASSES, NETWORK, PROFILE, TRAINING
from tests.pipelines.test_training import problem as problem  # noqa: PLC0414 - a fixture
from unet_segmentation.learning import learning_rate
from unet_segmentation.learning.planning import propose_plan
from unet_segmentation.pipelines.learning_rate import nodes
from unet_segmentation.pipelines.training.nodes import build_network


def test_from_initial_weights_to_a_suggestion_and_its_curve(problem, tmp_path, monkeypatch):
    monkeypatch.setattr(learning_rate, "STEPS", 30)
    samples, packed, recipe = problem
    plan = propose_plan(PROFILE, NETWORK, TRAINING, CLASSES)
    specification, weights = build_network(NETWORK, TRAINING, plan, CLASSES, PROFILE)
    initial = tmp_path / "initial.safetensors"
    save_file(weights, initial)
    before = initial.read_bytes()
    found = nodes.find_learning_rate(specification, initial, samples, packed, recipe, PROFILE, plan, TRAINING)
    assert json.loads(json.dumps(found)) == found
    assert found["suggested"] in found["rates"]
    assert found["current"] == TRAINING.optimizer.learning_rate
    assert initial.read_bytes() == before
    assert list(nodes.plot_learning_rate(found).data[0].x) == found["rates"]
