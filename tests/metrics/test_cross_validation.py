"""Out-of-fold scores against counting by hand and statistics of the standard library."""

import statistics

import numpy as np
import pandas as pd
import pytest

from unet_segmentation.metrics.confusion_matrix import confusion_matrix, confusion_table
from unet_segmentation.metrics.evaluation_tables import EvaluationTables
from unet_segmentation.metrics.scores import compute_scores, out_of_fold_scores
from unet_segmentation.metrics.soft_overlap import soft_overlap_sums

CLASSES = ["a", "b"]


@pytest.fixture(scope="module")
def counted():
    """Six images in three folds; of each, truth and prediction."""
    random = np.random.default_rng(0)
    pairs = {f"s{n}": tuple(random.integers(0, 2, (2, 4, 5 + n))) for n in range(6)}
    fold = {name: number // 2 + 1 for number, name in enumerate(pairs)}
    confusion = confusion_table((name, confusion_matrix(*pair, 2)) for name, pair in pairs.items())
    sums = [
        soft_overlap_sums(truth, np.stack([1 - result, result]).astype(np.float32)) for truth, result in pairs.values()
    ]
    soft = pd.DataFrame(sums).assign(sample_id=list(pairs))
    tables = {"confusion": confusion, "soft": soft}
    with_fold = {name: table.assign(fold=table["sample_id"].map(fold)) for name, table in tables.items()}
    return pairs, fold, EvaluationTables(with_fold)


def dice(pairs):
    truth, result = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    values = [2 * np.sum((truth == c) & (result == c)) / (np.sum(truth == c) + np.sum(result == c)) for c in (0, 1)]
    return float(np.mean(values))


def test_all_samples_are_counted_together_and_every_fold_by_itself(counted):
    pairs, fold, tables = counted
    result = out_of_fold_scores(tables, CLASSES)
    assert result["dice/mean"] == pytest.approx(dice(pairs.values()))
    each = [dice([pair for name, pair in pairs.items() if fold[name] == number]) for number in (1, 2, 3)]
    assert [result[f"cv/fold_{number}/dice/mean"] for number in (1, 2, 3)] == pytest.approx(each)
    assert result["cv/dice/mean/mean"] == pytest.approx(statistics.mean(each))
    assert result["cv/dice/mean/std"] == pytest.approx(statistics.stdev(each))


def test_the_names_are_those_of_the_test_scores_and_more(counted):
    *_, tables = counted
    result = out_of_fold_scores(tables, CLASSES)
    plain = compute_scores(tables, CLASSES)
    assert list(result)[: len(plain)] == list(plain)
    more = {f"cv/fold_{fold}/{name}" for fold in (1, 2, 3) for name in ("dice/mean", "iou/mean")}
    more |= {f"cv/{name}/{kind}" for name in ("dice/mean", "iou/mean") for kind in ("mean", "std")}
    assert set(result) - set(plain) == more
