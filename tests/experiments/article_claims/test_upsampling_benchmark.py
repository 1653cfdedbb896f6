import numpy as np
import pandas as pd
import pytest
import torch

from unet_segmentation.data.statistics import compute_statistics
from unet_segmentation.data.store.packed_arrays import pack
from unet_segmentation.errors import ConfigurationError, DataError
from unet_segmentation.experiments.article_claims.charts import upsampling_chart
from unet_segmentation.experiments.article_claims.checkerboard import (
    Pair,
    checkerboard_energies,
    checkerboard_sheet,
    logits_picture,
    spectrum_picture,
)
from unet_segmentation.experiments.article_claims.training_grid import (
    SCORES,
    GridData,
    expected_seconds,
    shared_training_parameters,
)
from unet_segmentation.experiments.article_claims.upsampling_benchmark import (
    KEY,
    STRIDES,
    compare_modes,
    compute_logits,
    example_batch,
    read_logits,
    upsampling_points,
)
from unet_segmentation.metrics.bootstrap import Resampling
from unet_segmentation.metrics.evaluation_tables import EvaluationTables
from unet_segmentation.metrics.scores import compute_scores
from unet_segmentation.metrics.sufficient_statistics import UnitSums
from unet_segmentation.parameters import (
    ArticleClaimsParameters,
    AugmentationParameters,
    AugmentationRecipe,
    BootstrapParameters,
    EvaluationParameters,
    ModelParameters,
    PredictorParameters,
    ReleaseParameters,
    TrainingParameters,
)
from unet_segmentation.parameters.article_claims import PresetParameters
from unet_segmentation.pipelines.article_claims import nodes
from unet_segmentation.training.augmentation import compose_recipe
from unet_segmentation.training.plan_rules import propose_plan

CLASSES = ["background", "square"]
NETWORK = ModelParameters(architecture="unet_original", base_channels=2, encoder_depth=2)
TRAINING = TrainingParameters(
    min_steps_per_epoch=2, batch_size=2, num_threads=1, accelerator="cpu", precision="32-true", patch_size=32
)
ARTICLE = ArticleClaimsParameters.model_validate(
    {
        "presets": {"short": {"seeds": [0, 1], "steps": 1, "patch_size": None, "batch_size": None}},
        "upsampling": {"models": {"tiny": NETWORK}, "modes": ["bilinear", "subpixel"], "images": 2},
    }
)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    """Bright squares on noise, in images of 40 x 36 pixels."""
    generator = np.random.default_rng(0)
    data, rows = {}, []
    for number in range(12):
        mask = np.zeros((40, 36), np.uint8)
        top, left = generator.integers(0, 20, 2)
        mask[top : top + 14, left : left + 14] = 1
        image = (60 + 90 * mask + generator.integers(0, 30, mask.shape)).astype(np.uint8)[..., None]
        name = f"s{number:02d}"
        data[name] = image, mask
        rows.append(
            {
                "sample_id": name, "split": ["train", "train", "validation", "test"][number % 4], "masks": ["m.png"],
                "group": None, "height": 40, "width": 36, "channels": 1, "dtype": "uint8", "image_sha256": name,
                "mask_sha256": name, "channel_mean": [float(image.mean())], "channel_std": [float(image.std())],
                "class_pixels": np.bincount(mask.ravel(), minlength=2).tolist(), "ignored_pixels": 0,
            }
        )  # fmt: skip
    samples = pd.DataFrame(rows)
    facts = ["sample_id", "channel_mean", "channel_std", "class_pixels", "ignored_pixels"]
    profile = compute_statistics(samples.drop(columns=facts[1:]), samples[facts], CLASSES)
    packed = pack(tmp_path_factory.mktemp("packed") / "arrays", data)
    return samples, packed, profile, propose_plan(profile, NETWORK, TRAINING, CLASSES)


def measure(problem, folder, article=ARTICLE):
    samples, packed, profile, plan = problem
    recipe = compose_recipe(AugmentationParameters(), channels=1)
    ways = article.upsampling.modes
    speeds = pd.DataFrame({"network": "tiny", "upsampling": ways, "training_images_per_second": 10.0})
    return nodes.measure_upsampling(
        samples=samples, packed=packed, statistics=profile, recipe=recipe, proposed_plan=plan, training=TRAINING,
        predictor_params=PredictorParameters(), evaluation=EvaluationParameters(), classes=CLASSES, speeds=speeds,
        article=article, folder=folder,
    )  # fmt: skip


@pytest.fixture(scope="module")
def measured(problem, tmp_path_factory):
    folder = tmp_path_factory.mktemp("laboratory")
    return *measure(problem, folder), folder


@pytest.mark.slow
def test_every_network_way_and_seed_has_a_row_with_scores_and_checkerboards(measured):
    runs, confusion, soft, _ = measured
    assert runs[KEY].to_numpy().tolist() == [["tiny", way, seed] for way in ("bilinear", "subpixel") for seed in (0, 1)]
    shares = runs[[f"checkerboard/{when}/{stride}" for when in ("initial", "trained") for stride in STRIDES]]
    assert ((shares >= 0) & (shares <= 1)).all(axis=None)
    first = (confusion["upsampling"] == "bilinear") & (confusion["seed"] == 0)
    same = (soft["upsampling"] == "bilinear") & (soft["seed"] == 0)
    result = compute_scores(EvaluationTables({"confusion": confusion[first], "soft": soft[same]}), CLASSES)
    assert runs.loc[0, list(SCORES)].tolist() == pytest.approx([result[name] for name in SCORES], nan_ok=True)


@pytest.mark.slow
def test_run_again_it_gives_the_same_without_training(measured, problem, monkeypatch):
    from unet_segmentation.training import trainer

    monkeypatch.setattr(trainer, "make_trainer", lambda *_: pytest.fail("trained again"))
    again = measure(problem, measured[-1])
    for before, now in zip(measured[:3], again, strict=True):
        pd.testing.assert_frame_equal(before, now)


def test_a_network_that_cannot_go_up_so_is_refused_before_anything_is_trained(problem, tmp_path):
    networks = {"tiny": NETWORK, "feature_pyramid": ModelParameters(architecture="fpn")}
    laboratory = {"models": networks, "modes": ["bilinear", "transposed"]}
    article = ArticleClaimsParameters.model_validate({"upsampling": laboratory})
    with pytest.raises(ConfigurationError, match=r"article_claims\.upsampling\.models\.feature_pyramid: .*transposed"):
        measure(problem, tmp_path, article)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_ways_are_compared_with_the_reference_on_the_same_images_and_seeds(measured, problem):
    runs, confusion, soft, _ = measured
    table = nodes.compare_upsampling(
        runs=runs, confusion=confusion, soft_overlap_sums=soft, samples=problem[0], classes=CLASSES, article=ARTICLE,
        release=ReleaseParameters(), bootstrap=BootstrapParameters(),
    )  # fmt: skip
    assert table["verdict"][0] == "reference"
    assert np.isnan(table["difference"][0])
    means = runs.groupby("upsampling")["dice/mean"].mean()
    assert table["value"].tolist() == pytest.approx(means[table["upsampling"]].tolist())
    assert table["difference"][1] == pytest.approx(means["subpixel"] - means["bilinear"])
    by_seed = runs.pivot(index="seed", columns="upsampling", values="dice/mean")
    each = by_seed["subpixel"] - by_seed["bilinear"]
    assert table.loc[1, ["difference_least", "difference_most"]].tolist() == pytest.approx([each.min(), each.max()])
    column = "checkerboard/trained/2"
    each = runs.groupby("upsampling")[column]
    assert table[f"{column}/least"].tolist() == each.min()[table["upsampling"]].tolist()
    assert table[f"{column}/most"].tolist() == each.max()[table["upsampling"]].tolist()
    drawn = np.asarray(upsampling_chart(table, "dice/mean").convert("RGB"))
    np.testing.assert_array_equal(drawn, np.asarray(upsampling_chart(table, "dice/mean").convert("RGB")))
    assert drawn.std() > 10


@pytest.mark.parametrize(
    ("steps", "form", "epochs"),
    [
        (1, {}, 1),  # 6 samples in batches of 2: an epoch has 3 steps
        (3, {}, 1),
        (4, {}, 2),
        (4, {"batch_size": 6}, 2),  # one step, but at least 2
        (5, {"batch_size": 1, "patch_size": 16}, 1),
    ],
)
def test_steps_become_whole_epochs(problem, steps, form, epochs):
    samples, packed, profile, plan = problem
    data = GridData(samples, packed, profile, AugmentationRecipe(), plan.values, CLASSES, "test")
    given = {"patch_size": None, "batch_size": None, **form}
    equal = shared_training_parameters(TRAINING, PresetParameters.model_validate(given), steps, data)
    assert equal.epochs == epochs
    assert (equal.batch_size, equal.patch_size) == (form.get("batch_size", 2), form.get("patch_size", 32))


def test_the_expected_time_goes_with_steps_pixels_and_speed(problem):
    samples, packed, profile, plan = problem
    data = GridData(samples, packed, profile, AugmentationRecipe(), plan.values, CLASSES, "test")
    points = upsampling_points({"a": NETWORK, "b": NETWORK}, ["bilinear"], [0, 1])
    speeds = pd.DataFrame({"network": ["b", "a"], "upsampling": "bilinear", "training_images_per_second": [5.0, 20.0]})
    parameters = TRAINING.model_copy(update={"epochs": 2})  # of 3 steps of 2 patches of 32 px
    result = expected_seconds(points, parameters, data, speeds, side=64)
    assert result == pytest.approx(2 * 12 / 4 * (1 / 5 + 1 / 20))


def test_a_form_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="preset: 'long' is none of short, full"):
        ArticleClaimsParameters(preset="long")


def test_a_known_difference_is_found():
    """Two seeds; the second way is right wherever the first is, and in 10 more pixels of every image."""
    rows, sums = [], {}
    for way, hits in (("bilinear", 80), ("subpixel", 90)):
        for seed in (0, 1):
            confusion = pd.DataFrame(
                [(f"i{n}", 1, p, c) for n in range(30) for p, c in ((1, hits), (0, 100 - hits))],
                columns=["sample_id", "truth", "prediction", "count"],
            )
            ids = [f"i{n}" for n in range(30)]
            soft = pd.DataFrame({"sample_id": ids, "intersection": 1.0, "truth": 1.0, "prediction": 1.0})
            sums["tiny", way, seed] = UnitSums.of(EvaluationTables({"confusion": confusion, "soft": soft}), CLASSES, {})
            rows.append({"network": "tiny", "upsampling": way, "seed": seed, "accuracy/pixel": hits / 100})
    resampling = Resampling("percentile", resamples=50)
    table = compare_modes(pd.DataFrame(rows), sums, "accuracy/pixel", "bilinear", 0.02, resampling)
    assert table.loc[1, ["value", "difference", "difference_low", "difference_high"]].tolist() == pytest.approx(
        [0.9, 0.1, 0.1, 0.1]
    )
    assert table["verdict"].tolist() == ["reference", "better"]


@pytest.mark.slow
def test_pictures_are_drawn_of_what_the_laboratory_left(measured):
    runs, *_, folder = measured
    sheet = nodes.draw_checkerboards(runs, ARTICLE, folder)
    assert sheet.width > 300
    assert set(read_logits(folder / "tiny-bilinear-0")) == {"initial", "trained"}
    with pytest.raises(DataError, match=r"nothing holds no logits: run the laboratory"):
        read_logits(folder / "nothing")


def test_images_are_cut_to_one_size_or_extended(problem):
    samples, packed, *_ = problem
    batch = example_batch(packed, samples["sample_id"].tolist()[:3], 8)
    assert batch.shape == (3, 40, 32, 1)
    middle = packed.image("s00")[:, 2:34]
    np.testing.assert_array_equal(batch[0], middle)
    assert example_batch(packed, ["s00"], 64).shape == (1, 64, 64, 1)


@torch.no_grad()
def test_a_transposed_convolution_that_treats_pixels_differently_is_seen():
    """A kernel of 1, 2, 3, 4 in answer to smooth images: a checkerboard of period 2, and only that."""
    layer = torch.nn.ConvTranspose2d(1, 2, 2, stride=2, bias=False)
    layer.weight.copy_(torch.tensor([1.0, 2, 3, 4]).view(1, 1, 2, 2).expand(1, 2, 2, 2))
    smooth = np.fromfunction(lambda n, y, x, c: 100 + 20 * np.cos(2 * np.pi * x / 32), (2, 32, 32, 1))
    uneven = checkerboard_energies(list(compute_logits(torch.nn.Sequential(_Float(), layer), smooth)), STRIDES)
    assert uneven[2] > 0.9
    layer.weight.fill_(2.0)
    even = checkerboard_energies(list(compute_logits(torch.nn.Sequential(_Float(), layer), smooth)), STRIDES)
    assert max(even.values()) < 0.01


class _Float(torch.nn.Module):
    def forward(self, images):
        return images.float()


def test_a_picture_shows_a_checkerboard_where_there_is_one():
    board = np.indices((64, 64)).sum(axis=0)[None] % 2 * 1.0
    assert len(np.unique(logits_picture(board))) == 2
    bright = spectrum_picture(board)[..., 0] == 255  # the corner holds the highest frequency
    assert bright[:3, :3].any()
    assert not bright[40:150, 40:150].any()
    large = spectrum_picture(np.indices((300, 300)).sum(axis=0)[None] % 2 * 1.0)[..., 0] == 255
    assert large[:3, :3].any(), "averaged, it is still seen"
    assert large.sum() <= 9 + bright.sum()
    sheet = checkerboard_sheet({"a": {"x": Pair(board, board), "y": Pair(board, board * 0)}})
    assert sheet.height > 4 * 192


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"reference": "nearest", "modes": ["bilinear"]}, "none of the modes"),
        ({"modes": ["bilinear"] * 2}, "named twice"),
    ],
)
def test_wrong_parameters_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        ArticleClaimsParameters.model_validate({"upsampling": wrong})
