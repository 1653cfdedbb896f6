"""Two processes on the CPU train together, over gloo."""

import os
import signal
import threading
import time

import numpy as np
import pandas as pd
import psutil
import pytest

from tests.training.conftest import last_network
from tests.training.test_trainer import TIMES, digest
from unet_segmentation.errors import ConfigurationError, ProjectError
from unet_segmentation.training.train_model import train_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def train(make_plan, tmp_path_factory):
    def train(name, report=None, **parameters):
        plan, inputs = make_plan(**parameters)
        reports = []
        report = report or (lambda *arguments: reports.append(arguments))
        result = train_model(inputs, plan.parameters, tmp_path_factory.mktemp(name), plan=plan, on_epoch_saved=report)
        return result.history, last_network(result, inputs.spec), reports

    return train


def test_two_processes_give_the_losses_of_one(train):
    one, network, _ = train("one")
    two, same, reports = train("two", devices=2)
    for column in ("train/loss", "validation/loss"):
        np.testing.assert_allclose(two[column], one[column], rtol=0, atol=1e-5)
    for column in ("validation/dice/mean", "validation/accuracy/pixel"):
        np.testing.assert_allclose(two[column], one[column], atol=1e-3)
    for mine, expected in zip(network.state_dict().values(), same.state_dict().values(), strict=True):
        np.testing.assert_allclose(expected, mine, atol=1e-4)
    assert [epoch for epoch, *_ in reports] == [1, 2]


@pytest.fixture(scope="module")
def undisturbed(train):
    """Two processes that nobody kills."""
    return train("whole", devices=2, epochs=3)


@pytest.fixture(params=["all cores", "one core"])
def cores(request):
    """On one core, processes that start together come one after the other to where they meet."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("cores cannot be chosen on this system")
    before = os.sched_getaffinity(0)
    if request.param == "one core":
        os.sched_setaffinity(0, {max(before)})
    yield
    os.sched_setaffinity(0, before)


def test_a_process_that_is_killed_is_started_again_from_the_last_checkpoint(train, undisturbed, cores):
    whole, network, _ = undisturbed
    reports = []

    def kill_a_worker(epoch, values, when):
        reports.append(epoch)
        if epoch == 2:
            workers = [child for child in psutil.Process().children(recursive=True) if "worker" in child.cmdline()[-2]]
            workers[-1].kill()

    disturbed, same, _ = train(
        "killed", kill_a_worker, devices=2, epochs=3, checkpoint={"every_n_train_steps": 1, "max_time_fraction": 1}
    )
    assert reports == [1, 2, 3]
    pd.testing.assert_frame_equal(whole.drop(columns=TIMES), disturbed.drop(columns=TIMES), check_exact=True)
    assert digest(network) == digest(same)


def test_an_error_in_a_process_is_the_project_s_own(train):
    with pytest.raises(ProjectError, match="The training loss became"):
        train("nan", devices=2, optimizer={"learning_rate": 1e30}, gradient_clip_val=0.0, min_steps_per_epoch=8)


def children_besides(others):
    return set(psutil.Process().children(recursive=True)) - others


def test_ctrl_c_ends_all_processes(train):
    others = set(psutil.Process().children(recursive=True))

    def interrupt(epoch, *_):
        if epoch == 1:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        train("interrupted", interrupt, devices=2, epochs=500)
    until = time.monotonic() + 10
    while [child for child in children_besides(others) if child.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_batch_that_cannot_be_shared_out(train):
    with pytest.raises(ConfigurationError, match=r"training\.batch_size: 3 patches.*a multiple of 2"):
        train("odd", devices=2, batch_size=3)
