"""Masks that are easily misread: what is taken, what else is offered, and what a person is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from tests.data.onboarding.fabrication import SIZE, DataSet, blobs, picture, save
from unet_segmentation.data.onboarding.create_problem import Request, create_problem
from unet_segmentation.data.onboarding.file_types import spread
from unet_segmentation.data.onboarding.folder_survey import locate, survey_folder
from unet_segmentation.data.onboarding.interpretation import MaskInterpretations
from unet_segmentation.data.onboarding.mask_interpretation import propose_interpretations
from unet_segmentation.data.onboarding.mask_survey import survey_masks
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.parameters import Parameters, validate_parameters

ROOT = Path(__file__).parents[3]
NAMES = ["a", "b", "c", "d", "e", "f"]


def read(root: Path, classes: list[str] | None = None, ignore: list[int] | None = None) -> MaskInterpretations:
    survey = survey_folder(locate(str(root)))
    return propose_interpretations(survey_masks(survey.storage, survey.pairing, survey.paths), classes, ignore)


def valid(result: MaskInterpretations) -> list[Parameters]:
    """Check every reading, also those that are only offered."""
    source = {"folder": "x", "images": "images/{id}.png", "masks": "masks/{id}.png"}
    return [
        validate_parameters({"problem": "p", "source": source, "classes": one.classes, "masks": one.masks})
        for one in result.options
    ]


def pairs(root: Path, masks, count: int = 12, ending: str = "png") -> Path:
    for number in range(count):
        save(root / f"images/{number:04d}.{ending}", picture(number))
        save(root / f"masks/{number:04d}.{ending}", masks(number))
    return root


@pytest.fixture
def rare(tmp_path) -> Path:
    """600 masks with the ids 0 to 5, of which 3 is only in a mask that is not looked at."""
    seen = set(spread([f"{number}" for number in range(600)], 200))
    hidden = next(number for number in range(100, 600) if str(number) not in seen)
    every, most = (0, 1, 2, 3, 4, 5), (0, 1, 2, 4, 5)
    return pairs(tmp_path, lambda number: blobs(number, every if number == hidden else most), 600)


def test_a_class_that_was_not_seen_moves_no_name(rare):
    result = read(rare, NAMES)
    parameters = valid(result)[0]
    assert parameters.classes == NAMES
    assert not parameters.masks.values
    assert parameters.masks.offset == 0
    assert any("holds 3" in check for check in result.checks)


def test_ids_with_gaps_are_offered_both_ways_and_every_reading_is_valid(rare):
    result = read(rare)
    by_value, *_, whole = valid(result)
    assert by_value.masks.values == {0: "class_0", 1: "class_1", 2: "class_2", 4: "class_3", 5: "class_4"}
    assert (whole.classes, whole.masks.values) == ([f"class_{number}" for number in range(6)], {})
    assert any("gaps" in check for check in result.checks)


def test_a_missing_class_is_not_taken_from_255(tmp_path):
    result = read(pairs(tmp_path, lambda number: blobs(number, (0, 1, 3, 4, 255))), NAMES[:5])
    assert valid(result)[0].masks.values == {}  # b is 1, d is 3; 255 is void


def test_names_for_values_and_255_are_given_in_their_order(tmp_path):
    result = read(pairs(tmp_path, lambda number: blobs(number, (0, 1, 255))), NAMES[:3])
    assert valid(result)[0].masks.values == {0: "a", 1: "b", 255: "c"}


@pytest.mark.parametrize("values", [(0, 1, 2, 255), (0, 1, 15, 255), (0, 128, 255)])
def test_255_is_offered_as_a_class_and_as_void(tmp_path, values):
    result = read(pairs(tmp_path, lambda number: blobs(number, values)))
    named = [255 in parameters.masks.values for parameters in valid(result)]
    assert {True, False} <= set(named)
    assert any("255" in check for check in result.checks)


def test_a_255_border_is_void(tmp_path):
    def bordered(number: int) -> np.ndarray:
        mask = np.zeros(SIZE, np.uint8)
        for place, value in ((4, 1), (18, 15), (32, 9)):
            mask[5:20, place : place + 10] = value
            mask[5:20, place] = mask[5:20, place + 9] = mask[5, place : place + 10] = mask[19, place : place + 10] = 255
        return mask

    result = read(pairs(tmp_path, bordered))
    assert valid(result)[0].masks.values == {0: "class_0", 1: "class_1", 9: "class_2", 15: "class_3"}
    assert result.ignored == ["255"]
    assert any("along borders" in check for check in result.checks)


def test_two_values_in_jpeg_masks_are_told_by_a_threshold(tmp_path):
    result = read(pairs(tmp_path, lambda number: blobs(number, (0, 255)), ending="jpg"))
    assert result.options[0].masks["encoding"] == "threshold"
    assert any("JPEG" in check for check in result.checks)


@pytest.mark.parametrize("values", [(0, 128, 255), (0, 100, 255), (0, 255, 150)])
def test_three_values_in_jpeg_masks_are_refused(tmp_path, values):
    with pytest.raises(ConfigurationError, match="as PNG"):
        read(pairs(tmp_path, lambda number: blobs(number, values), ending="jpg"))


def test_soft_edges_are_no_third_class(tmp_path):
    def smoothed(number: int) -> np.ndarray:
        from PIL import Image

        small = Image.fromarray(blobs(number, (0, 255), (20, 24)))
        return np.asarray(small.resize(SIZE[::-1], Image.Resampling.BILINEAR))

    assert read(pairs(tmp_path, smoothed)).options[0].masks["encoding"] == "threshold"


def test_empty_masks_are_background(tmp_path):
    result = read(pairs(tmp_path, lambda _: np.zeros(SIZE, np.uint8)))
    parameters = valid(result)[0]
    assert parameters.classes == ["background", "object"]
    assert not parameters.masks.values
    assert any("one value only" in check for check in result.checks)


def test_one_bit_is_not_said_to_hold_255(tmp_path):
    from PIL import Image

    for number in range(12):
        save(tmp_path / f"images/{number}.png", picture(number))
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(blobs(number, (0, 255)) > 0).save(tmp_path / f"masks/{number}.png")
    result = read(tmp_path)
    assert result.options[0].masks == {"encoding": "index"}
    assert not any("0 and 255" in check for check in result.checks)


def create(root: Path, project: Path) -> list[str]:
    shutil.copytree(ROOT / "conf" / "base", project / "conf" / "base")
    lines = create_problem(Request("mine", str(root)), project, project / "conf")
    OmegaConf.load(project / "conf" / "mine" / "parameters.yml")
    return lines


def test_masks_of_another_size_are_told_at_once(tmp_path):
    root = pairs(tmp_path / "data", lambda number: blobs(number, (0, 1), (20, 24)))
    text = "\n".join(create(root, tmp_path / "project"))
    assert "masks/0000.png: is 24 x 20 pixels, but images/0000.png is 48 x 40" in text


def test_a_broken_mask_is_told_by_its_own_name(tmp_path):
    data = DataSet(tmp_path / "data")
    for number in range(12):
        data.pair(f"images/{number}.png", f"masks/{number}.png")
    (data.root / "masks/4.png").write_bytes(b"no picture")
    text = "\n".join(create(data.root, tmp_path / "project"))
    assert "masks/4.png" in text
    assert "images/4.png:" not in text
