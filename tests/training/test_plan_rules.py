"""The rules of the plan, beside values worked out by hand, and what is said of an edited plan."""

from __future__ import annotations

import json
import math

import pytest
import yaml
from kedro.io import DatasetError

from tests.data.fabricated_statistics import statistics_of
from unet_segmentation.datasets import ProposedPlanDataset
from unet_segmentation.errors import ConfigurationError, find_project_error
from unet_segmentation.parameters import ModelParameters, SamplingParameters, TrainingParameters
from unet_segmentation.training import plan_rules
from unet_segmentation.training.plan import foreground_sampling
from unet_segmentation.training.plan_rules import propose_plan, validate_proposed_plan

OPEN = {"epochs": "auto", "batch_size": "auto", "min_steps_per_epoch": "auto"}
EVEN = {"a": 0.5, "b": 0.5}


def profile(train=40, validation=20, height=128, width=128, **shares):
    sides = {
        name: {"minimum": side, "median": side, "maximum": side}
        for name, side in (("height", height), ("width", width))
    }
    samples = {"train": train, "validation": validation}
    return statistics_of({"samples": samples, "class_shares": shares or EVEN, **sides})


def propose(data=None, network=None, **training):
    data = data or profile()
    parameters = TrainingParameters.model_validate(OPEN | training)
    chosen = ModelParameters.model_validate({"encoder_depth": "auto"} | (network or {}))
    return propose_plan(data, chosen, parameters, list(data.class_shares)).model_dump()


def values(data=None, **training):
    return propose(data, **training)["values"]


def test_what_the_parameters_say_stands():
    given = {"epochs": 7, "batch_size": 3, "min_steps_per_epoch": 4, "patch_size": 64}
    sampling = {"oversample_foreground_fraction": 0.25, "classes": ["a"]}
    plan = propose(network={"encoder_depth": 4}, sampling=sampling, **given)
    expected = given | {"encoder_depth": 4, "oversample_foreground_fraction": 0.25, "foreground_classes": ["a"]}
    assert plan["values"] == expected
    assert set(plan["reasons"].values()) == {"as the parameters say"}


def test_the_defaults_leave_epochs_steps_and_batch_to_the_parameters():
    plan = propose_plan(profile(), ModelParameters(), TrainingParameters(), ["a", "b"]).model_dump()["values"]
    assert (plan["epochs"], plan["min_steps_per_epoch"], plan["batch_size"], plan["encoder_depth"]) == (
        20,
        10,
        16,
        None,
    )


def test_every_value_has_a_reason_and_the_plan_is_plain():
    plan = propose()
    assert plan["values"].keys() == plan["reasons"].keys() == plan_rules.PlanValues.model_fields.keys()
    assert yaml.safe_load(yaml.safe_dump(plan)) == plan


@pytest.mark.parametrize(
    ("side", "expected"), [(31, 32), (32, 32), (63, 32), (64, 64), (120, 96), (256, 256), (5000, 256)]
)
def test_patch_within_the_median_image(side, expected):
    assert values(profile(height=side, width=side + 100))["patch_size"] == expected


@pytest.mark.parametrize("patch", [32, 64, 96, 128, 160, 224, 256])
def test_the_deepest_map_keeps_four_pixels(patch):
    depth = values(patch_size=patch)["encoder_depth"]
    assert patch / 2**depth >= 4
    assert depth == 5 or patch / 2 ** (depth + 1) < 4


def test_depth_follows_declared_decoder_channels():
    network = {"decoder_channels": [64, 32, 16]}
    assert propose(network=network)["values"]["encoder_depth"] == 3


@pytest.mark.parametrize("patch", [32, 64, 128, 256])
@pytest.mark.parametrize("train", [1, 10, 50, 200, 5000])
def test_batch(patch, train):
    batch = values(profile(train=train, height=256, width=256), patch_size=patch)["batch_size"]
    limit = min(32, 16 * 128**2 / patch**2, 0.05 * train * 256**2 / patch**2)
    assert math.log2(batch).is_integer()
    assert batch == 2 or batch <= limit
    assert 2 * batch > limit


@pytest.mark.parametrize(
    ("data", "steps"),
    [
        (profile(train=195, height=96, width=96), 50 * 195 / 8),  # 8 of 96 px at once
        (profile(train=3, height=32, width=32), 300),
        (profile(train=100_000, height=256, width=256), 20_000),
    ],
)
def test_each_pixel_is_seen_fifty_times_within_bounds(data, steps):
    plan = values(data)
    per_epoch = max(plan["min_steps_per_epoch"], math.ceil(data.samples["train"] / plan["batch_size"]))
    total = plan["epochs"] * per_epoch
    assert steps <= total < steps + per_epoch


def test_validation_takes_a_tenth_of_the_time():
    """A validated pixel costs a third of one that is learnt from: 20 images beside 30 steps of 2 are 6.7 and 60."""
    plan = propose(profile(train=40, validation=20))
    assert (plan["values"]["batch_size"], plan["values"]["min_steps_per_epoch"]) == (2, 30)
    assert "10%" in plan["reasons"]["min_steps_per_epoch"]
    few = values(profile(train=40, validation=1000))
    assert few["min_steps_per_epoch"] * 5 == 1000  # there are some epochs all the same


@pytest.mark.parametrize(
    ("shares", "side", "share", "classes"),
    [
        ({"a": 0.6, "b": 0.4}, 512, 0.0, []),
        ({"a": 0.9, "b": 0.1}, 512, 1 / 3, ["b"]),
        ({"a": 0.7, "b": 0.25, "c": 0.05}, 512, 1 / 3, ["c"]),
        ({"a": 0.9, "b": 0.1, "c": 0.0}, 512, 1 / 3, ["b"]),  # a class that is absent cannot be aimed at
        ({"a": 0.9, "b": 0.1}, 256, 0.0, ["b"]),  # a patch is the whole image
        ({"a": 0.9, "b": 0.1}, 360, 0.0, ["b"]),  # or more than half of it
        ({"a": 0.9, "b": 0.1}, 363, 1 / 3, ["b"]),
    ],
)
def test_foreground(shares, side, share, classes):
    plan = values(profile(height=side, width=side, **shares))
    assert (plan["oversample_foreground_fraction"], plan["foreground_classes"]) == (share, classes)


def test_a_share_that_is_given_needs_classes():
    data = profile(a=0.4, b=0.3, c=0.3)
    plan = values(data, sampling=SamplingParameters(oversample_foreground_fraction=0.5).model_dump())
    assert (plan["oversample_foreground_fraction"], plan["foreground_classes"]) == (0.5, ["b", "c"])


def test_classes_that_are_given_are_aimed_at():
    plan = values(profile(height=512, width=512), sampling={"classes": ["b"]})
    assert (plan["oversample_foreground_fraction"], plan["foreground_classes"]) == (1 / 3, ["b"])


@pytest.mark.parametrize("text", ["float", "integer"])
def test_an_edited_plan_is_taken(text):
    plan = yaml.safe_load(yaml.safe_dump(propose()))
    plan["values"] |= {"patch_size": 96, "oversample_foreground_fraction": 0 if text == "integer" else 0.5}
    assert validate_proposed_plan(plan).model_dump() == plan


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"patch_size": 100}, r"values\.patch_size: .*multiple of 32 \(given: 100\)"),
        ({"patch_size": "big"}, r"values\.patch_size: must be a whole number \(given: 'big'\)"),
        ({"batch_size": 0}, r"values\.batch_size: .*\(given: 0\)"),
        ({"epochs": True}, r"values\.epochs: must be a whole number"),
        ({"epochs": 2.5}, r"values\.epochs: "),
        ({"encoder_depth": 9}, r"values\.encoder_depth: "),
        ({"oversample_foreground_fraction": 2}, r"values\.oversample_foreground_fraction: "),
        ({"foreground_classes": "b"}, r"values\.foreground_classes: "),
        ({"patch": 32}, r"values\.patch: there is no such value; known here: patch_size"),
    ],
)
def test_a_wrong_edit_names_the_key(change, words):
    plan = propose()
    plan["values"] |= change
    with pytest.raises(ConfigurationError, match=rf"plan\.yml(?s:.*){words}"):
        validate_proposed_plan(plan)


@pytest.mark.parametrize("plan", [None, [], {}, {"values": None}, {"values": {}}, "text"])
def test_a_plan_that_is_none(plan):
    with pytest.raises(ConfigurationError, match=r"plan\.yml(?s:.*)is missing(?s:.*)kedro run --nodes"):
        validate_proposed_plan(plan)


def test_an_edit_that_names_no_class_is_refused_where_patches_are_aimed():
    plan = propose()
    plan["values"] |= {"foreground_classes": ["c"]}
    words = r"plan\.yml(?s:.*)values\.foreground_classes: 'c' is not one of the classes a, b"
    with pytest.raises(ConfigurationError, match=words):
        foreground_sampling(TrainingParameters(), validate_proposed_plan(plan).values, ["a", "b"])


def test_the_file_keeps_values_and_reasons_and_names_a_wrong_edit(tmp_path):
    dataset = ProposedPlanDataset(filepath=str(tmp_path / "proposed_plan.yml"))
    plan = propose_plan(profile(), ModelParameters(), TrainingParameters(), ["a", "b"])
    dataset.save(plan)
    text = (tmp_path / "proposed_plan.yml").read_text()
    assert yaml.safe_load(text) == plan.model_dump() == json.loads(dataset.preview())
    assert list(yaml.safe_load(text)["values"]) == list(type(plan.values).model_fields)
    assert dataset.load() == plan
    (tmp_path / "proposed_plan.yml").write_text(text.replace("patch_size: ", "patch_size: 1", 1))
    with pytest.raises(DatasetError) as raised:
        dataset.load()
    error = find_project_error(raised.value)
    assert isinstance(error, ConfigurationError)
    assert "values.patch_size: input should be a multiple of 32" in str(error)
