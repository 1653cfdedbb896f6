"""Nodes of the release over a real MLflow store; the model's own process is tested in test_isolated_model."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import TypeAdapter

from tests.toy_project import empty_store
from unet_segmentation import tracking
from unet_segmentation.data.audit.result import AuditResult
from unet_segmentation.data.store.packed_arrays import pack
from unet_segmentation.deployment.release.candidate import Champion, ReleaseCandidate, lock_release_dir
from unet_segmentation.deployment.release.model_verification import ModelVerification
from unet_segmentation.deployment.release.promotion_gate import Decision, GateResult
from unet_segmentation.errors import ReleaseError, TrackingError
from unet_segmentation.metrics.confusion_matrix import confusion_table
from unet_segmentation.metrics.evaluation_tables import EvaluationTables
from unet_segmentation.metrics.scores import compute_scores
from unet_segmentation.parameters import BootstrapParameters, ReleaseParameters
from unet_segmentation.pipelines.release import nodes
from unet_segmentation.tracking.model_registry import Registry

CLASSES = ["background", "cytoplasm", "nucleus"]
IMAGES = 30
BOOTSTRAP = BootstrapParameters(resamples=1000)
CLEAN = AuditResult(
    status="passed", samples=40, set_aside=(), allowed=(), counts={"error": 0, "warning": 0, "note": 0}, kinds={},
    messages=(), values={}, proposals=(),
)  # fmt: skip
REPRODUCED = ModelVerification(True, "The same.")

IN_SUBPROCESS = "unet_segmentation.deployment.serving.isolated_model.predict_in_subprocess"


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The address of a new store, that the current run is told to."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(empty_store())
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri)
    client.create_experiment("cells", artifact_location=(tmp_path / "mlartifacts").as_uri())
    output: dict[str, object] = {}
    tracking.set_active_run(
        SimpleNamespace(enabled=True, uri=uri, run_id="0" * 32, set_tags=output.update, output=output)
    )
    yield uri
    tracking.set_active_run(None)


def tables(share: float, classes: int = 3, ids=range(IMAGES)) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Counts of images of which the network gets a share of each class right, a little more or less in each."""
    random = np.random.default_rng(0)
    matrices = []
    for number in ids:
        truth = np.array([3000, 700, 300][:classes]) + random.integers(0, 50, classes)
        right = (truth * (share + random.uniform(-0.02, 0.02, classes))).astype(np.int64)
        matrix = np.diag(right)
        matrix[:, 0] += truth - right
        matrices.append((f"cell {number}", matrix))
    confusion = confusion_table(matrices)
    totals = [float(matrix.sum()) for _, matrix in matrices]
    names = [name for name, _ in matrices]
    soft = pd.DataFrame({"sample_id": names, "intersection": totals, "truth": totals, "prediction": totals})
    return confusion, soft


def log_run(uri, folder, share, *, classes=CLASSES, split="test", model=True, counts=None, name="unet") -> str:
    """Log what `kedro run` logs of an evaluation; give the run's id."""
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("cells").experiment_id
    run = client.create_run(experiment, run_name=name, tags={"problem": "cells", "evaluation.device": "cpu"})
    confusion, soft = counts or tables(share, len(classes))
    both = {"confusion": confusion, "soft": soft}
    dice = compute_scores(EvaluationTables(both), classes)["dice/mean"]
    client.log_metric(run.info.run_id, "test/dice/mean", dice)
    for kind, table in both.items():
        table.to_parquet(folder / f"{kind}.parquet")
        client.log_artifact(run.info.run_id, str(folder / f"{kind}.parquet"), "evaluation/tables")
    parameters = {"classes": classes, "evaluation": {"split": split}}
    client.log_text(run.info.run_id, yaml.safe_dump(parameters), "code/parameters.yml")
    if model:
        logged = client.create_logged_model(experiment, name="unet", source_run_id=run.info.run_id)
        client.finalize_logged_model(logged.model_id, "READY")
        client.log_outputs(run.info.run_id, [mlflow.entities.LoggedModelOutput(logged.model_id, step=1)])
    client.set_terminated(run.info.run_id)
    return run.info.run_id


FOLDER = Path(tempfile.mkdtemp())
SAMPLES = pd.DataFrame({"sample_id": [f"cell {number}" for number in range(IMAGES)], "group": None})


def examine(run_id: str, verdict=CLEAN, samples=SAMPLES, **release) -> SimpleNamespace:
    """Let a run go through all nodes before the registry."""
    parameters = ReleaseParameters(**release)
    challenger, *counts, _ = nodes.choose_challenger("cells", {"run_id": run_id}, samples, parameters, FOLDER)
    champion, comparison = nodes.compare_with_champion("cells", challenger, *counts, samples, parameters, BOOTSTRAP)
    conditions = nodes.decide(verdict, REPRODUCED, challenger, champion, comparison, parameters)
    for kind, made in ((ReleaseCandidate, challenger), (Champion, champion), (GateResult, conditions)):
        adapter = TypeAdapter(kind)
        assert adapter.validate_json(adapter.dump_json(made)) == made
    return SimpleNamespace(
        challenger=challenger, champion=champion, comparison=comparison, conditions=conditions, parameters=parameters
    )


def register(result: SimpleNamespace) -> Decision:
    arguments = (result.conditions, result.challenger, result.champion, result.parameters)
    decision, page = nodes.register("cells", *arguments)
    assert page.startswith(decision.sentence)
    return decision


def release(run_id: str, **more) -> Decision:
    return register(examine(run_id, **more))


def test_first_better_by_margin_worse_forced_unchanged(store, tmp_path):
    client = mlflow.MlflowClient(store)
    first = release(log_run(store, tmp_path, 0.80))
    assert first.outcome == "released"
    assert first.sentence.startswith("Released: version 1 of cells, the first. dice/mean 0.")
    better_run = log_run(store, tmp_path, 0.85)
    better = release(better_run)
    assert (better.outcome, better.version, better.before) == ("released", 2, 1)
    assert ": better." in better.sentence
    tags = client.get_model_version("cells", "2").tags
    assert tags["dice/mean"] == f"{better.value:.4f}"
    assert tags["released_by"]
    assert "forced_by" not in tags
    assert client.get_model_version("cells", "2").description.startswith(better.sentence)
    by_margin = release(log_run(store, tmp_path, 0.849), noninferiority_margin=0.02)
    assert "not worse by more than the margin of 0.02" in by_margin.sentence
    assert by_margin.version == 3

    worse = log_run(store, tmp_path, 0.6)
    refused = release(worse)
    assert (refused.outcome, refused.version) == ("refused", None)
    assert "version 3 stays the champion" in refused.sentence
    assert "3 classes fall" in refused.sentence or "2 classes fall" in refused.sentence
    with pytest.raises(ReleaseError, match=r"^Refused: unet is not released"):
        nodes.fail_if_refused(refused, lock_release_dir(FOLDER))
    forced = release(worse, force=True, reason="the camera was changed")
    assert (forced.outcome, forced.version) == ("forced", 4)
    tags = client.get_model_version("cells", "4").tags
    assert (tags["forced_by"], tags["reason"]) == (forced.user, "the camera was changed")
    assert nodes.fail_if_refused(forced, lock_release_dir(FOLDER)) == 4
    assert tracking.active_run().output == {"release.outcome": "forced", "release.version": 4}

    again = release(worse)
    assert again.sentence == "Unchanged: version 4 of cells, of this run, is the champion already."
    assert len(client.search_model_versions("name = 'cells'")) == 4
    nodes.fail_if_refused(again, lock_release_dir(FOLDER))


def test_a_run_without_one_of_the_classes_is_refused(store, tmp_path):
    release(log_run(store, tmp_path, 0.8))
    decision = release(log_run(store, tmp_path, 0.95, classes=CLASSES[:2]))
    assert decision.outcome == "refused"
    assert "The run lacks nucleus, which the champion, version 1, has." in decision.sentence


def test_a_run_on_other_test_samples_is_refused(store, tmp_path):
    release(log_run(store, tmp_path, 0.8))
    decision = release(log_run(store, tmp_path, 0.95, counts=tables(0.95, ids=range(1, IMAGES + 1))))
    assert decision.outcome == "refused"
    assert "cell 0" in decision.sentence
    assert f"cell {IMAGES}" in decision.sentence


def test_errors_of_the_audit_and_the_validation_split_are_refused(store, tmp_path):
    failed = CLEAN.model_copy(update={"status": "failed", "counts": {"error": 2, "warning": 0, "note": 0}})
    assert "has 2 errors" in release(log_run(store, tmp_path, 0.8), verdict=failed).sentence
    decision = release(log_run(store, tmp_path, 0.8, split="validation"))
    assert "evaluated on the validation split" in decision.sentence
    assert Registry(store, "cells").champion() is None


def test_a_champion_whose_tables_are_gone_can_only_be_replaced_by_force(store, tmp_path):
    client = mlflow.MlflowClient(store)
    run = client.create_run(client.get_experiment_by_name("cells").experiment_id, tags={"problem": "cells"})
    model = client.create_logged_model(run.info.experiment_id, source_run_id=run.info.run_id)
    client.finalize_logged_model(model.model_id, "READY")
    Registry(store, "cells").promote(model.model_id, run.info.run_id, expected=0, tags={})
    new = log_run(store, tmp_path, 0.8)
    assert "No comparison with the champion: The run" in release(new).sentence
    assert release(new, force=True, reason="the old files are lost").version == 2


@pytest.mark.slow
def test_of_two_that_were_compared_with_the_same_champion_the_second_is_refused(store, tmp_path):
    release(log_run(store, tmp_path, 0.8))
    one, other = (examine(log_run(store, tmp_path, share)) for share in (0.9, 0.95))
    assert register(one).version == 2
    decision = register(other)
    assert decision.outcome == "refused"
    assert "Another release came first: version 2 of cells is the champion since" in decision.sentence
    assert Registry(store, "cells").champion().number == 2
    assert register(examine(other.challenger.run_id)).version == 3


HOLDER = """
import sys
from pathlib import Path
from unet_segmentation.deployment.release.candidate import lock_release_dir
lock = lock_release_dir(Path(sys.argv[1]))
print("at work", flush=True)
sys.stdin.readline()
"""


def test_one_release_at_a_time_works_in_a_folder(tmp_path):
    source = str(Path(nodes.__file__).parents[3])
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], env={**os.environ, "PYTHONPATH": source},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "at work\n"
    with pytest.raises(ReleaseError, match="Another release is at work in"):
        lock_release_dir(tmp_path)
    holder.kill()  # whatever becomes of it, the next one may
    holder.communicate()
    first = lock_release_dir(tmp_path)
    second = lock_release_dir(tmp_path)  # in the same process, after an error, say
    second.release(force=True)
    assert not first.is_locked


def test_groups_are_what_is_counted_on(store, tmp_path):
    run = log_run(store, tmp_path, 0.8)
    assert examine(run).challenger.units == IMAGES
    grouped = SAMPLES.assign(group=[f"slide {number // 10}" if number < 20 else None for number in range(IMAGES)])
    assert examine(run, samples=grouped).challenger.units == 2 + 10
    release(run)
    table = examine(log_run(store, tmp_path, 0.81), samples=grouped).comparison
    assert set(nodes.COMPARED) <= set(table)


def test_another_run_is_chosen_by_name_or_the_beginning_of_its_id(store, tmp_path):
    named, here = (log_run(store, tmp_path, 0.8, name=name) for name in ("the good one", "unet"))
    assert examine(here, run="the good one").challenger.run_id == named
    assert examine(here, run=named[:12]).challenger.run_id == named
    with pytest.raises(TrackingError, match="There is no run of cells called 'the god one'"):
        examine(here, run="the god one")


def test_what_cannot_be_a_challenger(store, tmp_path):
    with pytest.raises(ReleaseError, match="has no model in MLflow"):
        examine(log_run(store, tmp_path, 0.8, model=False))
    untracked = {"run_id": None, "status": "tracking is off"}
    with pytest.raises(ReleaseError, match=r"in no MLflow run \(tracking is off\)"):
        nodes.choose_challenger("cells", untracked, SAMPLES, ReleaseParameters(), FOLDER)
    tracking.set_active_run(None)
    with pytest.raises(ReleaseError, match="tracking is off"):
        nodes.choose_challenger("cells", untracked, SAMPLES, ReleaseParameters(), FOLDER)


def test_the_model_is_held_against_the_images_that_are_here(store, tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    images = {name: random.integers(0, 256, (8, 8 + width, 3), np.uint8) for name, width in (("b", 4), ("a", 0))}
    masks = {name: random.integers(0, 2, image.shape[:2], np.uint8) for name, image in images.items()}
    packed = pack(tmp_path / "packed", {name: (images[name], masks[name]) for name in images})
    seen: list[np.ndarray] = []

    def predicts(truth):
        def predict_afresh(uri, model_id, images):
            assert (uri, model_id) == (store, "m-1")
            seen[:] = list(images)
            return iter([truth["a"], truth["b"]])

        return predict_afresh

    monkeypatch.setattr(IN_SUBPROCESS, predicts(masks))
    perfect = confusion_table((name, np.diag(np.bincount(masks[name].ravel(), minlength=2))) for name in images)
    counts = EvaluationTables({"confusion": perfect, "soft": pd.DataFrame({"sample_id": list(images)})})
    challenger = ReleaseCandidate("0" * 32, "m-1", ["background", "cell"])
    arguments = (packed, ReleaseParameters())
    assert nodes.verify_model(challenger, counts, *arguments).passed
    assert [image.shape for image in seen] == [(8, 8, 3), (8, 12, 3)], "by size, as evaluation does"

    monkeypatch.setattr(
        IN_SUBPROCESS,
        predicts({**masks, "a": 1 - masks["a"]}),
    )
    result = nodes.verify_model(challenger, counts, *arguments)
    assert not result.passed
    assert result.images_different == 1
    others = EvaluationTables({"confusion": perfect, "soft": pd.DataFrame({"sample_id": ["a", "c"]})})
    missing = nodes.verify_model(challenger, others, *arguments)
    assert missing.sentence == ("The scores could not be reproduced: 1 of its 2 samples are not here, such as c.")
    monkeypatch.setattr(
        IN_SUBPROCESS,
        predicts({**masks, "b": masks["b"][:4]}),
    )
    assert "could not be reproduced" in nodes.verify_model(challenger, counts, *arguments).sentence
