"""What is measured before a training decides what it should, and changes nothing else."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.training.conftest import CLASSES, PROFILE, Tiny, last_network, make_inputs
from tests.training.test_trainer import digest
from unet_segmentation.errors import ConfigurationError, ResourceError
from unet_segmentation.models import factory as networks
from unet_segmentation.models.complexity import model_complexity
from unet_segmentation.parameters import ModelParameters, TrainingParameters
from unet_segmentation.training import preflight
from unet_segmentation.training.dry_run import TimingCallback, dry_run, load_in_process, repeated_batch
from unet_segmentation.training.plan import StepTimings, resolve_plan
from unet_segmentation.training.preflight import finalize_plan, fit_batch_size, fit_time_budget, training_seconds
from unet_segmentation.training.train_model import train_model
from unet_segmentation.training.trainer import make_loaders

SETTINGS = {
    "epochs": 2,
    "min_steps_per_epoch": 3,
    "batch_size": 4,
    "num_threads": 1,
    "accelerator": "cpu",
    "precision": "32-true",
    "ema_decay": 0.9,
}
SPEED = StepTimings(step=0.1, loading=0.02, overlapping=False, validation=0.5)
SLOW_VALIDATION = SPEED.model_copy(update={"validation": 2.0})


@pytest.fixture
def prepared(monkeypatch, packed, recipe, tmp_path):
    """Call it with training parameters: gives the plan before it is resolved, and all that settling takes."""
    monkeypatch.setattr(networks, "_build", lambda spec, _: Tiny(len(spec.classes)))
    monkeypatch.setattr(preflight, "QUICKLY", 0.0)
    monkeypatch.setattr(preflight, "CAREFULLY", 0.0)
    specification = networks.resolve_model_spec(ModelParameters(architecture="unet_original"), CLASSES, PROFILE)
    specification = specification.with_multiple(16)

    def prepare(**parameters):
        training = TrainingParameters.model_validate(SETTINGS | parameters)
        inputs = make_inputs(packed, recipe, specification, training, seed=0)
        return SimpleNamespace(plan=resolve_plan(training, inputs), training=training, inputs=inputs)

    return prepare


def resolved(case, plan=None, **options):
    return finalize_plan(plan or case.plan, case.inputs, time.perf_counter(), **options)


# -- nothing else changes


def test_weights_statistics_and_random_states_stay(prepared):
    case = prepared()
    before = copy.deepcopy(case.inputs.initial_weights)
    torch.manual_seed(5)
    np.random.seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1]
    plan = resolved(case)
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()
    assert before.keys() == case.inputs.initial_weights.keys()
    assert all(torch.equal(value, before[name]) for name, value in case.inputs.initial_weights.items())
    assert plan.fingerprint == case.plan.fingerprint  # nothing was open, and what is measured does not count
    assert plan.measured.step > 0


def test_a_training_ends_the_same_with_and_without(prepared, tmp_path):
    ends = []
    for tried in (False, True):
        case = prepared()
        plan = resolved(case) if tried else case.plan
        result = train_model(case.inputs, case.training, tmp_path / str(tried), plan=plan)
        network = last_network(result, case.inputs.spec)
        ends.append((digest(network), result.history["train/loss"].tolist()))
    assert ends[0] == ends[1]


# -- speed


def test_what_is_measured_is_what_was_slow(prepared, monkeypatch, caplog):
    caplog.set_level("INFO")
    forward = Tiny.forward

    def slow(self, images):
        time.sleep(0.05 if self.training else 0.02)
        return forward(self, images)

    monkeypatch.setattr(Tiny, "forward", slow)
    case = prepared()
    plan = resolved(case)
    tiles = len(make_loaders(case.plan, case.inputs)[1])
    assert 0.05 <= plan.measured.step < 0.2
    assert 0.02 <= plan.measured.validation <= 0.1 * tiles
    assert training_seconds(plan.measured, plan.epochs, plan.steps_per_epoch) >= 2 * 3 * 0.05
    assert "images/s, network" in caplog.text


def test_one_of_many_is_timed_only_where_something_hangs_on_it(prepared, monkeypatch):
    measured = []
    monkeypatch.setattr(preflight, "measure_timings", lambda *_: measured.append(1) or SPEED)
    quiet = {"estimate_duration": False}
    assert resolved(case := prepared(), **quiet).fingerprint == resolved(case).fingerprint
    assert len(measured) == 1
    assert resolved(timed := prepared(max_time_minutes=1.0), **quiet).epochs == resolved(timed).epochs
    assert len(measured) == 3


def test_batches_are_those_of_the_training(prepared):
    case = prepared()
    loader = make_loaders(case.plan, case.inputs)[0]
    pairs = list(zip(loader, load_in_process(loader), strict=True))
    assert len(pairs) == 3
    assert all(torch.equal(one[0], other[0]) and torch.equal(one[1], other[1]) for one, other in pairs)


def test_a_batch_is_repeated_for_a_while():
    assert len(list(repeated_batch("batch", 0.0))) == 3
    begin = time.perf_counter()
    assert len(list(islice(repeated_batch("batch", 0.05), 10**7))) > 3
    assert 0.05 <= time.perf_counter() - begin < 5


def test_loading_beside_the_steps_costs_only_what_is_longer():
    neighbor = SPEED.model_copy(update={"overlapping": True})
    assert neighbor.batch == 0.1
    assert SPEED.batch == pytest.approx(0.12)
    assert training_seconds(SPEED, 3, 10) == pytest.approx(3 * (10 * 0.12 + 0.5) * 1.05)


# -- a time budget


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("speed", [SPEED, SLOW_VALIDATION])
@pytest.mark.parametrize("seconds", [30.0, 120.0, 3600.0])
def test_a_budget_gives_some_epochs_that_fill_the_time(seconds, speed, accumulate):
    epochs, steps = fit_time_budget(speed, seconds / 60 / 0.97, accumulate)
    assert steps % accumulate == 0
    assert training_seconds(speed, epochs, steps) <= seconds * (1 + 1e-9)
    assert seconds < training_seconds(speed, epochs, steps + accumulate)
    assert epochs * speed.validation <= 0.1 * seconds
    assert epochs in range(10, 21) if seconds > 200 else 1 <= epochs <= 20


def test_a_budget_too_small_for_a_step_says_what_the_least_is():
    least = training_seconds(SPEED, 1, 1) / 0.97 / 60
    with pytest.raises(
        ConfigurationError, match=r"training\.max_time_minutes: 0\.01\d* min .*about 1 s here.*patch_size"
    ):
        fit_time_budget(SPEED, least - 1e-4)
    assert fit_time_budget(SPEED, least + 1e-4) == (1, 1)


def test_the_budget_decides_the_epochs(prepared, monkeypatch):
    monkeypatch.setattr(preflight, "measure_timings", lambda *_: SPEED)
    plan = resolved(case := prepared(max_time_minutes=1.0))
    # Validations of 0.5 s may take a tenth of 55.4 s: eleven epochs, each of as many steps as fit.
    assert plan.epochs == 11 == plan.cycles[0]
    assert plan.steps_per_epoch == int((60 * 0.97 / 1.05 / 11 - 0.5) / 0.12)
    assert plan.request_hash() == case.plan.request_hash()
    assert plan.fingerprint != case.plan.fingerprint
    spent = time.perf_counter() - 30  # the budget began to run half a minute ago
    assert finalize_plan(case.plan, case.inputs, spent).epochs == 5


# -- memory


@pytest.fixture
def crowded(prepared, monkeypatch):
    """A plan of 64 patches where there is room for a number of patches only."""

    def prepare(patches, **parameters):
        case = prepared(**parameters)
        case.plan = case.plan.model_copy(update={"batch_size": 64})
        case.inputs = replace(case.inputs, proposal=case.inputs.proposal.model_copy(update={"batch_size": 64}))
        # A patch keeps its pixels normalized, and the outputs of two convolutions, a normalization and an activation.
        weights = sum(value.numel() for value in case.inputs.build_network().parameters())
        costs = model_complexity(case.inputs.spec, 32, 32)
        assert costs["activation_bytes"] > 4 * 4 * 32 * 32 * 3  # four channels of float32, after three layers
        needed = 4 * 4 * weights + patches * costs["activation_bytes"]
        monkeypatch.setattr(preflight, "available_memory", lambda: needed / 0.9 + 1)
        return case

    return prepare


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_refused_with_one_that_does(crowded):
    with pytest.raises(ResourceError, match=r"training\.batch_size: 64 patches of 32 px .*GiB.*take 16 \(or auto\)"):
        resolved(crowded(16))
    with pytest.raises(ResourceError, match=r"take smaller patches \(training\.patch_size\)"):
        resolved(crowded(0))


@pytest.mark.slow
def test_an_open_batch_is_halved_until_it_fits(crowded, caplog):
    caplog.set_level("INFO")
    plan = resolved(crowded(20, batch_size="auto", min_steps_per_epoch=1))
    assert plan.batch_size == 16
    assert plan.steps_per_epoch == 1
    assert "batches of 16 patches instead of 64" in caplog.text
    with pytest.raises(ResourceError, match="smaller patches"):
        resolved(crowded(1, batch_size="auto"))  # batch normalization needs two


def test_a_gpu_is_tried_with_halved_batches(prepared, monkeypatch):
    tried = []

    def attempt(plan, setup, train, validation, callback):
        tried.append(plan.batch_size)
        if len(next(iter(train))[0]) > 8:
            raise ResourceError("full")

    monkeypatch.setattr(preflight, "dry_run", attempt)
    monkeypatch.setattr(preflight.gc, "collect", lambda: 0)  # takes long in a process with many tests
    for name, value in {"mem_get_info": (1000, 2000), "memory_reserved": 0, "max_memory_allocated": 900}.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    case = prepared()
    hardware = case.plan.hardware.model_copy(update={"accelerator": "cuda", "num_workers": 0})
    plan = case.plan.model_copy(update={"hardware": hardware, "batch_size": 32})
    assert fit_batch_size(plan, case.inputs, fixed=False) == 8
    assert tried == [32, 16, 8]
    with pytest.raises(ResourceError, match=r"do not fit into the GPU's memory: take 8"):
        fit_batch_size(plan, case.inputs, fixed=True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 901)  # more than nine tenths of what is free
    with pytest.raises(ResourceError, match="take smaller patches"):
        fit_batch_size(plan, case.inputs, fixed=False)


def test_memory_of_a_container(tmp_path):
    assert preflight._container_memory(tmp_path) == float("inf")
    (tmp_path / "memory.stat").write_text("file 500\nanon 300\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert preflight._container_memory(tmp_path) == float("inf")
    (tmp_path / "memory.max").write_text("1000\n")
    assert preflight._container_memory(tmp_path) == 700


# -- torch.compile


@pytest.mark.slow
def test_no_compiler_is_a_wrong_parameter(prepared):
    case = prepared(compile=True)
    patches = iter([preflight._first_batch(case.plan, case.inputs)])
    torch.compiler.reset()  # what other tests of this process have compiled needs no compiler any more
    # torch's own patch: after pytest's, an option that is the alias of another one stays hidden for ever.
    with (
        torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}),
        pytest.raises(ConfigurationError, match=r"training\.compile: .*C\+\+ compiler.* says: \w+: \w+"),
    ):
        dry_run(case.plan, case.inputs, patches, None, TimingCallback())
