"""The metrics against closed forms: what a prediction that looks at nothing gets, worked out by hand."""

import numpy as np
import pytest
import scipy.stats

from unet_segmentation.experiments.article_claims.charts import trust_chart
from unet_segmentation.experiments.article_claims.metric_benchmark import (
    CELL,
    METRICS,
    distribute_cells,
    draw_problem,
    foreground_sums,
    metric_verdicts,
    run_experiment,
    score,
    smooth_foreground,
    trivial_prediction,
)
from unet_segmentation.metrics.bootstrap import Resampling
from unet_segmentation.metrics.soft_overlap import SoftOverlapSums
from unet_segmentation.parameters import ModelParameters
from unet_segmentation.parameters.article_claims import MetricBenchmarkParameters

SIDE = 64
PIXELS = SIDE**2
COUNTS = [0, 0, 0, 100, 1000, 2500]  # foreground pixels of each image
TINY = MetricBenchmarkParameters(
    shares=[0.3, 0.05],
    size=64,
    training_images=4,
    validation_images=2,
    test_images=6,
    model=ModelParameters(architecture="unet_original", base_channels=2, encoder_depth=2),
)


def masks():
    generator = np.random.default_rng(0)
    for count in COUNTS:
        mask = np.zeros(PIXELS, np.uint8)
        mask[generator.choice(PIXELS, count, replace=False)] = 1
        yield mask.reshape(SIDE, SIDE)


def scored(kind):
    generator = np.random.default_rng(1)
    result = score(
        (str(number), mask, trivial_prediction(kind, mask.shape, generator)) for number, mask in enumerate(masks())
    )
    return result["value"]


def test_background_everywhere_has_what_the_closed_forms_say():
    result = scored("background")
    k, n = np.array(COUNTS, float), PIXELS
    share = k.sum() / (n * len(k))
    assert result["accuracy/pixel"] == pytest.approx(1 - share)
    assert result["iou/mean"] == pytest.approx((1 - share) / 2)
    assert result["dice/mean"] == pytest.approx((1 - share) / (2 - share))
    assert result["dice/foreground_mean"] == result["iou/foreground_mean"] == 0
    # per image: those without foreground, in both masks, are left out
    assert result["dice/foreground_per_image_mean"] == result["iou/foreground_per_image_mean"] == 0
    # the article's: of both classes together, which is nearly the accuracy
    assert result["soft_dice/smooth1"] == pytest.approx(np.mean((2 * (n - k) + 1) / (2 * n + 1)))
    assert result["soft_iou/smooth1"] == pytest.approx(np.mean((n - k + 1) / (n + k + 1)))
    # of the foreground alone: 1 / (1 + its pixels), so 1 for every image without any
    assert result["foreground_smooth1/dice_image_mean"] == pytest.approx(np.mean(1 / (1 + k)))
    assert result["foreground_smooth1/iou_image_mean"] == pytest.approx(np.mean(1 / (1 + k)))
    assert result["foreground_smooth1/dice_global"] == pytest.approx(1 / (1 + k.sum()))


def test_a_coin_for_every_pixel_has_what_the_closed_forms_say():
    result = scored("random")
    k, n, q = np.array(COUNTS, float), PIXELS, 0.5
    share = k.sum() / (n * len(k))
    background, foreground = (p * q / (p + q - p * q) for p in (1 - share, share))
    near = {"abs": 0.01}
    assert result["accuracy/pixel"] == pytest.approx(0.5, **near)
    assert result["iou/foreground_mean"] == pytest.approx(foreground, **near)
    assert result["iou/mean"] == pytest.approx((background + foreground) / 2, **near)
    assert result["dice/foreground_mean"] == pytest.approx(2 * share * q / (share + q), **near)
    p = k / n
    assert result["iou/foreground_per_image_mean"] == pytest.approx(np.mean(p * q / (p + q - p * q)), **near)
    assert result["soft_dice/smooth1"] == pytest.approx(0.5, **near)
    assert result["soft_iou/smooth1"] == pytest.approx(1 / 3, **near)
    assert result["foreground_smooth1/dice_image_mean"] == pytest.approx(np.mean(2 * p * q / (p + q)), **near)


def test_the_truth_itself_has_one_everywhere():
    result = score((str(n), mask, np.stack([1 - mask, mask]).astype(np.float32)) for n, mask in enumerate(masks()))
    assert list(result.index) == list(METRICS)
    assert (result == 1).all(axis=None), "with no doubt about it"


def test_the_interval_of_a_mean_over_images_is_that_of_scipy():
    generator = np.random.default_rng(0)
    truth, right, wrong = generator.integers(20, 60, 80), generator.uniform(0.2, 1, 80), generator.integers(0, 30, 80)
    sums = [SoftOverlapSums(t * r, t, t * r + w) for t, r, w in zip(truth, right, wrong, strict=True)]
    dice = np.array([(2 * s.intersection + 1) / (s.truth + s.prediction + 1) for s in sums])
    result = smooth_foreground(sums).loc["foreground_smooth1/dice_image_mean"]
    expected = scipy.stats.bootstrap((dice,), np.mean, n_resamples=9999, rng=1).confidence_interval
    assert result["value"] == pytest.approx(dice.mean())
    # ours is widened for the few units that there are, by about 1.02 at 80
    width = result["high"] - result["low"]
    assert 1.0 < width / (expected.high - expected.low) < 1.06
    assert [result["low"], result["high"]] == pytest.approx(list(expected), abs=0.1 * width)


@pytest.mark.parametrize("wrong", [0, 1, 9])
def test_without_foreground_smooth_1_counts_wrong_pixels_harshly(wrong):
    """1 for nothing, a half for one pixel, a tenth for nine."""
    empty = SoftOverlapSums(0.0, 0.0, float(wrong))
    result = smooth_foreground([empty] * 3)
    assert result["value"].drop("foreground_smooth1/dice_global").tolist() == pytest.approx([1 / (1 + wrong)] * 2)
    assert result.loc["foreground_smooth1/dice_global", "value"] == pytest.approx(1 / (1 + 3 * wrong))


def test_sums_of_the_foreground_are_those_of_its_probability():
    mask = np.array([[1, 0], [1, 0]], np.uint8)
    assert foreground_sums(mask, np.array([[0.5, 0.25], [1.0, 0.0]])) == (1.5, 2.0, 1.75)


@pytest.mark.parametrize(("share", "size"), [(0.5, 128), (0.05, 128), (0.005, 128), (0.05, 64)])
def test_cells_are_spread_evenly_and_are_as_many_as_the_share_needs(share, size):
    counts = distribute_cells(share, 200, size)
    assert max(counts) - min(counts) <= 1
    assert sum(counts) == pytest.approx(200 * np.log(1 - share) / np.log(1 - CELL) * (size / 128) ** 2, abs=1)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.2, 0.05])
def test_drawn_problems_have_about_the_share(share, tmp_path):
    parameters = MetricBenchmarkParameters(training_images=2, validation_images=1, test_images=60)
    packed, samples = draw_problem(share, parameters, tmp_path)
    test = samples.loc[samples["split"] == "test", "sample_id"]
    assert np.mean([packed.mask(name).mean() for name in test]) == pytest.approx(share, rel=0.2)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return run_experiment(TINY, 1, tmp_path_factory.mktemp("experiment"), Resampling(resamples=200))


@pytest.mark.slow
def test_the_experiment_has_a_value_for_every_share_prediction_and_metric(experiment):
    keys = experiment[["share", "prediction", "metric"]]
    assert len(keys.drop_duplicates()) == len(experiment) == 2 * 3 * len(METRICS)
    background = experiment[experiment["prediction"] == "background"].set_index(["share", "metric"])
    for share in TINY.shares:
        row = background.loc[(share, "accuracy/pixel")]
        assert row["value"] == pytest.approx(1 - row["foreground"])
        assert background.loc[(share, "foreground_smooth1/dice_image_mean")]["value"] >= row["empty"]


@pytest.mark.slow
def test_a_metric_that_praises_blindness_is_judged_so(experiment):
    table = metric_verdicts(experiment)
    judged = table.set_index("metric")["judgment"]
    assert judged["accuracy/pixel"] == judged["soft_dice/smooth1"] == judged["dice/mean"] == "no"
    assert judged["foreground_smooth1/dice_image_mean"] == "no"
    network = experiment[(experiment["prediction"] == "network") & (experiment["share"] == min(TINY.shares))]
    assert table["network_low"].tolist() == pytest.approx(network["low"].tolist(), nan_ok=True)
    assert np.asarray(trust_chart(experiment, table, METRICS).convert("RGB")).std() > 10
