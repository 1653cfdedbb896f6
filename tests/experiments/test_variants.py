"""Which variants are declared, and what is refused before anything is trained."""

import pytest

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.experiments.variants import declare_variants
from unet_segmentation.parameters import SweepParameters, validate_parameters

PARAMETERS = {
    "problem": "toy",
    "source": {"generator": {"name": "cells"}, "images": "i/{id}.png", "masks": "m/{id}.png", "license": "MIT"},
    "classes": ["a", "b"],
    "masks": {"encoding": "index"},
    "model": {"architecture": "unet_original", "base_channels": 4},
    "training": {"epochs": 2},
}


def declared(parameters=PARAMETERS, **comparison):
    return declare_variants(validate_parameters(parameters), SweepParameters(**comparison))


def test_every_combination_of_a_grid_with_every_seed():
    variants = declared(grid={"model.base_channels": [2, 4], "training": {"epochs": [1, 3, 5]}}, seeds=[7, 8])
    assert len({variant.name for variant in variants}) == 6
    assert [variant.seed for variant in variants] == [7] * 6 + [8] * 6  # all variants with one seed before the next
    assert [variant.name for variant in variants[:2]] == ["base_channels=2, epochs=1", "base_channels=2, epochs=3"]
    for variant in variants:
        assert (
            variant.parameters.model.base_channels
            == variant.overrides["model.base_channels"]
            == variant.parameters.model.base_channels
        )
        assert variant.parameters.training.epochs == variant.overrides["training.epochs"]
        assert variant.parameters.training.seed == variant.seed
        assert variant.parameters.training.min_steps_per_epoch == 10  # as by default


def test_listed_variants_are_crossed_with_the_grid():
    variants = declared(
        variants={"plain": {}, "deep": {"model.encoder_depth": 4}}, grid={"model.base_channels": [2, 8]}, seeds=0
    )
    assert [variant.name for variant in variants] == [
        "plain, base_channels=2",
        "plain, base_channels=8",
        "deep, base_channels=2",
        "deep, base_channels=8",
    ]
    assert variants[3].overrides == {"model.encoder_depth": 4, "model.base_channels": 8}


def test_a_variant_named_without_anything_changes_nothing():
    (variant,) = declared(variants={"plain": None}, seeds=[3])
    assert variant.parameters.model.base_channels == 4
    assert variant.overrides == {}


def test_names_of_the_grid_are_told_apart_and_long_values_are_cut():
    long = [{"name": "HorizontalFlip"}, {"name": "VerticalFlip"}, {"name": "RandomRotate90"}]
    (variant,) = declared(grid={"augmentation.transforms": [long]}, seeds=[0])
    assert len(variant.name) < 60
    assert len(variant.parameters.augmentation.transforms) == 3


@pytest.mark.parametrize(
    ("comparison", "words"),
    [
        ({}, "nothing to compare"),
        ({"variants": {"a": {"model.base_chanels": 3}}}, "did you mean 'base_channels'"),
        ({"variants": {"a": {"model.base_channels": 0}}}, "'a'"),
        ({"variants": {"a": {"modle.base_channels": 3}}}, "did you mean 'model'"),
        ({"variants": {"a": {"images.range": None}}}, "preparation"),
        ({"variants": {"a": {"split.seed": 3}}}, "preparation"),
        ({"variants": {"a": {"evaluation.split": "train"}}}, "same for all"),
        ({"variants": {"a": {"training.seed": 3}}}, "sweep.seeds"),
        ({"variants": {"a": {"training.resume": False}}}, "does not change a result"),
        ({"variants": {"a": {"model": 3}}}, "whole section"),
        ({"variants": {"a": {}, "b": {"model.base_channels": 4}}}, "'a' and 'b' are the same"),
        ({"grid": {"model.base_channels": 4}}, "list of values"),
        ({"grid": {"model.base_channels": []}}, "list of values"),
        ({"variants": {"a": {"model.base_channels": 3}}, "grid": {"model.base_channels": [2]}}, "varied by the grid"),
        ({"variants": {"a": {"training.max_time_minutes": 3}}}, "sweep.budget"),
        ({"variants": {"a": {}}, "budget": "minutes"}, "training.max_time_minutes"),
    ],
)
def test_refused_with_the_reason(comparison, words):
    with pytest.raises(ConfigurationError, match=words):
        declared(**comparison)


def test_a_time_budget_is_the_same_for_all():
    timed = {**PARAMETERS, "training": {"max_time_minutes": 2}}
    assert declared(timed, variants={"a": {}}, budget="minutes", seeds=[0])[0].parameters.training.max_time_minutes == 2
    with pytest.raises(ConfigurationError, match=r"must not set training\.epochs"):
        declared(timed, variants={"a": {"training.epochs": 3}}, budget="minutes")
    with pytest.raises(ConfigurationError, match="set that to null"):
        declared(timed, variants={"a": {}})


@pytest.mark.parametrize("seeds", [[], [0, 0], [-1]])
def test_seeds_are_numbers_each_once(seeds):
    with pytest.raises(ValueError, match="seeds"):
        SweepParameters(seeds=seeds)
