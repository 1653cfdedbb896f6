"""The champion and the previous version, in real MLflow stores."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from tests.conftest import PATIENCE
from unet_segmentation.errors import ReleaseError
from unet_segmentation.tracking.model_registry import ConcurrentReleaseError, Registry, find_model

SOURCE = Path(__file__).parents[2] / "src"
CONTENDER = """
import sys
from unet_segmentation.tracking.model_registry import ConcurrentReleaseError, Registry
uri, model_id, run_id, expected = sys.argv[1:]
registry = Registry(uri, "cells")
registry.champion()  # MLflow is imported and the store is open
print("ready", flush=True)
sys.stdin.readline()
try:
    print("won", registry.promote(model_id, run_id, expected=int(expected), tags={}).number)
except ConcurrentReleaseError as error:
    print("lost", error)
"""


def log_models(uri: str, count: int) -> list[tuple[str, str]]:
    """Log empty models, each by a run of its own; give their ids."""
    client = mlflow.MlflowClient(uri)
    known = client.get_experiment_by_name("cells")
    experiment = known.experiment_id if known else client.create_experiment("cells")
    made = []
    for _ in range(count):
        run = client.create_run(experiment)
        model = client.create_logged_model(experiment, name="unet", source_run_id=run.info.run_id)
        client.finalize_logged_model(model.model_id, "READY")
        made.append((model.model_id, run.info.run_id))
    return made


@pytest.fixture
def uri(root):
    return f"sqlite:///{root / 'mlflow.db'}"


def aliases(uri: str) -> dict[str, int]:
    result = mlflow.MlflowClient(uri).get_registered_model("cells").aliases
    return {name: int(number) for name, number in result.items()}


@pytest.mark.slow
def test_champion_previous_and_back_again(uri):
    registry = Registry(uri, "cells")
    assert registry.champion() is None
    first, second, third = log_models(uri, 3)
    assert registry.promote(*first, expected=0, tags={"by": "ann"}).number == 1
    assert aliases(uri) == {"champion": 1}
    with pytest.raises(ReleaseError, match="version 1 of cells, the champion, is the first"):
        registry.roll_back("ann", None)
    version = registry.promote(*second, expected=1, tags={})
    registry.describe(version, "**Released**")
    registry.promote(*third, expected=2, tags={})
    assert aliases(uri) == {"champion": 3, "previous": 2}
    champion = registry.champion()
    assert (champion.model_id, champion.run_id) == third
    assert mlflow.MlflowClient(uri).get_model_version("cells", "2").description == "**Released**"

    now, before = registry.roll_back("ann", "it forgets nuclei")
    assert (now.number, before.number) == (2, 3)
    assert aliases(uri) == {"champion": 2, "previous": 3}
    note = mlflow.MlflowClient(uri).get_model_version("cells", "3").tags["rolled_back"]
    assert note.endswith("by ann: it forgets nuclei")
    registry.roll_back("ann", None)
    assert aliases(uri) == {"champion": 3, "previous": 2}


def test_nothing_to_roll_back(uri):
    with pytest.raises(ReleaseError, match="No model of cells was released yet"):
        Registry(uri, "cells").roll_back("ann", None)


def test_a_release_that_was_compared_with_an_older_champion_is_refused(uri):
    registry = Registry(uri, "cells")
    first, second, third = log_models(uri, 3)
    registry.promote(*first, expected=0, tags={})
    registry.promote(*second, expected=1, tags={})
    with pytest.raises(ConcurrentReleaseError, match="version 2 of cells is the champion since"):
        registry.promote(*third, expected=1, tags={})
    assert aliases(uri) == {"champion": 2, "previous": 1}
    assert len(mlflow.MlflowClient(uri).search_model_versions("name = 'cells'")) == 2


class KilledError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("call", range(1, 12))
def test_whatever_call_is_the_last_there_is_a_champion_and_the_next_release_repairs(uri, call, monkeypatch):
    registry = Registry(uri, "cells")
    models = log_models(uri, 4)
    registry.promote(*models[0], expected=0, tags={})
    registry.promote(*models[1], expected=1, tags={})
    dying = Registry(uri, "cells")
    left = [call]
    for name in ("create_registered_model", "create_model_version", "set_registered_model_alias",
                 "set_model_version_tag", "get_model_version_by_alias"):  # fmt: skip
        monkeypatch.setattr(dying._client, name, counted(getattr(dying._client, name), left))
    with contextlib.suppress(KilledError):
        dying.promote(*models[2], expected=2, tags={})
    champion = registry.champion().number
    assert champion in {2, 3}
    newest = registry.promote(*models[3], expected=champion, tags={})
    assert registry.champion().model_id == newest.model_id == models[3][0]
    assert aliases(uri) == {"champion": newest.number, "previous": champion}


def counted(function, left):
    def call(*arguments, **more):
        left[0] -= 1
        if left[0] < 0:
            raise KilledError
        return function(*arguments, **more)

    return call


def test_a_kill_between_the_two_aliases_is_repaired_by_a_rollback(uri, monkeypatch):
    registry = Registry(uri, "cells")
    models = log_models(uri, 3)
    registry.promote(*models[0], expected=0, tags={})
    registry.promote(*models[1], expected=1, tags={})
    dying = Registry(uri, "cells")
    original = dying._client.set_registered_model_alias

    def only_the_champion(name, alias, version):
        if alias == "previous":
            raise KilledError
        original(name, alias, version)

    monkeypatch.setattr(dying._client, "set_registered_model_alias", only_the_champion)
    with pytest.raises(KilledError):
        dying.promote(*models[2], expected=2, tags={})
    assert aliases(uri) == {"champion": 3, "previous": 1}
    assert [version.number for version in registry.roll_back("ann", None)] == [2, 3]


def contend(uri: str, models: list[tuple[str, str]], expected: int) -> list[str]:
    """Let several processes release at the same moment; give what each said."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CONTENDER, uri, *model, str(expected)],
            env={**os.environ, "PYTHONPATH": str(SOURCE), "MLFLOW_TRACKING_URI": ""},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for model in models
    ]  # fmt: skip
    for process in processes:
        assert process.stdout.readline().strip() == "ready"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=PATIENCE) for process in processes]
    assert all(process.returncode == 0 for process in processes), answers
    return [output.strip() for output, _ in answers]


@pytest.mark.slow
def test_of_two_processes_that_release_at_once_one_wins_and_the_other_says_so(uri):
    models = log_models(uri, 3)
    Registry(uri, "cells").promote(*models[0], expected=0, tags={})
    output = sorted(contend(uri, models[1:], expected=1))
    assert output[0].startswith("lost another release came first: version 2 of cells is the champion since")
    assert output[1] == "won 2"
    assert aliases(uri) == {"champion": 2, "previous": 1}


@pytest.mark.slow
def test_on_a_server_too(server):
    server.open()
    models = log_models(server.uri, 4)
    Registry(server.uri, "cells").promote(*models[0], expected=0, tags={})
    output = contend(server.uri, models[1:], expected=1)
    won = [answer.partition(" ")[2] for answer in output if answer.startswith("won")]
    assert len(won) == 1
    assert sum(answer.startswith("lost another release came first") for answer in output) == 2
    assert aliases(server.uri) == {"champion": int(won[0]), "previous": 1}


def test_the_model_of_a_run_is_found(uri):
    [(model_id, run_id)] = log_models(uri, 1)
    client = mlflow.MlflowClient(uri)
    with pytest.raises(ReleaseError, match="has no model in MLflow"):
        find_model(uri, run_id)
    from mlflow.entities import LoggedModelOutput

    client.log_outputs(run_id, [LoggedModelOutput(model_id, step=3)])
    assert find_model(uri, run_id) == model_id
