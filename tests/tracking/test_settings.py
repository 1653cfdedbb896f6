from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from unet_segmentation.errors import ConfigurationError, TrackingError
from unet_segmentation.parameters.serialization import flatten
from unet_segmentation.tracking import active_run
from unet_segmentation.tracking.run_metadata import git_diff, git_tags, run_name
from unet_segmentation.tracking.settings import TrackingSettings, check_store, read_settings, store_uri


def test_the_store_is_at_the_projects_root_or_where_the_environment_says(tmp_path, monkeypatch):
    root = tmp_path
    assert store_uri(TrackingSettings(), root) == f"sqlite:///{root}/mlflow.db"
    assert store_uri(TrackingSettings(uri="sqlite:///runs/all.db"), root) == f"sqlite:///{root}/runs/all.db"
    assert store_uri(TrackingSettings(uri="sqlite:////srv/all.db"), root) == "sqlite:////srv/all.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere:5000/")
    assert store_uri(TrackingSettings(uri="sqlite:///a.db"), root) == "http://somewhere:5000"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"enable": True}, "enable: there is no such setting; did you mean 'enabled'?"),
        ({"timeout_seconds": -1}, "timeout_seconds: .*greater than 0.*given: -1"),
        ({"enabled": "perhaps"}, "enabled: .*given: 'perhaps'"),
    ],
)
def test_wrong_settings_are_named(values, words):
    with pytest.raises(ConfigurationError, match=words):
        read_settings(values)


def test_a_server_that_hangs_is_given_up_within_seconds():
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        began = time.monotonic()
        with pytest.raises(TrackingError, match="cannot be reached"):
            check_store(f"http://127.0.0.1:{deaf.getsockname()[1]}", timeout=1)
        assert time.monotonic() - began < 5


def test_without_a_run_everything_may_be_said():
    run = active_run()
    assert not run.enabled
    run.log_metrics({"a": 1.0})
    run.log_artifact(Path("not there"))
    assert run.log_model(Path("x").unlink, {}, 0)["model_uri"] is None


def test_parameters_become_flat():
    nested = {"a": {"b": 1, "c": [1, {"d": None}]}, "e": "text", "f": {}, "g": 0.001}
    assert flatten(nested) == {"a.b": "1", "a.c": '[1,{"d":null}]', "e": "text", "f": "{}", "g": "0.001"}


def test_runs_have_short_readable_names():
    now = time.mktime((2026, 11, 22, 10, 45, 0, 0, 0, -1))
    assert run_name({"model": {"architecture": "unet", "encoder": "resnet18"}}, now) == "unet resnet18 · 11-22 10:45"
    assert run_name({"model": {"encoder": "resnet18"}}, now, "release") == "release · 11-22 10:45"
    assert (
        run_name({"model": {"architecture": "unet_original", "base_channels": 16}}, now)
        == "unet original width 16 · 11-22 10:45"
    )


def test_a_folder_without_git_has_no_commit(tmp_path):
    assert git_tags(tmp_path) == {}
    assert git_diff(tmp_path) is None
