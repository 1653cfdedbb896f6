"""Every encoding gives the class ids that were drawn, and names what it does not know."""

import hashlib

import cv2
import numpy as np
import pytest
import scipy.io
import tifffile
from PIL import Image

from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import Raster, UnreadableError
from unet_segmentation.data.io.mask_decoder import MaskDecoder
from unet_segmentation.data.io.mask_encodings import EncodingError, count_values, decode_raster
from unet_segmentation.parameters.data import MaskParameters

CLASSES = ["background", "cytoplasm", "nucleus"]
IDS = np.random.default_rng(0).integers(0, 3, (9, 7)).astype(np.uint8)
COLORS = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)


def _raw(pixels, palette=None):
    return Raster(pixels, "PNG", palette)


def _decode(raw, classes=CLASSES, **masks):
    return decode_raster(raw, MaskParameters(**masks), classes)


def _read(folder, *names, classes=CLASSES, labels=None, **masks):
    """Decode files that lie in a folder."""
    label_of = dict(zip(names, labels or (), strict=False)).get
    return MaskDecoder(FileStore(folder), MaskParameters(**masks), classes, label_of).decode(names, "a.png", IDS.shape)


def _saved(file, pixels, **options):
    Image.fromarray(pixels).save(file, **options)
    return file.name


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


def test_shifted_ids():
    decoded = _decode(_raw(IDS + 1), offset=1, ignore=[0])
    np.testing.assert_array_equal(decoded.ids, IDS)
    assert decoded.values == {str(value + 1): int((value == IDS).sum()) for value in range(3)}
    assert _decode(_raw(IDS), offset=1).undeclared == {"0": int((IDS == 0).sum())}


def test_several_values_of_one_class_and_deep_masks():
    values = np.array([[1000, 7], [65535, 7]], np.uint16)
    table = {1000: "background", 65535: "background", 7: "nucleus"}
    for dtype in (np.uint16, np.int32, np.uint32, np.float64, ">u2"):
        assert _decode(_raw(values.astype(dtype)), values=table).ids.tolist() == [[0, 2], [0, 2]]
    wide = np.array([[0, 4_000_000_000]], np.uint32)
    decoded = _decode(_raw(wide), values={0: "background", 4_000_000_000: "nucleus"})
    assert decoded.ids.tolist() == [[0, 2]]


def test_undeclared_values_are_counted_and_ignored():
    values = np.array([0, 128, 255], np.uint8)[IDS]
    decoded = _decode(_raw(values))
    assert decoded.undeclared == {"128": int((IDS == 1).sum())}
    assert decoded.undeclared_kind == "undeclared_values"
    assert decoded.values == {name: int((values == int(name)).sum()) for name in ("0", "128", "255")}
    np.testing.assert_array_equal(decoded.ids, np.where(IDS == 0, 0, 255))


def test_rgb_of_equal_channels_counts_as_gray():
    np.testing.assert_array_equal(_decode(_raw(np.stack([IDS] * 3, axis=2))).ids, IDS)
    with pytest.raises(EncodingError, match="holds colors") as caught:
        _decode(_raw(COLORS[IDS]))
    assert caught.value.kind == "colored_mask"
    assert caught.value.values == {
        ",".join(map(str, color)): int((n == IDS).sum()) for n, color in enumerate(COLORS.tolist())
    }


def test_threshold():
    gray = np.array([[0, 127], [128, 255], [7, 7]], np.uint8)
    for raw in (_raw(gray), _raw(np.stack([gray] * 3, axis=2))):
        decoded = _decode(raw, ["a", "b"], encoding="threshold", ignore=[7])
        assert decoded.ids.tolist() == [[0, 0], [1, 1], [255, 255]]
        assert not decoded.undeclared
    assert _decode(_raw(gray), ["a", "b"], encoding="threshold", threshold=0).ids.tolist() == [[0, 1], [1, 1], [1, 1]]


def test_threshold_looks_palettes_up(tmp_path):
    classes = ["a", "b"]
    _saved(tmp_path / "bits.png", IDS > 0)
    inverted = Image.fromarray((IDS == 0).astype(np.uint8), "P")
    inverted.putpalette([255, 255, 255, 0, 0, 0])  # index 0 is white
    inverted.save(tmp_path / "p.gif")
    for name in ("bits.png", "p.gif"):
        np.testing.assert_array_equal(_read(tmp_path, name, classes=classes, encoding="threshold").ids, IDS > 0)
    name = _saved(tmp_path / "a.jpg", ((IDS > 0) * np.uint8(255)).repeat(16, 0).repeat(16, 1), quality=95)
    decoded = _read(tmp_path, name, classes=classes, encoding="threshold")
    np.testing.assert_array_equal(decoded.ids[8::16, 8::16], IDS > 0)
    assert [kind for kind, _ in decoded.notes] == ["lossy_mask"]


def test_palette_reads_indices_and_never_colors(tmp_path):
    paletted = Image.fromarray(IDS, "P")
    paletted.putpalette(COLORS[::-1].tobytes())
    for name in ("a.png", "a.gif", "a.bmp", "a.tif"):
        paletted.save(tmp_path / name)
        decoded = _read(tmp_path, name, encoding="palette")
        np.testing.assert_array_equal(decoded.ids, IDS)
        assert decoded.sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        np.testing.assert_array_equal(_read(tmp_path, name).ids, IDS)
    for pixels, what in ((IDS, "gray values"), (COLORS[IDS], "colors")):
        with pytest.raises(EncodingError, match=f"holds {what}, not palette indices") as caught:
            _decode(_raw(pixels), encoding="palette")
        assert caught.value.kind == "no_palette"


def test_colors(tmp_path):
    masks = {"encoding": "colors", "colors": dict(zip(CLASSES, COLORS.tolist(), strict=True))}
    np.testing.assert_array_equal(_decode(_raw(COLORS[IDS]), **masks).ids, IDS)
    paletted = Image.fromarray(IDS, "P")
    paletted.putpalette(COLORS.tobytes())
    paletted.save(tmp_path / "a.png")
    np.testing.assert_array_equal(_read(tmp_path, "a.png", **masks).ids, IDS)
    name = _saved(tmp_path / "rgba.png", np.dstack([COLORS[IDS], IDS]))
    np.testing.assert_array_equal(_read(tmp_path, name, **masks).ids, IDS)

    strange = COLORS[IDS].copy()
    strange[0] = (1, 2, 3)
    decoded = _decode(_raw(strange), **masks)
    assert decoded.undeclared == {"1,2,3": 7}
    assert decoded.undeclared_kind == "undeclared_colors"
    decoded = _decode(_raw(strange), **masks, ignore_colors=[(1, 2, 3)])
    assert not decoded.undeclared
    assert (decoded.ids[0] == 255).all()
    np.testing.assert_array_equal(decoded.ids[1:], IDS[1:])
    with pytest.raises(UnreadableError, match=r"outside 0\.\.255"):
        _decode(_raw(np.full((2, 2), 256, np.uint16)), **masks)


def test_several_colors_of_one_class():
    first, *others = COLORS.tolist()
    colors = {CLASSES[0]: first, CLASSES[1]: others}
    decoded = _decode(_raw(COLORS[IDS]), encoding="colors", colors=colors)
    np.testing.assert_array_equal(decoded.ids, IDS != 0)
    assert not decoded.undeclared


@pytest.mark.parametrize("suffix", ["tif", "npy", "mat", "txt", "csv"])
def test_negative_values_in_grids_of_numbers(tmp_path, suffix):
    signed = np.where(IDS == 2, -1, IDS.astype(np.int16))
    file = tmp_path / f"a.{suffix}"
    if suffix == "tif":
        tifffile.imwrite(file, signed)
    elif suffix == "npy":
        np.save(file, signed)
    elif suffix == "mat":
        scipy.io.savemat(file, {"mask": signed.astype(np.float64), "scale": 3.0, "name": "x"})
    else:
        np.savetxt(file, signed, fmt="%d", delimiter="," if suffix == "csv" else " ")
    decoded = _read(tmp_path, file.name, classes=CLASSES[:2], ignore=[-1])
    np.testing.assert_array_equal(decoded.ids, np.where(IDS == 2, 255, IDS))
    assert decoded.values["-1"] == (IDS == 2).sum()
    assert _read(tmp_path, file.name, classes=CLASSES[:2]).undeclared == {"-1": (IDS == 2).sum()}
    assert _read(tmp_path, file.name, values={-1: "nucleus", 0: "background", 1: "cytoplasm"}).ids[IDS == 2].all()


def test_matlab_structures_and_what_is_missing(tmp_path):
    """As in SBD: GTcls is a structure of cells and matrices."""
    boundaries = np.empty((2, 1), object)
    boundaries[:, 0] = [np.eye(9, 7), np.eye(9, 7)]
    structure = {"GTcls": {"Boundaries": boundaries, "Segmentation": IDS, "CategoriesPresent": np.array([[1], [2]])}}
    for compressed in (False, True):
        scipy.io.savemat(tmp_path / "a.mat", structure, do_compression=compressed)
        np.testing.assert_array_equal(_read(tmp_path, "a.mat", variable="GTcls.Segmentation").ids, IDS)
        np.testing.assert_array_equal(_read(tmp_path, "a.mat").ids, IDS)
    with pytest.raises(UnreadableError, match=r"has no variable groundTruth.*GTcls\.Segmentation \(9 x 7\)"):
        _read(tmp_path, "a.mat", variable="groundTruth")
    scipy.io.savemat(tmp_path / "b.mat", {"one": IDS, "two": IDS})
    with pytest.raises(UnreadableError, match=r"2 matrices.*one \(9 x 7\), two \(9 x 7\)"):
        _read(tmp_path, "b.mat")
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM"
    (tmp_path / "c.mat").write_bytes(header + b"\0" * 384 + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UnreadableError, match=r"version 7\.3.*-v7"):
        _read(tmp_path, "c.mat")


def test_what_is_no_mask_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((4, 4), 0.5, np.float32))
    (tmp_path / "words.txt").write_text("a b\nc d\n")
    (tmp_path / "ragged.txt").write_text("1 2\n3\n")
    tifffile.imwrite(tmp_path / "bands.tif", np.zeros((4, 4, 5), np.uint8), photometric="minisblack", planarconfig=1)
    cases = {"a.tif": "fractions", "words.txt": "no grid", "ragged.txt": "damaged", "bands.tif": "5 bands"}
    for name, reason in cases.items():
        with pytest.raises(UnreadableError, match=reason) as caught:
            _read(tmp_path, name)
        assert caught.value.kind == "unreadable_mask"


def test_instances_in_one_file_and_in_many(tmp_path):
    numbered = np.where(IDS > 0, np.arange(IDS.size).reshape(IDS.shape) + 1000, 0)
    expected = (IDS > 0).astype(np.uint8)
    for dtype in (np.uint16, np.uint32):
        tifffile.imwrite(tmp_path / "a.tif", numbered.astype(dtype))
        decoded = _read(tmp_path, "a.tif", classes=["outside", "cell"], encoding="instances")
        np.testing.assert_array_equal(decoded.ids, expected)
        assert decoded.values == {"0": (IDS == 0).sum(), "instances": (IDS > 0).sum()}
    decoded = _read(tmp_path, "a.tif", encoding="instances", instance_class="nucleus")
    np.testing.assert_array_equal(decoded.ids, 2 * expected)

    names = [_saved(tmp_path / f"{n}.png", (n == IDS) * np.uint8(255)) for n in (1, 2)]
    decoded = _read(tmp_path, *names, classes=["outside", "cell"], encoding="instances")
    np.testing.assert_array_equal(decoded.ids, expected)
    assert decoded.notes == ()
    assert len(decoded.sha256) == 64
    ignored = np.where(IDS == 2, 255, IDS)
    decoded = _decode(_raw(ignored), ["outside", "cell"], encoding="instances", ignore=[255])
    np.testing.assert_array_equal(decoded.ids, ignored)
    paletted = Image.fromarray(IDS, "P")
    paletted.putpalette([0] * 9)  # all black: the indices are what counts
    paletted.save(tmp_path / "p.png")
    decoded = _read(tmp_path, "p.png", classes=["outside", "cell"], encoding="instances")
    np.testing.assert_array_equal(decoded.ids, expected)


def test_masks_are_joined_in_order(tmp_path):
    below = np.array([[1, 1, 0, 1], [255, 0, 255, 2]], np.uint8)
    above = np.array([[0, 2, 2, 255], [1, 0, 0, 2]], np.uint8)
    names = [_saved(tmp_path / "a.png", below), _saved(tmp_path / "b.png", above)]
    with pytest.raises(EncodingError, match="has 2 masks") as caught:
        _read(tmp_path, *names)
    assert caught.value.kind == "several_masks"
    decoded = _read(tmp_path, *names, merge=True)
    assert decoded.ids.tolist() == [[1, 2, 2, 255], [1, 0, 255, 2]]
    assert decoded.notes == (("overlapping_masks", "nucleus covers 1 pixels of cytoplasm"),)
    assert decoded.values == {"0": 5, "1": 4, "2": 4, "255": 3}
    assert decoded.sha256 == _read(tmp_path, *names, merge=True).sha256
    assert decoded.sha256 != _read(tmp_path, names[0], merge=True).sha256
    _saved(tmp_path / "small.png", above[:1])
    with pytest.raises(EncodingError, match="different sizes") as caught:
        _read(tmp_path, "a.png", "small.png", merge=True)
    assert caught.value.kind == "size_mismatch"
    (tmp_path / "bad.png").write_bytes(b"bad")
    with pytest.raises(UnreadableError, match=r"^bad\.png: is not an image"):
        _read(tmp_path, "a.png", "bad.png", merge=True)


def test_one_mask_for_each_class(tmp_path):
    for number, label in enumerate(("nothing", "cyto", "nucleus")):
        _saved(tmp_path / f"{label}.png", (number == IDS) * np.uint8(255))
    masks = {"labels": {"cyto": "cytoplasm", "nothing": "background"}}
    names = ["nothing.png", "cyto.png", "nucleus.png"]

    def read(**more):
        declared = MaskParameters(**(masks | more))
        decoder = MaskDecoder(FileStore(tmp_path), declared, CLASSES, lambda name: name.removesuffix(".png"))
        return decoder.decode(names, "a.png", IDS.shape)

    decoded = read()
    np.testing.assert_array_equal(decoded.ids, IDS)
    assert decoded.values == {
        label: (number == IDS).sum() for number, label in enumerate(("nothing", "cyto", "nucleus"))
    }
    decoded = read(labels={"cyto": "cytoplasm"})
    assert decoded.undeclared == {"nothing": (IDS == 0).sum()}
    assert decoded.undeclared_kind == "undeclared_labels"
    decoded = read(labels={"nothing": "background"}, ignore_labels=["cyto"])
    np.testing.assert_array_equal(decoded.ids, np.where(IDS == 1, 255, IDS))
    np.testing.assert_array_equal(read(encoding="threshold", threshold=200).ids, IDS)


def _regions(values, size=(120, 160)):
    """Discs and bars of all values on the first one."""
    mask = np.full(size, values[0], np.uint8)
    generator = np.random.default_rng(3)
    for value in list(values[1:]) * 3:
        center = [int(generator.integers(15, side - 15)) for side in reversed(size)]
        cv2.circle(mask, center, int(generator.integers(6, 14)), int(value), -1)
        cv2.line(mask, (0, center[1]), (center[0], size[0] - 1), int(value), 3)
    return mask


@pytest.mark.parametrize("values", [(0, 255), (0, 128, 255), (0, 60, 190), (10, 250)])
@pytest.mark.parametrize("quality", [50, 75, 95])
def test_masks_that_were_saved_as_jpeg_are_ghostly(tmp_path, values, quality):
    name = _saved(tmp_path / "a.jpg", _regions(values), quality=quality)
    decoded = _read(tmp_path, name, values=dict(zip(values, CLASSES, strict=False)))
    assert decoded.undeclared_kind == "ghost_values"
    assert "lossy_mask" in dict(decoded.notes)


@pytest.mark.parametrize("values", [(0, 255), (0, 128, 255), (3, 200)])
@pytest.mark.parametrize("factor", [0.4, 0.75, 1.3, 2.0, 3.0])
@pytest.mark.parametrize("method", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS])
def test_masks_that_were_resized_with_interpolation_are_ghostly(tmp_path, values, factor, method):
    mask = Image.fromarray(_regions(values))
    resized = mask.resize((int(160 * factor), int(120 * factor)), method)
    decoded = _decode(_raw(np.asarray(resized)), values=dict(zip(values, CLASSES, strict=False)))
    assert decoded.undeclared_kind == "ghost_values"


def test_colors_that_were_saved_as_jpeg_are_ghostly(tmp_path):
    name = _saved(tmp_path / "a.jpg", COLORS[_regions((0, 1, 2))])
    masks = {"encoding": "colors", "colors": dict(zip(CLASSES, COLORS.tolist(), strict=True))}
    assert _read(tmp_path, name, **masks).undeclared_kind == "ghost_values"


def test_a_forgotten_class_is_no_ghost():
    small = _regions((0, 1))
    small[50:53, 60:63] = 2  # small and compact
    assert _decode(_raw(small), CLASSES[:2]).undeclared_kind == "undeclared_values"
    border = _regions((0, 255))
    border[cv2.morphologyEx(border, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0] = 128  # a line in between
    table = {0: "background", 255: "nucleus"}
    assert _decode(_raw(border), values=table).undeclared_kind == "undeclared_values"
    many = _regions(tuple(range(12)))  # several forgotten ones
    assert _decode(_raw(many)).undeclared_kind == "undeclared_values"
    instances, _ = cv2.connectedComponents((_regions((0, 1)) > 0).astype(np.uint8))
    generator = np.random.default_rng(0)
    cells = np.zeros((120, 160), np.uint8)
    for number in range(3, 200):
        row, column = generator.integers(0, 110), generator.integers(0, 150)
        cells[row : row + 5, column : column + 5] = number
    assert instances
    assert _decode(_raw(cells)).undeclared_kind == "undeclared_values"
    photograph = cv2.GaussianBlur(generator.integers(0, 256, (120, 160)).astype(np.uint8), (5, 5), 0)
    assert _decode(_raw(photograph), values=table).undeclared_kind == "undeclared_values"


def test_values_are_counted_exactly(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 33)).astype(np.uint8)
    monkeypatch.setattr("unet_segmentation.data.io.mask_encodings.EXACT_COUNTS", 100)
    np.testing.assert_array_equal(count_values(pixels), np.bincount(pixels.ravel(), minlength=256))
    deep = pixels.astype(np.uint16) * 200
    np.testing.assert_array_equal(count_values(deep), np.bincount(deep.ravel()))


@pytest.mark.parametrize("masks", [{}, {"ignore": [1]}, {"values": {0: "nucleus", 1: "background", 2: "nucleus"}}])
def test_pixels_by_class_are_counted_on_the_way(masks):
    ids = IDS.copy()
    ids[0] = 7
    decoded = _decode(_raw(ids), **masks)
    np.testing.assert_array_equal(decoded.counts, np.bincount(decoded.ids.ravel(), minlength=256))
