"""The verdict's message says which files, what is in them, and the YAML that declares it."""

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.samples.fabrication import mask, picture
from unet_segmentation.errors import DataError
from unet_segmentation.parameters.preparation import InspectionParameters, MaskParameters
from unet_segmentation.samples.judging import audit_verdict, judge


def _judge(fabricated, classes=("a", "b"), **masks):
    inspected, findings, _ = fabricated.inspect(classes, **masks)
    verdict = audit_verdict(inspected, findings, list(classes), MaskParameters(**masks), InspectionParameters())
    judge(verdict)
    return verdict


def _proposed(fabricated, classes, **masks):
    """Get the refusal, and the verdict under the declaration that it proposes."""
    with pytest.raises(DataError) as caught:
        _judge(fabricated, classes, **masks)
    line = next(line for line in str(caught.value).splitlines() if line.strip().startswith("masks:"))
    declaration = yaml.safe_load(line)["masks"]
    return str(caught.value), declaration, _judge(fabricated, classes, **declaration)


def test_good_data_pass(fabricated):
    fabricated.add("s", picture(), [mask()])
    verdict = _judge(fabricated)
    assert verdict["status"] == "passed"
    assert verdict["counts"] == {"error": 0, "warning": 0, "note": 1}
    assert verdict["kinds"] == {"mask_values": 1}


def test_warnings_pass_and_are_told(fabricated):
    fabricated.add("s", np.full((8, 10, 3), 7, np.uint8), [mask()])
    verdict = _judge(fabricated)
    assert verdict["status"] == "passed with warnings"
    assert verdict["messages"][0] == "warning: images of one constant value: images/s.png: every value is 7"


def test_proposes_three_grey_values_for_three_classes(fabricated):
    for number in range(9):
        fabricated.add(f"s{number}", picture(number), [mask(number, options=(0, 128, 255))])
    message, declaration, verdict = _proposed(fabricated, ["background", "cytoplasm", "nucleus"])
    assert declaration == {"encoding": "index", "values": {0: "background", 128: "cytoplasm", 255: "nucleus"}}
    assert "masks with undeclared values: 9" in message
    assert "masks/s0_0.png: 128" in message
    assert "masks/s5_0.png" not in message
    assert "and 4 more" in message
    assert verdict["counts"]["error"] == 0


def test_black_and_white_masks_of_two_classes(fabricated):
    fabricated.add("s", picture(), [mask(options=(0, 255))])
    message, declaration, _ = _proposed(fabricated, ["membrane", "cell"])
    assert declaration["values"] == {0: "membrane", 255: "cell"}
    assert "encoding: threshold" in message


def test_soft_masks_of_two_classes_get_a_threshold(fabricated):
    values = np.concatenate([np.arange(12), np.arange(240, 256), [60, 99]])
    fabricated.add("s", picture(size=(40, 40)), [mask(size=(40, 40), options=values)])
    _, declaration, _ = _proposed(fabricated, ["a", "b"])
    assert declaration == {"encoding": "threshold", "threshold": 127}


def test_one_value_too_many_is_proposed_as_ignored(fabricated):
    fabricated.add("s", picture(), [mask(options=(0, 1, 11))])
    message, declaration, _ = _proposed(fabricated, ["a", "b"])
    assert declaration == {"encoding": "index", "ignore": [11]}
    assert "count nowhere" in message


def test_what_is_declared_stays_in_the_proposal(fabricated):
    fabricated.add("s", picture(), [mask(options=(0, 100, 200))])
    _, declaration, _ = _proposed(fabricated, ["a", "b"], values={0: "b", 200: "a"})
    assert declaration == {"encoding": "index", "values": {0: "b", 200: "a"}, "ignore": [100]}


def test_coloured_masks(fabricated):
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    for number in range(3):
        fabricated.add(f"s{number}", picture(number), [colours[mask(number, options=(0, 1, 2))]])
    _, declaration, _ = _proposed(fabricated, ["a", "b", "c"])
    assert declaration["encoding"] == "colors"
    assert sorted(declaration["colors"].values()) == sorted(colours.tolist())


def test_one_undeclared_colour(fabricated):
    colours = np.array([[0, 0, 0], [255, 0, 0], [9, 9, 9]], np.uint8)
    fabricated.add("s", picture(), [colours[mask(options=(0, 1, 2))]])
    given = {"encoding": "colors", "colors": {"a": [0, 0, 0], "b": [255, 0, 0]}}
    _, declaration, _ = _proposed(fabricated, ["a", "b"], **given)
    assert declaration == given | {"ignore_colors": [[9, 9, 9]]}


def test_values_beyond_any_guess_are_not_guessed(fabricated):
    fabricated.add("s", picture(size=(64, 64)), [mask(size=(64, 64), options=range(256))])
    with pytest.raises(DataError, match="save the masks without loss") as caught:
        _judge(fabricated, ["a", "b", "c"])
    assert "other values" in str(caught.value)


def test_all_kinds_of_errors_stand_in_one_message(fabricated):
    fabricated.add("good", picture(1), [mask(1)])
    fabricated.add("small", picture(), [mask(size=(4, 4))])
    fabricated.add("alone", picture(2), [])
    fabricated.add("lost", "", [mask(3)])
    fabricated.add("torn", picture(4, (64, 64)), [mask(4, (64, 64))])
    torn = fabricated.root / "images/torn.png"
    torn.write_bytes(torn.read_bytes()[:1000])
    Image.fromarray(picture(5)).save(fabricated.root / "images/good.tif")
    with pytest.raises(DataError) as caught:
        _judge(fabricated)
    message = str(caught.value)
    for part in (
        "images/torn.png: is damaged",
        "images without a mask: 1\n  images/alone.png: has no mask",
        "masks without an image: 1\n  masks/lost_0.png",
        "images/small.png: is 10 x 8, its mask masks/small_0.png 4 x 4",
        "source.masks",
        "5 samples inspected",
    ):
        assert part in message


def test_an_empty_data_set_and_an_absent_class(fabricated):
    with pytest.raises(DataError, match="no samples"):
        _judge(fabricated)
    fabricated.add("s", picture(), [mask()])
    with pytest.raises(DataError, match="classes that occur in no mask: 1\n  c\n  Remove the class"):
        _judge(fabricated, ("a", "b", "c"))
