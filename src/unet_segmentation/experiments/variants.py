"""The variants of a sweep: what each changes, validated before anything is trained."""

from __future__ import annotations

import difflib
import itertools
import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.parameters import Parameters, SweepParameters, validate_parameters

FREE = ("model", "training", "augmentation", "predictor")  # sections that variants may change
TIMED = {"training.max_time_minutes", "training.epochs", "training.min_steps_per_epoch"}
MAX_LENGTH = 40  # characters of a value in a variant's name
PREPARED = "belongs to the data preparation, which all variants share. Add a problem of its own for it (conf/<name>)"
REFUSED = {
    **dict.fromkeys(("source", "classes", "images", "masks", "inspection", "split"), PREPARED),
    "problem": "is chosen with --env",
    "evaluation": "has to be the same for all variants, or their scores could not be compared",
    "mlflow": "is set in mlflow.yml",
    "training.resume": "does not change a result",
    "training.extra_epochs": "would extend another training run",
    "training.num_workers": "does not change a result",
    "training.rdzv_endpoint": "does not change a result",
    "training.num_nodes": "trains one network on several machines, which a sweep does not",
}
EXAMPLE = "sweep: {grid: {model.encoder: [resnet18, resnet34]}}"


@dataclass(frozen=True)
class Variant:
    """One training run of a sweep: what a variant changes, with one seed."""

    name: str  # of the variant; the same for all seeds
    seed: int
    overrides: Mapping[str, object]  # dotted name to value
    parameters: Parameters  # all of the problem, with the overrides and the seed

    def __str__(self) -> str:
        return f"{self.name}, seed {self.seed}"


def declare_variants(parameters: Parameters, comparison: SweepParameters) -> list[Variant]:
    """List all training runs of a sweep: for each seed every variant, so that one stopped early compares all of them.

    Raises:
        ConfigurationError: nothing is declared; a variant changes what it may not, or to what is not valid, or nothing
            that another does not; or the budget does not fit. Names the variant and the key.
    """
    declared = dict(_declared(comparison))
    if not declared:
        raise ConfigurationError(
            f"sweep: there is nothing to compare: declare variants or a grid in the problem's parameters.yml, as "
            f"in {EXAMPLE}"
        )
    for name, overrides in declared.items():
        if "training.seed" in overrides:
            raise ConfigurationError(f"sweep: {name}: training.seed is varied by sweep.seeds, for all alike")
    variants = [
        Variant(name, seed, overrides, override_parameters(parameters, overrides | {"training.seed": seed}, name))
        for seed in comparison.seeds
        for name, overrides in declared.items()
    ]
    _check_different(variants[: len(declared)])
    _check_budget(variants, comparison.budget)
    return variants


def flatten_keys(
    values: Mapping[str, object], prefix: str = "", is_leaf: Callable[[Mapping[str, object]], bool] = operator.not_
) -> dict[str, object]:
    """Flatten nested names; what is dotted already stays so.

    >>> flatten_keys({"model": {"encoder": "vgg16_bn"}, "training.epochs": 3})
    {'model.encoder': 'vgg16_bn', 'training.epochs': 3}
    """
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and not is_leaf(value):
            flat |= flatten_keys(value, f"{prefix}{key}.", is_leaf)
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def override_parameters(parameters: Parameters, overrides: Mapping[str, object], name: str) -> Parameters:
    """Return all parameters with the values of `overrides` (by dotted name) replaced.

    Raises:
        ConfigurationError: a key may not be changed or is unknown (the message offers the nearest), or its value is
            wrong. Names the variant.
    """
    for key in overrides:
        _check_free(key, name)
    values = parameters.model_dump(mode="json")
    for key, value in overrides.items():
        *path, last = key.split(".")
        section = values
        for part in path:
            below = section.get(part)
            section[part] = below if isinstance(below, dict) else {}
            section = section[part]
        section[last] = value
    try:
        return validate_parameters(values)
    except ConfigurationError as error:
        lines = str(error).partition("\n")[2]
        raise ConfigurationError(f"The variant {name!r} is not valid:\n{lines}") from None


def free_sections(parameters: Parameters) -> dict[str, object]:
    """Return the sections that variants may change as plain values."""
    return parameters.model_dump(mode="json", include=set(FREE))


def _check_free(key: str, name: str) -> None:
    section = key.partition(".")[0]
    for refused in (key, section):
        if refused in REFUSED:
            raise ConfigurationError(f"{name}: {key} {REFUSED[refused]}")
    if section in FREE and section == key:
        raise ConfigurationError(f"{name}: {key} is a whole section; name what is changed, as in {key}.<name>")
    if section not in FREE:
        near = difflib.get_close_matches(section, FREE, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigurationError(f"{name}: {key}: variants change parameters below {', '.join(FREE)}{hint}")


def _declared(comparison: SweepParameters) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield name and overrides of each variant: those that are listed, each crossed with the grid."""
    points = list(_points(flatten_keys(comparison.grid)))
    listed = {name: flatten_keys(changes) for name, changes in comparison.variants.items()}
    if not comparison.grid:
        yield from listed.items()
        return
    for name, changes in (listed or {"": {}}).items():
        for label, point in points:
            if both := changes.keys() & point.keys():
                raise ConfigurationError(f"sweep: {name}: {min(both)} is varied by the grid, too; remove one")
            yield ", ".join(filter(None, (name, label))), changes | point


def _points(grid: Mapping[str, object]) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield every combination of the grid's values, with its name: `encoder=resnet18, epochs=10`."""
    lists: list[list[object]] = []
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ConfigurationError(f"sweep.grid: {key}: give a list of values, as in {EXAMPLE}")
        lists.append(values)
    ends = [key.rpartition(".")[2] for key in grid]
    short = {key: end if ends.count(end) == 1 else key for key, end in zip(grid, ends, strict=True)}
    for combination in itertools.product(*lists):
        point = dict(zip(grid, combination, strict=True))
        yield ", ".join(f"{short[key]}={_text(value)}" for key, value in point.items()), point


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1]}…"


def _check_different(variants: Sequence[Variant]) -> None:
    names: dict[str, str] = {}
    for variant in variants:
        content = json.dumps(free_sections(variant.parameters), sort_keys=True)
        if content in names:
            raise ConfigurationError(
                f"sweep: {names[content]!r} and {variant.name!r} are the same training run; remove one"
            )
        names[content] = variant.name


def _check_budget(variants: Sequence[Variant], budget: str) -> None:
    for variant in variants:
        minutes = variant.parameters.training.max_time_minutes
        if budget == "epochs" and minutes is not None:
            raise ConfigurationError(
                f"sweep.budget: epochs, but {variant.name!r} has training.max_time_minutes {minutes:g}: set that to "
                "null, or sweep.budget to minutes"
            )
        timed = variant.overrides.keys() & TIMED
        if budget == "minutes" and (minutes is None or timed):
            fix = f"{variant.name!r} must not set {min(timed)}" if timed else "set training.max_time_minutes"
            raise ConfigurationError(f"sweep.budget: minutes, the same for every variant; {fix}")
