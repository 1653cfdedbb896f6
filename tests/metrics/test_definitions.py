"""Scores beside closed forms, scikit-learn, torchmetrics and a loop."""

import math
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics as sklearn
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score, MulticlassJaccardIndex

from docs.make_metrics_page import PAGE, markdown
from tests.metrics.brute_force import brute_force
from unet_segmentation.metrics.basis import EvaluatedImage, EvaluationSettings
from unet_segmentation.metrics.boundary import MEASURES
from unet_segmentation.metrics.confusion_matrix import confusion_matrix, confusion_table
from unet_segmentation.metrics.definitions import METRICS, find_metric, global_scores, score_definitions
from unet_segmentation.metrics.evaluation_tables import EvaluationTables, build_tables, measure_image
from unet_segmentation.metrics.scores import compute_image_scores, compute_scores
from unet_segmentation.metrics.soft_overlap import soft_overlap_sums
from unet_segmentation.metrics.sufficient_statistics import UnitSums

NAMES = ["background", "cell body", "nucleus", "debris"]
SLUGS = ["background", "cell_body", "nucleus", "debris"]


def pair(kind: str) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(len(kind))
    truth, prediction = (random.integers(0, 4, (31, 17), dtype=np.uint8) for _ in range(2))
    prediction[:20] = truth[:20]
    if kind == "with ignored":
        truth[5:25, 3:9] = 255
    elif kind == "class absent":
        truth[truth == 3], prediction[prediction == 3] = 0, 1
    elif kind == "class never predicted":
        prediction[prediction == 3] = 0
    elif kind == "class not in truth":
        truth[truth == 3] = 0
    elif kind == "perfect":
        prediction = truth.copy()
    elif kind == "all wrong":
        prediction = (truth + 1) % 4
    elif kind == "one class":
        truth[:], prediction[:] = 2, 2
    return truth, prediction


KINDS = [
    "random", "with ignored", "class absent", "class never predicted", "class not in truth", "perfect", "all wrong",
    "one class",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_scikit_learn(kind):
    truth, prediction = pair(kind)
    result = global_scores(confusion_matrix(truth, prediction, 4), NAMES)
    true, predicted = truth[truth != 255], prediction[truth != 255]
    present = sorted(set(true) | set(predicted))
    options = {"labels": present, "average": None, "zero_division": 0}
    expected = {
        "iou": sklearn.jaccard_score(true, predicted, **options),
        "dice": sklearn.f1_score(true, predicted, **options),
        "precision": sklearn.precision_score(true, predicted, **options),
        "recall": sklearn.recall_score(true, predicted, **options),
    }
    for measure, values in expected.items():
        by_class = dict(zip(present, values, strict=True))
        for number, slug in enumerate(SLUGS):
            assert result[f"{measure}/class/{slug}"] == pytest.approx(
                by_class.get(number, math.nan), abs=1e-12, nan_ok=True
            )
        assert result[f"{measure}/mean"] == pytest.approx(np.mean(values), abs=1e-12)
        foreground = [value for number, value in zip(present, values, strict=True) if number > 0]
        assert result[f"{measure}/foreground_mean"] == pytest.approx(np.mean(foreground), abs=1e-12)
    pooled = {"labels": [1, 2, 3], "average": "micro", "zero_division": 0}
    functions = {
        "iou": sklearn.jaccard_score, "dice": sklearn.f1_score, "precision": sklearn.precision_score,
        "recall": sklearn.recall_score,
    }  # fmt: skip
    for measure, function in functions.items():
        value = function(true, predicted, **pooled)
        assert result[f"{measure}/foreground_micro"] == pytest.approx(value, abs=1e-12)
    micro = sklearn.jaccard_score(true, predicted, average="micro", zero_division=0)
    assert result["iou/micro"] == pytest.approx(micro, abs=1e-12)
    recalls = dict(zip(present, expected["recall"], strict=True))
    in_truth = [recalls[number] for number in sorted(set(true)) if number > 0]
    assert result["accuracy/foreground_class_mean"] == pytest.approx(np.mean(in_truth), abs=1e-12)
    weights = {"labels": [number for number in present if number > 0], "average": "weighted", "zero_division": 0}
    weighted = sklearn.jaccard_score(true, predicted, **weights)
    assert result["iou/foreground_frequency_weighted"] == pytest.approx(weighted, abs=1e-12)
    assert result["accuracy/pixel"] == pytest.approx(sklearn.accuracy_score(true, predicted), abs=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        balanced = sklearn.balanced_accuracy_score(true, predicted)
    assert result["accuracy/class_mean"] == pytest.approx(balanced, abs=1e-12)
    weighted = sklearn.jaccard_score(true, predicted, average="weighted", zero_division=0)
    assert result["iou/frequency_weighted"] == pytest.approx(weighted, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_torchmetrics(kind):
    truth, prediction = pair(kind)
    result = global_scores(confusion_matrix(truth, prediction, 4), NAMES)
    tensors = torch.from_numpy(prediction.astype(np.int64)), torch.from_numpy(truth.astype(np.int64))
    options = {"num_classes": 4, "ignore_index": 255}
    assert result["iou/mean"] == pytest.approx(
        MulticlassJaccardIndex(average="macro", **options)(*tensors).item(), abs=1e-6
    )
    assert result["dice/mean"] == pytest.approx(
        MulticlassF1Score(average="macro", **options)(*tensors).item(), abs=1e-6
    )
    accuracy = MulticlassAccuracy(average="micro", **options)(*tensors).item()
    assert result["accuracy/pixel"] == pytest.approx(accuracy, abs=1e-6)


def test_closed_form():
    """Truth: 6 + 4 pixels. 5 of the first right, 1 of them taken for the second; 3 of the second right."""
    result = global_scores(np.array([[5, 1], [1, 3]]), ["a", "b"])
    assert result["iou/class/a"] == pytest.approx(5 / 7)
    assert result["iou/class/b"] == pytest.approx(3 / 5)
    assert result["iou/mean"] == pytest.approx((5 / 7 + 3 / 5) / 2)
    assert result["iou/foreground_mean"] == pytest.approx(3 / 5)
    assert result["dice/class/a"] == pytest.approx(10 / 12)
    assert result["dice/mean"] == pytest.approx((10 / 12 + 6 / 8) / 2)
    assert result["accuracy/pixel"] == pytest.approx(0.8)
    assert result["accuracy/class_mean"] == pytest.approx((5 / 6 + 3 / 4) / 2)
    assert result["iou/frequency_weighted"] == pytest.approx(0.6 * 5 / 7 + 0.4 * 3 / 5)


def test_without_a_counted_pixel_nothing_is_defined():
    result = global_scores(np.zeros((3, 3), np.int64), ["a", "b", "c"])
    assert all(math.isnan(value) for value in result.values())


def test_only_background_leaves_the_foreground_undefined():
    result = global_scores(np.array([[9, 0], [0, 0]]), ["a", "b"])
    assert result["iou/mean"] == 1.0
    assert math.isnan(result["iou/foreground_mean"])
    assert math.isnan(result["dice/class/b"])


def test_iou_and_dice_of_a_class_determine_each_other():
    result = global_scores(np.random.default_rng(0).integers(1, 100, (5, 5)), [str(number) for number in range(5)])
    for slug in "01234":
        iou = result[f"iou/class/{slug}"]
        assert result[f"dice/class/{slug}"] == pytest.approx(2 * iou / (1 + iou))


@pytest.fixture
def counted() -> tuple[EvaluationTables, dict]:
    """Four images: random ones, one without a class, one all ignored."""
    images = {kind: pair(kind) for kind in ("random", "class absent", "with ignored")}
    images["ignored"] = (np.full((4, 4), 255, np.uint8), np.zeros((4, 4), np.uint8))
    probabilities = {}
    for name, (_, prediction) in images.items():
        one_hot = np.stack([prediction == number for number in range(4)]).astype(np.float32)
        probabilities[name] = 0.7 * one_hot + 0.3 / 4
    table = confusion_table((name, confusion_matrix(*masks, 4)) for name, masks in images.items())
    sums = [(name, *soft_overlap_sums(images[name][0], probabilities[name])) for name in images]
    soft = pd.DataFrame(sums, columns=["sample_id", "intersection", "truth", "prediction"])
    tables = EvaluationTables({"confusion": table, "soft": soft})
    return tables, {name: (*images[name], probabilities[name]) for name in images}


def test_scores_of_images_equal_a_loop(counted):
    tables, images = counted
    ious, dices, article_ious, article_dices = [], [], [], []
    for truth, prediction, probabilities in images.values():
        use = truth != 255
        per_class = []
        for number in range(4):
            true, predicted = (truth == number) & use, (prediction == number) & use
            if (true | predicted).any():
                both, either = (true & predicted).sum(), (true | predicted).sum()
                per_class.append((both / either, 2 * both / (true.sum() + predicted.sum())))
        if not use.any():
            continue
        ious.append(np.mean([iou for iou, _ in per_class]))
        dices.append(np.mean([dice for _, dice in per_class]))
        one_hot = np.stack([truth == number for number in range(4)]) & use
        intersection = (probabilities.astype(np.float64) * one_hot).sum()
        both = one_hot.sum() + (probabilities.astype(np.float64) * use).sum()
        article_ious.append((intersection + 1) / (both - intersection + 1))
        article_dices.append((2 * intersection + 1) / (both + 1))
    result = compute_scores(tables, NAMES)
    assert result["iou/per_image_mean"] == pytest.approx(np.mean(ious), abs=1e-12)
    assert result["dice/per_image_mean"] == pytest.approx(np.mean(dices), abs=1e-12)
    assert result["soft_iou/smooth1"] == pytest.approx(np.mean(article_ious), abs=1e-12)
    assert result["soft_dice/smooth1"] == pytest.approx(np.mean(article_dices), abs=1e-12)
    by_image = compute_image_scores(tables, NAMES)
    assert by_image["sample_id"].iloc[-1] == "ignored"  # without a score: last
    assert by_image["iou/per_image_mean"].iloc[:-1].tolist() == pytest.approx(sorted(ious), abs=1e-12)
    assert by_image["pixels"].iloc[-1] == 0


def test_scores_of_a_split_are_those_of_its_summed_matrix(counted):
    tables, images = counted
    total = sum(confusion_matrix(truth, prediction, 4) for truth, prediction, _ in images.values())
    result = compute_scores(tables, NAMES)
    for name, value in global_scores(total, NAMES).items():
        assert result[name] == pytest.approx(value, abs=1e-15, nan_ok=True)


def test_all_that_the_design_names_is_there(counted):
    tables, _ = counted
    result = compute_scores(tables, NAMES)
    for measure in ("dice", "iou", "precision", "recall"):
        assert {f"{measure}/mean", *(f"{measure}/class/{slug}" for slug in SLUGS)} <= set(result)
    assert {
        "dice/foreground_mean", "iou/foreground_mean", "iou/per_image_mean", "dice/per_image_mean", "accuracy/pixel",
        "accuracy/class_mean", "iou/frequency_weighted", "soft_iou/smooth1", "soft_dice/smooth1",
    } <= set(result)  # fmt: skip
    assert all(find_metric(name) is not None for name in result)
    assert find_metric("no/such") is None


def test_scores_equal_the_brute_force_script(counted):
    tables, images = counted
    result = compute_scores(tables, NAMES)
    expected = brute_force([(truth, prediction) for truth, prediction, _ in images.values()], SLUGS)
    assert {name for name in result if not name.startswith(("soft_iou/", "soft_dice/"))} == set(expected)
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, abs=1e-12), name


def test_every_definition_gives_its_scores_where_there_is_a_table(counted):
    """A problem of two classes has them all; each is described, in the order of the table."""
    _, images = counted
    masks = {
        name: (np.where(t == 255, t, t > 1).astype(np.uint8), np.uint8(p > 1)) for name, (t, p, _) in images.items()
    }
    names = ["background", "cell"]
    settings = EvaluationSettings(2, MEASURES, tolerance=1)
    tables = {}
    for needs in ("masks", "probabilities"):
        measured = []
        for name, (truth, prediction) in masks.items():
            probability = 0.2 + 0.7 * np.float32(prediction)
            image = EvaluatedImage(truth, prediction, np.stack([1 - probability, probability]))
            measured.append((name, measure_image(image, settings, needs)))
        tables |= build_tables(measured, settings, needs).tables
    tables = EvaluationTables(tables)
    everything = compute_scores(tables, names, threshold=0.5)
    sums = UnitSums.of(tables, names, threshold=0.5)  # what intervals are made of
    again = dict(zip(sums.names, sums.scores(sums.total), strict=True))
    assert again | {"optimal_threshold/value": 0.5} == pytest.approx(everything, rel=1e-12, nan_ok=True)
    twice = sums.scores(np.stack([sums.total, 2 * sums.total]))
    np.testing.assert_allclose(twice[1], twice[0], rtol=1e-12)
    described = [find_metric(name) for name in everything]
    assert None not in described
    assert list(dict.fromkeys(described)) == list(METRICS)
    assert everything["optimal_threshold/value"] == 0.5
    for measure in (
        "dice",
        "iou",
        "precision",
        "recall",
    ):  # at 0.5 the threshold decides as the higher probability does
        assert everything[f"at_optimal_threshold/{measure}"] == pytest.approx(
            everything[f"{measure}/class/cell"], abs=1e-15
        )
    result = everything["object_recall/global"]
    assert result == everything["object_recall/class/cell"]
    assert math.isnan(everything["object_recall/class/background"])
    page = score_definitions({name: None if math.isnan(value) else value for name, value in everything.items()})
    assert page["score"].tolist() == list(everything)
    assert (page["source"] != "").all()


def test_without_a_table_its_scores_are_absent(counted):
    tables, _ = counted
    result = compute_scores(tables, NAMES)
    prefixes = (
        "calibration/",
        "object_recall/",
        "average_precision",
        "optimal_threshold/",
        "at_optimal_threshold/",
        "hd95/",
        "boundary_iou/",
    )
    assert not [name for name in result if name.startswith(prefixes)]


def test_definitions_page_is_up_to_date(root):
    assert (root / PAGE).read_text(encoding="utf-8") == markdown()
    assert all(f"`{metric.name}`" in markdown() for metric in METRICS)


def test_a_thousand_images_with_twenty_classes_take_a_moment():
    random = np.random.default_rng(0)
    table = confusion_table((f"{number:04}", random.integers(0, 50, (20, 20))) for number in range(1000))
    names = [f"{number:04}" for number in range(1000)]
    soft = pd.DataFrame({"sample_id": names, "intersection": 1.0, "truth": 2.0, "prediction": 2.0})
    started = time.process_time()
    tables = EvaluationTables({"confusion": table, "soft": soft})
    compute_scores(tables, [f"class {number}" for number in range(20)])
    assert time.process_time() - started < 2
