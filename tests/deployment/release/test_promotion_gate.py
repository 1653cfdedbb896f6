from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from unet_segmentation.data.audit.result import AuditResult
from unet_segmentation.deployment.release.candidate import Champion, ReleaseCandidate
from unet_segmentation.deployment.release.model_verification import ModelVerification
from unet_segmentation.deployment.release.promotion_gate import evaluate_conditions, format_decision, page
from unet_segmentation.metrics.definitions import METRICS
from unet_segmentation.parameters import ReleaseParameters

CLASSES = ["background", "cell", "White nucleus"]
CLEAN = AuditResult(
    status="passed with warnings", samples=40, set_aside=(), allowed=(), counts={"error": 0, "warning": 2, "note": 1},
    kinds={}, messages=(), values={}, proposals=(),
)  # fmt: skip
REPRODUCED = ModelVerification(True, "The logged model gives the same.")
CHALLENGER = ReleaseCandidate("abc", "m-1", CLASSES, "test", "unet", units=60, score="dice/mean", value=0.966)
RELEASED = ReleaseCandidate("def", "m-0", CLASSES, "test", version=2)
CHAMPION = Champion(RELEASED)


def table(low: float, difference: float, high: float, **of_class: float) -> pd.DataFrame:
    """A comparison as `compare` gives it: one difference for every mean, and one for each class."""
    rows = [(name, 0.961, 0.961 + difference, difference, low, high) for name in ("dice/mean", "iou/mean")]
    for kind in ("dice", "iou"):
        for slug in ("background", "cell", "white_nucleus"):
            change = of_class.get(slug, 0.0)
            rows.append((f"{kind}/class/{slug}", 0.9, 0.9 + change, change, change - 0.01, change + 0.01))
    return pd.DataFrame(rows, columns=["score", "champion", "challenger", "difference", "low", "high"])


NOTHING = table(0, 0, 0).iloc[:0]


def held(comparison=NOTHING, *, verdict=CLEAN, reproduced=REPRODUCED, challenger=None, champion=CHAMPION, **release):
    """Names of the conditions that are met, and of those that are not, with their sentences."""
    candidate = replace(CHALLENGER, **(challenger or {}))
    conditions = evaluate_conditions(
        verdict, reproduced, candidate, champion, comparison, ReleaseParameters(**release)
    ).conditions
    met = [condition.name for condition in conditions if condition.passed]
    return met, {condition.name: condition.sentence for condition in conditions if not condition.passed}


def test_without_a_champion_the_other_conditions_decide():
    assert held(champion=Champion()) == (["audit", "test split", "model"], {})


@pytest.mark.parametrize(
    ("low", "high", "margin", "passed", "says"),
    [
        (0.0021, 0.0079, 0.0, True, ": better."),
        (0.0, 0.0079, 0.0, True, "not worse by more than the margin of 0"),
        (-0.0001, 0.0079, 0.0, False, ": perhaps worse by more than the margin of 0."),
        (-0.0099, 0.002, 0.01, True, "not worse by more than the margin of 0.01"),
        (-0.01, 0.0, 0.01, True, "not worse by more than the margin of 0.01"),
        (-0.02, -0.001, 0.03, True, "not worse by more than the margin of 0.03"),
        (-0.0101, 0.5, 0.01, False, "perhaps worse by more than the margin"),
        (-0.2, -0.1, 0.01, False, ": worse, and perhaps by more than the margin"),
        (float("nan"), float("nan"), 0.01, False, ": undefined."),
    ],
)
def test_the_score_is_better_or_not_worse_than_the_margin(low, high, margin, passed, says):
    comparison = table(low, (low + high) / 2, high)
    for name in ("dice/mean", "iou/mean"):
        met, failed = held(comparison, noninferiority_margin=margin, score=name)
        assert ("score" in met) is passed
        (sentence,) = [
            condition.sentence
            for condition in evaluate_conditions(
                CLEAN,
                REPRODUCED,
                CHALLENGER,
                CHAMPION,
                comparison,
                ReleaseParameters(noninferiority_margin=margin, score=name),
            ).conditions
            if condition.name == "score"
        ]
        assert says in sentence
        assert sentence.startswith(f"{name} ")
        assert set(failed) <= {"score"}


def test_the_figures_stand_in_the_sentence():
    comparison = table(0.0021, 0.005, 0.0079)
    *_, score, _ = evaluate_conditions(
        CLEAN, REPRODUCED, CHALLENGER, CHAMPION, comparison, ReleaseParameters()
    ).conditions
    assert score.sentence == "dice/mean 0.9660 against 0.9610 of version 2, +0.0050 [+0.0021, +0.0079]: better."


def test_few_images_are_a_reason_for_doubt_and_no_reason_to_refuse():
    few, comparison = replace(CHALLENGER, units=19), table(0.002, 0.005, 0.008)
    result = evaluate_conditions(CLEAN, REPRODUCED, few, CHAMPION, comparison, ReleaseParameters())
    (score,) = [condition for condition in result.conditions if condition.name == "score"]
    assert score.passed
    assert "19 to test on: fewer than 20, so the interval is not to be trusted" in score.sentence


def test_no_class_may_fall_by_more_than_its_margin():
    assert held(table(0.1, 0.2, 0.3, cell=-0.05), class_noninferiority_margin=0.05)[1] == {}
    _, failed = held(table(0.1, 0.2, 0.3, cell=-0.0501, white_nucleus=-0.3), class_noninferiority_margin=0.05)
    assert set(failed) == {"each class"}
    assert failed["each class"].startswith("2 classes fall by more than 0.05 in Dice: White nucleus 0.6000 against 0.9")
    assert "cell 0.8499 against 0.9000, -0.0501 [-0.0601, -0.0401]" in failed["each class"]
    _, failed = held(table(0.1, 0.2, 0.3, cell=-0.2), score="iou/mean")
    assert failed["each class"].startswith("1 class falls by more than 0.05 in IoU: cell")


def test_a_class_that_is_in_no_mask_does_not_fall():
    comparison = table(0.1, 0.2, 0.3, cell=float("nan"))
    assert held(comparison)[1] == {}


@pytest.mark.parametrize(
    ("own", "says"),
    [
        (["background", "cell"], "The run lacks White nucleus, which the champion, version 2, has."),
        (["background", "platelet"], "The run lacks cell and White nucleus"),
        ([*CLASSES, "platelet"], "The run has platelet, which the champion, version 2, lacks"),
        (["background", "White nucleus", "cell"], "in another order"),
    ],
)
def test_other_classes_are_refused(own, says):
    met, failed = held(challenger={"classes": own})
    assert met == ["audit", "test split", "model"]
    assert set(failed) == {"classes"}
    assert says in failed["classes"]


def test_other_test_samples_are_refused_with_the_reason():
    _, failed = held(champion=Champion(RELEASED, "3 samples are in one of them alone, such as a7"))
    assert failed == {"test samples": "No comparison with the champion: 3 samples are in one of them alone, such as a7"}


def test_audit_split_and_model():
    verdict = CLEAN.model_copy(update={"status": "failed", "counts": {"error": 1, "warning": 0, "note": 0}})
    _, failed = held(verdict=verdict, champion=Champion())
    assert failed == {"audit": "The audit of the data has 1 error."}
    _, failed = held(challenger={"split": "validation"}, champion=Champion())
    assert failed == {"test split": "The run was evaluated on the validation split."}
    _, failed = held(reproduced=ModelVerification(False, "It differs."), champion=Champion())
    assert failed == {"model": "It differs."}


def decided(outcome, comparison, champion=CHAMPION, **more):
    result = evaluate_conditions(CLEAN, REPRODUCED, CHALLENGER, champion, comparison, ReleaseParameters())
    given = {"problem": "wbc", "challenger": CHALLENGER, "version": 3, "user": "ann", "reason": None}
    return format_decision(outcome, result, champion=champion.candidate, **(given | more))


def test_decisions_read_like_sentences():
    better, worse = table(0.0021, 0.005, 0.0079), table(-0.3, -0.2, -0.1)
    assert decided("released", better).sentence.startswith(
        "Released: version 3 of wbc. dice/mean 0.9660 against 0.9610 of version 2, +0.0050 [+0.0021, +0.0079]: better. "
        "No class falls by more than 0.05 in Dice; the lowest is background, +0.0000"
    )
    assert decided("released", NOTHING, champion=Champion(), version=1).sentence == (
        "Released: version 1 of wbc, the first. dice/mean 0.9660, compared with no champion."
    )
    refused = decided("refused", worse, version=None)
    assert refused.sentence.startswith(
        "Refused: unet is not released; version 2 stays the champion. dice/mean 0.7610 against 0.9610"
    )
    forced = decided("forced", worse, reason="the customer needs it")
    assert forced.sentence.startswith("Released by force, by ann (the customer needs it): version 3 of wbc.")
    assert "The gate had refused it: dice/mean 0.7610" in forced.sentence
    assert forced.reason == "the customer needs it"
    overtaken = decided("refused", better, version=None, overtaken="Another release came first: version 3.")
    assert overtaken.sentence.endswith("version 2 stays the champion. Another release came first: version 3.")
    assert decided("unchanged", better).sentence == (
        "Unchanged: version 3 of wbc, of this run, is the champion already."
    )


def test_the_page_lists_every_condition():
    text = page(decided("refused", table(-0.3, -0.2, -0.1), version=None))
    assert text.startswith("Refused: unet is not released")
    assert "| **not met** | score | dice/mean 0.7610" in text
    assert text.count("| met |") == 5
    assert "kedro rollback" not in text
    assert "Back to version 2: `kedro rollback --env wbc`" in page(decided("released", table(0.1, 0.2, 0.3)))


def test_every_score_that_may_be_chosen_is_one():
    from typing import get_args

    from unet_segmentation.parameters.release import ReleaseScore

    assert set(get_args(ReleaseScore)) <= {metric.name for metric in METRICS}
