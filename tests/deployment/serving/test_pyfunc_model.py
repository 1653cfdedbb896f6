from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
import numpy as np
import pytest

from tests.conftest import PATIENCE
from tests.data.fabricated_statistics import statistics_of
from tests.tracking.conftest import _no_store_of_the_user, root  # noqa: F401 - fixtures
from tests.tracking.runs import log_model
from tests.tracking.test_run import begin, client_of
from unet_segmentation.parameters import PredictorParameters

CODE = """
import base64, io, json, sys
import mlflow, numpy as np
from PIL import Image as imageio
uri, model_uri, images, out = sys.argv[1:]
mlflow.set_tracking_uri(uri)
model = mlflow.pyfunc.load_model(model_uri)
batch = np.load(images)
ragged = np.empty(2, dtype=object)
ragged[:] = [batch[0], batch[1][:40]]
masks = model.predict(batch)
different = model.predict(ragged)
one = model.unwrap_python_model().predict(None, batch[0])
stream = io.BytesIO()
imageio.fromarray(batch[0]).save(stream, "PNG")
record = model.predict(stream.getvalue())
png = np.asarray(imageio.open(io.BytesIO(base64.b64decode(record.pop("mask")))))
example = model.predict(model.input_example)[0]
np.savez(out, masks=masks, first=different[0], second=different[1], one=one, png=png)
import unet_segmentation
tops = {name.partition(".")[0] for name in sys.modules}
own = [name for name in sys.modules if name.startswith("unet_segmentation")]
print(json.dumps({"file": unet_segmentation.__file__, "tops": sorted(tops), "own": own, "record": record,
                  "example": [example["height"], example["width"]]}))
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    import torch

    from unet_segmentation.models.factory import build_model, resolve_model_spec
    from unet_segmentation.models.model_file import save_model
    from unet_segmentation.models.spec import ModelInfo
    from unet_segmentation.parameters import ModelParameters

    torch.manual_seed(0)
    network = ModelParameters(architecture="unet_original", base_channels=2, encoder_depth=2)
    profile = statistics_of({"channels": 3, "mean": [127.0] * 3, "std": [50.0] * 3, "dtype": "uint8"})
    specification = resolve_model_spec(network, ["background", "cell", "nucleus"], profile)
    file = tmp_path_factory.mktemp("model") / "best.safetensors"
    save_model(file, build_model(specification), ModelInfo(specification))
    return file


@pytest.mark.slow
def test_the_model_loads_in_a_fresh_process_and_computes_the_same(root, tmp_path, weights):  # noqa: F811
    from unet_segmentation.inference.predictor import Predictor

    images = np.random.default_rng(0).integers(0, 256, (2, 50, 60, 3), dtype=np.uint8)
    inference = PredictorParameters(max_pixels=1024, tile_size=32)  # smaller than the images: they go in tiles
    run = begin(root)
    for epoch in (1, 2, 3):
        run.log_metrics({"validation/dice/mean": epoch / 10}, step=epoch)
    run.log_metrics({"test/dice/mean": 0.5}, time=1000.0)  # as the hook does when the scores are saved
    answer = log_model(run, weights, inference, {"dice/mean": 0.5, "iou/class/c": None}, step=2, example=images[0])
    run_id = run.run_id
    assert run.finish("FINISHED").message is None
    assert answer["status"] == "logged"
    assert json.loads(json.dumps(answer)) == answer

    client = client_of(root)
    (model,) = client.search_logged_models([answer["experiment_id"]])
    assert model.model_uri == answer["model_uri"]
    assert model.status == "READY"
    assert model.source_run_id == run_id
    linked = {(metric.key, metric.step): metric.value for metric in model.metrics}
    assert linked == {("test/dice/mean", 0): 0.5, ("validation/dice/mean", 2): 0.2}
    assert len(client.get_metric_history(run_id, "test/dice/mean")) == 1
    (output,) = client.get_run(run_id).outputs.model_outputs
    assert (output.model_id, output.step) == (answer["model_id"], 2)
    info = mlflow.models.Model.load(url2pathname(urlsplit(model.artifact_location).path))
    assert info.signature.inputs is None, "what comes in is checked by the model: see tracking.model.signature"
    assert info.signature.outputs.input_names() == ["mask", "height", "width", "classes", "shares", "confidence"]

    np.save(tmp_path / "images.npy", images)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    arguments = [client.tracking_uri, answer["model_uri"], str(tmp_path / "images.npy"), str(tmp_path / "masks.npz")]
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error::UserWarning:mlflow", "-c", CODE, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    words = json.loads(done.stdout)
    code = Path(words["file"]).parent
    assert words["file"].startswith(str(root / "mlartifacts")), "the code that was logged, not the project's"
    assert not {
        "kedro",
        "lightning",
        "albumentations",
        "torchmetrics",
        "unet_segmentation.training.lightning_module",
    } & {
        *words["tops"],
        *words["own"],
    }
    shipped = {".".join(file.relative_to(code.parent).with_suffix("").parts) for file in code.rglob("*.py")}
    shipped = {name.removesuffix(".__init__") for name in shipped}
    assert set(words["own"]) <= shipped
    assert len(shipped - set(words["own"])) <= 3, "the code it needs and no more"
    assert words["example"] == [50, 60]
    assert words["record"]["classes"] == ["background", "cell", "nucleus"]
    masks = np.load(tmp_path / "masks.npz")
    np.testing.assert_array_equal(masks["png"], masks["one"])
    predictor = Predictor.from_file(weights, inference)
    expected = np.stack([predictor.predict(image) for image in images])
    assert masks["masks"].dtype == np.uint8
    np.testing.assert_array_equal(masks["masks"], expected)
    np.testing.assert_array_equal(masks["first"], expected[0])
    np.testing.assert_array_equal(masks["one"], expected[0])
    np.testing.assert_array_equal(masks["second"], predictor.predict(images[1][:40]))
