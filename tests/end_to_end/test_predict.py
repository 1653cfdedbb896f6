"""`kedro predict` through the real command line: the model it takes, a kill in the middle, a broken image."""

from __future__ import annotations

import re
import shutil
import signal
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.conftest import Project
from tests.end_to_end.conftest import Finished, succeeded

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(finished: Finished, make_project) -> Project:
    """A copy of the trained project, with its runs."""
    project = make_project("predict")
    shutil.copytree(finished.path / "data", project.path / "data", dirs_exist_ok=True)
    shutil.copy(finished.path / "mlflow.db", project.path)
    return project


@pytest.fixture
def images(project, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(project.path / "data/01_raw/test/files/cells/images", folder)
    return folder


def pixels(file) -> np.ndarray:
    return np.array(Image.open(file))


def test_a_folder_is_predicted_as_evaluation_did(project, images, tmp_path):
    output = succeeded(project.kedro("predict", str(images), "--env", "test", "--output", str(tmp_path / "out")))
    assert not re.search(r"warning|deprecat|traceback", output, re.IGNORECASE), output
    assert "Model: the model of the newest finished run" in output
    assert f"Predictions  {tmp_path / 'out'}" in output.replace("\n", "")
    assert "Report" not in output  # there is one, but this run has not made it
    table = pd.read_csv(tmp_path / "out/predictions.csv")
    assert len(table) == len(list(images.iterdir()))
    evaluated = sorted((project.path / "data/07_model_output/test/predictions").glob("*.png"))
    assert evaluated
    equal = [
        (np.array(Image.open(tmp_path / "out" / file.name)) == np.array(Image.open(file))).mean() for file in evaluated
    ]
    assert np.mean(equal) > 0.99  # of a network of two epochs, whose classes are nearly equally likely, in bfloat16

    answer = project.kedro(
        "predict", str(images), "--env", "test", "--output", str(tmp_path / "same"), "--backend", "pytorch"
    )
    succeeded(answer)
    for file in evaluated:
        np.testing.assert_array_equal(np.array(Image.open(tmp_path / "same" / file.name)), np.array(Image.open(file)))


def test_it_goes_on_after_a_kill(project, images, tmp_path):
    for number in range(300):
        shutil.copy(images / "0000.png", images / f"copy{number}.png")
    out = tmp_path / "out"
    command = ["predict", str(images), "--env", "test", "--output", str(out), "--backend", "pytorch"]
    with project.start(*command) as process:
        while process.poll() is None and len(list(out.glob("*.geojson"))) < 20:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    done = {file.name: file.stat().st_mtime_ns for file in out.glob("*.png") if "overlay" not in file.name}
    assert 0 < len(done) < len(list(images.iterdir()))
    output = succeeded(project.kedro(*command))
    before = int(re.search(r"(\d+) of \d+ images were finished before", output)[1])
    kept = [name for name, stamp in done.items() if (out / name).stat().st_mtime_ns == stamp]
    assert len(kept) >= before >= len(done) - 8  # those whose line was not written yet are done again
    table = pd.read_csv(out / "predictions.csv")
    assert (table["status"] == "ok").all()
    assert len(table) == len(list(images.iterdir()))
    assert not (out / ".partial").exists()


def test_a_broken_image_ends_with_status_1_and_the_others_done(project, images, tmp_path):
    (images / "broken.png").write_bytes(b"no picture")
    answer = project.kedro("predict", str(images), "--env", "test", "--output", str(tmp_path / "out"))
    assert answer.returncode == 1
    assert "Traceback" not in answer.stdout
    assert "resume" not in answer.stdout
    assert re.search(r"Error: 1 of \d+ images could not be predicted:\n  broken.png ", answer.stdout)
    table = pd.read_csv(tmp_path / "out/predictions.csv")
    assert table.loc[table["status"] == "failed", "image"].tolist() == ["broken.png"]
    assert (tmp_path / "out/coco.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "There is nothing at nowhere"),
        (["conf", "--model", "champion"], "No model of test was released yet"),
        (["conf"], "holds no image"),
        (["conf", "--model", "nosuchrun"], "There is no run of test called 'nosuchrun'"),
        (["conf", "--model", "no.safetensors"], "There is no model file no.safetensors"),
    ],
)
def test_wrong_names_are_answered_with_what_to_do(project, arguments, message):
    answer = project.kedro("predict", *arguments, "--env", "test")
    assert answer.returncode == 1
    assert "Traceback" not in answer.stdout
    assert message in " ".join(answer.stdout.split())
