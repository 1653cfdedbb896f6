"""What serving costs besides the bare network, whether memory grows with requests, and whether a swap loses any.

A U-Net with a ResNet-18 (random weights, which change no time) is logged and released in a store of its own; `kedro
serve` serves it. In turns, side by side: the bare network, image by image, in plain eager float32 in a thread of this
process (with the server idle), and 1, 4 and 16 clients that post PNG files of 512 x 512 pixels and get masks. Processor
time (of the server alone, not of its clients) tells more than the clock where other processes are at work; both are
printed. Then many small requests: the anonymous memory of both processes at the beginning and after each quarter. Last,
clients that never pause while the champion is changed to and fro.

    make bench NAME=serving
    make bench NAME=serving ARGS="--rounds 3 --images 8 --requests 1000 --swaps 1"
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import psutil
import requests
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.memory_growth import anonymous_bytes
from tests.data.fabricated_statistics import statistics_of
from unet_segmentation.deployment.serving.model_packaging import package_model
from unet_segmentation.models.factory import build_model, resolve_model_spec
from unet_segmentation.models.model_file import load_model, save_model
from unet_segmentation.models.spec import ModelInfo
from unet_segmentation.parameters import ModelParameters, PredictorParameters
from unet_segmentation.tracking.journal import RunHeader
from unet_segmentation.tracking.mlflow_client import MlflowRunClient, create_database
from unet_segmentation.tracking.model_registry import Registry

PROBLEM = "cells"
SIDE, SMALL = 512, 64
CLIENTS = (1, 4, 16)
PROMISE = 0.15  # overhead over the bare network


def log_models(folder: Path, count: int) -> tuple[str, list[Path]]:
    """Log networks of random weights, and release the last; gives the store and the files."""
    uri, files = f"sqlite:///{folder / 'mlflow.db'}", []
    create_database(folder / "mlflow.db")
    profile = statistics_of({"mean": [127.0] * 3, "std": [50.0] * 3, "maximum_value": 255})
    network = ModelParameters(architecture="unet", encoder="resnet18", encoder_weights=None)
    for number in range(count):
        torch.manual_seed(number)
        specification = resolve_model_spec(network, ["background", "cytoplasm", "nucleus"], profile)
        file = folder / f"{number}.safetensors"
        save_model(file, build_model(specification), ModelInfo(specification))
        header = RunHeader(uri=uri, experiment=PROBLEM, started=time.time(), run_name=str(number))
        client = MlflowRunClient.create(header)
        model_id = client.create_model("unet", PROBLEM, step=0)
        packed = folder / f"packed{number}"
        package_model(packed, model=file, inference=PredictorParameters(), example=np.zeros((64, 64, 3), np.uint8))
        client.log_model(packed, model_id, 0, {})
        client.close("FINISHED", None, time.time())
        Registry(uri, PROBLEM).promote(model_id, client.run_id, expected=number, tags={})
        files.append(file)
    return uri, files


@contextlib.contextmanager
def server(uri: str) -> Iterator[tuple[str, psutil.Process]]:
    """Start `kedro serve`; gives its address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("kedro")), "serve", "--env", PROBLEM, "--port", str(port)]
    process = subprocess.Popen(
        command, env={**os.environ, "MLFLOW_TRACKING_URI": uri}, stdout=subprocess.PIPE, text=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for line in process.stdout or ():
            if line.startswith("Serving"):
                break
        threading.Thread(target=lambda: collections.deque(process.stdout or (), 0), daemon=True).start()
        while True:
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"{address}/health", timeout=10).ok:
                    break
            time.sleep(0.1)
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def ask(
    address: str, bodies: list[bytes], clients: int, more: Callable[[], bool]
) -> tuple[list[float], collections.Counter]:
    """Let clients post, each as soon as it has its answer; gives seconds by request, and statuses with versions."""
    seconds: list[float] = []
    answers: collections.Counter = collections.Counter()

    def client(number: int) -> None:
        with requests.Session() as session:
            while more():
                begun = time.perf_counter()
                try:
                    answer = session.post(f"{address}/predict", data=bodies[number % len(bodies)], timeout=120)
                    answers[answer.status_code, answer.headers.get("X-Model-Version")] += 1
                except requests.RequestException as error:
                    answers[type(error).__name__, None] += 1
                seconds.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds, answers


def counted(number: int) -> Callable[[], bool]:
    """Say yes so often."""
    left = iter(range(number))
    lock = threading.Lock()

    def more() -> bool:
        with lock:
            return next(left, None) is not None

    return more


def bare(file: Path, images: list[np.ndarray], count: int) -> Callable[[], list[float]]:
    """Make the network ready; gives what measures it, image by image.

    In a thread, as the server's: glibc gives the main thread's memory back to the system after every image, and the
    network is slower by a fifth there, which would flatter the server.
    """
    network = load_model(file)[0].to(memory_format=torch.channels_last)
    thread = ThreadPoolExecutor(1)

    @torch.inference_mode()
    def measure() -> list[float]:
        seconds = []
        for number in range(count):
            begun = time.perf_counter()
            network(torch.from_numpy(images[number % len(images)][None]).permute(0, 3, 1, 2))
            seconds.append(time.perf_counter() - begun)
        return seconds

    thread.submit(measure).result()
    return lambda: thread.submit(measure).result()


def processor_seconds(process: psutil.Process) -> float:
    """Processor time of a process and those it started."""
    return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True)))


def measure_speed(address: str, process: psutil.Process, file: Path, rounds: int, count: int, console: Console) -> None:
    random = np.random.default_rng(0)
    coarse = [random.integers(0, 256, (SIDE // 8, SIDE // 8, 3), np.uint8) for _ in range(4)]
    noise = random.integers(0, 8, (SIDE, SIDE, 3), np.uint8)  # so that PNG has something to do
    images = [np.kron(each, np.ones((8, 8, 1), np.uint8)) // 2 + noise for each in coarse]
    bodies = [imagecodecs.png_encode(image) for image in images]
    network, here = bare(file, images, count), psutil.Process()
    ask(address, bodies, 4, counted(8))
    took, work, latency = (collections.defaultdict(list) for _ in range(3))
    for _ in range(rounds):
        for clients in (0, *CLIENTS):
            at_work = process if clients else here
            begun, before = time.perf_counter(), processor_seconds(at_work)
            latency[clients] += ask(address, bodies, clients, counted(count))[0] if clients else network()
            took[clients].append((time.perf_counter() - begun) / count)
            work[clients].append((processor_seconds(at_work) - before) / count)
    table = Table("", "p50 ms", "p95 ms", "images/s", "overhead", "processor ms", "overhead")
    for clients in took:
        middle, high = np.percentile(latency[clients], [50, 95]) * 1000
        shares = [
            statistics.median(one / base for one, base in zip(each[clients], each[0], strict=True)) - 1
            for each in (took, work)
        ]
        name = f"{clients} clients" if clients else "bare network"
        rate, spent = 1 / statistics.median(took[clients]), statistics.median(work[clients]) * 1000
        told = [f"{share:+.1%}" if clients else "" for share in shares]
        table.add_row(name, f"{middle:.0f}", f"{high:.0f}", f"{rate:.2f}", told[0], f"{spent:.0f}", told[1])
    console.print(
        table, f"Overhead: over the bare network, median of {rounds} rounds; at most {PROMISE:.0%} is wanted."
    )


def measure_memory(address: str, process: psutil.Process, count: int, console: Console) -> None:
    body = imagecodecs.png_encode(np.random.default_rng(1).integers(0, 256, (SMALL, SMALL, 3), np.uint8))
    ask(address, [body], 8, counted(max(200, count // 10)))
    points, begun = [anonymous_bytes(process)], time.perf_counter()
    answers: collections.Counter = collections.Counter()
    for _ in range(4):
        answers += ask(address, [body], 8, counted(count // 4))[1]
        points.append(anonymous_bytes(process))
    rate = count / (time.perf_counter() - begun)
    shown = ", ".join(f"{point / 2**20:.1f}" for point in points)
    console.print(f"{count} requests of {SMALL} x {SMALL} pixels, 8 clients, {rate:.0f}/s: {dict(answers)}")
    console.print(f"RssAnon of all processes, MiB, at the beginning and after each quarter: {shown}")


def measure_swaps(address: str, uri: str, swaps: int, console: Console) -> None:
    body = imagecodecs.png_encode(np.random.default_rng(1).integers(0, 256, (SMALL, SMALL, 3), np.uint8))
    going, found = threading.Event(), {}
    going.set()
    thread = threading.Thread(target=lambda: found.update(of=ask(address, [body], 4, going.is_set)))
    thread.start()
    for _ in range(swaps):
        champion, _ = Registry(uri, PROBLEM).roll_back("benchmark", None)
        until = time.monotonic() + 120
        while requests.get(f"{address}/health", timeout=30).json()["version"] != str(champion.number):
            if time.monotonic() > until:
                raise TimeoutError("the new champion is not served")
            time.sleep(0.5)
        time.sleep(2)
    going.clear()
    thread.join()
    seconds, answers = found["of"]
    console.print(
        f"{swaps} swaps under 4 clients: {dict(answers)}; the slowest answer took {max(seconds) * 1000:.0f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=32, help="by round and number of clients")
    parser.add_argument("--requests", type=int, default=10_000, help="small ones, for the memory")
    parser.add_argument("--swaps", type=int, default=2)
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        uri, files = log_models(Path(folder), 2)
        with server(uri) as (address, process):
            measure_speed(address, process, files[-1], arguments.rounds, arguments.images, console)
            if arguments.requests:
                measure_memory(address, process, arguments.requests, console)
            if arguments.swaps:
                measure_swaps(address, uri, arguments.swaps, console)


if __name__ == "__main__":
    main()
