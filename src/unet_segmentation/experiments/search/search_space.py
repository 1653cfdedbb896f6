"""The search space: which values Optuna suggests, and which parameters they stand for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import optuna

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.experiments.variants import flatten_keys, override_parameters
from unet_segmentation.parameters import Parameters, RangeParameters

EXAMPLE = "search: {space: {training.optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}}}"

Space = dict[str, RangeParameters | list[Any]]


def read_space(declared: Mapping[str, object], parameters: Parameters) -> Space:
    """Check a declared space: every name, both ends of every range and every value of every list.

    Raises:
        ConfigurationError: nothing is declared, a name is unknown or may not be varied, or a value is wrong.
    """
    space: Space = {
        name: values if isinstance(values, list) else RangeParameters.model_validate(values)
        for name, values in flatten_keys(declared, is_leaf=lambda values: "low" in values).items()
    }
    if not space:
        raise ConfigurationError(
            f"search.space: nothing to search: declare a space in the problem's parameters.yml, as in {EXAMPLE}"
        )
    for name, values in space.items():
        for value in values if isinstance(values, list) else (values.low, values.high):
            override_parameters(parameters, {name: value}, "search.space")
    return space


def suggest(trial: optuna.Trial, space: Space) -> dict[str, object]:
    """Suggest a value for every parameter: dotted name to value."""
    return {name: _suggest(trial, name, values) for name, values in space.items()}


def decode_trial_params(params: Mapping[str, object], space: Space) -> dict[str, object]:
    """Decode the parameters of a trial, as the study stores them, into values of parameters."""
    return {
        name: _choices(values)[value] if isinstance(values := space[name], list) else value
        for name, value in params.items()
    }


def _suggest(trial: optuna.Trial, name: str, values: RangeParameters | list[Any]) -> Any:  # noqa: ANN401 - a parameter
    if isinstance(values, list):
        choices = _choices(values)
        return choices[trial.suggest_categorical(name, list(choices))]
    if isinstance(values.low, int) and isinstance(values.high, int):
        return trial.suggest_int(name, values.low, values.high, step=int(values.step or 1), log=values.log)
    return trial.suggest_float(name, values.low, values.high, step=values.step, log=values.log)


def _choices(values: list[Any]) -> dict[Any, Any]:
    """Map what Optuna's storage can hold to each value: the value itself, or a list or mapping as JSON."""
    plain = (str, int, float, bool, type(None))
    return {value if isinstance(value, plain) else json.dumps(value): value for value in values}
