"""torch.compile on a CPU: the same names of weights, and the same end after a stop."""

from __future__ import annotations

import shutil

import pytest

from tests.training.test_resume import same, stopped

NO_COMPILER = not any(map(shutil.which, ("c++", "g++", "clang++")))


@pytest.mark.slow
@pytest.mark.skipif(NO_COMPILER, reason="no C++ compiler")
def test_a_compiled_training_is_stored_and_resumed_as_any_other(training, tmp_path):
    parameters = {"compile": True, "ema_decay": 0.9, "epochs": 2}
    whole = training(tmp_path / "whole", **parameters)
    assert whole.plan.parameters.compile is True
    assert not [name for name in whole.network.state_dict() if "_orig_mod" in name]
    stopped(training, tmp_path / "parts", 1, parameters)
    same(whole, training(tmp_path / "parts", resume=True, **parameters))
