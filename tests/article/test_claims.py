"""Verdicts from tables whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from unet_segmentation.article.claims import Tables, judge_claims, page
from unet_segmentation.article.encoders import rank_encoders
from unet_segmentation.article.metric_experiment import METRICS
from unet_segmentation.scoring.intervals import Resampling
from unet_segmentation.scoring.sums import Sums

BELIEVED = {
    name: not name.endswith("/mean") for name in METRICS if name.startswith(("dice/", "iou/"))
}  # as they come out for rare foreground


def tables(**changes) -> Tables:
    """Everything as the article says, but for what is changed."""
    ways = pd.DataFrame(
        {
            "network": ["net"] * 3,
            "upsampling": ["bilinear", "transposed", "transposed4"],
            "difference": [np.nan, 0.001, -0.002],
            "difference_low": [np.nan, -0.005, -0.008],
            "difference_high": [np.nan, 0.006, 0.004],
            "verdict": ["reference", "tie", "tie"],
            "checkerboard/initial/2": [0.001, 0.1, 0.05],
            "checkerboard/trained/2": [0.001, 0.01, 0.004],
        }
    )
    costs = ways[["network", "upsampling"]].assign(parameters=[100, 120, 150], activation_bytes=[10, 12, 13])
    encoders = pd.DataFrame(
        {"encoder": ["a", "b"], "value": [0.9, 0.89], "low": 0.8, "high": 0.95, "verdict": ["best", "tie"]}
    )
    judgements = pd.DataFrame({"metric": list(METRICS), "network": 0.5})
    yes = judgements["metric"].map(lambda name: name.startswith(("dice/", "iou/")))
    judgements = judgements.assign(blind=np.where(yes, 0.01, 0.99), judgement=np.where(yes, "yes", "no"))
    given = {"upsampling": ways, "costs": costs, "encoders": encoders, "judgements": judgements}
    return Tables(**given | changes, reference="bilinear", score="dice/mean", margin=0.02)


def verdicts(given: Tables) -> list[str]:
    return judge_claims(given)["verdict"].tolist()


def test_everything_as_the_article_says():
    assert verdicts(tables()) == ["held"] * 8 + ["not held"]


@pytest.mark.parametrize(
    ("column", "values", "claim", "verdict"),
    [
        ("checkerboard/initial/2", [0.1, 0.1, 0.1], 1, "not held"),
        ("checkerboard/trained/2", [0.001, 0.0015, 0.004], 2, "partly"),
        ("verdict", ["reference", "better", "better"], 5, "not held"),
        ("verdict", ["reference", "better", "tie"], 5, "partly"),
        ("verdict", ["reference", "undecided", "worse"], 5, "undecided"),
        ("verdict", ["reference", "worse", "worse"], 5, "held"),
    ],
)
def test_a_table_that_says_otherwise_changes_the_verdict(column, values, claim, verdict):
    changed = tables(upsampling=tables().upsampling.assign(**{column: values}))
    assert verdicts(changed)[claim] == verdict


def test_costs_encoders_and_metrics_are_judged():
    costs = tables().costs.assign(parameters=[100, 100, 150], activation_bytes=[10, 9, 10])
    assert verdicts(tables(costs=costs))[3:5] == ["partly", "not held"]
    encoders = tables().encoders.assign(verdict=["best", "worse"])
    assert verdicts(tables(encoders=encoders))[0] == "not held"
    judgements = tables().judgements
    some = judgements.assign(judgement=[("yes" if BELIEVED.get(name) else "no") for name in judgements["metric"]])
    assert verdicts(tables(judgements=some))[7] == "partly"


def test_the_page_gives_every_claim_its_figures():
    text = page(judge_claims(tables()), problem="cells", command="make article")
    assert text.count("## ") == 9
    assert "net transposed +20.0 %; net transposed4 +50.0 %" in text
    assert "a 0.9000 [0.8000, 0.9500], best" in text
    assert "net transposed4 0.0500 beside 0.0010" in text


def sums(dice: float, seed: int) -> Sums:
    """Thirty images of 100 pixels of two classes, half of each, with so many of each class right."""
    generator = np.random.default_rng(seed)
    rows, soft = [], []
    for number in range(30):
        right = int(np.clip(round(50 * dice + generator.normal()), 0, 50))
        for truth in (0, 1):
            rows += [(str(number), truth, truth, right), (str(number), truth, 1 - truth, 50 - right)]
        soft.append((str(number), 80.0, 100.0, 100.0))
    confusion = pd.DataFrame(rows, columns=["sample_id", "truth", "prediction", "count"])
    columns = ["sample_id", "intersection", "truth", "prediction"]
    return Sums.of(confusion, pd.DataFrame(soft, columns=columns), ["a", "b"], {})


def test_encoders_are_ranked_by_their_mean_and_compared_with_the_best():
    given = {(name, seed): sums(dice, seed) for name, dice in {"x": 0.7, "y": 0.9, "z": 0.9}.items() for seed in (0, 1)}
    table = rank_encoders(given, "dice/mean", 0.02, Resampling(resamples=500)).set_index("encoder")
    assert table.index[-1] == "x"
    assert table.loc["x", "verdict"] == "worse"
    assert sorted(table["verdict"]) == ["best", "tie", "worse"]
    assert table.loc["x", "value"] == pytest.approx(
        0.7, abs=0.01
    )  # half of each class: Dice is the share that is right
    assert table.loc["x", "difference"] == pytest.approx(-0.2, abs=0.015)
    assert (table["seeds"] == 2).all()
