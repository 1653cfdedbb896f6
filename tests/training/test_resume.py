"""A training that is stopped goes on, and ends bit for bit where it would have ended."""

import json
import signal
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from filelock import FileLock

from tests.training.test_trainer import TIMES, digest
from unet_segmentation.errors import ProjectError
from unet_segmentation.models import factory as networks
from unet_segmentation.models.architectures.unet_original import UNet
from unet_segmentation.models.model_file import load_model
from unet_segmentation.training.epoch_keeper import EpochKeeper
from unet_segmentation.training.trainer import fit
from unet_segmentation.training.training_inputs import TrainingInputs

EVERYTHING = {
    "epochs": 4,
    "ema_decay": 0.9,
    "accumulate_grad_batches": 2,
    "min_steps_per_epoch": 6,
    "checkpoint": {"every_n_train_steps": 2, "keep_last_n": 2, "max_time_fraction": 1},
}


def stopped(training, folder, saves, parameters):
    """Train until so many checkpoints were written, then stop, as a kill would: between two lines of code."""
    save = EpochKeeper._keep
    left = [saves]

    def save_then_stop(self, trainer):
        save(self, trainer)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpochKeeper, "_keep", save_then_stop)
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
    if saves < 12:  # nothing was trained again after the last one: the network has its initial weights
        same(whole, again)
    pd.testing.assert_frame_equal(whole.result.history.drop(columns=TIMES), again.result.history.drop(columns=TIMES))
    assert [epoch for epoch, _ in again.reports] == [1, 2, 3, 4]


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
    told = []
    report = lambda epoch, values, when: told.append((epoch, values["train/loss"], when))  # noqa: E731
    stopped(training, tmp_path, 2, {"epochs": 4, "report": report})
    training(tmp_path, epochs=4, report=report, resume=True)
    assert [epoch for epoch, *_ in told] == [1, 2, 1, 2, 3, 4]
    assert told[:2] == told[2:4]
    assert told[4][2] > told[3][2]


def test_so_many_checkpoints_are_kept(training, tmp_path):
    run = training(tmp_path, epochs=5, checkpoint={"keep_last_n": 3, "max_time_fraction": 1})
    older = sorted(path.name for path in run.result.last.parent.glob("before-*.ckpt"))
    states = [torch.load(run.result.last.parent / name, weights_only=True) for name in older]
    assert [len(state["callbacks"]["epochs"]["rows"]) for state in states] == [3, 4]


def test_short_epochs_are_kept_and_told_of_together(training, tmp_path):
    whole = training(tmp_path / "whole", epochs=6)
    kept = []
    keep = EpochKeeper._keep

    def slow_keep(self, trainer):
        keep(self, trainer)
        kept.append((len(self.rows), self.told))
        self.seconds_of_keeping = 1e6

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpochKeeper, "_keep", slow_keep)
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
import json, os, signal, sys
from pathlib import Path
import lightning as L
import torch
from unet_segmentation.models.factory import build_model
from unet_segmentation.training.training_inputs import TrainingInputs
from unet_segmentation.training.trainer import fit
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.data.store.packed_arrays import PackedSamples
job = json.loads(Path(sys.argv[1]).read_text())
write = L.Trainer.save_checkpoint

def write_half_and_die(trainer, path):
    write(trainer, path)
    if trainer.current_epoch == 1:
        os.truncate(path, 100)
        os.kill(os.getpid(), signal.SIGKILL)

L.Trainer.save_checkpoint = write_half_and_die
torch.manual_seed(0)
network, packed = build_model(ModelSpec.from_json(job["specification"])), PackedSamples(Path(job["packed"]))
setup = TrainingInputs(network, ModelSpec.from_json(job["specification"]), packed, job["recipe"])
fit(job["plan"], setup, Path(job["folder"]))
"""


def test_killed_while_it_writes_a_checkpoint(make_plan, packed, recipe, tmp_path):
    """A process is killed while it writes; what it leaves is whole, and the training goes on from there."""
    plan, specification = make_plan(epochs=3)
    parts = tmp_path / "parts"
    parts.mkdir()

    def train(folder, **options):
        torch.manual_seed(0)
        setup = TrainingInputs(networks.build_model(specification), specification, packed, recipe)
        return SimpleNamespace(result=fit(plan, setup, folder, **options), network=setup.network)

    job = {
        "plan": plan,
        "specification": specification.to_json(),
        "recipe": recipe,
        "packed": str(packed.folder.resolve()),
    }
    (tmp_path / "job.json").write_text(json.dumps(job | {"folder": str(parts)}))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "job.json")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (parts / plan["fingerprint"] / "history.csv").read_text().count("\n3,")
    same(train(tmp_path / "whole"), train(parts, resume=True))
    (work,) = (path for path in parts.iterdir() if path.is_dir())
    assert not list(work.glob(".*partial*"))
