"""Parameters as plain values, flat keys and YAML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

RUN_OPTIONS = ("training.resume", "training.extra_epochs")  # how a run starts, not what it computes


def to_builtin(values: Any) -> Any:  # noqa: ANN401 - a tree of anything
    """Convert pydantic models, anywhere in a tree of parameters, to dictionaries."""
    if hasattr(values, "model_dump"):
        return values.model_dump(mode="json")
    if isinstance(values, Mapping):
        return {str(key): to_builtin(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [to_builtin(value) for value in values]
    return values


def flatten(values: Any, prefix: str = "") -> dict[str, str]:  # noqa: ANN401 - a tree of anything
    """Flatten nested parameters to dotted keys; lists become compact JSON.

    >>> flatten({"a": {"b": 1, "c": [1, 2]}, "d": None})
    {'a.b': '1', 'a.c': '[1,2]', 'd': 'null'}
    """
    if isinstance(values, Mapping) and values:
        parts = [flatten(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in values.items()]
        return {key: value for part in parts for key, value in part.items()}
    if isinstance(values, str):
        return {prefix: values}
    return {prefix: json.dumps(values, separators=(",", ":"), default=str, ensure_ascii=False)}


def dump_parameters_yaml(parameters: Mapping[str, Any]) -> bytes:
    """Dump all parameters as the `parameters.yml` that a problem's folder would hold."""
    values = json.loads(json.dumps(to_builtin(parameters), default=str))
    values.pop("problem", None)
    for group, _, key in (name.partition(".") for name in RUN_OPTIONS):
        if isinstance(values.get(group), dict):
            values[group].pop(key, None)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000).encode()
