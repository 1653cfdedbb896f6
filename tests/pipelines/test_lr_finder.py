from safetensors.torch import save_file

from tests.pipelines.test_training import CLASSES, NETWORK, PROFILE, TRAINING
from tests.pipelines.test_training import problem as problem  # noqa: PLC0414 - a fixture
from unet_segmentation.pipelines.lr_finder import nodes
from unet_segmentation.pipelines.training.nodes import build_model
from unet_segmentation.training import lr_finder
from unet_segmentation.training.lr_schedule import LearningRateTest
from unet_segmentation.training.plan_rules import propose_plan


def test_from_initial_weights_to_a_suggestion_and_its_curve(problem, tmp_path, monkeypatch):
    monkeypatch.setattr(lr_finder, "STEPS", 30)
    samples, packed, recipe = problem
    plan = propose_plan(PROFILE, NETWORK, TRAINING, CLASSES)
    specification, weights = build_model(NETWORK, TRAINING, plan, CLASSES, PROFILE)
    initial = tmp_path / "initial.safetensors"
    save_file(weights, initial)
    before = initial.read_bytes()
    result = nodes.find_learning_rate(specification, initial, samples, packed, recipe, PROFILE, plan, TRAINING)
    assert LearningRateTest.model_validate_json(result.model_dump_json()) == result
    assert result.suggested in result.rates
    assert result.current == TRAINING.optimizer.learning_rate
    assert initial.read_bytes() == before
    assert tuple(nodes.plot_learning_rate(result).data[0].x) == result.rates
