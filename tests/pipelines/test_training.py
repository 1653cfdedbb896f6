import hashlib
import logging

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from tests.data.fabricated_statistics import statistics_of
from unet_segmentation import tracking
from unet_segmentation.data.store.packed_arrays import pack
from unet_segmentation.errors import ConfigurationError, ProjectError
from unet_segmentation.models.model_file import load_model
from unet_segmentation.parameters import AugmentationParameters, ModelParameters, TrainingParameters
from unet_segmentation.pipelines.training import nodes
from unet_segmentation.training import preflight, train_model
from unet_segmentation.training.augmentation import compose_recipe
from unet_segmentation.training.plan import StepTimings
from unet_segmentation.training.plan_rules import propose_plan, validate_proposed_plan

CLASSES = ["a", "b"]
SIDE = {"minimum": 32, "median": 32, "maximum": 32}
PROFILE = statistics_of(
    {
        "mean": [90.0],
        "std": [30.0],
        "class_shares": {"a": 0.5, "b": 0.5},
        "data_sha256": "x",
        "height": SIDE,
        "width": SIDE,
        "samples": {"train": 3, "validation": 2},
    }
)
NETWORK = ModelParameters(architecture="unet_original", base_channels=2, encoder_depth=2)
TRAINING = TrainingParameters(epochs=2, min_steps_per_epoch=2, batch_size=2, num_threads=1, accelerator="cpu")


class Recorder:
    enabled = True

    def __init__(self):
        self.metrics = []
        self.resumed = []

    def log_metrics(self, metrics, step=None, time=None):
        self.metrics.append((step, metrics))

    def decide_resumption(self, resumed):
        self.resumed.append(resumed)


@pytest.fixture
def problem(tmp_path):
    generator = np.random.default_rng(0)
    data = {}
    for number in range(5):
        mask = generator.integers(0, 2, (32, 32), dtype=np.uint8)
        data[f"s{number}"] = mask[..., None] * 100, mask
    splits = ["train"] * 3 + ["validation"] * 2
    samples = pd.DataFrame({"sample_id": list(data), "split": splits, "masks": [["m.png"]] * 5})
    return samples, pack(tmp_path / "packed", data), compose_recipe(AugmentationParameters(), channels=1)


def weights_digest(weights):
    return hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights))).hexdigest()


@pytest.fixture
def recorder(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(tracking, "active_run", lambda: recorder)
    return recorder


@pytest.fixture
def run(problem, tmp_path):
    """Run the pipeline's nodes; gives the plan, the best model, the checkpoint and the history."""

    def run(data=problem, training=TRAINING, profile=PROFILE, network=NETWORK, **edits):
        samples, packed, recipe = data
        plan = propose_plan(profile, network, training, CLASSES).model_dump()
        plan["values"] |= edits
        plan = validate_proposed_plan(plan)
        specification, weights = nodes.build_model(network, training, plan, CLASSES, profile)
        initial = tmp_path / "initial.safetensors"
        save_file(weights, initial)
        work = tmp_path / "models"
        resolved = nodes.preflight(specification, initial, samples, packed, recipe, profile, plan, training, work)
        inputs = specification, initial, samples, packed, recipe, profile, plan
        return resolved, *nodes.train(*inputs, resolved, training, work)

    return run


def deliver(tmp_path, plan):
    (tmp_path / "models" / plan.fingerprint / "delivered").touch()


def build(training=TRAINING):
    plan = propose_plan(PROFILE, NETWORK, training, CLASSES)
    return nodes.build_model(NETWORK, training, plan, CLASSES, PROFILE)


def test_initial_weights_follow_the_seed_alone():
    first = build()[1]
    torch.manual_seed(123)
    second = build()[1]
    other = build(TRAINING.model_copy(update={"seed": 1}))[1]
    assert weights_digest(first) == weights_digest(second) != weights_digest(other)


def test_from_parameters_to_a_model_with_every_epoch_reported(run, recorder):
    plan, best, last, history = run()
    assert plan.samples == {"train": ("s0", "s1", "s2"), "validation": ("s3", "s4")}
    assert [step for step, _ in recorder.metrics] == [1, 2] == history["epoch"].tolist()
    assert last.is_file()
    assert load_model(best)[1].fingerprint == plan.fingerprint
    assert nodes.plot_training(history, TRAINING).data


OPEN = {"epochs": "auto", "min_steps_per_epoch": "auto", "batch_size": "auto"}
EDITS = {"epochs": 1, "min_steps_per_epoch": 3, "batch_size": 3}


def test_an_edited_plan_holds_where_the_parameters_leave_it_open(run, recorder, tmp_path):
    network = NETWORK.model_copy(update={"encoder_depth": "auto"})
    plan, best, *_ = run(training=TRAINING.model_copy(update=OPEN), network=network, encoder_depth=4, **EDITS)
    assert (plan.epochs, plan.steps_per_epoch, plan.batch_size) == (1, 3, 3)
    assert load_model(best)[1].spec.encoder_depth == 4


def test_an_edited_plan_does_not_hold_against_the_parameters_and_that_is_said(run, recorder, caplog):
    caplog.set_level(logging.INFO, "unet_segmentation")
    plan, best, *_ = run(encoder_depth=4, **EDITS)
    assert (plan.epochs, plan.steps_per_epoch, plan.batch_size) == (2, 2, 2)
    assert load_model(best)[1].spec.encoder_depth == 2
    assert "batch_size is 2, as the parameters say, and not 3, as proposed_plan.yml does" in caplog.text


def test_an_edit_that_makes_no_sense_is_refused(run, recorder):
    with pytest.raises(ConfigurationError, match=r"plan\.yml(?s:.*)values\.patch_size"):
        run(patch_size=33)


def test_a_time_budget_is_turned_into_epochs_once(run, recorder, monkeypatch):
    """The training that goes on keeps its epochs, and nothing is measured again."""
    throughput = StepTimings(step=1.0, loading=0.0, overlapping=False, validation=0.2)
    monkeypatch.setattr(preflight, "measure_timings", lambda *_: throughput)
    brief = TRAINING.model_copy(update={"max_time_minutes": 0.2, "epochs": 1000})
    plan, *_, history = run(training=brief)
    assert plan.epochs == len(history) == 5
    monkeypatch.setattr(train_model, "finalize_plan", None)
    assert run(training=brief)[0] == plan


def test_a_training_whose_run_did_not_end_is_not_repeated_and_told_again(run, recorder):
    plan, _, last, history = run()
    written = last.stat().st_mtime_ns
    again, _, last, same = run()
    assert again == plan
    assert last.stat().st_mtime_ns == written
    pd.testing.assert_frame_equal(same, history, check_exact=True)
    assert recorder.metrics[:2] == recorder.metrics[2:]
    assert recorder.resumed == [True, True]


def test_a_training_that_was_delivered_starts_anew(run, recorder, tmp_path):
    plan, _, last, _ = run()
    written = last.stat().st_mtime_ns
    deliver(tmp_path, plan)
    again, _, last, _ = run()
    assert again.fingerprint == plan.fingerprint
    assert last.stat().st_mtime_ns > written


@pytest.mark.parametrize(
    ("change", "word"),
    [({"epochs": 3}, "training.epochs"), ({"profile": PROFILE.model_copy(update={"data_sha256": "y"})}, "data")],
)
def test_what_changed_is_said_and_nothing_is_taken_up(run, recorder, caplog, change, word):
    caplog.set_level(logging.INFO, "unet_segmentation")
    first = run()[0]
    profile = change.pop("profile", PROFILE)
    second = run(training=TRAINING.model_copy(update=change), profile=profile)[0]
    assert second.fingerprint != first.fingerprint
    assert recorder.resumed == [True, False]
    assert f"is not resumed, as this differs: {word}" in caplog.text


def test_epochs_are_added_to_a_finished_training(run, recorder, tmp_path):
    plan, _, _, history = run()
    deliver(tmp_path, plan)
    longer = TRAINING.model_copy(update={"extra_epochs": 2})
    more, _, _, whole = run(training=longer)
    assert more.cycles == (2, 2)
    assert whole["epoch"].tolist() == [1, 2, 3, 4]
    pd.testing.assert_frame_equal(whole[:2], history, check_exact=True)
    assert whole["train/learning_rate"][2] > history["train/learning_rate"][1]
    deliver(tmp_path, more)
    assert run(training=longer)[0].cycles == (2, 2, 2)


def test_epochs_cannot_be_added_to_nothing(run, recorder):
    with pytest.raises(ConfigurationError, match=r"training\.extra_epochs: 2 cannot be added.*starts a new training"):
        run(training=TRAINING.model_copy(update={"extra_epochs": 2}))
    run()
    with pytest.raises(ConfigurationError, match="resumes the unfinished one"):
        run(training=TRAINING.model_copy(update={"extra_epochs": 2}))


def test_weights_of_another_network(problem, recorder, tmp_path):
    samples, packed, recipe = problem
    specification, weights = build()
    weights.pop(next(iter(weights)))
    save_file(weights, tmp_path / "initial.safetensors")
    proposal = propose_plan(PROFILE, NETWORK, TRAINING, CLASSES)
    inputs = specification, tmp_path / "initial.safetensors", samples, packed, recipe, PROFILE, proposal
    with pytest.raises(ProjectError, match=r"run the node training\.build_model again"):
        nodes.preflight(*inputs, TRAINING, tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_noticed_before_anything_is_built():
    with pytest.raises(ConfigurationError, match=r"training\.accelerator"):
        build(TRAINING.model_copy(update={"accelerator": "cuda"}))
