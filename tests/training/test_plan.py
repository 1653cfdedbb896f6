import json
import os
from dataclasses import replace

import pandas as pd
import pytest
import torch

from tests.specs import make_spec
from tests.training.conftest import PROFILE
from unet_segmentation.data.statistics import SideLengths
from unet_segmentation.errors import ConfigurationError, DataError
from unet_segmentation.parameters import AugmentationRecipe, TrainingParameters
from unet_segmentation.training import hardware
from unet_segmentation.training import plan as plans
from unet_segmentation.training.plan import TrainingPlan
from unet_segmentation.training.plan_rules import default_plan_values
from unet_segmentation.training.training_inputs import TrainingInputs

SIDES = ("height", "width")
NETWORK = make_spec(classes=["background", "disc"])
NO_RECIPE = AugmentationRecipe()


def resolved(*sizes, split=None, network=NETWORK, recipe=NO_RECIPE, statistics=PROFILE, **parameters):
    sizes = sizes or ((128, 128),) * 4
    split = split or {"train": [str(number) for number in range(len(sizes))], "validation": ["0"]}
    training = TrainingParameters.model_validate(parameters)
    statistics = statistics.model_copy(
        update={
            side: SideLengths.from_column(pd.Series([size[axis] for size in sizes])) for axis, side in enumerate(SIDES)
        }
    )
    rows = [(name, side, ["m.png"]) for side, names in split.items() for name in names]
    samples = pd.DataFrame(rows, columns=["sample_id", "split", "masks"])
    inputs = TrainingInputs(network, {}, None, recipe, samples, statistics, default_plan_values(training, statistics))
    return plans.resolve_plan(training, inputs)


def test_everything_automatic_is_resolved_into_json():
    plan = resolved(accelerator="cpu")
    assert TrainingPlan.model_validate_json(plan.model_dump_json()) == plan
    decisions = plan.model_dump(exclude={"parameters"})
    assert "auto" not in [*decisions.values(), *decisions["hardware"].values()]
    assert (plan.hardware.num_workers, plan.patch_size, plan.steps_per_epoch) == (0, 128, 10)
    assert plan.hardware.precision in {"32-true", "bf16-mixed"}
    assert plan.hardware.num_threads >= 1


def test_the_file_of_a_plan_says_its_epochs_and_its_identity():
    plan = resolved(epochs=7)
    file = json.loads(plan.model_dump_json())
    assert (file["epochs"], file["fingerprint"]) == (7, plan.fingerprint)
    assert TrainingPlan.model_validate(file).fingerprint == plan.fingerprint


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(128, 128)], 128),
        ([(1000, 700)], 256),
        ([(120, 119)] * 3, 96),
        ([(20, 300)], 32),
        ([(64, 64), (300, 100)], 64),
        ([(64, 64), (100, 300), (100, 100)], 96),
    ],
)
def test_automatic_patch_size(sizes, expected):
    assert resolved(*sizes).patch_size == expected


def test_an_epoch_is_a_whole_pass_or_the_minimum():
    assert resolved(*[(64, 64)] * 33, batch_size=4, min_steps_per_epoch=5).steps_per_epoch == 9
    assert resolved(*[(64, 64)] * 3, batch_size=4, min_steps_per_epoch=5).steps_per_epoch == 5


def test_class_weights():
    assert resolved().class_weights is None
    assert resolved(loss={"class_weights": [1, 2]}).class_weights == (1.0, 2.0)
    background, disc = resolved(loss={"class_weights": "auto"}).class_weights
    assert disc > background > 0


def test_the_fingerprint_follows_what_matters_and_nothing_else():
    base = resolved().fingerprint
    assert resolved().fingerprint == base
    assert resolved(seed=1).fingerprint != base
    assert resolved(recipe=AugmentationRecipe(library="another")).fingerprint != base
    assert resolved(network=replace(NETWORK, architecture="fpn")).fingerprint != base
    assert resolved(statistics=PROFILE.model_copy(update={"data_sha256": "1"})).fingerprint != base


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none():
    with pytest.raises(
        ConfigurationError, match=r"training\.accelerator: cuda is asked for.*Take auto, or one of: cpu"
    ):
        resolved(accelerator="cuda")


def test_float16_on_a_cpu():
    with pytest.raises(ConfigurationError, match=r"training\.precision"):
        resolved(accelerator="cpu", precision="16-mixed")


@pytest.mark.parametrize(("there", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_bfloat16_only_where_the_cpu_has_it(monkeypatch, there, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": there})
    assert hardware.resolve_precision("auto", "cpu") == expected


def test_a_patch_smaller_than_what_the_network_halves_away():
    with pytest.raises(ConfigurationError, match=r"training\.patch_size: 32 px"):
        resolved(patch_size=32, network=NETWORK.with_multiple(64))


@pytest.mark.parametrize("missing", ["train", "validation"])
def test_a_split_without_samples(missing):
    split = {"train": ["0"], "validation": ["0"]} | {missing: []}
    with pytest.raises(DataError, match=f"The {missing} split"):
        resolved(split=split)


def test_only_labeled_samples_count_in_an_order_of_their_own():
    table = pd.DataFrame(
        {
            "sample_id": ["b", "a", "c", "d"],
            "split": ["train", "train", "train", "test"],
            "masks": [["b.png"], ["a.png"], [], ["d.png"]],
        }
    )
    assert plans.labeled_ids_by_split(table) == {"train": ["a", "b"], "test": ["d"]}


def test_threads_follow_the_cores_that_may_be_used(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setattr(hardware, "_container_quota", lambda: 2)
    assert hardware.available_cores() == 2
