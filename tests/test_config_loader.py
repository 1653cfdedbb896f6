from pathlib import Path

import pytest
import yaml

from unet_segmentation.config_loader import ProblemConfigLoader
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.parameters.seeds import SEEDED_SECTIONS

ARGUMENTS = {
    "base_env": "base",
    "default_run_env": "cells",
    "config_patterns": {"mlflow": ["mlflow*"]},
    "merge_strategy": {"parameters": "soft", "mlflow": "soft"},
}
SOURCE = {"folder": "/data", "images": "images/{id}.png"}


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    def write(path: str, content: dict) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(yaml.safe_dump(content))

    write("base/parameters_training.yml", {"training": {"epochs": 10, "batch_size": 4}})
    write("base/catalog.yml", {"thing": {"type": "json.JSONDataset", "filepath": "data/${problem:}/thing.json"}})
    write("base/mlflow.yml", {"enabled": True, "uri": None})
    write("cells/parameters.yml", {"source": SOURCE, "classes": ["a", "b"], "training": {"epochs": 20}})
    write("camvid/parameters.yml", {"source": SOURCE, "classes": ["a", "b"]})
    (tmp_path / "local").mkdir()
    return tmp_path


def load(conf: Path, env: str | None = None, **runtime: object) -> ProblemConfigLoader:
    return ProblemConfigLoader(str(conf), env, runtime_params=runtime, **ARGUMENTS)


def test_the_problem_wins_over_base_key_by_key(conf):
    assert load(conf)["parameters"]["training"] == {"epochs": 20, "batch_size": 4}
    assert load(conf, "camvid")["parameters"]["training"]["epochs"] == 10


def test_local_wins_over_every_problem_and_the_command_line_over_local(conf):
    (conf / "local" / "parameters.yml").write_text("training: {epochs: 3}")
    assert load(conf, "camvid")["parameters"]["training"] == {"epochs": 3, "batch_size": 4}
    assert load(conf, "camvid", training={"epochs": 1})["parameters"]["training"] == {"epochs": 1, "batch_size": 4}


@pytest.mark.parametrize("text", ["enabled: false", "mlflow: {enabled: false}"])
def test_local_tracking_keeps_what_it_does_not_name(conf, text):
    (conf / "local" / "mlflow.yml").write_text(text)
    assert load(conf)["mlflow"] == {"enabled": False, "uri": None}


def test_tracking_can_be_set_on_the_command_line(conf):
    loader = load(conf, mlflow={"enabled": False})
    assert loader["mlflow"] == {"enabled": False, "uri": None}
    assert "mlflow" not in loader["parameters"]


def test_the_catalog_lies_under_the_problem(conf):
    assert load(conf, "camvid")["catalog"]["thing"]["filepath"] == "data/camvid/thing.json"
    assert load(conf)["catalog"]["thing"]["filepath"] == "data/cells/thing.json"
    assert load(conf)["parameters"]["problem"] == "cells"


def test_an_unknown_problem_is_refused_with_the_nearest(conf):
    with pytest.raises(ConfigurationError, match=r"'camvit'.*Did you mean 'camvid'"):
        load(conf, "camvit")


def test_the_problem_is_no_parameter(conf):
    with pytest.raises(ConfigurationError, match="--env"):
        load(conf, problem="camvid")["parameters"]


def test_a_typo_on_the_command_line_is_refused(conf):
    with pytest.raises(ConfigurationError, match="did you mean 'training'"):
        load(conf, trainn={"epochs": 1})["parameters"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"seed: [1, 2\n", r"mine.yml: line 2, column 1: did not find expected"),
        (b"split:\n\tseed: 1\n", r"mine.yml: line 2, column 1: found character"),
        (
            b"training: {epochs: 2}\ntraining: {epochs: 3}\n",
            r"mine.yml: line 2, column 1: found duplicate key training",
        ),
        (b"- a\n- b\n", r"mine.yml holds no keys"),
        (b"\xff\xfe\n", r"mine.yml is no text in UTF-8"),
    ],
)
@pytest.mark.parametrize("folder", ["cells", "local"])
def test_a_file_that_cannot_be_read_is_named_with_the_place(conf, folder, text, words):
    (conf / folder / "parameters_mine.yml").write_bytes(text)
    with pytest.raises(ConfigurationError, match=words):
        load(conf)["parameters"]


def test_a_key_in_two_files_is_refused_with_both(conf):
    (conf / "cells" / "parameters_mine.yml").write_text("classes: [a]")
    with pytest.raises(ConfigurationError, match=r"Duplicate keys found in .*: classes") as refused:
        load(conf)["parameters"]
    assert "cells/parameters.yml" in str(refused.value)
    assert "cells/parameters_mine.yml" in str(refused.value)


def test_one_seed_is_that_of_every_section_without_its_own(conf):
    (conf / "base" / "parameters.yml").write_text("seed: 7\nsplit: {seed: 3}\nbootstrap: {seed: null}\nsearch: {}")
    parameters = load(conf)["parameters"]
    seeds = {name: parameters[name]["seed"] for name in ("split", "training", "bootstrap", "search")}
    assert seeds == {"split": 3, "training": 7, "bootstrap": 7, "search": 7}
    assert load(conf, seed=9)["parameters"]["training"]["seed"] == 9
    assert load(conf, seed=9, training={"seed": 1})["parameters"]["training"]["seed"] == 1


def test_the_project_s_own_configuration_gives_every_section_its_seed():
    """The defaults of the sections are those of one seed of 0."""
    arguments = ARGUMENTS | {"config_patterns": {"mlflow": ["mlflow*"]}}
    root = Path(__file__).parents[1] / "conf"
    parameters = ProblemConfigLoader(str(root), "cells", runtime_params={"seed": 5}, **arguments)["parameters"]
    for path in SEEDED_SECTIONS:
        section = parameters
        for name in path.split("."):
            section = section[name]
        assert section["seed"] == 5, path


def test_a_tracking_file_with_its_former_name_is_refused(conf):
    (conf / "local" / "other.yml").write_text("of: the user")  # an unknown file is left alone
    assert load(conf)["mlflow"]["enabled"]
    (conf / "local" / "tracking.yml").write_text("enabled: false")
    with pytest.raises(ConfigurationError, match=r"local.tracking\.yml is no longer read: rename it to mlflow\.yml"):
        load(conf)["mlflow"]
