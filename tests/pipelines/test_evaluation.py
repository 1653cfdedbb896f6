"""The evaluation nodes, called as Kedro calls them."""

import json
import types
import typing
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from sklearn.metrics import confusion_matrix as sklearn_matrix

from tests.data.fabricated_statistics import statistics_of
from tests.experiments.reproduce.test_run_snapshot import training_plan
from tests.metrics.brute_force import brute_force
from tests.pipelines.evaluated import CLASSES, problem
from unet_segmentation.data.audit.result import AuditResult
from unet_segmentation.data.store.packed_arrays import pack
from unet_segmentation.datasets import CSVDataset, JSONDataset, MaskFolderDataset, ModelDataset, PlotlyDataset
from unet_segmentation.errors import DataError
from unet_segmentation.inference import predictor
from unet_segmentation.metrics.prediction_masks import file_name, read_prediction
from unet_segmentation.models import factory
from unet_segmentation.models.model_file import save_model
from unet_segmentation.models.spec import ModelInfo
from unet_segmentation.parameters import EvaluationParameters, ModelParameters
from unet_segmentation.pipelines.evaluation import create_pipeline, nodes
from unet_segmentation.reporting.training_curves import training_curves


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> SimpleNamespace:
    """A problem, evaluated with an untrained network as far as the scores."""
    folder = tmp_path_factory.mktemp("evaluated")
    case = problem(folder)
    parameters = ModelParameters(
        architecture="unet_original", base_channels=4, encoder_depth=2, upsampling="transposed"
    )
    case.network = factory.resolve_model_spec(
        parameters, CLASSES, statistics_of({"mean": [100.0] * 3, "std": [50.0] * 3})
    )
    torch.manual_seed(3)
    case.model = folder / "best.safetensors"
    save_model(case.model, factory.build_model(case.network), ModelInfo(case.network, epoch=7))
    case.working = folder / "working"
    case.working.mkdir()
    (case.working / "leftover.png").write_bytes(b"of a pass that was interrupted")
    writer, probability_tables = nodes.predict(
        case.model, case.samples, case.packed, case.inference, case.evaluation, case.working
    )
    predictions = MaskFolderDataset(path=str(folder / "predictions"))
    predictions.save(writer)
    case.predictions = predictions.load()
    case.masks = case.samples, case.packed, CLASSES
    case.probability_tables = probability_tables
    case.tables = nodes.count(case.predictions, *case.masks, case.evaluation, probability_tables)
    case.threshold = nodes.choose_threshold(case.model, *case.masks, case.inference, case.evaluation)
    case.metrics, case.image_scores, case.definitions = nodes.score(case.tables, case.threshold, CLASSES)
    case.folder = folder
    case.test = case.samples.loc[case.samples["split"] == "test", "sample_id"].tolist()
    return case


def test_annotations_resolve_at_run_time():
    """Kedro builds the typed parameters from them."""
    for node in create_pipeline().nodes:
        assert typing.get_type_hints(node.func)


def test_every_test_image_is_predicted_at_its_size_and_nothing_is_left_behind(evaluated):
    assert len(list(evaluated.predictions.iterdir())) == len(evaluated.test)
    assert not list(evaluated.working.iterdir())
    for sample_id in evaluated.test:
        prediction = read_prediction(evaluated.predictions, sample_id)
        assert prediction.shape == evaluated.packed.shape(sample_id)[:2]
        assert prediction.max() < len(CLASSES)
    assert evaluated.tables.soft["sample_id"].tolist() == evaluated.test


def test_counts_equal_scikit_learn_over_the_saved_files(evaluated):
    for sample_id in evaluated.test:
        truth = evaluated.packed.mask(sample_id)
        prediction = read_prediction(evaluated.predictions, sample_id)
        expected = sklearn_matrix(truth[truth != 255], prediction[truth != 255], labels=range(3))
        rows = evaluated.tables.confusion[evaluated.tables.confusion["sample_id"] == sample_id]
        result = np.zeros((3, 3), np.int64)
        result[rows["truth"], rows["prediction"]] = rows["count"]
        np.testing.assert_array_equal(result, expected)


def test_scores_can_be_saved_and_images_are_worst_first(evaluated, tmp_path):
    JSONDataset(filepath=str(tmp_path / "metrics.json")).save(evaluated.metrics)
    saved = json.loads((tmp_path / "metrics.json").read_text())
    assert all(value is None or 0 <= value <= 1 for value in saved.values())
    assert sorted(evaluated.image_scores["sample_id"]) == sorted(evaluated.test)
    assert evaluated.image_scores["iou/per_image_mean"].is_monotonic_increasing


def test_an_undefined_score_is_null(evaluated):
    metrics, *_ = nodes.score(evaluated.tables, evaluated.threshold, [*CLASSES, "never"])
    assert metrics["iou/class/never"] is None
    assert metrics["iou/mean"] == evaluated.metrics["iou/mean"]


def test_same_input_same_scores(evaluated, tmp_path):
    working = tmp_path / "working"
    working.mkdir()
    _, tables = nodes.predict(
        evaluated.model, evaluated.samples, evaluated.packed, evaluated.inference, evaluated.evaluation, working
    )
    pd.testing.assert_frame_equal(tables.soft, evaluated.tables.soft)
    pd.testing.assert_frame_equal(tables["calibration"], evaluated.tables["calibration"])


@pytest.mark.parametrize("split", ["validation", "train"])
def test_another_split_can_be_evaluated(evaluated, tmp_path, split):
    writer, tables = nodes.predict(
        evaluated.model,
        evaluated.samples,
        evaluated.packed,
        evaluated.inference,
        EvaluationParameters(split=split),
        evaluated.working,
    )
    writer(tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == len(tables.soft) == 1


def test_a_split_without_labeled_samples_is_refused(evaluated):
    unlabeled = evaluated.samples.assign(masks=[[]] * len(evaluated.samples))
    with pytest.raises(DataError, match=r"evaluation\.split: the test split has no labeled sample"):
        nodes.count(
            evaluated.predictions, unlabeled, evaluated.packed, CLASSES, evaluated.evaluation,
            evaluated.probability_tables,
        )  # fmt: skip


def test_predictions_of_another_split_are_refused(evaluated):
    with pytest.raises(DataError, match="There is no prediction for"):
        nodes.count(
            evaluated.predictions, *evaluated.masks, EvaluationParameters(split="train"), evaluated.probability_tables
        )


def test_scores_equal_the_brute_force_script_over_the_saved_files(evaluated):
    pairs = []
    for sample_id in evaluated.test:
        with Image.open(evaluated.predictions / file_name(sample_id)) as picture:
            pairs.append((evaluated.packed.mask(sample_id), np.array(picture)))
    for name, value in brute_force(pairs, CLASSES).items():
        assert evaluated.metrics[name] == pytest.approx(value, abs=1e-12), name


def test_the_pass_sums_every_counted_pixel_by_its_confidence(evaluated):
    calibration = evaluated.tables["calibration"]
    pixels = calibration.groupby("sample_id")["pixels"].sum()
    correct = calibration["correct"].sum() / calibration["pixels"].sum()
    for sample_id in evaluated.test:
        assert pixels[sample_id] == (evaluated.packed.mask(sample_id) != 255).sum()
    assert correct == pytest.approx(evaluated.metrics["accuracy/pixel"], abs=1e-12)
    assert 0 <= evaluated.metrics["calibration/ece"] <= evaluated.metrics["calibration/mce"] <= 1


def test_boundaries_are_measured_where_asked_for(evaluated):
    assert "boundary" not in evaluated.tables
    target = EvaluationParameters(boundary_metrics=["surface_dice", "boundary_iou"], surface_dice_tolerance_px=3)
    tables = nodes.count(evaluated.predictions, *evaluated.masks, target, evaluated.probability_tables)
    assert list(tables["boundary"]) == ["sample_id", "class", "intersection", "union", "within", "contour"]
    metrics, *_ = nodes.score(tables, evaluated.threshold, CLASSES)
    added = set(metrics) - set(evaluated.metrics)
    assert {"surface_dice/mean", "boundary_iou/class/nucleus"} <= added
    assert not [name for name in added if name.startswith("hd95")]


def test_more_than_two_classes_have_no_threshold(evaluated):
    assert evaluated.threshold.threshold is None
    assert "this one has 3" in evaluated.threshold.note
    assert "foreground" not in evaluated.tables
    assert not [
        name
        for name in evaluated.metrics
        if name.startswith(("optimal_threshold/", "at_optimal_threshold/", "average_precision"))
    ]
    *_, figure = nodes.plot_scores(evaluated.tables, evaluated.metrics, evaluated.threshold, CLASSES)
    assert "two classes" in figure.layout.annotations[0].text


class Gray:
    """A predictor of two classes: the red channel is the probability of the foreground."""

    classes: typing.ClassVar = ["background", "cell"]
    spec = types.SimpleNamespace(classes=classes)
    backend = types.SimpleNamespace(name="cpu")

    @classmethod
    def from_file(cls, *_):
        return cls()

    def predict_many(self, images):
        for image in images:
            foreground = image[..., 0].astype(np.float32) / 255
            yield np.stack([1 - foreground, foreground])


def test_the_threshold_of_two_classes_is_chosen_on_validation_alone(evaluated, tmp_path, monkeypatch):
    """On validation 0.3 parts the classes, on test 0.7 would: the scores of the test are those at 0.3."""
    monkeypatch.setattr(predictor, "Predictor", Gray)
    images = {}
    for name, level in (("validation", 0.3), ("test", 0.7)):
        probability = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
        mask = (probability >= level).astype(np.uint8)
        mask[0, 0] = 255
        images[name] = np.uint8(np.round(probability * 255))[..., None].repeat(3, axis=2), mask
    samples = pd.DataFrame({"sample_id": list(images), "split": list(images), "masks": [["mask.png"]] * 2})
    rest = samples, pack(tmp_path / "packed", images), Gray.classes
    (tmp_path / "working").mkdir()
    writer, probability_tables = nodes.predict(
        evaluated.model, *rest[:2], evaluated.inference, evaluated.evaluation, tmp_path / "working"
    )
    (tmp_path / "predictions").mkdir()
    writer(tmp_path / "predictions")
    tables = nodes.count(tmp_path / "predictions", *rest, evaluated.evaluation, probability_tables)
    threshold = nodes.choose_threshold(evaluated.model, *rest, evaluated.inference, evaluated.evaluation)
    assert threshold.dice == 1
    assert threshold.images == 1
    metrics, *_ = nodes.score(tables, threshold, Gray.classes)
    assert metrics["optimal_threshold/value"] == threshold.threshold == pytest.approx(0.3, abs=0.02)
    assert metrics["average_precision"] == 1
    probability = images["test"][0][..., 0] / 255
    truth, chosen = images["test"][1] == 1, probability >= threshold.threshold
    assert metrics["at_optimal_threshold/precision"] == pytest.approx((truth & chosen).sum() / chosen.sum())
    assert metrics["at_optimal_threshold/recall"] == 1
    *_, figure = nodes.plot_scores(tables, metrics, threshold, Gray.classes)
    assert any("chosen on validation" in trace.name for trace in figure.data)

    scored = EvaluationParameters(split="validation")
    assert "must not be chosen" in nodes.choose_threshold(evaluated.model, *rest, evaluated.inference, scored).note
    only_test = samples[samples["split"] == "test"], *rest[1:]
    answer = nodes.choose_threshold(evaluated.model, *only_test, evaluated.inference, evaluated.evaluation)
    assert answer.note == "the validation split has no labeled sample"
    metrics, *_ = nodes.score(tables, answer, Gray.classes)
    assert not [name for name in metrics if name.startswith(("optimal_threshold/", "at_optimal_threshold/"))]


def as_the_catalog_hands_it_on(image_scores, root, folder):
    """Save and load the table with the arguments of the catalog."""
    entry = yaml.safe_load((root / "conf/base/catalog_evaluation.yml").read_text())["image_scores"]
    dataset = CSVDataset(filepath=str(folder / "image_scores.csv"), load_args=entry["load_args"])
    dataset.save(image_scores)
    return dataset.load()


def test_sample_ids_survive_the_catalog(root, tmp_path):
    table = pd.DataFrame({"sample_id": ["0012", "NA", "1e5", "a,b"], "iou/per_image_mean": [0.1, 0.2, np.nan, 0.4]})
    pd.testing.assert_frame_equal(as_the_catalog_hands_it_on(table, root, tmp_path), table)


def test_pictures_charts_and_report(evaluated, root, tmp_path):
    case = evaluated
    image_scores = as_the_catalog_hands_it_on(case.image_scores, root, tmp_path)
    pictures = nodes.draw_gallery(image_scores, case.tables, case.predictions, case.packed, CLASSES, case.evaluation)
    assert all(isinstance(picture, Image.Image) for picture in pictures)
    pictures[0].save(tmp_path / "gallery.png")
    facts, patterns, _ = nodes.find_patterns(image_scores, case.samples, case.inspected)
    score_charts = nodes.plot_scores(case.tables, case.metrics, case.threshold, CLASSES)
    charts = {
        **dict(zip(("confusion", "classes", "reliability", "objects"), score_charts, strict=False)),
        "curves": training_curves(pd.DataFrame({"epoch": [0], "train/loss": [1.0]})),
    }
    for name, figure in charts.items():  # as the catalog hands them on
        dataset = PlotlyDataset(filepath=str(tmp_path / f"{name}.json"))
        dataset.save(figure)
        charts[name] = dataset.load()
    statistics = statistics_of({"samples": {"train": 1, "validation": 1, "test": 8}})
    sections = [
        nodes.write_training_section(
            problem="cells", classes=CLASSES, predictor_params=case.inference, model=case.model,
            training_curves=charts["curves"], augmentation_preview=tmp_path / "gallery.png", statistics=statistics,
            spec=case.network, plan=training_plan("cpu", 1),
        ),
        nodes.write_evaluation_section(
            problem="cells", source=case.source, classes=CLASSES, evaluation=case.evaluation, tables=case.tables,
            threshold=case.threshold, metrics=case.metrics, intervals=None, image_scores=image_scores,
            statistics=statistics, spec=case.network,
        ),
        nodes.write_gallery_section(
            classes=CLASSES, evaluation=case.evaluation, metrics=case.metrics, image_scores=image_scores,
            tables=case.tables, predictions=case.predictions, packed=case.packed, image_features=facts,
            error_patterns=patterns,
        ),
        nodes.write_data_section(
            source=case.source, classes=CLASSES, samples=case.samples, inspected=case.inspected,
            verdict=AuditResult(
            status="passed",
            samples=10,
            set_aside=(),
            allowed=(),
            counts={"error": 0, "warning": 0, "note": 0},
            kinds={},
            messages=(),
            values={},
            proposals=(),
        ),
            findings=pd.DataFrame(columns=["severity", "kind", "sample_id", "file", "message", "values"]),
            statistics=statistics,
        ),
    ]  # fmt: skip
    for number, section in enumerate(sections):  # as the catalog hands them on
        dataset = ModelDataset(
            filepath=str(tmp_path / f"{number}.json"), model="unet_segmentation.reporting.html.ReportSection"
        )
        dataset.save(section)
        sections[number] = dataset.load()
    page = nodes.report("cells", case.evaluation, *sections)
    assert f"Mean Dice {case.metrics['dice/mean']:.3f} on 8 images" in page
    assert "Only 8 images were scored" in page
    assert "Only 8 images: too few to tell." in page
    assert "7, by dice/mean on validation" in page
    assert page.count('<figure class="example">') in range(6 + 3, 6 + 9 + 1)  # the same where images are equally bad


def test_model_is_logged_with_its_epoch_and_an_example_of_the_test_split(evaluated, monkeypatch):
    reports = {}

    class Run:
        def log_model(self, build, metrics, step):
            reports.update(build.keywords, metrics=metrics, step=step)
            return {"model_uri": "models:/m-1"}

    monkeypatch.setattr(nodes.tracking, "active_run", Run)
    answer = nodes.log_model(
        evaluated.model,
        evaluated.metrics,
        evaluated.inference,
        evaluated.samples,
        evaluated.packed,
    )
    assert answer == {"model_uri": "models:/m-1"}
    assert reports["step"] == 7
    assert reports["metrics"] == evaluated.metrics
    np.testing.assert_array_equal(reports["example"], evaluated.packed.image(evaluated.test[0]))


def test_the_backend_of_this_machine_is_checked_once_and_predictions_know_it(evaluated, tmp_path, monkeypatch):
    from unet_segmentation.inference import backend_selection

    monkeypatch.setattr(backend_selection, "default_backend", lambda *_: "bfloat16")
    check = nodes.check_backend(evaluated.model, evaluated.inference, evaluated.samples, evaluated.packed, tmp_path)
    assert check.passed
    monkeypatch.setattr(backend_selection, "_build_and_check", None)  # would fail, were it called
    batch = evaluated.packed.image(evaluated.test[0])[None, :16, :16]
    if check.backend == "bfloat16":
        assert backend_selection.choose_backend([evaluated.model], [batch], folder=tmp_path)[1] == check
