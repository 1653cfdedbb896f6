"""The cross-validation nodes, called as Kedro calls them, with a tiny network."""

import typing
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import confusion_matrix as sklearn_matrix

from unet_segmentation import tracking
from unet_segmentation.data.split.split import COLUMNS
from unet_segmentation.data.statistics import compute_statistics
from unet_segmentation.data.store.packed_arrays import pack
from unet_segmentation.datasets import MaskFolderDataset
from unet_segmentation.inference.predictor import Predictor
from unet_segmentation.models.model_file import load_model
from unet_segmentation.parameters import (
    AugmentationParameters,
    CrossValidationParameters,
    ImageParameters,
    ModelParameters,
    PredictorParameters,
    SplitParameters,
    TrainingParameters,
)
from unet_segmentation.pipelines.cross_validation import nodes
from unet_segmentation.training import trainer
from unet_segmentation.training.augmentation import compose_recipe
from unet_segmentation.training.plan_rules import propose_plan
from unet_segmentation.training.run_directory import RunDirectory, list_run_directories

CLASSES = ["a", "b"]
FOLDS = 3
IMAGES, INFERENCE = ImageParameters(), PredictorParameters()
NETWORK = ModelParameters(architecture="unet_original", base_channels=2, encoder_depth=2)
TRAINING = TrainingParameters(
    epochs=2, min_steps_per_epoch=2, batch_size=2, num_threads=1, accelerator="cpu", precision="32-true", patch_size=32
)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def measured(data: dict, groups: list[str]) -> pd.DataFrame:
    """What inspection knows of images in memory."""
    rows = []
    for (name, (image, mask)), group in zip(data.items(), groups, strict=True):
        rows.append(
            {
                "sample_id": name,
                "image": f"{name}.png",
                "masks": ["m.png"],
                "roi": "",
                "group": group,
                "split": None,
                "height": 32,
                "width": 32,
                "channels": 1,
                "dtype": "uint8",
                "image_sha256": name,
                "mask_sha256": name,
                "pixel_key": name,
                "channel_mean": [float(image.mean())],
                "channel_std": [float(image.std())],
                "class_pixels": np.bincount(mask[mask != 255], minlength=2).tolist(),
                "ignored_pixels": int((mask == 255).sum()),
            }
        )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    """Eighteen images in nine groups, each of a brightness of its own."""
    random = np.random.default_rng(0)
    data = {}
    for number in range(18):
        mask = random.integers(0, 2, (32, 32), dtype=np.uint8)
        mask[:2] = 255
        data[f"s{number:02d}"] = (mask[..., None] % 2 * 60 + 8 * number).astype(np.uint8), mask
    inspected = measured(data, [f"g{number // 2}" for number in range(18)])
    samples = inspected[COLUMNS].assign(split=["train", "validation", "test"] * 6)
    case = SimpleNamespace(data=data, inspected=inspected, samples=samples)
    case.packed = pack(tmp_path_factory.mktemp("packed") / "arrays", data)
    case.recipe = compose_recipe(AugmentationParameters(), channels=1)
    statistics = compute_statistics(samples, inspected, CLASSES, IMAGES)
    case.plan = propose_plan(statistics, NETWORK, TRAINING, CLASSES)
    return case


@pytest.fixture(scope="module")
def folds(problem):
    chosen = CrossValidationParameters(folds=FOLDS, splits=["train", "validation", "test"])
    return nodes.assign_folds(problem.samples, problem.inspected, chosen, SplitParameters(validation=0.2))


@pytest.fixture(scope="module")
def run(problem, folds):
    """Train all folds in a folder."""

    def train(folder, training=TRAINING):
        return nodes.train_folds(
            folds=folds, samples=problem.samples, inspected=problem.inspected, packed=problem.packed,
            recipe=problem.recipe, proposed_plan=problem.plan, model_params=NETWORK, training=training, images=IMAGES,
            classes=CLASSES, folder=folder,
        )  # fmt: skip

    return train


@pytest.fixture(scope="module")
def validated(problem, folds, run, tmp_path_factory):
    """The pipeline run to its end, undisturbed."""
    folder = tmp_path_factory.mktemp("validated")
    case = SimpleNamespace(folder=folder / "folds", working=folder / "working")
    case.working.mkdir()
    (case.working / "leftover.png").write_bytes(b"of a pass that was interrupted")
    case.training_runs, case.history = run(case.folder)
    writer, case.soft = nodes.predict_folds(
        case.training_runs, folds, problem.packed, INFERENCE, case.folder, case.working
    )
    predictions = MaskFolderDataset(path=str(folder / "predictions"))
    predictions.save(writer)
    case.predictions = predictions.load()
    case.confusion = nodes.count_folds(case.predictions, folds, problem.packed, CLASSES)
    case.metrics = nodes.score_folds(case.confusion, case.soft, CLASSES)
    return case


def model(case, fold):
    fingerprint = case.training_runs.set_index("fold")["fingerprint"][fold]
    return RunDirectory(case.folder / str(fold), fingerprint)


def of(folds, fold, split):
    return sorted(folds.loc[(folds["fold"] == fold) & (folds["split"] == split), "sample_id"])


def test_annotations_resolve_at_run_time():
    """Kedro builds the typed parameters from them."""
    names = ("assign", "train", "predict", "count", "score", "plot")
    for name in [f"{name}_folds" for name in names] + ["mark_folds_completed"]:
        assert typing.get_type_hints(getattr(nodes, name))


def test_no_held_out_sample_has_a_part_in_its_network(problem, folds, validated):
    """Neither as a training or validation sample, nor through the statistics that pixels are normalized with."""
    for fold in range(1, FOLDS + 1):
        work = model(validated, fold)
        assert work.plan.samples == {name: tuple(of(folds, fold, name)) for name in ("train", "validation")}
        assert not {*work.plan.samples["train"], *work.plan.samples["validation"]} & {*of(folds, fold, "test")}
        pixels = np.stack([problem.data[name][0] for name in of(folds, fold, "train")])
        specification = load_model(work.best)[1].spec
        assert specification.mean == pytest.approx([pixels.mean()])
        assert specification.std == pytest.approx([pixels.std()])


def test_the_tables_say_what_was_trained(folds, validated):
    table = validated.training_runs.set_index("fold")
    for fold in range(1, FOLDS + 1):
        counts = [len(of(folds, fold, split)) for split in ("train", "validation", "test")]
        assert table.loc[fold, ["train", "validation", "held_out"]].tolist() == counts
        rows = validated.history[validated.history["fold"] == fold]
        assert rows["epoch"].tolist() == [1, 2]
        assert table.loc[fold, "score"] == rows["validation/dice/mean"].max()


def test_counts_are_those_of_each_image_by_the_network_that_did_not_see_it(problem, folds, validated):
    total = np.zeros((2, 2), np.int64)
    for fold in range(1, FOLDS + 1):
        predictor = Predictor.from_file(model(validated, fold).best, INFERENCE)
        for name in of(folds, fold, "test"):
            image, mask = problem.data[name]
            expected = sklearn_matrix(mask[mask != 255], predictor.predict(image)[mask != 255], labels=[0, 1])
            rows = validated.confusion[validated.confusion["sample_id"] == name]
            assert set(rows["fold"]) == {fold}
            result = np.zeros((2, 2), np.int64)
            result[rows["truth"], rows["prediction"]] = rows["count"]
            assert result.tolist() == expected.tolist()
            total += expected
    hits, sums = np.diag(total), total.sum(axis=0) + total.sum(axis=1)
    assert validated.metrics["dice/mean"] == pytest.approx(np.mean(2 * hits / sums))
    assert sorted(validated.soft["sample_id"]) == sorted(problem.data)
    assert not list(validated.working.iterdir())
    assert len(nodes.plot_folds(validated.metrics).data) == 2


def test_killed_between_folds_and_run_again(run, validated, tmp_path, monkeypatch):
    """What was trained is not trained again, and all is as if nothing had happened."""
    calls = []
    fit = trainer.run_training

    def killed(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit(*arguments, **options)

    monkeypatch.setattr(trainer, "run_training", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    monkeypatch.undo()
    first = list_run_directories(tmp_path / "1")[0]
    written = first.last.stat().st_mtime_ns
    case = SimpleNamespace(folder=tmp_path, training_runs=run(tmp_path)[0])
    assert first.last.stat().st_mtime_ns == written
    pd.testing.assert_frame_equal(case.training_runs, validated.training_runs, check_exact=True)
    for fold in range(1, FOLDS + 1):
        weights, expected = (load_file(model(result, fold).best) for result in (case, validated))
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[name], expected[name]) for name in weights)


@pytest.mark.parametrize("delivered", [True, False])
def test_trained_anew_after_delivery_or_where_nothing_is_to_be_resumed(run, validated, tmp_path, delivered):
    training_runs, _ = run(tmp_path)
    files = [list_run_directories(tmp_path / str(fold))[0].last for fold in range(1, FOLDS + 1)]
    written = [file.stat().st_mtime_ns for file in files]
    training = TRAINING.model_copy(update={"resume": delivered})
    if delivered:
        nodes.mark_folds_completed(training_runs, validated.metrics, None, tmp_path)
    again, _ = run(tmp_path, training)
    pd.testing.assert_frame_equal(again, training_runs, check_exact=True)
    assert all(file.stat().st_mtime_ns > before for file, before in zip(files, written, strict=True))
    assert not any(
        work.delivered.is_file() for fold in range(1, FOLDS + 1) for work in list_run_directories(tmp_path / str(fold))
    )


def test_the_run_is_told_one_validation_score_for_each_fold(run, tmp_path, monkeypatch):
    reports = []
    recorder = SimpleNamespace(log_metrics=lambda values, step: reports.append((step, values)))
    monkeypatch.setattr(tracking, "active_run", lambda: recorder)
    training_runs, _ = run(tmp_path)
    assert reports == [(row.fold, {"cv/validation/dice/mean": row.score}) for row in training_runs.itertuples()]
