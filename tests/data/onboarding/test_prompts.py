"""The questions on a terminal, and what becomes of the answers."""

import click
import pytest
from click.testing import CliRunner

from tests.data.onboarding.fabrication import blobs, picture, save
from unet_segmentation.data.onboarding.create_problem import Request
from unet_segmentation.data.onboarding.folder_survey import locate, survey_folder
from unet_segmentation.data.onboarding.mask_interpretation import propose_interpretations
from unet_segmentation.data.onboarding.prompts import ask_questions


@pytest.fixture
def asked(data):
    """Ask about masks of these values; give the interpretation and what was shown."""

    def ask(values, answers, **output):
        for number in range(6):
            save(data.root / f"images/{number}.png", picture(number))
            save(data.root / f"masks/{number}.png", blobs(number, values))
        request = Request("mine", str(data.root), **output)
        survey = survey_folder(locate(str(data.root)))
        result = propose_interpretations(survey.masks, request.classes, request.ignore)
        results = []
        command = click.Command("ask", callback=lambda: results.append(ask_questions(request, survey, result)))
        answer = CliRunner().invoke(command, input="\n".join(answers) + "\n")
        assert answer.exit_code == 0, answer.output
        return results[0], answer.output

    return ask


def test_names_void_and_reading(asked):
    result, shown = asked((0, 1, 2, 3), ["3", "sky", "road", "tree", "1"])
    assert result.options[0].classes == ["sky", "road", "tree"]
    assert result.options[0].masks == {"encoding": "index", "ignore": [3]}
    assert "0 (" in shown
    assert "%" in shown


def test_enter_takes_what_is_offered(asked):
    result, _ = asked((0, 255), ["", "", ""])
    assert result.options[0].classes == ["background", "object"]


def test_wrong_answers_are_asked_again(asked):
    result, shown = asked((0, 1, 2), ["seven", "7", "none", "a", "a", "b", "c", "9", "1"])
    assert result.options[0].classes == ["a", "b", "c"]
    assert "Whole numbers" in shown
    assert "No mask holds 7" in shown
    assert "taken already" in shown


def test_another_reading_can_be_chosen(asked):
    result, shown = asked((0, 255), ["", "cell", "2"])
    assert result.options[0].masks["encoding"] == "threshold"
    assert result.options[0].classes == ["background", "cell"]
    assert [reading.masks["encoding"] for reading in result.options[1:]] == ["index"]
    assert "several ways" in shown


def test_what_was_said_is_not_asked(asked):
    result, shown = asked((0, 1, 2, 3), ["1"], classes=["a", "b", "c"], ignore=[3])
    assert result.options[0].classes == ["a", "b", "c"]
    assert "called?" not in shown
    assert "Values that mean" not in shown
