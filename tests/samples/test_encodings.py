"""Every encoding gives the class ids that were drawn, and names what it does not know."""

import numpy as np
import pytest
from PIL import Image

from unet_segmentation.parameters.preparation import MaskParameters
from unet_segmentation.samples.encodings import EncodingError, decode_mask
from unet_segmentation.samples.reading import RawMask, read_mask

CLASSES = ["background", "cytoplasm", "nucleus"]
IDS = np.random.default_rng(0).integers(0, 3, (9, 7)).astype(np.uint8)
COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)


def _raw(pixels, palette=None):
    return RawMask(pixels, palette, "", ())


def _decode(raw, classes=CLASSES, **masks):
    return decode_mask(raw, MaskParameters(**masks), classes)


def test_index():
    ids = IDS.copy()
    ids[0] = 255
    decoded = _decode(_raw(ids))
    np.testing.assert_array_equal(decoded.ids, ids)
    assert not decoded.undeclared
    assert decoded.values["255"] == 7


def test_index_with_values():
    values = np.array([0, 128, 255], np.uint8)[IDS]
    table = dict(zip([0, 128, 255], CLASSES, strict=True))
    decoded = _decode(_raw(values), values=table)
    np.testing.assert_array_equal(decoded.ids, IDS)
    decoded = _decode(_raw(values), values=table, ignore=[128])
    np.testing.assert_array_equal(decoded.ids, np.where(IDS == 1, 255, IDS))


def test_several_values_of_one_class_and_deep_masks():
    values = np.array([[1000, 7], [65535, 7]], np.uint16)
    table = {1000: "background", 65535: "background", 7: "nucleus"}
    assert _decode(_raw(values), values=table).ids.tolist() == [[0, 2], [0, 2]]


def test_undeclared_values_are_counted_and_ignored():
    values = np.array([0, 128, 255], np.uint8)[IDS]
    decoded = _decode(_raw(values))
    assert decoded.undeclared == {"128": int((IDS == 1).sum())}
    assert decoded.values == {name: int((values == int(name)).sum()) for name in ("0", "128", "255")}
    np.testing.assert_array_equal(decoded.ids, np.where(IDS == 0, 0, 255))


def test_rgb_of_equal_channels_counts_as_grey():
    np.testing.assert_array_equal(_decode(_raw(np.stack([IDS] * 3, axis=2))).ids, IDS)
    with pytest.raises(EncodingError, match="holds colours") as caught:
        _decode(_raw(COLOURS[IDS]))
    assert caught.value.values == {
        ",".join(map(str, colour)): int((n == IDS).sum()) for n, colour in enumerate(COLOURS.tolist())
    }


def test_threshold():
    grey = np.array([[0, 127], [128, 255], [7, 7]], np.uint8)
    for raw in (_raw(grey), _raw(np.stack([grey] * 3, axis=2))):
        decoded = _decode(raw, ["a", "b"], encoding="threshold", ignore=[7])
        assert decoded.ids.tolist() == [[0, 0], [1, 1], [255, 255]]
        assert not decoded.undeclared
    assert _decode(_raw(grey), ["a", "b"], encoding="threshold", threshold=0).ids.tolist() == [[0, 1], [1, 1], [1, 1]]


def test_threshold_looks_palettes_up(tmp_path):
    Image.fromarray(IDS > 0).save(tmp_path / "bits.png")
    decoded = _decode(read_mask(tmp_path / "bits.png"), ["a", "b"], encoding="threshold")
    np.testing.assert_array_equal(decoded.ids, IDS > 0)


def test_palette_reads_indices_and_never_colours(tmp_path):
    paletted = Image.fromarray(IDS, "P")
    paletted.putpalette(COLOURS[::-1].tobytes())
    paletted.save(tmp_path / "a.png")
    np.testing.assert_array_equal(_decode(read_mask(tmp_path / "a.png"), encoding="palette").ids, IDS)
    np.testing.assert_array_equal(_decode(read_mask(tmp_path / "a.png")).ids, IDS)
    for pixels, what in ((IDS, "grey values"), (COLOURS[IDS], "colours")):
        with pytest.raises(EncodingError, match=f"holds {what}, not palette indices"):
            _decode(_raw(pixels), encoding="palette")


def test_colours(tmp_path):
    masks = {"encoding": "colors", "colors": dict(zip(CLASSES, COLOURS.tolist(), strict=True))}
    np.testing.assert_array_equal(_decode(_raw(COLOURS[IDS]), **masks).ids, IDS)
    paletted = Image.fromarray(IDS, "P")
    paletted.putpalette(COLOURS.tobytes())
    paletted.save(tmp_path / "a.png")
    np.testing.assert_array_equal(_decode(read_mask(tmp_path / "a.png"), **masks).ids, IDS)

    strange = COLOURS[IDS].copy()
    strange[0] = (1, 2, 3)
    decoded = _decode(_raw(strange), **masks)
    assert decoded.undeclared == {"1,2,3": 7}
    decoded = _decode(_raw(strange), **masks, ignore_colors=[(1, 2, 3)])
    assert not decoded.undeclared
    assert (decoded.ids[0] == 255).all()
    np.testing.assert_array_equal(decoded.ids[1:], IDS[1:])
