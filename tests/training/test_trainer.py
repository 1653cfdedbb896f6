import hashlib
import io
import logging
import os
import signal
import time

import pandas as pd
import pytest
import torch
from rich.console import Console

from tests.training.conftest import CLASSES
from unet_segmentation.errors import ProjectError
from unet_segmentation.metrics.confusion_matrix import confusion_matrix
from unet_segmentation.metrics.definitions import global_scores
from unet_segmentation.models.model_file import load_model
from unet_segmentation.parameters import OptimizerParameters
from unet_segmentation.training.callbacks import progress
from unet_segmentation.training.lightning_module import ExponentialMovingAverage, make_optimizer

FILES = {"plan.json", "best.safetensors", "last.ckpt", "history.csv"}
TIMES = ["train/throughput", "train/epoch_seconds"]


def digest(network):
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in network.state_dict().values())).hexdigest()


def test_a_training_learns_and_leaves_what_it_says(training, caplog):
    with caplog.at_level(logging.INFO, "unet_segmentation"):
        run = training(epochs=4)
    history = run.result.history
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    assert history["train/loss"].iloc[-1] < history["train/loss"].iloc[0]
    assert {"validation/loss", "validation/dice/mean", "validation/iou/mean", "validation/accuracy/pixel"} <= set(
        history
    )
    assert {"validation/iou/class/background", "validation/iou/class/disc", "train/learning_rate", *TIMES} <= set(
        history
    )
    assert [epoch for epoch, _ in run.reports] == [1, 2, 3, 4]
    assert run.reports[-1][1]["train/loss"] == history["train/loss"].iloc[-1]
    work = run.result.best.parent
    assert work.name == run.plan.fingerprint
    assert {path.name for path in work.iterdir()} == FILES
    pd.testing.assert_frame_equal(pd.read_csv(work / "history.csv"), history)
    lines = [record.getMessage() for record in caplog.records]
    assert sum("first training step" in line for line in lines) == 1
    assert sum(line.startswith("epoch ") for line in lines) == 4


def test_the_best_epoch_is_kept_and_its_scores_are_those_of_the_model(training, packed):
    run = training(epochs=5)
    network, info = load_model(run.result.best)
    scores = run.result.history.set_index("epoch")["validation/dice/mean"]
    assert info.epoch == scores.idxmax()
    matrix = 0
    with torch.no_grad():
        for sample_id in packed.sample_ids[8:]:
            image = torch.from_numpy(packed.image(sample_id)).permute(2, 0, 1)[None]
            padding = (0, -image.shape[3] % 16, 0, -image.shape[2] % 16)
            halves = padding[1] // 2, padding[1] - padding[1] // 2, padding[3] // 2, padding[3] - padding[3] // 2
            padded = torch.nn.functional.pad(image.float(), halves, mode="reflect")
            prediction = network(padded).argmax(1)[0].numpy()
            mask = packed.mask(sample_id)
            inside = prediction[halves[2] :, halves[0] :][: mask.shape[0], : mask.shape[1]]
            matrix = matrix + confusion_matrix(mask, inside.astype("uint8"), 2)
    assert global_scores(matrix, CLASSES)["dice/mean"] == pytest.approx(scores.max(), abs=2e-3)


def test_the_same_seed_gives_the_same_weights_with_any_number_of_workers(training, tmp_path):
    runs = [training(tmp_path / str(number), num_workers=workers) for number, workers in enumerate([0, 0, 2])]
    assert len({digest(run.network) for run in runs}) == 1
    histories = [run.result.history.drop(columns=TIMES) for run in runs]
    pd.testing.assert_frame_equal(histories[0], histories[1], check_exact=True)
    pd.testing.assert_frame_equal(histories[0], histories[2], check_exact=True)
    assert digest(training(seed=1).network) != digest(runs[0].network)


def test_a_second_identical_training_starts_anew(training):
    first = training()
    time_of_first = first.result.best.stat().st_mtime_ns
    second = training()
    assert second.result.best == first.result.best
    assert second.result.best.stat().st_mtime_ns > time_of_first
    assert second.result.history["epoch"].tolist() == [1, 2]


def test_few_old_work_folders_are_kept(training, tmp_path):
    other = tmp_path / "models" / "notes"
    other.mkdir(parents=True)
    for seed in range(5):
        run = training(seed=seed, epochs=1, min_steps_per_epoch=1)
        os.utime(run.result.last, (seed, seed))
    folders = {path.name for path in (tmp_path / "models").iterdir() if path.is_dir()}
    assert {"notes", run.plan.fingerprint} <= folders
    assert len(folders) == 4


def test_last_checkpoint_is_loadable_and_complete(training):
    run = training(ema_decay=0.9)
    state = torch.load(run.result.last, weights_only=True)
    assert state["global_step"] == 6
    assert len(state["callbacks"]["history"]["rows"]) == 2
    assert {"optimizer_states", "lr_schedulers", "state_dict", "loops"} <= set(state)


def test_early_stopping(training, caplog):
    with caplog.at_level(logging.INFO, "unet_segmentation"):
        run = training(epochs=20, early_stopping={"patience": 2, "min_delta": 0.9}, optimizer={"learning_rate": 1e-9})
    assert len(run.result.history) == 3
    assert "stopped early: nothing better than epoch 1 for 2 epochs" in caplog.text


def test_the_moving_average_is_what_is_validated_and_kept(training):
    run = training(ema_decay=0.9)
    kept, _ = load_model(run.result.best)
    assert digest(kept) != digest(run.network)


def test_moving_average_closed_form():
    network = torch.nn.BatchNorm1d(1)
    average = ExponentialMovingAverage(network, decay=0.5)
    for value in (2.0, 4.0):
        network.weight.data.fill_(value)
        network.num_batches_tracked += 1
        average.update(network)
    # decays min(0.5, 2/11) and min(0.5, 3/12): 1 -> 1 * 2/11 + 2 * 9/11 -> ... * 0.25 + 4 * 0.75
    assert average.network.weight.item() == pytest.approx((1 * 2 / 11 + 2 * 9 / 11) * 0.25 + 4 * 0.75)
    assert average.network.num_batches_tracked.item() == 2
    average.train()
    assert not average.network.training


def test_biases_and_normalization_are_not_decayed():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    decayed, spared = make_optimizer(network, OptimizerParameters(weight_decay=0.1)).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert [tuple(parameter.shape) for parameter in decayed["params"]] == [(4, 3, 3, 3)]
    assert len(spared["params"]) == 3


def test_a_loss_that_is_no_number_says_what_to_change(training):
    with pytest.raises(ProjectError, match=r"loss became (nan|inf) in epoch 1\. Lower\s+training\.optimizer"):
        training(optimizer={"learning_rate": 1e30}, gradient_clip_val=0.0, epochs=3, min_steps_per_epoch=8)


def test_ctrl_c_comes_out_as_such_and_leaves_whole_files(training, tmp_path):
    handler = signal.getsignal(signal.SIGINT)

    def interrupt(epoch, *_):
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)

    with pytest.raises(KeyboardInterrupt):
        training(epochs=5, report=interrupt)
    assert signal.getsignal(signal.SIGINT) is handler
    (work,) = (path for path in (tmp_path / "models").iterdir() if path.is_dir())
    assert {path.name for path in work.iterdir()} == FILES
    assert torch.load(work / "last.ckpt", weights_only=True)["global_step"] == 6


def test_a_termination_ends_with_its_status(training):
    with pytest.raises(SystemExit) as caught:
        training(epochs=5, report=lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert caught.value.code == 143


def test_nothing_global_is_left_changed(training):
    before = torch.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    run = training(num_threads=2)
    assert run.plan.hardware.num_threads == 2
    assert torch.get_num_threads() == before[1]
    assert torch.are_deterministic_algorithms_enabled() == before[2]
    assert state.shape == torch.get_rng_state().shape


def test_no_chatter(training, recwarn, capfd, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # another test may have set up the project's own lines
    training()
    out, err = capfd.readouterr()
    assert out == ""
    assert "GPU available" not in err
    assert "Tip" not in err
    assert not [warning for warning in recwarn if "lightning" in str(warning.filename)]


def test_a_terminal_shows_a_bar_with_the_numbers(training, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(progress.rich, "get_console", lambda: Console(file=stream, force_terminal=True, width=160))
    training(epochs=3)
    shown = stream.getvalue()
    assert "images/s" in shown
    assert "left" in shown
    assert "loss" in shown


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (99.0, "99 s"), (130, "2 min"), (7500, "2 h 5 min")])
def test_durations(seconds, text):
    assert progress.duration(seconds) == text


def test_the_line_of_an_epoch():
    values = {
        "train/loss": 0.4123,
        "validation/dice/mean": 0.71,
        "validation/iou/mean": 0.6,
        "train/throughput": 103.4,
    }
    line = progress.epoch_line(3, 24, values, best=True, seconds_left=119)
    assert line == "epoch  3/24  loss 0.412  dice 0.710 (best)  iou 0.600  103 images/s  2 min left"
