"""Every proposal is valid, and declares every value that was found."""

import numpy as np
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unet_segmentation.data.audit.suggested_config import (
    color_name,
    propose_joining,
    propose_labels,
    propose_range,
    propose_values,
)
from unet_segmentation.data.io.image_decoders import Raster
from unet_segmentation.data.io.mask_encodings import decode_raster
from unet_segmentation.parameters.data import ImageParameters, MaskParameters

CLASSES = [f"class {number}" for number in range(40)]


def meaning(value, masks: MaskParameters, classes):  # noqa: PLR0911
    """What the docstring of MaskParameters says a value means: a class, "ignored", or None."""
    if isinstance(value, tuple):
        named = {color: name for name, color in masks.named_colors}
        return "ignored" if value in masks.ignore_colors else named.get(value)
    if value in masks.ignore:
        return "ignored"
    if masks.encoding == "threshold":
        return classes[value > masks.threshold]
    if masks.encoding == "instances":
        return classes[0] if value == 0 else masks.instance_class or classes[1]
    assert masks.encoding in ("index", "palette")
    if value == 255 and 255 not in masks.values:
        return "ignored"
    if masks.values:
        return masks.values.get(value)
    return classes[value - masks.offset] if 0 <= value - masks.offset < len(classes) else None


def parsed(proposal) -> MaskParameters:
    document = yaml.safe_load(proposal.text)
    assert list(document) == ["masks"]
    assert "\n" not in proposal.text
    return MaskParameters.model_validate(document["masks"])


def readings(values, count, masks=None):
    """Parse the proposals for values of equal frequency (or pixels by value)."""
    result = dict(values) if isinstance(values, dict) else dict.fromkeys(values, 100)
    text = {",".join(map(str, v)) if isinstance(v, tuple) else str(v): n for v, n in result.items()}
    return [parsed(p) for p in propose_values(text, CLASSES[:count], masks or MaskParameters())]


declarations = st.sampled_from(
    [
        MaskParameters(),
        MaskParameters(ignore=[7, -3]),
        MaskParameters(encoding="palette"),
        MaskParameters(offset=1),
        MaskParameters(encoding="threshold"),
        MaskParameters(values={0: CLASSES[0], 200: CLASSES[1]}),
        MaskParameters(values={-1: CLASSES[0], 9: CLASSES[1]}, ignore=[3]),
    ]
)


@settings(max_examples=400, deadline=None)
@given(
    st.dictionaries(st.integers(-3, 300), st.integers(1, 10**6), min_size=1, max_size=60),
    st.integers(2, 30),
    declarations,
)
@example({0: 5, 1: 5, 255: 5}, 2, MaskParameters())
def test_every_proposal_declares_every_value(values, count, masks):
    for proposed in readings(values, count, masks):
        assert all(meaning(value, proposed, CLASSES[:count]) for value in values), proposed
        assert set(proposed.values.values()) <= set(CLASSES[:count])


channel = st.sampled_from([0, 64, 128, 192, 255])


@settings(max_examples=200, deadline=None)
@given(
    st.sets(st.tuples(channel, channel, channel), min_size=1, max_size=40),
    st.integers(2, 20),
    st.sampled_from([MaskParameters(), MaskParameters(encoding="colors", colors={CLASSES[0]: (0, 0, 0)})]),
)
def test_every_proposal_declares_every_color(colors, count, masks):
    for proposed in readings(colors, count, masks):
        gray = proposed.encoding != "colors"  # colors that are all gray are read as gray values
        assert all(meaning(c[0] if gray else c, proposed, CLASSES[:count]) for c in colors), proposed


@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(0, 255), min_size=2, max_size=12), st.integers(2, 6))
def test_what_is_proposed_decodes(values, count):
    raw = Raster(np.array([sorted(values)], np.uint8), "PNG")
    for proposed in readings(values, count):
        if proposed.encoding in ("index", "threshold") and not proposed.offset:
            assert decode_raster(raw, proposed, CLASSES[:count]).undeclared == {}


def test_black_and_white_of_two_classes_both_ways():
    first, second = readings([0, 255], 2)
    assert first.values == {0: "class 0", 255: "class 1"}
    assert second.values == {0: "class 1", 255: "class 0"}


def test_ids_that_begin_with_one():
    assert [proposed.offset for proposed in readings([1, 2, 3, 4], 4)] == [1]
    assert [proposed.offset for proposed in readings([1, 2, 3, 255], 3)] == [1]
    rest_last, rest_first = readings([0, 1, 2, 3], 3)
    assert (rest_last.offset, rest_last.ignore) == (0, [3])
    assert (rest_first.offset, rest_first.ignore) == (1, [0])


def test_gaps_negative_values_and_a_border_of_255():
    (gaps,) = readings([0, 4, 9], 3)
    assert gaps.values == {0: "class 0", 4: "class 1", 9: "class 2"}
    (negative,) = readings([-1, 0, 1, 2], 3)
    assert (negative.ignore, negative.values) == ([-1], {})
    (border,) = readings([0, 38, 75, 255], 3)
    assert (border.ignore, border.values) == ([255], {0: "class 0", 38: "class 1", 75: "class 2"})
    (hidden,) = readings([0, 1, 255], 3)  # 255 is ignored unless declared, so class 2 seems absent
    assert hidden.values == {0: "class 0", 1: "class 1", 255: "class 2"}


def test_stray_values_are_no_classes():
    (proposed,) = readings({0: 69_000, 3: 2, 128: 19_000, 255: 12_000}, 3)
    assert proposed.values == {0: "class 0", 128: "class 1", 255: "class 2"}
    assert proposed.ignore == [3]


def test_soft_borders_get_a_threshold_between_the_two():
    around = dict.fromkeys(range(0, 255, 3), 1) | {0: 6000, 1: 300, 254: 300, 255: 4000}
    assert [(p.encoding, p.threshold) for p in readings(around, 2)] == [("threshold", 127)]
    darker = dict.fromkeys(range(0, 76, 4), 1) | {0: 900, 75: 300}
    assert [(p.encoding, p.threshold) for p in readings(darker, 2)] == [("threshold", 37)]
    assert readings(dict.fromkeys(range(256), 10), 2) == []  # as many in the middle: no two classes


def test_counted_values_of_two_classes_are_instances():
    cells = {0: 50_000} | {number: 300 + number for number in range(1, 58)}
    assert readings(cells, 2)[0].encoding == "instances"


def test_what_is_declared_already_needs_no_proposal():
    for result in ([0, 1], [0], [255], [0, 1, 255]):
        assert readings(result, 2) == []
    assert readings([0, 5], 3, MaskParameters(encoding="instances")) == []
    assert propose_values({"0.5": 3, "1.0": 3}, CLASSES[:2], MaskParameters()) == []
    assert propose_values({}, CLASSES[:2], MaskParameters()) == []


def test_colors_are_named_and_ordered():
    result = {"255,0,0": 30, "0,0,0": 20, "0,128,0": 50, "224,224,192": 5}
    first, second = propose_values(result, ["background", "tree", "car"], MaskParameters())
    assert parsed(first).colors == {"background": (0, 0, 0), "tree": (0, 128, 0), "car": (255, 0, 0)}
    assert parsed(first).ignore_colors == [(224, 224, 192)]
    assert "background black, tree dark green, car red" in first.remark
    assert parsed(second).ignore_colors == [(0, 0, 0)]


def test_a_declared_color_table_is_kept_and_completed():
    declared = MaskParameters(encoding="colors", colors={CLASSES[0]: (0, 0, 0)}, ignore_colors=[(1, 1, 1)])
    (proposed,) = readings([(0, 0, 0), (9, 9, 9), (7, 7, 7)], 2, declared)
    assert set(proposed.colors) == {"class 0", "class 1"}
    assert len(proposed.ignore_colors) == 2
    several = MaskParameters(encoding="colors", colors={CLASSES[0]: [(0, 0, 0), (1, 1, 1)]})
    (proposed,) = readings([(0, 0, 0), (1, 1, 1), (7, 7, 7)], 2, several)
    assert proposed.colors == {**several.colors, CLASSES[1]: (7, 7, 7)}


@pytest.mark.parametrize(
    ("color", "name"),
    [((250, 4, 9), "red"), ((1, 1, 1), "black"), ((120, 3, 130), "purple"), ((130, 128, 126), "gray")],
)
def test_names_of_colors(color, name):
    assert color_name(color) == name


def test_labels_go_to_the_class_of_a_like_name_or_nowhere():
    masks = MaskParameters(encoding="labelme", labels={"kitty": "cat"}, ignore_labels=["?"])
    (proposal,) = propose_labels(["Cats", "blood-vessel", "noise"], ["background", "cat", "blood vessel"], masks)
    proposed = parsed(proposal)
    assert proposed.encoding == "labelme"
    assert proposed.labels == {"kitty": "cat", "Cats": "cat", "blood-vessel": "blood vessel"}
    assert proposed.ignore_labels == ["?", "noise"]


def test_several_masks_are_joined_or_instances():
    kept = MaskParameters(encoding="colors", colors={"a": (0, 0, 0), "b": (9, 9, 9), "c": (1, 2, 3)})
    joined, instances = map(parsed, propose_joining(["a", "b", "c"], kept))
    assert joined == kept.model_copy(update={"merge": True})
    assert (instances.encoding, instances.instance_class) == ("instances", "c")
    kept = MaskParameters(values={0: "a", 9: "b"})
    assert parsed(propose_joining(["a", "b"], kept)[0]).values == {0: "a", 9: "b"}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.01, 0.98, (0, 1)),
        (-0.9, 0.7, (-1, 1)),
        (-1024, 3071, (-1100, 3100)),
        (12.5, 2100.7, (0, 2200)),
        (2731.5, 3105.25, (2730, 3110)),
        (5, 5, (5, 6)),
        (0, 1e-6, (0, 1e-6)),
        (-3e38, 3e38, (-3e38, 3e38)),
    ],
)
def test_ranges_hold_what_was_found_in_round_numbers(low, high, expected):
    document = yaml.safe_load(propose_range(low, high).text)
    least, greatest = ImageParameters.model_validate(document["images"]).range
    assert least <= low
    assert high <= greatest * (1 + 1e-9)
    assert (least, greatest) == pytest.approx(expected, rel=0.05)


def test_the_proposal_is_yaml_whatever_the_classes_are_called():
    classes = ["no", "a: b", "Zellkörper"]
    (proposal,) = propose_values({"0": 5, "100": 5, "200": 5}, classes, MaskParameters())
    assert list(parsed(proposal).values.values()) == classes
