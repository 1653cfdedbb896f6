"""A training that is stopped goes on, and ends bit for bit where it would have ended."""

import pickle
import signal
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from filelock import FileLock

from tests.training.conftest import last_network
from tests.training.test_trainer import TIMES, digest
from unet_segmentation.errors import ProjectError
from unet_segmentation.models import factory as networks
from unet_segmentation.models.architectures.unet_original import UNet
from unet_segmentation.models.model_file import load_model
from unet_segmentation.training.callbacks.checkpoint import CheckpointCallback
from unet_segmentation.training.train_model import train_model

EVERYTHING = {
    "epochs": 4,
    "ema_decay": 0.9,
    "accumulate_grad_batches": 2,
    "min_steps_per_epoch": 6,
    "checkpoint": {"every_n_train_steps": 2, "keep_last_n": 2, "max_time_fraction": 1},
}


def stopped(training, folder, saves, parameters):
    """Train until so many checkpoints were written, then stop, as a kill would: between two lines of code."""
    save = CheckpointCallback.save
    left = [saves]

    def save_then_stop(self, trainer):
        save(self, trainer)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointCallback, "save", save_then_stop)
        with pytest.raises(KeyboardInterrupt):
            training(folder, **parameters)


def same(first, second):
    assert digest(first.network) == digest(second.network)
    assert digest(load_model(first.result.best)[0]) == digest(load_model(second.result.best)[0])
    histories = [run.result.history.drop(columns=TIMES) for run in (first, second)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)


@pytest.mark.parametrize("saves", [1, 2, 3, 4, 5, 8, 12])
def test_stopped_anywhere_it_ends_where_it_would_have_ended(training, tmp_path, saves):
    whole = training(tmp_path / "whole", **EVERYTHING)
    stopped(training, tmp_path / "parts", saves, EVERYTHING)
    again = training(tmp_path / "parts", resume=True, **EVERYTHING)
    same(whole, again)
    pd.testing.assert_frame_equal(whole.result.history.drop(columns=TIMES), again.result.history.drop(columns=TIMES))
    assert [epoch for epoch, _ in again.reports] == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("saves", [1, 2, 4, 5, 7, 8, 10])
def test_with_a_frozen_encoder_and_heads_of_deep_supervision(training, monkeypatch, tmp_path, saves):
    """The encoder is frozen for two epochs of three checkpoints each; the heads and four groups go on too."""
    monkeypatch.setattr(networks, "_build", lambda *_: EncodedUnet(3, 2, base_channels=2, depth=3))
    parameters = EVERYTHING | {"freeze_encoder_epochs": 2, "deep_supervision": True}
    parameters |= {"optimizer": {"encoder_lr_multiplier": 0.5}, "schedule": {"name": "one_cycle"}}
    whole = training(tmp_path / "whole", **parameters)
    stopped(training, tmp_path / "parts", saves, parameters)
    again = training(tmp_path / "parts", resume=True, **parameters)
    same(whole, again)
    states = [torch.load(run.result.last, weights_only=True)["state_dict"] for run in (whole, again)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0] if name.startswith("supervision."))


class EncodedUnet(UNet):
    encoder = property(lambda self: self.down)


def test_stopped_again_and_again(training, tmp_path):
    whole = training(tmp_path / "whole", **EVERYTHING)
    stopped(training, tmp_path / "parts", 1, EVERYTHING)
    for _ in range(4):
        stopped(training, tmp_path / "parts", 2, EVERYTHING | {"resume": True})
    same(whole, training(tmp_path / "parts", resume=True, **EVERYTHING))


def test_what_was_told_is_told_again_with_its_time(training, tmp_path):
    reports = []
    report = lambda epoch, values, when: reports.append((epoch, values["train/loss"], when))  # noqa: E731
    stopped(training, tmp_path, 2, {"epochs": 4, "report": report})
    training(tmp_path, epochs=4, report=report, resume=True)
    assert [epoch for epoch, *_ in reports] == [1, 2, 1, 2, 3, 4]
    assert reports[:2] == reports[2:4]
    assert reports[4][2] > reports[3][2]


def test_so_many_checkpoints_are_kept(training, tmp_path):
    run = training(tmp_path, epochs=5, checkpoint={"keep_last_n": 3, "max_time_fraction": 1})
    older = sorted(path.name for path in run.result.last.parent.glob("before-*.ckpt"))
    states = [torch.load(run.result.last.parent / name, weights_only=True) for name in older]
    assert [len(state["callbacks"]["history"]["rows"]) for state in states] == [3, 4]


def test_short_epochs_are_kept_and_told_of_together(training, tmp_path):
    whole = training(tmp_path / "whole", epochs=6)
    kept = []
    save = CheckpointCallback.save

    def slow_save(self, trainer):
        save(self, trainer)
        kept.append((len(self.history.rows), self.notifier.notified))
        self.saving_seconds = 1e6

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointCallback, "save", slow_save)
        run = training(tmp_path / "few", epochs=6, checkpoint={"max_time_fraction": 0.5})
    assert kept == [(1, 1), (6, 6)]
    assert [epoch for epoch, _ in run.reports] == [1, 2, 3, 4, 5, 6]
    same(whole, run)


def test_a_damaged_checkpoint_says_what_to_do(training, tmp_path):
    run = training(tmp_path)
    run.result.last.write_bytes(run.result.last.read_bytes()[:1000])
    with pytest.raises(ProjectError, match=r"last\.ckpt is damaged.*training\.resume=false"):
        training(tmp_path, resume=True)


def test_early_stopping_is_remembered(training, tmp_path):
    parameters = {"epochs": 20, "early_stopping": {"patience": 2, "min_delta": 0.9}, "optimizer": {}}
    parameters["optimizer"] = {"learning_rate": 1e-9}
    first = training(tmp_path, **parameters)
    again = training(tmp_path, resume=True, **parameters)
    assert len(again.result.history) == len(first.result.history) == 3


def test_a_training_that_is_under_way_is_refused(training, tmp_path):
    run = training(tmp_path)
    with FileLock(run.result.best.parent.with_suffix(".lock")), pytest.raises(ProjectError, match="under way already"):
        training(tmp_path, resume=True)


KILLED = """
import os, pickle, signal, sys
from pathlib import Path
import lightning as L
from unet_segmentation.training.train_model import train_model
inputs, plan, folder = pickle.loads(Path(sys.argv[1]).read_bytes())
write = L.Trainer.save_checkpoint

def write_half_and_die(trainer, path):
    write(trainer, path)
    if trainer.current_epoch == 1:
        os.truncate(path, 100)
        os.kill(os.getpid(), signal.SIGKILL)

L.Trainer.save_checkpoint = write_half_and_die
train_model(inputs, plan.parameters, folder, plan=plan)
"""


@pytest.mark.slow
def test_killed_while_it_writes_a_checkpoint(make_plan, tmp_path):
    """A process is killed while it writes; what it leaves is whole, and the training goes on from there."""
    plan, inputs = make_plan(epochs=3)
    parts = tmp_path / "parts"
    parts.mkdir()

    def train(folder):
        result = train_model(inputs, plan.parameters, folder, plan=plan)
        return SimpleNamespace(result=result, network=last_network(result, inputs.spec))

    (tmp_path / "job.pickle").write_bytes(pickle.dumps((inputs, plan, parts)))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "job.pickle")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (parts / plan.fingerprint / "history.csv").read_text().count("\n3,")
    same(train(tmp_path / "whole"), train(parts))
    (work,) = (path for path in parts.iterdir() if path.is_dir())
    assert not list(work.glob(".*partial*"))
