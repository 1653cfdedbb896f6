"""What a network costs: counts that are the same everywhere, and speeds that are this machine's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from unet_segmentation.models.factory import SegmentationModel, build_model
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.utils.private_api import storage_id

BATCH = 2  # the least that a batch normalization over one pixel can be trained with
STATES = 4  # weights, gradients and AdamW's two moments
WARM_UP = 2  # steps that are not timed
FEWEST = 3  # steps that are


def model_complexity(spec: ModelSpec, height: int, width: int) -> dict[str, int]:
    """Count what one image of a size costs a network; nothing is computed, so that it takes no time to speak of.

    Height and width, in pixels, are multiples of the spec's ``multiple``.

    Returns:
        * ``parameters``: those that the logits depend on, as an encoder that is cut off early keeps stages it does not
          use;
        * ``multiply_adds`` of a prediction: half of the operations that `torch.utils.flop_counter` counts. It counts
          convolutions and matrix products; interpolation, normalization and activation count nothing;
        * ``activation_bytes``: what the forward pass keeps for the backward pass in float32, weights apart, each memory
          once: what `torch.autograd.graph.saved_tensors_hooks` sees. It grows with the batch;
        * ``training_bytes`` of a batch of one: the activations, and weights, gradients and AdamW's two moments. What a
          step takes for a moment besides is not in it.
    """
    network, images = _skeleton(spec, height, width)
    network.train()
    weights = {storage_id(tensor) for tensor in (*network.parameters(), *network.buffers())}
    saved: dict[int, tuple[Tensor, int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        if storage_id(tensor) not in weights:
            saved[storage_id(tensor)] = tensor, tensor.untyped_storage().nbytes()  # held: no place is used twice
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = network(images)
    logits.sum().backward()
    used = [parameter for parameter in network.parameters() if parameter.grad is not None]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(images)
    activations = sum(size for _, size in saved.values()) // BATCH
    return {
        "parameters": sum(parameter.numel() for parameter in used),
        "multiply_adds": counter.get_total_flops() // 2 // BATCH,
        "activation_bytes": activations,
        "training_bytes": activations + STATES * sum(parameter.nbytes for parameter in used),
    }


def measure_speed(
    network: SegmentationModel,
    height: int,
    width: int,
    *,
    batch_size: int = 4,
    seconds: float = 1.0,
    accelerator: str = "cpu",
) -> dict[str, float]:
    """Time training and prediction of a network on noise, in float32.

    A step is that of a training: forward, cross-entropy, backward, AdamW. Loading and augmenting are not in it. The
    network is changed by it; each measurement takes some seconds, after a warm-up.

    Returns:
        ``training_images_per_second`` and ``prediction_images_per_second`` (of the median step), and
        ``peak_training_bytes``: the most memory that torch had allocated at once during the training steps; NaN where
        it does not say (everywhere but on CUDA).
    """
    device = torch.device(accelerator)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    channels = network.mean.shape[1]
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch_size, channels, height, width), dtype=torch.uint8, generator=generator)
    images = images.to(device, memory_format=torch.channels_last)
    with torch.no_grad():
        classes = network.eval()(images).shape[1]
    masks = torch.randint(0, classes, (batch_size, height, width), generator=generator).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def train() -> None:
        functional.cross_entropy(network(images), masks).backward()
        optimizer.step()
        optimizer.zero_grad()

    @torch.inference_mode()
    def predict() -> None:
        network(images).softmax(dim=1)

    network.train()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    training = _median_seconds(train, seconds)
    peak = float(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else float("nan")
    network.eval()
    return {
        "training_images_per_second": batch_size / training,
        "prediction_images_per_second": batch_size / _median_seconds(predict, seconds),
        "peak_training_bytes": peak,
    }


def _skeleton(spec: ModelSpec, height: int, width: int) -> tuple[nn.Module, Tensor]:
    """Build the network and its input without memory behind them, where the encoder allows it."""
    size = BATCH, spec.in_channels, height, width
    try:
        with torch.device("meta"):
            network = build_model(spec).to("meta")  # smp makes the first layer of gray images on the CPU
            network(torch.zeros(size))
            return network, torch.zeros(size)
    except (RuntimeError, NotImplementedError):  # some encoders compute with tensors while they are built
        with torch.random.fork_rng(devices=[]):
            return build_model(spec), torch.zeros(size)


def _median_seconds(step: Callable[[], None], seconds: float) -> float:
    for _ in range(WARM_UP):
        step()
    times: list[float] = []
    while len(times) < FEWEST or sum(times) < seconds:
        started = synchronized_time()
        step()
        times.append(synchronized_time() - started)
    return statistics.median(times)


def synchronized_time() -> float:
    """Return the time once the device has finished all its work, in seconds."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
