import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.parameters import Parameters, validate_parameters

VALID = {
    "problem": "x",
    "source": {"folder": "/data", "images": "images/{id}.png", "masks": "masks/{id}.png"},
    "classes": ["background", "cell"],
}


def changed(path: str, value: object) -> dict:
    parameters = copy.deepcopy(VALID)
    place = parameters
    *parents, last = path.split(".")
    for part in parents:
        place = place.setdefault(part, {})
    place[last] = value
    return parameters


def refusal(parameters: dict) -> str:
    with pytest.raises(ConfigurationError) as caught:
        validate_parameters(parameters)
    return str(caught.value)


def test_defaults_are_valid():
    assert validate_parameters(VALID).training.epochs >= 1


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("trainign", "training"),
        ("training.epoch", "epochs"),
        ("training.optimizer.learning_rates", "learning_rate"),
        ("training.early_stopping.patiense", "patience"),
        ("model.encodr", "encoder"),
        ("source.image", "images"),
        ("masks.encodings", "encoding"),
    ],
)
def test_a_typo_is_refused_and_the_nearest_name_offered(path, nearest):
    message = refusal(changed(path, 3))
    assert path in message
    assert f"did you mean '{nearest}'" in message


@pytest.mark.parametrize(
    ("value", "scores"),
    [("all", ["boundary_iou", "hd95", "surface_dice"]), ("hd95", ["hd95"]), (["hd95"], ["hd95"]), ([], [])],
)
def test_boundary_scores_are_asked_for_by_name(value, scores):
    assert validate_parameters(changed("evaluation.boundary_metrics", value)).evaluation.boundary_metrics == scores


@pytest.mark.parametrize("value", ["hausdorff", ["hd95", "hd100"], 3])
def test_a_boundary_score_that_there_is_not_is_refused(value):
    message = refusal(changed("evaluation.boundary_metrics", value))
    assert "evaluation.boundary_metrics" in message


def test_a_name_near_nothing_lists_what_is_known():
    assert "known here: betas, encoder_lr_multiplier, learning_rate, weight_decay" in refusal(
        changed("training.optimizer.zzz", 1)
    )


def test_all_mistakes_are_named_at_once():
    parameters = changed("training.epochs", 0)
    parameters["model"] = {"encodr": "resnet18"}
    message = refusal(parameters)
    assert "training.epochs" in message
    assert "model.encodr" in message
    assert "given: 0" in message


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("classes", ["a", "a"], "occurs twice"),
        ("masks.values", {0: "background", 255: "nucleus"}, "'nucleus' is not one of the classes"),
        ("masks.encoding", "colors", "colors"),
        ("masks", {"encoding": "colors", "colors": {"cell": [[1, 2, 3], [1, 2]]}}, "masks.colors.cell"),
        ("masks", {"encoding": "colors", "colors": {"cell": [[0] * 3], "background": [0] * 3}}, "and 'background'"),
        ("training.patch_size", 100, "multiple of 32"),
        ("training.loss", {"cross_entropy": 0, "dice": 0}, "at least one"),
        ("training.loss", {"class_weights": [1.0]}, "one weight per class"),
        ("split", {"validation": 0.5, "test": 0.5}, "leave samples for training"),
        ("source.splits", {"train": "train"}, "{split}"),
        ("source.archives", [{"url": "http://x"}], "exactly one of"),
        ("training.optimizer.learning_rate", float("nan"), "learning_rate"),
        ("cross_validation", {"folds": 1}, "cross_validation.folds"),
        ("cross_validation", {"splits": ["train", "train"]}, "named twice"),
    ],
)
def test_values_that_cannot_work_are_refused(path, value, says):
    assert says in refusal(changed(path, value))


def test_a_problem_without_a_source_says_where_to_start():
    assert "conf/template" in refusal({"problem": "base", "classes": ["a", "b"]})


@given(st.dictionaries(st.text(min_size=1), st.integers(), min_size=1, max_size=3))
def test_no_unknown_top_level_key_passes(extra):
    unknown = {key: value for key, value in extra.items() if key not in Parameters.model_fields}
    if unknown:
        refusal({**VALID, **unknown})
