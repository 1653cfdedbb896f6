"""How fast images are predicted on this machine, against the same network called in the plain way.

Plain is what a first script does: the network in eager float32, contiguous (NCHW), one image after the other; nothing
is read or written. Held against it, in turns within each round, on images of 512 x 512 pixels:

* every backend alone, on the batches that the predictor makes (up to four images of this size);
* the path of `kedro predict`: PNG files read, predicted by the chosen backend, masks and overlays written; the same
  with polygons, which is the default;
* the network's operations at the rate at which torch multiplies large float32 matrices: what no float32 backend that
  does the same operations can pass by much.

    python -m benchmarks.prediction_throughput speed MODEL.safetensors ... --images 24 --rounds 5

The second part asks whether all ways of running one model give the same scores: evaluation (the predictor in eager
float32), the MLflow model loaded in a process of its own, the ONNX file, bfloat16, 8 bits.

    python -m benchmarks.prediction_throughput scores --packed PACKED_FOLDER --samples samples.parquet MODEL.safetensors
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.inference.backend_selection import BackendCheck, choose_backend
from unet_segmentation.inference.backends.pytorch import EagerBackend
from unet_segmentation.inference.predictor import Predictor
from unet_segmentation.inference.sliding_window import argmax_mask
from unet_segmentation.metrics.confusion_matrix import confusion_matrix, total_matrix
from unet_segmentation.metrics.definitions import global_scores
from unet_segmentation.models.model_file import load_model, read_header
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters import InferenceParameters, PredictorParameters

SIDE = 512
BACKENDS = ("pytorch", "bfloat16", "torch-export", "onnx", "int8")
INFERENCE = PredictorParameters()
MATRIX = 2048  # rows and columns


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    fast = parts.add_parser("speed")
    fast.add_argument("models", nargs="+", type=Path)
    fast.add_argument("--images", type=int, default=24)
    fast.add_argument("--rounds", type=int, default=5)
    fast.add_argument("--backends", nargs="*", choices=BACKENDS, default=BACKENDS, help="that are timed alone")
    same = parts.add_parser("scores")
    same.add_argument("models", nargs="+", type=Path)
    same.add_argument("--packed", type=Path, required=True, help="folder of the packed samples")
    same.add_argument("--samples", type=Path, required=True)
    same.add_argument("--counts", type=Path, help="confusion_counts.parquet, as evaluation has stored it")
    same.add_argument("--images", type=int, default=10_000, help="of the test split, at most")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for model in options.models:
            (speed if options.part == "speed" else scores)(model, Path(name) / model.parent.name / model.stem, options)


# -- speed


def speed(model: Path, folder: Path, options: argparse.Namespace) -> None:
    images = draw_images(folder / "images", options.images)
    batches = [np.stack(images[start : start + 4]) for start in range(0, len(images), 4)]
    network, info = load_model(model)
    backends, rows = make_backends(options.backends, model, batches[:2], folder / "backends")
    chosen, check = choose_backend([model], batches[:2], folder=folder / "choice", expected_images=len(images))
    plain = make_plain(network)
    work: dict[str, Callable[[], Any]] = {"plain": lambda: [plain(image) for image in images]}
    for name, backend in backends.items():
        work[name] = lambda backend=backend: [backend(batch) for batch in batches]
    for label, polygons in (("predict, masks and overlays", False), ("predict, polygons too", True)):
        wanted = InferenceParameters(source=str(folder / "images"), polygons=polygons)
        work[label] = lambda wanted=wanted: predict_folder(info.spec, chosen, wanted, folder / "out")
    operations = 1e-9 * len(images) * count_operations(network, images[0])
    matrix = torch.rand(MATRIX, MATRIX)
    work["matrix product"] = lambda: torch.mm(matrix, matrix)
    scale = {"matrix product": operations / (2e-9 * MATRIX**3)}  # as if it had done the network's operations
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(options.rounds):
        for name, task in work.items():
            started = time.perf_counter()
            task()
            seconds[name].append(scale.get(name, 1.0) * (time.perf_counter() - started))
    base = statistics.median(seconds["plain"])
    print(
        f"\n{info.spec.title}, {len(images)} images of {SIDE} x {SIDE}, "
        f"{torch.get_num_threads()} threads, chosen: {check.backend}\n"
        f"{'':28} images/s  times plain  GFLOP/s  agreement  largest difference"
    )
    for name, taken in seconds.items():
        middle = statistics.median(taken)
        row = rows.get(name)
        agrees = f"{row.agreement:9.5f}  {row.largest_difference:9.2g}" if row else ""
        speed_shown = f"{len(images) / middle:8.2f}  {base / middle:11.2f}  {operations / middle:7.1f}"
        print(f"{name:28} {speed_shown}  {agrees}".rstrip(), flush=True)


def make_backends(
    names: list[str], model: Path, examples: list[NDArray], folder: Path
) -> tuple[dict[str, Any], dict[str, BackendCheck]]:
    """Every backend, and how far it is from the network on images of the kind that it was trained on."""
    backends, rows = {}, {}
    for name in names:
        backends[name], rows[name] = choose_backend([model], examples, name=name, folder=folder)
    return backends, rows


def count_operations(network: torch.nn.Module, image: NDArray) -> int:
    """Floating-point operations of a network for an image: two for each multiplication with its addition."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.from_numpy(image).permute(2, 0, 1)[None].float())
    return counter.get_total_flops()


def make_plain(network: torch.nn.Module) -> Callable[[NDArray], NDArray]:
    """What a first script does."""

    def predict(image: NDArray) -> NDArray:
        with torch.no_grad():
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float().contiguous()
            return torch.softmax(network(pixels), dim=1).argmax(dim=1).numpy()

    return predict


def predict_folder(spec: ModelSpec, backend: Any, wanted: InferenceParameters, folder: Path) -> None:
    """What `kedro predict` does with a folder, once its backend is chosen."""
    from unet_segmentation.inference import predict_folder as predicting
    from unet_segmentation.inference.input_discovery import list_inputs

    storage, inputs = list_inputs(str(wanted.source), {})
    with tempfile.TemporaryDirectory(dir=folder.parent) as target:
        job = predicting.FolderJob(spec, INFERENCE, storage, Path(target), wanted, "benchmark")
        rows = predicting.predict_folder(job, predicting.plan_folder(job, inputs), backend)
        assert all(row["status"] == "ok" for row in rows), rows


def draw_images(folder: Path, count: int) -> list[NDArray]:
    """Cells of the embedded problem, larger."""
    from unet_segmentation.data.synthetic.cells import draw_sample

    folder.mkdir(parents=True)
    images = []
    for number in range(count):
        image, _ = draw_sample(number, 1, SIDE)
        Image.fromarray(image).save(folder / f"{number:03d}.png")
        images.append(np.asarray(image))
    return images


# -- scores


def scores(model: Path, folder: Path, options: argparse.Namespace) -> None:
    packed = PackedSamples(options.packed)
    samples = pd.read_parquet(options.samples)
    chosen = samples.loc[(samples["split"] == "test") & (samples["masks"].map(len) > 0), "sample_id"]
    names = sorted(chosen.astype(str).tolist()[: options.images], key=packed.shape)
    train = samples.loc[samples["split"] == "train", "sample_id"].astype(str).tolist()[:32]
    classes = read_header(model).spec.classes
    examples = [Predictor.from_file(model, INFERENCE).example(packed.image(name)) for name in train]
    ways: dict[str, Iterator[NDArray]] = {
        "evaluation (eager float32)": masks_by(EagerBackend(load_model(model)[0], "cpu"), model, packed, names),
        "MLflow model, fresh process": masks_of_mlflow(model, packed, names, folder),
    }
    for name in ("onnx", "torch-export", "bfloat16", "int8"):
        backend, _ = choose_backend([model], examples, name=name, folder=folder / "backends")
        ways[name] = masks_by(backend, model, packed, names)
    print(f"\n{model.parent.name}: {len(names)} images\n{'':28} dice/mean   iou/mean  pixels different")
    if options.counts is not None:
        found = global_scores(total_matrix(pd.read_parquet(options.counts), len(classes)), classes)
        print(f"{'evaluation, as stored':28} {found['dice/mean']:9.6f}  {found['iou/mean']:9.6f}", flush=True)
    wanted: list[NDArray] = []
    for label, masks in ways.items():
        matrix, different, pixels = np.zeros((len(classes), len(classes)), np.int64), 0, 0
        for number, (name, mask) in enumerate(zip(names, masks, strict=True)):
            matrix += confusion_matrix(packed.mask(name), mask, len(classes))
            if len(wanted) < len(names):
                wanted.append(mask)
            different += int((mask != wanted[number]).sum())
            pixels += mask.size
        found = global_scores(matrix, classes)
        print(
            f"{label:28} {found['dice/mean']:9.6f}  {found['iou/mean']:9.6f}  {different} of {pixels} "
            f"({different / pixels:.5%})",
            flush=True,
        )


def masks_by(backend: Any, model: Path, packed: PackedSamples, names: list[str]) -> Iterator[NDArray]:
    predictor = Predictor(read_header(model).spec, backend, INFERENCE)
    return map(argmax_mask, predictor.predict_many(packed.image(name) for name in names))


def masks_of_mlflow(model: Path, packed: PackedSamples, names: list[str], folder: Path) -> Iterator[NDArray]:
    """Log the model into a store of its own, and predict as whoever takes it from there."""
    import mlflow

    from unet_segmentation.deployment.serving.isolated_model import predict_in_subprocess
    from unet_segmentation.deployment.serving.model_packaging import package_model

    folder.mkdir(parents=True, exist_ok=True)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("benchmark", artifact_location=(folder / "artifacts").as_uri())
    run = client.create_run(experiment)
    logged = client.create_logged_model(experiment, name="model", source_run_id=run.info.run_id)
    package_model(folder / "mlflow", model=model, inference=INFERENCE, example=packed.image(names[0]))
    client.log_model_artifacts(logged.model_id, str(folder / "mlflow"))
    client.finalize_logged_model(logged.model_id, "READY")
    return predict_in_subprocess(uri, logged.model_id, (packed.image(name) for name in names))


if __name__ == "__main__":
    main()
