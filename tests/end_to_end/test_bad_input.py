"""What a user gets wrong, through the real command line: one clear message, no traceback, the run closed."""

import re
import signal
import sqlite3
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import PATIENCE, Project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(make_project) -> Project:
    return make_project("bad-input", with_store=True)


def refused(project: Project, *arguments: str, env: str = "test", **environment: str) -> str:
    answer = project.kedro("run", "--env", env, *arguments, fresh="HF_ENDPOINT" in environment, **environment)
    assert answer.returncode == 1, answer.stdout[-3000:]
    assert "Traceback" not in answer.stdout, answer.stdout[-6000:]
    assert answer.stdout.count("Error: ") == 1, answer.stdout
    return " ".join(answer.stdout.split())


def last_run(project: Project) -> tuple[str, str]:
    """Status of the newest MLflow run, and everything said about it in tags."""
    with sqlite3.connect(f"file:{project.path}/mlflow.db?mode=ro", uri=True) as database:
        newest = "select run_uuid, status from runs order by start_time desc limit 1"
        run, status = database.execute(newest).fetchone()
        tags = database.execute("select value from tags where run_uuid = ?", [run]).fetchall()
    return status, " ".join(value for (value,) in tags if value)


def own_problem(project: Project, name: str, samples: dict[str, tuple[np.ndarray, np.ndarray]], **more: str) -> Path:
    """A problem of one's own: a folder of images and masks, and a YAML file."""
    folder = project.path / "mine" / name
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for sample, (image, mask) in samples.items():
        Image.fromarray(image).save(folder / "images" / f"{sample}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{sample}.png")
    conf = project.path / "conf" / name
    conf.mkdir()
    (conf / "parameters.yml").write_text(
        f"source: {{folder: '{folder}', images: 'images/{{id}}.png', masks: 'masks/{{id}}.png'}}\n"
        "classes: [background, cell]\n" + "".join(f"{key}: {value}\n" for key, value in more.items())
    )
    return folder


def drawn(count: int, values: tuple[int, int] = (0, 1)) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(0)
    samples = {}
    for index in range(count):
        mask = np.full((48, 48), values[0], np.uint8)
        mask[10 : 20 + index % 10, 10:30] = values[1]
        samples[f"s{index:02d}"] = (random.integers(0, 255, (48, 48, 3), np.uint8), mask)
    return samples


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ("trainn.epochs=3", "did you mean 'training'"),
        ("training.epoch=3", "did you mean 'epochs'"),
        ("model.architecture=unet,model.encoder=resnet19", "resnet18"),
        ("model.architecture=unett", "unet"),
        ("model.architecture=unet,model.encoder_weights=imagenet", "encoder_weights"),
        ("training.accelerator=cuda", "training.accelerator"),
    ],
)
def test_a_wrong_parameter(project, parameters, says):
    if "cuda" in parameters:
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has CUDA")
    message = refused(project, "--params", parameters, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert says in message


def test_an_unknown_problem(project):
    assert "Did you mean 'camvid'" in refused(project, env="camvit")


def test_a_missing_archive_names_the_path(project):
    message = refused(project, "--params", "source.archive=/nowhere/wbc.zip", env="wbc")
    assert "/nowhere/wbc.zip" in message
    assert last_run(project)[0] == "FAILED"


def test_a_truncated_archive_is_refused_and_the_reason_kept(project, tmp_path):
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("a/Dataset 1/001.bmp", bytes(10_000))
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole.read_bytes()[:6000])
    message = refused(project, "--params", f"source.archive={cut}", env="wbc")
    assert "cut.zip" in message
    status, tags = last_run(project)
    assert status == "FAILED"
    assert "cut.zip" in tags


def test_undeclared_mask_values_are_listed_with_the_mapping_to_declare(project):
    own_problem(project, "undeclared", drawn(12, values=(0, 200)))
    message = refused(project, env="undeclared")
    assert "s00.png" in message
    assert "values: {0: background, 200: cell}" in message
    left = {path.name for path in (project.path / "data" / "06_models").glob("undeclared/*")}
    assert left <= {"run.json", "mlflow_run.json", ".run.lock"}, "no network was built: only the run is noted there"


def test_masks_of_0_and_255_are_explained_though_255_usually_means_ignored(project):
    own_problem(project, "threshold", drawn(12, values=(0, 255)))
    message = refused(project, env="threshold")
    assert "values: {0: background, 255: cell}" in message
    assert "threshold" in message


def test_sizes_pairs_and_unreadable_files_are_all_named_at_once(project):
    samples = drawn(14)
    image, mask = samples["s03"]
    samples["s03"] = (image, mask[:40])
    folder = own_problem(project, "broken", samples)
    (folder / "masks" / "s05.png").unlink()
    (folder / "images" / "s06.png").unlink()
    (folder / "images" / "s07.png").write_bytes(b"no picture")
    message = refused(project, env="broken")
    for name in ("s03", "s05", "s06", "s07"):
        assert name in message, name


def test_too_few_samples(project):
    own_problem(project, "few", drawn(2))
    assert "split" in refused(project, env="few")


def test_an_empty_folder(project):
    own_problem(project, "empty", {})
    message = refused(project, env="empty")
    assert "images/{id}.png" in message


def test_a_class_that_never_occurs(project):
    own_problem(project, "absent", drawn(12, values=(0, 0)))
    assert "cell" in refused(project, env="absent")


def test_a_part_that_needs_what_was_never_made(project):
    own_problem(project, "unmade", drawn(12))
    assert "run" in refused(project, "--pipelines", "evaluation", env="unmade").lower()


def test_an_unreachable_server_fails_before_the_download(make_project):
    project = make_project("unreachable")
    start = time.monotonic()
    message = refused(project, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert "127.0.0.1:9" in message
    assert time.monotonic() - start < 60
    assert not (project.path / "data" / "01_raw" / "test").exists()


def test_tracking_can_be_switched_off(make_project):
    project = make_project("untracked")
    (project.path / "conf" / "local" / "mlflow.yml").write_text("mlflow: {enabled: false}\n")
    answer = project.kedro("run", "--env", "test")
    assert answer.returncode == 0, answer.stdout[-3000:]
    assert "MLflow" not in answer.stdout
    assert not (project.path / "mlflow.db").exists()
    assert (project.path / "data/08_reporting/test/report.html").exists()


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_in_training_closes_the_run(make_project, sent, status):
    project = make_project(f"interrupted-{sent.name}", with_store=True)
    process = project.start("run", "--env", "test", "--params", "training.epochs=500")
    printed = ""
    for line in process.stdout:
        printed += line
        if re.search(r"epoch +2/", line):
            process.send_signal(sent)
            break
    rest, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == status, printed + rest
    assert "Traceback" not in rest
    assert last_run(project)[0] == "KILLED"
    assert not (project.path / "data/06_models/test/best.safetensors").exists()
    again = project.kedro("run", "--env", "test")
    assert again.returncode == 0, again.stdout[-3000:]
    assert last_run(project)[0] == "FINISHED"
