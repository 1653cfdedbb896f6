"""The label map: ids, colors and slugs of the classes, made once."""

import numpy as np

from unet_segmentation.data.label_map import LabelMap, class_slugs
from unet_segmentation.visualization import class_colors


def test_ids_colors_and_slugs_follow_the_order_of_the_names():
    label_map = LabelMap.from_names(["background", "Nucleus (dark)", "Zelle"])
    assert list(label_map.ids) == [0, 1, 2]
    assert label_map.slugs == ("background", "nucleus_dark", "zelle")
    np.testing.assert_array_equal(label_map.colors, class_colors(3))
    assert label_map.ignore_index == 255


def test_survives_json_unchanged():
    label_map = LabelMap.from_names(["a", "b"])
    assert LabelMap.model_validate_json(label_map.model_dump_json()) == label_map


def test_slugs_are_unique_and_plain():
    assert class_slugs(["Räder", "rader", "!", "A b"]) == ["rader", "rader_1", "class_2", "a_b"]
    assert class_slugs(["Cell body", "cell-body", "Zellkörper", "核", "核2"]) == [
        "cell_body", "cell_body_1", "zellkorper", "class_3", "2",
    ]  # fmt: skip
    assert len(set(class_slugs(["a", "a_2", "A"]))) == 3
