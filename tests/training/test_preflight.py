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

from tests.training.conftest import CLASSES, PROFILE, Tiny
from tests.training.test_trainer import digest
from unet_segmentation.errors import ConfigurationError, ResourceError
from unet_segmentation.models import factory as networks
from unet_segmentation.parameters import ModelParameters, TrainingParameters
from unet_segmentation.training import preflight
from unet_segmentation.training.dry_run import Batches, Clock, Repeated, SavedBytes, loaded, try_training
from unet_segmentation.training.plan import resolve_plan
from unet_segmentation.training.plan_rules import default_plan_values
from unet_segmentation.training.preflight import StepTimings, epochs_for_time_budget, finalize_plan
from unet_segmentation.training.trainer import fit, make_loaders
from unet_segmentation.training.training_inputs import TrainingInputs

SETTINGS = {
    "epochs": 2,
    "min_steps_per_epoch": 3,
    "batch_size": 4,
    "num_threads": 1,
    "accelerator": "cpu",
    "precision": "32-true",
    "ema_decay": 0.9,
}
SPEED = StepTimings(step=0.1, loading=0.02, overlapping=False, validation=0.5, checkpoint=0.1, max_time_fraction=1.0)
SPARING = replace(SPEED, checkpoint=2.0, max_time_fraction=0.02)
QUICK = SimpleNamespace(step=0.01, steps=[5.0, 0.01, 0.01])


@pytest.fixture
def prepared(monkeypatch, packed, recipe, tmp_path):
    """Call it with training parameters: gives the plan before it is settled, and all that settling takes."""
    monkeypatch.setattr(networks, "_build", lambda spec, _: Tiny(len(spec.classes)))
    monkeypatch.setattr(preflight, "QUICKLY", 0.0)
    monkeypatch.setattr(preflight, "CAREFULLY", 0.0)
    specification = networks.resolve_model_spec(ModelParameters(architecture="unet_original"), CLASSES, PROFILE)
    specification = specification.with_multiple(16)
    split = {"train": packed.sample_ids[:8], "validation": packed.sample_ids[8:]}

    def prepare(**parameters):
        training = TrainingParameters.model_validate(SETTINGS | parameters)
        values = default_plan_values(training, PROFILE)
        plan = resolve_plan(training, values, specification, packed, split, recipe, PROFILE)
        torch.manual_seed(0)
        network = networks.build_model(specification)
        setup = TrainingInputs(network, specification, packed, recipe)
        folder = tmp_path / "models"
        return SimpleNamespace(plan=plan, training=training, values=values, setup=setup, folder=folder, network=network)

    return prepare


def settled(prepared):
    case = prepared
    return finalize_plan(case.plan, case.training, case.values, case.setup, case.folder, time.perf_counter())


# -- nothing else changes


def test_weights_statistics_and_random_states_stay(prepared):
    case = prepared()
    before = copy.deepcopy(case.network.state_dict())
    torch.manual_seed(5)
    np.random.seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1]
    plan = settled(case)
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()
    assert before.keys() == case.network.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in case.network.state_dict().items())
    assert case.network.training
    assert all(parameter.grad is None for parameter in case.network.parameters())
    assert not list(case.folder.iterdir())
    assert plan["fingerprint"] == case.plan["fingerprint"]  # nothing was open, and what is measured does not count
    assert plan["measured"]["step"] > 0


def test_a_training_ends_the_same_with_and_without(prepared, tmp_path):
    ends = []
    for tried in (False, True):
        case = prepared()
        plan = settled(case) if tried else case.plan
        result = fit(plan, case.setup, tmp_path / str(tried))
        ends.append((digest(case.network), result.history["train/loss"].tolist()))
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
    measured = settled(case)["measured"]
    tiles = len(make_loaders(case.plan, case.setup)[1])
    assert 0.05 <= measured["step"] < 0.2
    assert 0.02 <= measured["validation"] <= 0.1 * tiles
    assert measured["training"] >= 2 * 3 * 0.05
    assert "images/s, network" in caplog.text


def test_one_of_many_is_timed_only_where_something_hangs_on_it(prepared, monkeypatch):
    measured = []
    monkeypatch.setattr(preflight, "measure_speed", lambda *_: measured.append(1) or SPEED)

    def one_of_many(case):
        now = time.perf_counter()
        return finalize_plan(case.plan, case.training, case.values, case.setup, case.folder, now, foretell=False)

    assert one_of_many(case := prepared())["fingerprint"] == settled(case)["fingerprint"]
    assert len(measured) == 1
    assert one_of_many(timed := prepared(max_time_minutes=1.0))["epochs"] == settled(timed)["epochs"]
    assert len(measured) == 3


def test_batches_are_those_of_the_training(prepared):
    case = prepared()
    loader = make_loaders(case.plan, case.setup)[0]
    pairs = list(zip(loader, loaded(loader), strict=True))
    assert len(pairs) == 3
    assert all(torch.equal(one[0], other[0]) and torch.equal(one[1], other[1]) for one, other in pairs)


def test_a_batch_is_repeated_for_a_while():
    assert len(list(Repeated("batch", 0.0))) == 3
    begin = time.perf_counter()
    assert len(list(islice(Repeated("batch", 0.05), 10**7))) > 3
    assert 0.05 <= time.perf_counter() - begin < 5


def test_loading_beside_the_steps_costs_only_what_is_longer():
    beside = replace(SPEED, overlapping=True)
    assert beside.batch == 0.1
    assert SPEED.batch == pytest.approx(0.12)
    assert SPEED.training(3, 10) == pytest.approx(3 * (10 * 0.12 + 0.6))


# -- a time budget


def test_checkpoints_take_their_share_and_the_last_is_always_written():
    assert SPARING.training(1, 10) == pytest.approx(1.7 + 2.0)
    assert SPARING.training(100, 10) == pytest.approx(100 * 1.7 * 1.02 + 2.0)
    assert SPARING.training(100, 10_000) == pytest.approx(100 * (1200.5 + 2.0))


@pytest.mark.parametrize("speed", [SPEED, SPARING])
@pytest.mark.parametrize("seconds", [4.0, 10.0, 60.0, 1000.0])
def test_as_many_epochs_as_fit(seconds, speed):
    epochs = speed.epochs_within(seconds, 10)
    assert speed.training(epochs, 10) <= seconds < speed.training(epochs + 1, 10)


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("speed", [SPEED, SPARING])
@pytest.mark.parametrize("seconds", [30.0, 120.0, 3600.0])
def test_a_budget_gives_some_epochs_that_fill_the_time(seconds, speed, accumulate):
    epochs, steps = epochs_for_time_budget(speed, seconds, 1, accumulate)
    assert steps % accumulate == 0
    assert speed.training(epochs, steps) <= seconds * (1 + 1e-9)
    assert seconds < speed.training(epochs, steps + accumulate)
    beside = speed.training(epochs, steps) - epochs * steps * speed.batch
    assert beside <= 0.1 * seconds + speed.checkpoint  # the last one is written all the same
    assert epochs in range(10, 21) if seconds > 100 else 1 <= epochs < 10


def test_a_budget_too_small_for_a_step_says_what_the_least_is():
    least = SPEED.training(1, 1)
    with pytest.raises(ConfigurationError, match=r"training\.max_time_minutes: 0\.5 min .*about 1 s here.*patch_size"):
        epochs_for_time_budget(SPEED, least - 0.01, 0.5)
    assert epochs_for_time_budget(SPEED, least + 0.01, 0.5) == (1, 1)


def test_the_budget_decides_the_epochs(prepared, monkeypatch):
    monkeypatch.setattr(preflight, "measure_speed", lambda *_: SPEED)
    plan = settled(case := prepared(max_time_minutes=1.0))
    # A tenth of an epoch is 0.6 s of validation and checkpoint: nine of 6 s, or a little more, fill 58.2 s.
    assert plan["epochs"] == 9 == plan["cycles"][0]
    assert plan["steps_per_epoch"] == int((60 * 0.97 / 9 - 0.6) / 0.12)
    assert plan["request"] == case.plan["request"]
    assert plan["fingerprint"] != case.plan["fingerprint"]
    spent = time.perf_counter() - 30  # the budget began to run half a minute ago
    assert finalize_plan(case.plan, case.training, case.values, case.setup, case.folder, spent)["epochs"] == 4


# -- memory


def test_what_a_step_keeps_grows_by_the_patch(prepared):
    case = prepared()
    saved = SavedBytes()
    batches = [preflight._first_patches(case.plan, case.setup, count) for count in (2, 3, 7)]
    try_training(case.plan, case.network, CLASSES, Batches(*batches), None, saved)
    two, three, seven = saved.steps
    assert seven == two + 5 * (three - two)
    assert three - two > 4 * 4 * 32 * 32 * 3  # four channels of float32, after three layers


@pytest.fixture
def crowded(prepared, monkeypatch):
    """A plan of 64 patches where there is room for that many bytes of so many patches."""

    def prepare(patches, **parameters):
        case = prepared(**parameters)
        case.plan |= {"batch_size": 64}
        case.values |= {"batch_size": 64}
        saved = SavedBytes()
        small = [preflight._first_patches(case.plan, case.setup, count) for count in (2, 3)]
        try_training(case.plan, case.network, CLASSES, Batches(*small), None, saved)
        each = saved.steps[1] - saved.steps[0]
        weights = 4 * 4 * sum(parameter.numel() for parameter in case.network.parameters())
        needed = weights + 1.1 * (saved.steps[0] + (patches - 2) * each)
        monkeypatch.setattr(preflight, "available_memory", lambda: needed / 0.9 + 1)
        return case

    return prepare


def test_a_batch_that_does_not_fit_is_refused_with_one_that_does(crowded):
    with pytest.raises(ResourceError, match=r"training\.batch_size: 64 patches of 32 px .*GiB.*take 16 \(or auto\)"):
        settled(crowded(16))
    with pytest.raises(ResourceError, match=r"take smaller patches \(training\.patch_size\)"):
        settled(crowded(0))


def test_an_open_batch_is_halved_until_it_fits(crowded, caplog):
    caplog.set_level("INFO")
    plan = settled(crowded(20, batch_size="auto", min_steps_per_epoch=1))
    assert plan["batch_size"] == 16
    assert plan["steps_per_epoch"] == 1
    assert "batches of 16 patches instead of 64" in caplog.text
    with pytest.raises(ResourceError, match="smaller patches"):
        settled(crowded(1, batch_size="auto"))  # batch normalisation needs two


def test_a_gpu_is_tried_with_halved_batches(prepared, monkeypatch):
    tried = []

    def attempt(plan, network, classes, train, validation, callback):
        tried.append(plan["batch_size"])
        if len(next(iter(train))[0]) > 8:
            raise ResourceError("full")

    monkeypatch.setattr(preflight, "try_training", attempt)
    monkeypatch.setattr(preflight.gc, "collect", lambda: 0)  # takes long in a process with many tests
    for name, value in {"mem_get_info": (1000, 2000), "memory_reserved": 0, "max_memory_allocated": 900}.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    case = prepared()
    plan = case.plan | {"accelerator": "cuda", "batch_size": 32, "num_workers": 0}
    assert preflight._within_memory(plan, case.setup, 3, given=False)["batch_size"] == 8
    assert tried == [32, 16, 8]
    with pytest.raises(ResourceError, match=r"do not fit into the GPU's memory: take 8"):
        preflight._within_memory(plan, case.setup, 3, given=True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 901)  # more than nine tenths of what is free
    with pytest.raises(ResourceError, match="take smaller patches"):
        preflight._within_memory(plan, case.setup, 3, given=False)


def test_memory_of_a_container(tmp_path):
    assert preflight._container_memory(tmp_path) == float("inf")
    (tmp_path / "memory.stat").write_text("file 500\nanon 300\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert preflight._container_memory(tmp_path) == float("inf")
    (tmp_path / "memory.max").write_text("1000\n")
    assert preflight._container_memory(tmp_path) == 700


# -- torch.compile


@pytest.mark.parametrize(
    ("epochs", "accelerator", "clock", "compiled"),
    [
        (10_000, "cuda", QUICK, True),
        (10, "cuda", QUICK, False),  # too short to try
        (10_000, "cpu", QUICK, False),
        (10_000, "cuda", SimpleNamespace(step=0.099, steps=[500.0, 0.1]), False),  # saves less than it costs
    ],
)
def test_compiled_where_it_pays(prepared, monkeypatch, epochs, accelerator, clock, compiled):
    monkeypatch.setattr(preflight, "Clock", lambda: clock)
    monkeypatch.setattr(preflight, "try_training", lambda *_: None)
    case = prepared()
    plan = case.plan | {"accelerator": accelerator, "epochs": epochs}
    found, speed = preflight._compile_where_it_pays(plan, case.training, case.setup, SPEED)
    assert found["compile"] is compiled
    assert speed.step == (0.01 if compiled else 0.1)


@pytest.mark.parametrize("wanted", [True, False])
def test_nobody_is_overruled(prepared, wanted):
    case = prepared(compile=wanted)
    plan = case.plan | {"accelerator": "cuda", "epochs": 10_000}
    assert preflight._compile_where_it_pays(plan, case.training, case.setup, SPEED)[0]["compile"] is wanted


@pytest.mark.slow
def test_no_compiler_is_a_wrong_parameter(prepared):
    case = prepared(compile=True)
    patches = Batches(preflight._first_patches(case.plan, case.setup, 2))
    # torch's own patch: after pytest's, an option that is the alias of another one stays hidden for ever.
    with (
        torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}),
        pytest.raises(ConfigurationError, match=r"training\.compile: .*C\+\+ compiler.* says: \w+: \w+"),
    ):
        try_training(case.plan, case.network, CLASSES, patches, None, Clock())
