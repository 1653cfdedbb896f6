"""The proof before anything is published: exported files give what the network gives, image by image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.errors import ProjectError
from unet_segmentation.inference.backends.base import Backend, Image, Mask, Probabilities
from unet_segmentation.inference.predictor import Predictor
from unet_segmentation.inference.sliding_window import argmax_mask
from unet_segmentation.metrics.confusion_matrix import confusion_matrix
from unet_segmentation.metrics.definitions import global_scores
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters import ExportParameters, PredictorParameters

LARGEST_WHOLE = 1_048_576  # pixels: odd images that are larger go in tiles here, so that the check stays short
HEADLINES = ("dice/mean", "iou/mean")


class Case(NamedTuple):
    """An image that the files are tried on."""

    kind: str  # `split`, or `size` for one of an odd size
    name: str  # sample, or what is odd
    image: Image  # (height, width, channels)
    truth: Mask | None  # (height, width) class ids, 255 = ignored


class _Computes(Protocol):
    """A backend that gives logits, too."""

    name: str

    def both(self, images: Image) -> tuple[Probabilities, Probabilities]: ...


class _WithLogits(Backend):
    """Probabilities and logits on top of each other, so that both go through the one way of the predictor."""

    def __init__(self, backend: _Computes) -> None:
        self.name, self._backend = backend.name, backend

    def __call__(self, images: Image) -> Probabilities:
        return np.concatenate(self._backend.both(images), axis=1)


class Parity(NamedTuple):
    """Results of a parity check.

    The table has a row for each file and image: file, kind, image, height, width, pixels, equal_pixels, probability and
    logit (the largest differences), row, column and class (where that of the probability is).
    """

    table: pd.DataFrame
    counts: dict[str, NDArray[np.int64]]  # confusion matrix of the split by file; the network's under `network`


def hold_against(
    network: _Computes,
    files: Mapping[str, _Computes],
    cases: Callable[[], Iterator[Case]],
    spec: ModelSpec,
    inference: PredictorParameters,
) -> Parity:
    """Send every case through the network (eager float32, as in evaluation) and every file, and compare.

    The cases are yielded again at each call; only a few are in memory at a time.
    """
    classes = list(spec.classes)
    everything = {"network": network, **files}
    predictors = {name: _predictor(backend, spec, inference) for name, backend in everything.items()}
    counts = {name: np.zeros((len(classes), len(classes)), np.int64) for name in everything}
    rows: list[dict[str, Any]] = []
    predictions = [predictor.predict_many(case.image for case in cases()) for predictor in predictors.values()]
    for case, expected, *others in zip(cases(), *predictions, strict=True):
        for name, result in zip(everything, (expected, *others), strict=True):
            if name != "network":
                rows.append({"file": name, **_compare(case, result, expected, classes)})
            if case.truth is not None:
                mask = argmax_mask(result[: len(classes)])
                counts[name] += confusion_matrix(case.truth, mask, len(classes))
    return Parity(pd.DataFrame(rows), counts)


def compare_files(
    model: Path, files: Mapping[str, Path], packed: PackedSamples, names: Sequence[str], inference: PredictorParameters
) -> Parity:
    """Compare `.pt2` files (that this run has written) and `.onnx` files with the network of a model file.

    They are compared on samples, by their ids, and on images of odd sizes.
    """
    import torch

    from unet_segmentation.inference.backends.onnxruntime import OnnxRuntimeBackend
    from unet_segmentation.inference.backends.pytorch import EagerBackend
    from unet_segmentation.inference.backends.torch_export import ExportedBackend
    from unet_segmentation.models.model_file import load_model

    def backend(file: Path) -> _Computes:
        if file.suffix == ".pt2":
            return ExportedBackend(torch.export.load(file))
        precision = "int8" if ".int8." in file.name else "float32"
        return OnnxRuntimeBackend(file, precision=precision, threads=torch.get_num_threads())

    network, info = load_model(model)
    backends = {name: backend(file) for name, file in files.items()}

    def cases() -> Iterator[Case]:
        for name in names:
            yield Case("split", name, packed.image(name), packed.mask(name))
        yield from odd_cases(packed.image(names[0]), info.spec.multiple, inference)

    return hold_against(EagerBackend(network, "cpu"), backends, cases, info.spec, inference)


def odd_cases(image: Image, multiple: int, inference: PredictorParameters) -> Iterator[Case]:
    """Yield images of sizes that go wrong first: one pixel, primes, below the network's multiple, long, in tiles.

    Their pixels are those of an image, mirrored as often as need be.
    """
    side = math.isqrt(min(inference.max_pixels, LARGEST_WHOLE))
    sizes = {
        "one pixel": (1, 1),
        "a row": (1, 3 * multiple + 1),
        "below the multiple": (multiple - 1, max(1, multiple // 2)),
        "above the multiple": (multiple + 1, multiple + 1),
        "primes": (61, 97),
        "long": (multiple, 13 * multiple),
        "larger than max_pixels": (side + 3, side + 11),
    }
    for name, (height, width) in sizes.items():
        below, right = max(0, height - image.shape[0]), max(0, width - image.shape[1])
        larger = np.pad(image, ((0, below), (0, right), (0, 0)), mode="symmetric")
        yield Case("size", name, np.ascontiguousarray(larger[:height, :width]), None)


def summarize(parity: Parity, classes: Sequence[str]) -> dict[str, float | None]:
    """Return the figures of every file: flat, `<file>/<figure>`; None where one is undefined or infinite.

    Returns:
        For each file `images`, `agreement` (share of all pixels with the network's class), `least_agreement` (of an
        image of the split), `probability` and `logit` (largest differences), `score_difference` (largest, over all
        scores), and the headlines of its own and of the network.
    """
    plain: dict[str, float | None] = {}
    reference = global_scores(parity.counts["network"], classes)
    for name, table in parity.table.groupby("file", sort=False):
        scores = global_scores(parity.counts[str(name)], classes)
        split = table[table["kind"] == "split"]
        figures: dict[str, float] = {
            "images": len(table),
            "agreement": table["equal_pixels"].sum() / table["pixels"].sum(),
            "least_agreement": (split["equal_pixels"] / split["pixels"]).min(),
            "probability": table["probability"].max(),
            "logit": table["logit"].max(),
            "score_difference": _apart(reference, scores),
            **{key: scores[key] for key in HEADLINES},
            **{f"{key}_lost": reference[key] - scores[key] for key in HEADLINES},
        }
        plain |= {f"{name}/{key}": float(value) for key, value in figures.items()}
    plain |= {f"network/{key}": reference[key] for key in HEADLINES}
    return {key: value if value is not None and math.isfinite(value) else None for key, value in plain.items()}


def failures(parity: Parity, figures: Mapping[str, float | None], export: ExportParameters) -> list[str]:
    """Return in a sentence each what does not meet the parameters; nothing where all files may be published."""
    sentences: list[str] = []
    for name, table in parity.table.groupby("file", sort=False):
        if figures[f"{name}/probability"] is None:
            sentences.append(f"{name}: a probability is no number; {_largest(table)}")
        elif ".int8." in str(name):
            sentences += _failures_of_int8(str(name), table, figures, export)
        else:
            sentences += _failures_of(str(name), table, figures, export)
    return sentences


def _failures_of(
    name: str, table: pd.DataFrame, figures: Mapping[str, float | None], export: ExportParameters
) -> Iterator[str]:
    values = (figures[f"{name}/{key}"] for key in ("probability", "agreement", "score_difference"))
    probability, agreement, score = (math.inf if value is None else value for value in values)
    if probability > export.max_probability_difference:
        yield (
            f"{name}: a probability differs by {probability:.3g}, more than {export.max_probability_difference:g} "
            f"(export.max_probability_difference); {_largest(table)}"
        )
    if agreement < export.min_agreement:
        yield (
            f"{name}: {agreement:.3%} of the pixels get the network's class, less than {export.min_agreement:.3%} "
            f"(export.min_agreement); {_least(table)}"
        )
    if score > export.max_score_difference:
        yield (
            f"{name}: a score differs by {score:.3g}, more than {export.max_score_difference:g} "
            "(export.max_score_difference)"
        )


def _failures_of_int8(
    name: str, table: pd.DataFrame, figures: Mapping[str, float | None], export: ExportParameters
) -> Iterator[str]:
    lost = {key: figures[f"{name}/{key}_lost"] or 0.0 for key in HEADLINES}  # None: neither of the two is defined
    worst = max(lost, key=lambda key: lost[key])
    if lost[worst] > export.max_int8_score_drop:
        yield (
            f"{name}: {worst} falls by {lost[worst]:.4f} in 8 bits, more than {export.max_int8_score_drop:g} "
            f"(export.max_int8_score_drop); {_least(table)}"
        )


def _predictor(backend: _Computes, spec: ModelSpec, inference: PredictorParameters) -> Predictor:
    """Make a predictor of twice as many classes: the second half are logits."""
    classes = list(spec.classes)
    both = replace(spec, classes=(*classes, *(f"logit of {name}" for name in classes)))
    limited = inference.model_copy(update={"max_pixels": min(inference.max_pixels, LARGEST_WHOLE)})
    return Predictor(both, _WithLogits(backend), limited)


def _compare(case: Case, result: Probabilities, expected: Probabilities, classes: Sequence[str]) -> dict[str, Any]:
    if result.shape != expected.shape:
        raise ProjectError(f"{case.name}: the exported file gives {result.shape}, the network {expected.shape}.")
    count = len(classes)
    apart = np.nan_to_num(np.abs(result - expected), nan=np.inf)  # what is no number is as far away as can be
    place = np.unravel_index(int(apart[:count].argmax()), apart[:count].shape)
    equal = argmax_mask(result[:count]) == argmax_mask(expected[:count])
    return {
        "kind": case.kind,
        "image": case.name,
        "height": case.image.shape[0],
        "width": case.image.shape[1],
        "pixels": equal.size,
        "equal_pixels": int(equal.sum()),
        "probability": float(apart[place]),
        "logit": float(apart[count:].max()),
        "row": int(place[1]),
        "column": int(place[2]),
        "class": classes[int(place[0])],
    }


def _apart(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    """Return the largest difference of a score; infinity where one is defined in one case only."""
    pairs = [(value, second[name]) for name, value in first.items()]
    differences = (0.0 if math.isnan(one) and math.isnan(two) else abs(one - two) for one, two in pairs)
    return max((math.inf if math.isnan(apart) else apart for apart in differences), default=0.0)


def _largest(table: pd.DataFrame) -> str:
    worst = max(table.to_dict("records"), key=lambda row: row["probability"])
    return (
        f"most in {worst['image']} ({worst['height']} x {worst['width']} pixels) at row {worst['row']}, column "
        f"{worst['column']}, class {worst['class']}"
    )


def _least(table: pd.DataFrame) -> str:
    worst = min(table.to_dict("records"), key=lambda row: row["equal_pixels"] / row["pixels"])
    different = worst["pixels"] - worst["equal_pixels"]
    return f"the most pixels differ in {worst['image']}: {different} of {worst['pixels']}"
