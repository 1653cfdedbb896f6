"""Verdicts from tables whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from unet_segmentation.experiments.article_claims.claims import ClaimTables, judge_claims
from unet_segmentation.experiments.article_claims.encoder_benchmark import rank_encoders
from unet_segmentation.experiments.article_claims.metric_benchmark import METRICS
from unet_segmentation.experiments.article_claims.report_page import claims_page, speeds_page
from unet_segmentation.metrics.bootstrap import Resampling
from unet_segmentation.metrics.evaluation_tables import EvaluationTables
from unet_segmentation.metrics.sufficient_statistics import UnitSums
from unet_segmentation.parameters import ArticleClaimsParameters

BELIEVED = {
    name: not name.endswith("/mean") for name in METRICS if name.startswith(("dice/", "iou/"))
}  # as they come out for rare foreground


def tables(**changes) -> ClaimTables:
    """Everything as the article says, but for what is changed."""
    boards = {
        "checkerboard/initial/2": [0.001, 0.1, 0.05],
        "checkerboard/trained/2": [0.001, 0.01, 0.004],
        "checkerboard/initial/4": 0.001, "checkerboard/initial/8": 0.001,
        "checkerboard/trained/4": 0.001, "checkerboard/trained/8": 0.001,
    }  # fmt: skip
    ends = {f"{name}/{end}": values for name, values in boards.items() for end in ("least", "most")}
    ways = pd.DataFrame(
        {
            "network": ["net"] * 3,
            "upsampling": ["bilinear", "transposed", "transposed_k4"],
            "difference": [np.nan, 0.001, -0.002],
            "difference_least": [np.nan, 0.0005, -0.003],
            "difference_most": [np.nan, 0.0015, 0.001],
            "difference_low": [np.nan, -0.005, -0.008],
            "difference_high": [np.nan, 0.006, 0.004],
            "verdict": ["reference", "equivalent", "equivalent"],
            "value": 0.8, "low": 0.7, "high": 0.9, "spread": 0.01, "p_value": [np.nan, 0.5, 0.5],
            **boards, **ends,
        }
    )  # fmt: skip
    costs = ways[["network", "upsampling"]].assign(
        parameters=[100, 120, 150], activation_bytes=[1000, 1200, 1300], training_bytes=[2000, 2400, 2600],
        multiply_adds=10**9,
    )  # fmt: skip
    encoders = pd.DataFrame(
        {
            "encoder": ["tu-new", "vgg16_bn", "resnet50", "efficientnet-b0", "resnet18"],
            "value": [0.9, 0.89, 0.89, 0.885, 0.4], "low": 0.8, "high": 0.95, "spread": np.nan,
            "verdict": ["best", "equivalent", "equivalent", "equivalent", "worse"],
            "p_value": np.nan, "difference": np.nan,
            "difference_low": np.nan, "difference_high": np.nan, "parameters": 10**7, "multiply_adds": 10**9,
            "frontier": [True, False, False, False, False],
        }
    )  # fmt: skip
    judgments = pd.DataFrame({"metric": list(METRICS), "network": 0.5, "network_low": 0.4, "network_high": 0.6})
    yes = judgments["metric"].map(lambda name: name.startswith(("dice/", "iou/")))
    judgments = judgments.assign(trivial=np.where(yes, 0.01, 0.99), judgment=np.where(yes, "yes", "no"))
    given = {"upsampling": ways, "costs": costs, "encoders": encoders, "judgments": judgments}
    return ClaimTables(**given | changes, reference="bilinear", score="dice/mean", margin=0.02)


def verdicts(given: ClaimTables) -> list[str]:
    return [claim.verdict for claim in judge_claims(given)]


def test_everything_as_the_article_says():
    assert verdicts(tables()) == ["held"] * 8 + ["not held"]
    assert [claim.experiment for claim in judge_claims(tables())] == ["encoders"] + ["upsampling"] * 5 + ["metrics"] * 3


@pytest.mark.parametrize(
    ("column", "values", "claim", "verdict"),
    [
        ("checkerboard/initial/2", [0.1, 0.1, 0.1], 1, "not held"),
        ("checkerboard/trained/2", [0.001, 0.0015, 0.004], 2, "partly"),
        ("verdict", ["reference", "better", "better"], 5, "not held"),
        ("verdict", ["reference", "better", "equivalent"], 5, "partly"),
        ("verdict", ["reference", "inconclusive", "worse"], 5, "inconclusive"),
        ("verdict", ["reference", "worse", "worse"], 5, "held"),
    ],
)
def test_a_table_that_says_otherwise_changes_the_verdict(column, values, claim, verdict):
    ends = ("", "/least", "/most") if column.startswith("checkerboard") else ("",)
    given = {column + end: values for end in ends} | {"difference_least": 0.0005}
    changed = tables(upsampling=tables().upsampling.assign(**given))
    assert verdicts(changed)[claim] == verdict


def test_what_is_better_with_one_seed_only_is_undecided():
    ways = tables().upsampling.assign(verdict=["reference", "better", "equivalent"], difference_least=-0.001)
    assert verdicts(tables(upsampling=ways))[5] == "inconclusive"


def test_a_pattern_must_be_there_with_every_seed():
    """On average ten times the reference, but with one seed not above it."""
    column = "checkerboard/trained/2"
    changed = {f"{column}/least": [0.001, 0.001, 0.004], f"{column}/most": [0.001, 0.019, 0.004]}
    assert verdicts(tables(upsampling=tables().upsampling.assign(**changed)))[2] == "partly"


@pytest.mark.parametrize(
    ("parameters", "activations", "everything", "result"),
    [
        ([100, 120, 150], [1000, 1000, 1000], [2000, 2400, 2600], ["held", "held"]),  # more here, the same there
        ([100, 100, 150], [1000, 900, 1000], [2000, 2400, 2600], ["held", "partly"]),  # more here, less there
        ([100, 100, 100], [1000, 900, 900], [2000, 1900, 1900], ["not held", "not held"]),
        ([100, 100.4, 100], [1000, 1004, 1000], [2000, 2000, 2000], ["not held", "not held"]),  # within rounding
    ],
)
def test_what_costs_more_never_costs_less(parameters, activations, everything, result):
    costs = {"parameters": parameters, "activation_bytes": activations, "training_bytes": everything}
    assert verdicts(tables(costs=tables().costs.assign(**costs)))[3:5] == result


@pytest.mark.parametrize(
    ("judged", "verdict"),
    [
        (["best", "equivalent", "equivalent", "equivalent", "worse"], "held"),  # a family counts by its best member
        (["best", "equivalent", "worse", "equivalent", "worse"], "partly"),
        (["best", "worse", "worse", "worse", "worse"], "not held"),
        (["best", "equivalent", "worse", "worse", "worse"], "not held"),  # one alone
        (["best", "inconclusive", "equivalent", "equivalent", "worse"], "inconclusive"),
        (
            ["best", "inconclusive", "worse", "equivalent", "worse"],
            "partly",
        ),  # not all serve, whatever the open one does
        (["best", "inconclusive", "worse", "worse", "worse"], "not held"),
    ],
)
def test_every_family_of_encoders_must_keep_up_with_the_best(judged, verdict):
    assert verdicts(tables(encoders=tables().encoders.assign(verdict=judged)))[0] == verdict


def test_metrics_are_judged():
    judgments = tables().judgments
    some = judgments.assign(judgment=[("yes" if BELIEVED.get(name) else "no") for name in judgments["metric"]])
    assert verdicts(tables(judgments=some))[7] == "partly"


def test_the_page_gives_every_claim_its_figures_and_every_experiment_its_command():
    article = ArticleClaimsParameters.model_validate({"preset": "full"})
    given = tables()
    text = claims_page(
        judge_claims(given), given, article, problem="cells", images={"test": 9, "train": 5, "validation": 2},
        evaluated="test",
    )  # fmt: skip
    assert "**9 images show too little of the spread" in text
    assert text.count("\n### ") == 9
    assert text.count("What would change the answer: ") == 9
    assert "`make article-claims ENV=cells PRESET=full`" in text
    assert "Images: train 5, validation 2, test 9." in text
    assert (
        "kedro run --env cells --pipelines article_claims --to-nodes article_claims.rank_encoders "
        "--params article_claims.preset=full" in text
    )
    assert "net transposed +20.0 %; net transposed_k4 +50.0 %" in text
    assert (
        "VGG16 0.8900 [0.8000, 0.9500] (vgg16_bn, equivalent); ResNet 0.8900 [0.8000, 0.9500] (resnet50, equivalent)"
        in text
    )
    assert "net transposed_k4 0.0500 [0.0500, 0.0500] against 0.0010" in text
    assert "| +0.0010 | [-0.0050, +0.0060] | 0.5000 | equivalent | [+0.0005, +0.0015] |" in text
    for picture in ("encoders.png", "upsampling.png", "checkerboards.png", "metric_trust.png"):
        assert f"]({picture})" in text


def test_speeds_stand_on_a_page_of_their_own():
    speeds = pd.DataFrame(
        {
            "training_images_per_second": [12.34],
            "prediction_images_per_second": [56.78],
            "peak_training_bytes": [np.nan],
        }
    )
    text = speeds_page(
        speeds.assign(encoder="a"), speeds.assign(network="net", upsampling="nearest"),
        {"machine.system": "kept out", "machine.processor": "2 x fast"}, ArticleClaimsParameters(),
    )  # fmt: skip
    assert "processor: 2 x fast" in text
    assert "kept out" not in text
    assert "| a | 12.3 | 56.8 |  |" in text
    assert "| net | nearest | 12.3 | 56.8 |  |" in text


def sums(dice: float, seed: int) -> UnitSums:
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
    tables = EvaluationTables({"confusion": confusion, "soft": pd.DataFrame(soft, columns=columns)})
    return UnitSums.of(tables, ["a", "b"], {})


def test_encoders_are_ranked_by_their_mean_and_compared_with_the_best():
    truth = {"x": 0.7, "y": 0.9, "z": 0.9}
    given = {(name, seed): sums(dice, seed) for name, dice in truth.items() for seed in (0, 1)}
    runs = pd.DataFrame([{"encoder": name, "seed": seed, "best_epoch": 1} for name, seed in given])
    runs["dice/mean"] = [truth[name] for name in runs["encoder"]]
    costs = pd.DataFrame({"encoder": ["z", "y", "x"], "parameters": 5, "multiply_adds": [3, 2, 1], "training_bytes": 7})
    table = rank_encoders(runs, given, costs, "dice/mean", 0.02, Resampling(resamples=500)).set_index("encoder")
    assert table.index[-1] == "x"
    assert table.loc["x", "verdict"] == "worse"
    assert sorted(table["verdict"]) == ["best", "equivalent", "worse"]
    assert table.loc["x", "value"] == pytest.approx(
        0.7, abs=0.01
    )  # half of each class: Dice is the share that is right
    assert table.loc["x", "difference"] == pytest.approx(-0.2, abs=0.015)
    assert (table["seeds"] == 2).all()
    assert table.loc[["x", "y"], "frontier"].all(), "the cheapest, and the best or as good for less"
    assert table["multiply_adds"].to_dict() == {"z": 3, "y": 2, "x": 1}
