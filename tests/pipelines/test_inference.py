"""Which model predicts, what the results are called, and how it is summed up."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.conftest import S3_ENVIRONMENT, put_into_bucket
from tests.data.fabricated_statistics import statistics_of
from unet_segmentation import tracking
from unet_segmentation.datasets import ModelDataset
from unet_segmentation.errors import ConfigurationError, DataError
from unet_segmentation.inference.model_reference import ModelReference
from unet_segmentation.inference.writers import results_name
from unet_segmentation.models.factory import build_model, resolve_model_spec
from unet_segmentation.models.model_file import save_model
from unet_segmentation.models.spec import ModelInfo
from unet_segmentation.parameters import InferenceParameters, ModelParameters, PredictorParameters, SourceParameters
from unet_segmentation.pipelines.inference import nodes
from unet_segmentation.training.run_directory import RunDirectory

CLASSES = ["background", "cell"]
SOURCE = SourceParameters(folder="somewhere", images="images/{id}.png", masks="masks/{id}.png")


def saved(file, seed: int = 0):
    import torch

    torch.manual_seed(seed)
    network = ModelParameters(architecture="unet_original", base_channels=2, encoder_depth=2)
    specification = resolve_model_spec(network, CLASSES, statistics_of({"mean": [127.0] * 3, "std": [50.0] * 3}))
    file.parent.mkdir(parents=True, exist_ok=True)
    save_model(file, build_model(specification), ModelInfo(specification))
    return file


def chosen(tmp_path, model=(), fold_models=None, **inference):
    parameters, trained = InferenceParameters(model=list(model)), tmp_path / "best.safetensors"
    return nodes.choose_model(
        "p",
        parameters,
        PredictorParameters(**inference),
        trained if trained.is_file() else None,
        fold_models,
        tmp_path / "fetched",
    )


def test_without_tracking_the_models_file_predicts(tmp_path):
    with pytest.raises(ConfigurationError, match="Train one: kedro run --env p"):
        chosen(tmp_path)
    file = saved(tmp_path / "best.safetensors")
    assert chosen(tmp_path).files == [str(file)]
    with pytest.raises(ConfigurationError, match="tracking is off"):
        chosen(tmp_path, ["champion"])


def test_files_and_folds_are_averaged(tmp_path):
    files = [saved(tmp_path / "one.safetensors", 1), saved(tmp_path / "two.safetensors", 2)]
    model = chosen(tmp_path, map(str, files))
    assert model.files == [str(file) for file in files]
    assert len(set(model.sha256)) == 2
    with pytest.raises(ConfigurationError, match="no cross-validation"):
        chosen(tmp_path, ["cv-ensemble"])
    folds = [RunDirectory(tmp_path / "folds" / fold, key).best for fold, key in (("1", "a"), ("2", "b"))]
    for number, file in enumerate(folds):
        saved(file, number)
    fold_models = {str(number): str(file) for number, file in enumerate(folds, 1)}
    assert chosen(tmp_path, ["cv-ensemble"], fold_models).files == [str(file) for file in folds]
    with pytest.raises(ConfigurationError, match="There is no model file"):
        chosen(tmp_path, ["three.safetensors"])


@pytest.fixture
def predicted(tmp_path):
    """Three images, one broken, predicted by two networks."""
    folder = tmp_path / "images"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    (folder / "c.png").write_bytes(b"no picture")
    files = [saved(tmp_path / "one.safetensors", 1), saved(tmp_path / "two.safetensors", 2)]
    prediction = InferenceParameters(source=str(folder), model=[str(file) for file in files], backend="pytorch")
    model = chosen(tmp_path, prediction.model)
    inputs = nodes.list_images(prediction, SOURCE)
    rest = prediction, PredictorParameters(), SOURCE, tmp_path / "backends", tmp_path / "results"
    return files, folder, nodes.predict_images(model, inputs, *rest)


def test_masks_are_those_of_the_mean_of_the_networks(predicted, tmp_path):
    from unet_segmentation.inference.predictor import Predictor

    files, folder, (table, place, _) = predicted
    assert table["status"].tolist() == ["ok", "ok", "failed"]
    assert (place.images, place.failed) == (3, 1)
    image = np.array(Image.open(folder / "a.png"))
    probabilities = [Predictor.from_file(file, PredictorParameters()).probabilities(image) for file in files]
    mask = np.array(Image.open(f"{place.folder}/{table['mask'][0]}"))
    np.testing.assert_array_equal(mask, np.mean(probabilities, axis=0).argmax(axis=0))
    written = pd.read_csv(f"{place.folder}/predictions.csv")
    assert written["image"].tolist() == ["a.png", "b.png", "c.png"]
    assert written["height"].tolist()[:2] == [20, 20]


def test_the_sheet_shows_what_was_done_and_the_end_says_what_was_not(predicted, tmp_path):
    *_, (table, place, _) = predicted
    sheet = nodes.draw_contact_sheet(table, place)
    assert sheet.size[0] > 2 * 30
    with pytest.raises(DataError, match=r"1 of 3 images.*\n  c.png .*\nThe other 2 are done"):
        nodes.fail_if_any_image_failed(table, place, tmp_path / "sheet.png")
    nodes.fail_if_any_image_failed(table[table["status"] == "ok"], place, tmp_path / "sheet.png")


def test_results_of_folders_of_one_name_are_kept_apart():
    names = {results_name(source) for source in ("/a/images", "/b/images", "s3://bucket/images", "/a/x y/*.png")}
    assert len(names) == 4
    assert all(name.startswith(("images-", "png-")) for name in names)
    queried = {"images?key=a/b": "images-", "images/?key=a/b": "images-", "get?path=/x/b.png": "b.png-"}
    assert all(results_name(f"https://h/{source}").startswith(called) for source, called in queried.items())


def test_nothing_to_predict_is_said_with_what_to_do():
    with pytest.raises(ConfigurationError, match="kedro predict FOLDER"):
        nodes.list_images(InferenceParameters(), SOURCE)


def test_a_bucket_is_reached_with_the_options_of_the_prediction(s3_endpoint, tmp_path, monkeypatch):
    for name, value in S3_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    options = {"endpoint_url": s3_endpoint}
    (tmp_path / "images").mkdir()
    Image.fromarray(np.full((20, 30, 3), 9, np.uint8)).save(tmp_path / "images" / "a.png")
    put_into_bucket(options, tmp_path / "images", "unlabeled/images")
    file = saved(tmp_path / "one.safetensors")
    prediction = InferenceParameters(source="s3://unlabeled/images", storage_options=options, backend="pytorch")
    inputs = nodes.list_images(prediction, SOURCE)
    rest = prediction, PredictorParameters(), SOURCE, tmp_path / "backends", tmp_path / "results"
    table, *_ = nodes.predict_images(chosen(tmp_path, [str(file)]), inputs, *rest)
    assert table["status"].tolist() == ["ok"]
    with pytest.raises(ValueError, match="secrets do not belong here"):
        InferenceParameters(storage_options={"secret": "x"})


def test_a_model_survives_the_catalog(tmp_path):
    model = ModelReference.of([saved(tmp_path / "one.safetensors")], "a title")
    dataset = ModelDataset(
        filepath=str(tmp_path / "model.json"), model="unet_segmentation.inference.model_reference.ModelReference"
    )
    dataset.save(model)
    assert dataset.load() == model
    assert not tracking.active_run().enabled
