"""The predictor beside the bare network."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from tests.data.fabricated_statistics import statistics_of
from unet_segmentation.data.store.packed_arrays import pack
from unet_segmentation.errors import DataError, ProjectError, ResourceError
from unet_segmentation.inference.backends.base import Backend
from unet_segmentation.inference.backends.pytorch import EagerBackend
from unet_segmentation.inference.predict_split import predict_split
from unet_segmentation.inference.predictor import Predictor
from unet_segmentation.inference.sliding_window import argmax_mask, blending_weights, padded, tile_starts
from unet_segmentation.metrics.prediction_masks import read_prediction
from unet_segmentation.metrics.soft_overlap import soft_overlap_sums
from unet_segmentation.models import factory
from unet_segmentation.models.model_file import save_model
from unet_segmentation.models.spec import ModelInfo, ModelSpec
from unet_segmentation.parameters import ModelParameters, PredictorParameters

CLASSES = ["a", "b", "c", "d"]
SIZES = [(64, 64), (1, 1), (37, 91), (64, 64), (50, 60), (50, 61), (200, 33), (1, 70)]


class PixelNetwork(nn.Module):
    """Classifies every pixel by itself, so that tiles can make no difference; remembers what it was given."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(channels, len(CLASSES), 1)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images):
        assert images.shape[2] % 32 == 0
        assert images.shape[3] % 32 == 0
        self.seen.append(tuple(images.shape))
        return self.layer(images.float() / 50)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def input_spec(classes: Sequence[str], channels: int = 3, mean: Sequence[float] | None = None, **others) -> ModelSpec:
    mean = tuple(mean or [100.0] * channels)
    deviation = (50.0,) * channels
    return ModelSpec(
        architecture="test", in_channels=channels, classes=tuple(classes), mean=mean, std=deviation, **others
    )


def predictor(model: nn.Module | None = None, channels: int = 3, **inference) -> Predictor:
    return Predictor(
        input_spec(CLASSES, channels),
        EagerBackend(model or PixelNetwork(channels), "cpu"),
        PredictorParameters(**inference),
    )


def image(shape: tuple[int, int], channels: int = 3, dtype=np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (*shape, channels), dtype=dtype, endpoint=True)


@pytest.mark.parametrize("shape", SIZES)
def test_probabilities_are_those_of_the_network_at_the_size_of_the_image(shape):
    model = PixelNetwork()
    pixels = image(shape)
    result = predictor(model).probabilities(pixels)
    with torch.no_grad():
        expected = model.layer(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 50).softmax(dim=1)[0]
    assert result.dtype == np.float32
    assert result.shape == (4, *shape)
    np.testing.assert_allclose(result, expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(result.sum(axis=0), 1, atol=1e-6)


@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.8])
@pytest.mark.parametrize("shape", [(130, 301), (64, 65), (33, 400), (300, 20)])
def test_tiles_equal_the_whole_image_for_a_network_without_context(shape, overlap):
    pixels = image(shape)
    whole = predictor().probabilities(pixels)
    tiled = predictor(max_pixels=1024, tile_size=64, overlap=overlap)
    np.testing.assert_allclose(tiled.probabilities(pixels), whole, atol=1e-6)
    np.testing.assert_array_equal(tiled.predict(pixels), predictor().predict(pixels))


def test_tiles_come_close_to_the_whole_image_for_a_network_with_context():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, len(CLASSES), 3, padding=1))

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images):
            return self.model(images.float() / 50)

    pixels = image((150, 170))
    whole = predictor(Scaled()).probabilities(pixels)
    tiled = predictor(Scaled(), max_pixels=1024, tile_size=64, overlap=0.5).probabilities(pixels)
    inside = np.abs(tiled - whole)[:, 4:-4, 4:-4]  # at the image's own border, one is padded and the other is not
    assert inside.max() < 1e-2  # a tile's border is wrong by two pixels, where its weights are smallest
    assert inside.mean() < 1e-5


def test_many_images_equal_one_by_one_in_their_order_and_share_batches():
    images = [image(shape, seed=number) for number, shape in enumerate(SIZES)]
    model = PixelNetwork()
    together = list(predictor(model, max_pixels=6000).predict_many(iter(images)))
    for result, pixels in zip(together, images, strict=True):
        np.testing.assert_allclose(result, predictor(max_pixels=6000).probabilities(pixels), atol=1e-6)
    # 50x60 and 50x61 are padded to 64x64 both, but two of them are more pixels than may go together
    assert all(count * height * width <= 6000 or count == 1 for count, _, height, width in model.seen)
    model.seen.clear()
    list(predictor(model, batch_size=3).predict_many([image((50, 60 + number)) for number in range(5)]))
    assert [shape[0] for shape in model.seen] == [3, 2]


def test_many_images_are_read_one_batch_ahead_only():
    read = []

    def images():
        for number in range(10):
            read.append(number)
            yield image((32, 32))

    next(predictor(batch_size=2).predict_many(images()))
    assert len(read) == 3


def test_large_and_small_images_mixed():
    images = [image(shape) for shape in [(40, 40), (100, 100), (40, 40)]]
    result = list(predictor(max_pixels=4096, tile_size=32).predict_many(images))
    assert [probabilities.shape[1:] for probabilities in result] == [(40, 40), (100, 100), (40, 40)]


def test_sixteen_bit_and_gray_images():
    deep = image((40, 50), channels=1, dtype=np.uint16)
    deep[0, 0] = 65535
    model = PixelNetwork(channels=1)
    result = predictor(model, channels=1).probabilities(deep)
    with torch.no_grad():
        expected = model.layer(torch.tensor(deep.astype(np.float32)).permute(2, 0, 1)[None] / 50).softmax(dim=1)[0]
    np.testing.assert_allclose(result, expected.numpy(), atol=1e-6)
    np.testing.assert_array_equal(predictor(model, channels=1).probabilities(deep[..., 0]), result)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((8, 8), np.uint8), r"3 channels \(RGB\).*1 channel \(gray\)"),
        (np.zeros((8, 8, 4), np.uint8), "4 channels"),
        (np.zeros((8, 8, 3), np.float32), "uint8 or uint16.*float32"),
        (np.zeros((0, 8, 3), np.uint8), r"\(0, 8, 3\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), "height, width, channels"),
    ],
)
def test_images_of_another_kind_are_refused(pixels, message):
    with pytest.raises(DataError, match=message):
        predictor().predict(pixels)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ResourceError, match="cuda"):
        EagerBackend(PixelNetwork(), "cuda")


@pytest.mark.parametrize("overlap", [0, 0.25, 0.5])
@pytest.mark.parametrize(("length", "tile"), [(64, 64), (65, 64), (1000, 64), (127, 32)])
def test_tiles_cover_a_side_and_overlap_enough(length, tile, overlap):
    starts = tile_starts(length, tile, overlap)
    assert starts[0] == 0
    assert starts[-1] == length - tile
    assert all(0 < after - before <= tile * (1 - overlap) + 1 for before, after in itertools.pairwise(starts))


@pytest.mark.parametrize("size", [(32, 32), (512, 64), (1024, 1024)])
def test_blending_weights_are_a_gaussian_and_nowhere_zero(size):
    weights = blending_weights(*size)
    assert weights.shape == size
    assert weights.min() > 0
    assert weights.max() <= 1
    np.testing.assert_allclose(weights, weights[::-1, ::-1])
    sigma = size[0] / 8
    ratio = weights[size[0] // 2 + 3, 0] / weights[size[0] // 2, 0]
    np.testing.assert_allclose(ratio, np.exp(-(3.5**2 - 0.5**2) / (2 * sigma**2)), rtol=1e-5)


def test_padding_reflects():
    pixels = np.arange(3, dtype=np.uint8)[:, None, None]
    assert padded(pixels, (8, 1))[:, 0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert padded(pixels[:1], (4, 2)).ravel().tolist() == [0] * 8


def test_most_probable_is_the_first_maximum():
    probabilities = np.random.default_rng(0).integers(0, 3, (5, 20, 20)).astype(np.float32)
    np.testing.assert_array_equal(argmax_mask(probabilities), probabilities.argmax(axis=0))


def test_a_stored_network_is_loaded(tmp_path):
    parameters = ModelParameters(
        architecture="unet_original", base_channels=2, encoder_depth=2, upsampling="transposed"
    )
    specification = factory.resolve_model_spec(parameters, CLASSES, statistics_of({"mean": [100.0], "std": [40.0]}))
    torch.manual_seed(0)
    model = factory.build_model(specification).eval()
    save_model(tmp_path / "best.safetensors", model, ModelInfo(specification))
    loaded = Predictor.from_file(tmp_path / "best.safetensors", PredictorParameters(), accelerator="cpu")
    assert loaded.spec == specification
    pixels = image((16, 24), channels=1)
    with torch.no_grad():
        expected = model(torch.from_numpy(pixels).permute(2, 0, 1)[None]).softmax(dim=1)[0]
    np.testing.assert_allclose(loaded.probabilities(pixels), expected.numpy(), atol=1e-5)


def test_a_file_that_is_no_network_is_refused(tmp_path):
    (tmp_path / "best.safetensors").write_bytes(b"no network")
    with pytest.raises(ProjectError, match=r"best\.safetensors"):
        Predictor.from_file(tmp_path / "best.safetensors", PredictorParameters())


def test_a_split_is_predicted_in_the_order_asked_for(tmp_path):
    random = np.random.default_rng(0)
    samples = {
        f"s/{number}": (image(shape, seed=number), random.choice([0, 1, 255], shape).astype(np.uint8))
        for number, shape in enumerate(SIZES)
    }
    packed = pack(tmp_path / "packed", samples)
    (tmp_path / "out").mkdir()
    sums = predict_split(predictor(), packed, list(samples), tmp_path / "out").soft
    assert sums["sample_id"].tolist() == list(samples)
    for row, (sample_id, (pixels, mask)) in zip(sums.itertuples(), samples.items(), strict=True):
        probabilities = predictor().probabilities(pixels)
        np.testing.assert_array_equal(read_prediction(tmp_path / "out", sample_id), argmax_mask(probabilities))
        expected = soft_overlap_sums(mask, probabilities)
        assert (row.intersection, row.truth, row.prediction) == pytest.approx(expected, rel=1e-6)


class Narrow(Backend):
    """Takes so many images at once, and no more; remembers the batches that it took."""

    name = "narrow"

    def __init__(self, most: int, error: Exception, room: int | None = None) -> None:
        self.most, self.error, self.sizes, self._room = most, error, [], room

    def __call__(self, images):
        if len(images) > self.most:
            raise self.error
        self.sizes.append(len(images))
        gray = images[..., :1].transpose(0, 3, 1, 2).astype(np.float32) / 255
        return np.concatenate([gray, 1 - gray], axis=1)

    def capacity(self, shape):
        return self._room


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_a_batch_that_does_not_fit_into_memory_is_halved(error):
    images = [image((64, 64), seed=seed) for seed in range(7)]
    backend = Narrow(2, error)
    result = list(Predictor(input_spec(["a", "b"]), backend, PredictorParameters()).predict_many(images))
    assert sum(backend.sizes) == len(images)
    for each, probabilities in zip(images, result, strict=True):
        np.testing.assert_allclose(probabilities[0], each[..., 0] / np.float32(255), atol=1e-6)


def test_an_image_that_does_not_fit_into_memory_alone_is_an_error_that_says_what_to_do():
    predictor = Predictor(input_spec(["a", "b"]), Narrow(0, OUT_OF_MEMORY[0]), PredictorParameters())
    with pytest.raises(ResourceError, match=r"96 x 64 pixels.*max_pixels"):
        predictor.predict(image((40, 70)))


def test_other_errors_of_a_network_are_not_taken_for_a_lack_of_memory():
    predictor = Predictor(input_spec(["a", "b"]), Narrow(0, RuntimeError("shapes")), PredictorParameters())
    with pytest.raises(RuntimeError, match="shapes"):
        predictor.predict(image((40, 70)))


@pytest.mark.parametrize(
    ("batch", "room", "expected"), [(8, 3, [8, 2]), ("auto", 3, [3, 3, 3, 1]), ("auto", None, [8, 2])]
)
def test_a_batch_is_as_large_as_was_asked_for_or_as_memory_allows(batch, room, expected):
    backend = Narrow(99, MemoryError(), room)
    predictor = Predictor(input_spec(["a", "b"]), backend, PredictorParameters(batch_size=batch))
    list(predictor.predict_many([image((64, 64))] * 10))
    assert backend.sizes == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_batch_of_the_measured_room_fits():
    backend = EagerBackend(PixelNetwork(), "cuda")
    capacity = backend.capacity((512, 512, 3))
    assert capacity is not None
    assert backend(np.zeros((capacity, 512, 512, 3), np.uint8)).shape == (capacity, len(CLASSES), 512, 512)
