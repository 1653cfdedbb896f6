"""Models in a real store, and a real server of them."""

from __future__ import annotations

import io
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import requests
import torch
from PIL import Image

from tests.conftest import PATIENCE
from tests.data.fabricated_statistics import statistics_of
from tests.toy_project import empty_store
from unet_segmentation.deployment.serving.model_packaging import package_model
from unet_segmentation.models.factory import build_model, resolve_model_spec
from unet_segmentation.models.model_file import save_model
from unet_segmentation.models.spec import ModelInfo
from unet_segmentation.parameters import ModelParameters, PredictorParameters
from unet_segmentation.tracking.journal import Operation, RunHeader
from unet_segmentation.tracking.mlflow_client import MlflowRunClient
from unet_segmentation.tracking.model_registry import Registry

PROJECT = Path(__file__).parents[3]
PROBLEM = "test"  # an environment of the project
CLASSES = ["background", "cell", "nucleus"]
INFERENCE = PredictorParameters()


def weights(file: Path, seed: int = 0, channels: int = 3, bands: list[int] | None = None, **values: object) -> Path:
    """Write a small network of random weights."""
    torch.manual_seed(seed)
    images = {"images": {"bands": bands}}
    statistics = statistics_of({"mean": [127.0] * channels, "std": [50.0] * channels, **images, **values})
    network = ModelParameters(architecture="unet_original", base_channels=2, encoder_depth=2)
    specification = resolve_model_spec(network, CLASSES, statistics)
    save_model(file, build_model(specification), ModelInfo(specification))
    return file


def new_store(folder: Path) -> str:
    (folder / "mlflow.db").write_bytes(empty_store())
    return f"sqlite:///{folder / 'mlflow.db'}"


def log(uri: str, file: Path, folder: Path) -> tuple[str, str]:
    """Log a model in a run of its own; gives the ids of both."""
    tags, now = {"problem": PROBLEM}, time.time()
    header = RunHeader(uri=uri, experiment=PROBLEM, started=now, run_name=file.stem, tags=tags)
    client = MlflowRunClient.create(header)
    model_id = client.create_model("unet", PROBLEM, step=0)
    package_model(folder, model=file, inference=INFERENCE, example=np.full((40, 50, 3), 99, np.uint8))
    client.log_model(folder, model_id, 0, {})
    scores = {"values": {"test/dice/mean": 0.5}, "step": 0, "time": now}
    client.log_values([Operation(name="log_metrics", time=now, arguments=scores)])
    client.close("FINISHED", None, time.time())
    return model_id, client.run_id


def release(uri: str, model_id: str, run_id: str, expected: int) -> None:
    Registry(uri, PROBLEM).promote(model_id, run_id, expected=expected, tags={})


def picture(height: int = 40, width: int = 50, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """A PNG of a kilobyte that declares 900 million pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10**6, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """A server's process; its lines are kept."""

    def __init__(self, command: list[str], port: int, ready: str, cwd: Path, **environment: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if requests.get(f"{self.url}/{ready}", timeout=5).ok:
                    return
            except requests.RequestException:
                time.sleep(0.2)
        self.process.kill()
        raise AssertionError("the server does not come up:\n" + "\n".join(self.lines))

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.lines.append(line.rstrip())

    def stop(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def kedro_serve(uri: str, *options: str) -> Server:
    port = free_port()
    command = [str(Path(sys.executable).with_name("kedro")), "serve", "--env", PROBLEM, "--port", str(port), *options]
    return Server(command, port, "health", PROJECT, MLFLOW_TRACKING_URI=uri)
