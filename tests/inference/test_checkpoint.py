"""A raster whose prediction is killed and goes on, against one that nobody disturbed."""

import os
import signal
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.inference.test_predict_raster import IMAGES, Blur, pixels, predict_raster, predictor, read, write
from tests.inference.test_predictor import PixelNetwork
from unet_segmentation.errors import DataError
from unet_segmentation.inference.polygons import streaming_components
from unet_segmentation.inference.rasters import checkpoint
from unet_segmentation.inference.rasters import predict_raster as rasters

OUTPUTS = {"target": "b.tif", "probabilities": "c.tif", "overlay": "d.jpg", "polygons": "e.geojson"}
FINISHED = {"a.tif", *OUTPUTS.values()}


class Killed(BaseException):
    """Stands for a kill: no code but that which cleans up handles it."""


@pytest.fixture(autouse=True)
def saved_often(monkeypatch):
    monkeypatch.setattr(checkpoint, "SHARE", float("inf"))
    monkeypatch.setattr(rasters, "SECTION", 4)


def source_in(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    image = np.repeat(np.repeat(pixels(100, 35), 4, axis=0), 4, axis=1)
    image[30:150, 30:110] = 0
    return write(folder / "a.tif", image, nodata=0)


def killed() -> None:
    raise Killed


def predict(
    folder: Path, network=None, key: str | None = "key", kill_at: float = 2, kill=killed, without=(), **inference
):
    def progress(share: float) -> None:
        if share >= kill_at:
            kill()

    actual = predictor(network or Blur(), **{"raster_overlap": 0.3, "batch_size": 3, **inference})
    outputs = {name: folder / file for name, file in OUTPUTS.items() if name not in without}
    return predict_raster(actual, folder / "a.tif", **outputs, images=IMAGES, key=key, progress=progress)


def check_alike(one: Path, other: Path) -> None:
    for name in ("b.tif", "c.tif"):
        np.testing.assert_array_equal(read(one / name), read(other / name))
    for name in ("d.jpg", "e.geojson"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert {path.name for path in other.iterdir()} == FINISHED


def check_summaries(one, other) -> None:
    assert {**vars(one), "pixels": one.pixels.tolist()} == {**vars(other), "pixels": other.pixels.tolist()}


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [0, 0.5])
@pytest.mark.parametrize("shares", [[0.01], [0.5], [1], [0.2, 0.4, 0.6, 0.8]])
def test_wherever_it_was_killed_the_result_is_the_same(tmp_path, monkeypatch, shares, overlap):
    monkeypatch.setattr(streaming_components, "STRIP", 2000)
    for folder in ("undisturbed", "killed"):
        source_in(tmp_path / folder)
    expected = predict(tmp_path / "undisturbed", key=None, raster_overlap=overlap)
    for share in shares:
        with pytest.raises(Killed):
            predict(tmp_path / "killed", kill_at=share, raster_overlap=overlap)
        assert not (tmp_path / "killed" / "b.tif").exists()
    check_summaries(expected, predict(tmp_path / "killed", raster_overlap=overlap))
    check_alike(tmp_path / "undisturbed", tmp_path / "killed")


def tiles_of(folder: Path, **options) -> int:
    network = PixelNetwork()
    predict(folder, network, **options)
    return sum(shape[0] for shape in network.seen)


def test_finished_rows_are_not_computed_again_unless_something_changed(tmp_path):
    source_in(tmp_path)
    everything = tiles_of(tmp_path)

    def tiles_after_a_kill(**options) -> int:
        with pytest.raises(Killed):
            predict(tmp_path, PixelNetwork(), kill_at=0.8)
        return tiles_of(tmp_path, **options)

    assert tiles_after_a_kill() < everything / 2
    assert tiles_after_a_kill(key="other") == everything
    assert tiles_after_a_kill(without=["overlay"]) == everything
    assert tiles_after_a_kill(without=["polygons"]) == everything
    assert tiles_of(tmp_path) == everything
    assert {path.name for path in tmp_path.iterdir()} == FINISHED


def test_a_state_that_was_cut_off_is_not_taken_up(tmp_path):
    source_in(tmp_path)
    everything = tiles_of(tmp_path)
    with pytest.raises(Killed):
        predict(tmp_path, PixelNetwork(), kill_at=0.8)
    state = checkpoint.folder_of(tmp_path / "b.tif") / "state.npz"
    state.write_bytes(state.read_bytes()[:-100])
    assert tiles_of(tmp_path) == everything


def test_damaged_rows_are_told_and_forgotten(tmp_path):
    source_in(tmp_path)
    with pytest.raises(Killed):
        predict(tmp_path, kill_at=0.8)
    (checkpoint.folder_of(tmp_path / "b.tif") / "0-0.tif").write_bytes(b"II*\0")
    with pytest.raises(DataError, match=r"0-0\.tif.*damaged"):
        predict(tmp_path)
    predict(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FINISHED


def test_the_state_is_saved_as_seldom_as_it_costs(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SHARE", 0.02)
    now = [0.0]
    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: now[0])
    kept, saved = checkpoint.RasterCheckpoint(tmp_path / "a.tif", "key"), []
    kept.load()

    def state():
        saved.append(now[0])
        now[0] += 1
        return {}

    for _ in range(200):
        kept.save(state)
        now[0] += 1
    assert saved[0] == 0
    assert all(50 <= later - earlier - 1 < 53 for earlier, later in pairwise(saved))
    assert len(saved) == 4


@pytest.mark.slow
def test_a_killed_process_goes_on(tmp_path):
    for folder in ("undisturbed", "killed"):
        source_in(tmp_path / folder)
    expected = predict(tmp_path / "undisturbed", key=None)
    script = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from tests.inference.test_checkpoint import predict, checkpoint, rasters
        checkpoint.SHARE, rasters.SECTION = float("inf"), 4
        kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
        predict(Path({str(tmp_path / "killed")!r}), kill_at=float(os.environ["SHARE"]), kill=kill)
    """)
    root = Path(__file__).parents[2]
    for share in ("0.4", "0.7"):
        process = subprocess.run(
            [sys.executable, "-c", script], check=False, cwd=root, env={**os.environ, "SHARE": share}
        )
        assert process.returncode == -signal.SIGKILL
    with np.load(checkpoint.folder_of(tmp_path / "killed" / "b.tif") / "state.npz") as state:
        assert state["progress.rows"] > 1
    check_summaries(expected, predict(tmp_path / "killed"))
    check_alike(tmp_path / "undisturbed", tmp_path / "killed")
