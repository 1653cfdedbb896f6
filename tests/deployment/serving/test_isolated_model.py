"""A logged model in a process of its own."""

from __future__ import annotations

import numpy as np
import pytest

from tests.deployment.serving.test_pyfunc_model import weights  # noqa: F401 - a fixture
from tests.tracking.conftest import _no_store_of_the_user, root  # noqa: F401 - fixtures
from tests.tracking.runs import log_model
from tests.tracking.test_run import begin
from unet_segmentation.deployment.serving.isolated_model import predict_in_subprocess
from unet_segmentation.errors import TrackingError
from unet_segmentation.parameters import PredictorParameters

pytestmark = pytest.mark.slow


def test_images_go_through_in_order_and_in_batches_and_what_is_wrong_is_said(root, weights):  # noqa: F811
    from unet_segmentation.inference.predictor import Predictor
    from unet_segmentation.inference.sliding_window import argmax_mask

    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (height, 40, 3), dtype=np.uint8) for height in (32, 32, 32, 50, 64, 300)]
    inference = PredictorParameters(max_pixels=4096, tile_size=32, batch_size=2)
    run = begin(root)
    answer = log_model(run, weights, inference, {}, step=1, example=images[0])
    assert run.finish("FINISHED").message is None
    uri, model_id = f"sqlite:///{root / 'mlflow.db'}", answer["model_id"]

    masks = list(predict_in_subprocess(uri, model_id, iter(images)))
    expected = list(map(argmax_mask, Predictor.from_file(weights, inference).predict_many(images)))
    assert [mask.shape for mask in masks] == [image.shape[:2] for image in images]
    for mask, truth in zip(masks, expected, strict=True):
        np.testing.assert_array_equal(mask, truth)

    with pytest.raises(TrackingError, match=rf"{model_id} does not work in a clean process: .*4 channels"):
        list(predict_in_subprocess(uri, model_id, [np.zeros((32, 32, 4), np.uint8)]))
    with pytest.raises(TrackingError, match="does not work in a clean process"):
        list(predict_in_subprocess(uri, "m-00000000000000000000000000000000", images))

    def broken():
        yield images[0]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(predict_in_subprocess(uri, model_id, broken()))
