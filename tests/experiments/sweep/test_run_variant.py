"""Variants trained on a tiny problem: finished ones are kept, killed ones go on, failed ones stop nobody."""

import errno
import sys
import time
from dataclasses import replace

import pytest
import torch

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.experiments.child_training import train_model, training_key
from unet_segmentation.experiments.sweep import run_variant as running
from unet_segmentation.experiments.sweep.run_variant import check_buildable, run_variant
from unet_segmentation.experiments.variants import declare_variants
from unet_segmentation.parameters import SweepParameters
from unet_segmentation.tracking import Run
from unet_segmentation.training import preflight, trainer
from unet_segmentation.training.plan import StepTimings
from unet_segmentation.utils.memory import PeakMemory


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained_with(parameters, **changes):
    return parameters.model_copy(update={"training": parameters.training.model_copy(update=changes)})


def variant_of(prepared, name="v", **overrides):
    changes = {key.replace("__", "."): value for key, value in overrides.items()}
    return declare_variants(prepared.parameters, SweepParameters(variants={name: changes}, seeds=[0]))[0]


@pytest.fixture
def fits(monkeypatch):
    """How often anything was trained."""
    calls, train = [], trainer.run_training
    monkeypatch.setattr(trainer, "run_training", lambda *given, **options: calls.append(1) or train(*given, **options))
    return calls


class Said(Run):
    """Remembers what was said to a child."""

    def __init__(self):
        self.metrics, self.closed = {}, []

    def start_nested_run(self, *_, **__):
        return self

    def log_metrics(self, values, step=0, time=None):
        self.metrics |= {(name, step): value for name, value in values.items()}

    def close(self, status, reason=None, time=None):
        self.closed.append((status, reason))


def test_what_is_finished_is_not_trained_again_and_told_alike(prepared, tmp_path, fits):
    variant, first, second = variant_of(prepared), Said(), Said()
    result = run_variant(variant, prepared, tmp_path, first)
    assert result.status == "finished"
    assert result.epochs == 2
    assert run_variant(variant, prepared, tmp_path, second) == result
    assert len(fits) == 1
    assert first.metrics == second.metrics
    assert {step for name, step in first.metrics if name == "train/loss"} == {1, 2}
    assert first.metrics["test/dice/mean", 0] == result.scores["dice/mean"]
    assert first.closed == second.closed == [("FINISHED", None)]
    assert not list(tmp_path.rglob("last.ckpt"))  # several times the model


def test_a_name_does_not_matter_and_a_predictor_of_its_own_shares_the_training(prepared, tmp_path, fits):
    run_variant(variant_of(prepared), prepared, tmp_path, Run())
    run_variant(variant_of(prepared, "other"), prepared, tmp_path, Run())
    mirrored = variant_of(prepared, predictor__test_time_augmentation="flip")
    result = run_variant(mirrored, prepared, tmp_path, Run())
    assert result.status == "finished"
    assert len(fits) == 1


def test_what_was_killed_goes_on_from_its_last_epoch(prepared, tmp_path, monkeypatch):
    variant = variant_of(prepared, training__epochs=3)
    expected = run_variant(variant, prepared, tmp_path / "whole", Run())

    class Killed(Said):
        def log_metrics(self, values, step=0, time=None):
            super().log_metrics(values, step, time)
            if step == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_variant(variant, prepared, tmp_path / "killed", Killed())
    steps, training_step = [], train_model.__globals__["trainer"].SegmentationTask.training_step
    monkeypatch.setattr(
        trainer.SegmentationTask, "training_step", lambda *given: steps.append(1) or training_step(*given)
    )
    result = run_variant(variant, prepared, tmp_path / "killed", Run())
    assert len(steps) == 2  # those of the third epoch; none is tried, as the plan is known
    assert (result.scores, result.fingerprint) == (expected.scores, expected.fingerprint)


def test_a_failure_is_a_result_with_its_reason(prepared, tmp_path):
    run = Said()
    result = run_variant(variant_of(prepared, model__encoder_depth=6), prepared, tmp_path, run)  # 64 px for 32
    assert result.status == "failed"
    assert "training.patch_size" in result.reason
    assert run.closed == [("FAILED", result.reason)]


def test_a_full_disk_stops_the_sweep(prepared, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(running, "train_variant", full)
    with pytest.raises(OSError, match="No space"):
        run_variant(variant_of(prepared), prepared, tmp_path, Run())


def test_other_data_is_another_training(prepared):
    other = replace(prepared, statistics=prepared.statistics.model_copy(update={"data_sha256": "other"}))
    variant = variant_of(prepared)
    assert training_key(variant, prepared) != training_key(variant, other)
    assert training_key(variant, prepared) == training_key(variant_of(prepared, "renamed"), prepared)


def test_the_budget_is_equal_whatever_the_plan_would_make_of_a_variant(prepared):
    base = trained_with(prepared.parameters, epochs="auto", batch_size="auto")
    open_ones = replace(prepared, parameters=base)
    wide = variant_of(open_ones, training__batch_size=4)
    assert (
        open_ones.propose_values(wide.parameters.model, wide.parameters.training).epochs
        == prepared.proposed_plan.values.epochs
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="nothing is known of the memory elsewhere")
def test_the_peak_is_what_was_held_at_once():
    if torch.cuda.is_available():
        pytest.skip("that of the GPU is measured instead")
    for mib in (60, 180, 60):  # a larger one before leaves nothing behind
        with PeakMemory() as memory:
            held = torch.ones(mib << 18)
            time.sleep(0.2)
            del held
        assert memory.mib == pytest.approx(mib, abs=10)


@pytest.mark.slow
def test_every_variant_gets_the_same_wall_clock(prepared, tmp_path, monkeypatch):
    """A fast and a slow network, by speeds that are made up; what their plans take is computed from these."""
    slow, fast = (
        StepTimings(step=step, loading=0, overlapping=False, validation=validation)
        for step, validation in ((300.0, 60.0), (100.0, 20.0))
    )
    speeds = iter([fast, slow])
    monkeypatch.setattr(preflight, "measure_timings", lambda *_: next(speeds))
    minutes = 100.0
    timed = replace(prepared, parameters=trained_with(prepared.parameters, max_time_minutes=minutes))
    sweep = SweepParameters(variants={"slim": {}, "wide": {"model.base_channels": 16}}, seeds=[0], budget="minutes")
    variants = declare_variants(timed.parameters, sweep)
    plans = []
    train = trainer.run_training
    monkeypatch.setattr(trainer, "run_training", lambda plan, *a, **more: plans.append(plan) or train(plan, *a, **more))
    results = [run_variant(each, timed, tmp_path, Run()) for each in variants]
    assert [result.status for result in results] == ["finished", "finished"]
    taken = [
        plan.epochs * (plan.steps_per_epoch * speed.step + speed.validation + 5.0) / 60
        for plan, speed in zip(plans, (fast, slow), strict=True)
    ]
    assert all(0.8 * minutes < each <= minutes for each in taken)
    assert [result.epochs for result in results] == [plan.epochs for plan in plans]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model__architecture": "unet", "model__encoder": "resnet81"}, "resnet"),
        ({"model__architecture": "unett"}, "unet"),
        ({"augmentation__transforms": [{"name": "HorizontlFlip"}]}, "HorizontalFlip"),
    ],
)
def test_names_that_nobody_knows_are_refused_before_anything_is_trained(prepared, change, words):
    with pytest.raises(ConfigurationError, match=words):
        check_buildable([variant_of(prepared, **change)], prepared.statistics)
