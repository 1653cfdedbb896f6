"""Shapes in annotation files cover the pixels whose center they hold; what is malformed is refused with the place."""

import base64
import io
import json
import random
import threading
from xml.sax.saxutils import escape

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unet_segmentation.data.io.annotations import coco as coco_format
from unet_segmentation.data.io.annotations.coco import MAX_OPEN_FILES, CocoFile, decode_run_lengths
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import UnreadableError
from unet_segmentation.data.io.mask_decoder import MaskDecoder
from unet_segmentation.data.io.mask_encodings import EncodingError
from unet_segmentation.data.io.shapes import rasterize_polygons
from unet_segmentation.parameters.data import MaskParameters

CLASSES = ["background", "cat", "dog"]
SIZE = (20, 30)
SQUARE = [[5, 4], [15, 4], [15, 12], [5, 12]]  # x, y
TRIANGLE = [[20.2, 2.3], [28.9, 15.1], [12.4, 17.7]]


def _decode(folder, *names, image="images/a.jpg", size=SIZE, classes=CLASSES, **masks):
    parameters = MaskParameters(**masks)
    return MaskDecoder(FileStore(folder), parameters, classes).decode(names, image, size)


def _written(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file.name


def oracle(polygon, size=SIZE):
    """Tell of every pixel's center whether it is inside: a ray to the left crosses an odd number of edges."""
    inside = np.zeros(size, bool)
    for row in range(size[0]):
        for column in range(size[1]):
            x, y, odd = column + 0.5, row + 0.5, False
            for (x1, y1), (x2, y2) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
                if (y1 <= y) != (y2 <= y) and x1 + (y - y1) / (y2 - y1) * (x2 - x1) <= x:
                    odd = not odd
            inside[row, column] = odd
    return inside


def _filled(rings, size=SIZE):
    rows, columns, inside = rasterize_polygons([np.array(ring, float) for ring in rings], size)
    whole = np.zeros(size, bool)
    whole[rows, columns] = inside
    return whole


NUMBERS = st.one_of(st.integers(-10, 40), st.floats(-10, 40, allow_nan=False))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=9))
def test_polygons_agree_with_brute_force(polygon):
    result, expected = _filled([polygon]), oracle(polygon)
    for row, column in np.argwhere(result != expected):  # only where a center lies on an edge, but for rounding
        center = np.array([column, row]) + 0.5
        starts, ends = np.array(polygon, float), np.roll(np.array(polygon, float), -1, axis=0)
        along = ends - starts
        lengths = np.maximum((along**2).sum(axis=1), 1e-30)
        share = np.clip(((center - starts) * along).sum(axis=1) / lengths, 0, 1)
        distance = np.linalg.norm(starts + share[:, None] * along - center, axis=1).min()
        assert distance < 1e-6


def test_rectangles_cover_their_area_and_neighbors_do_not_overlap():
    assert _filled([SQUARE]).sum() == 10 * 8
    assert _filled([SQUARE])[4:12, 5:15].all()
    left, right = [[0, 0], [7.5, 0], [3.2, 20], [0, 20]], [[7.5, 0], [30, 0], [30, 20], [3.2, 20]]
    assert (_filled([left]).astype(int) + _filled([right]) == 1).all()
    assert not _filled([[[1, 1], [5, 5]]]).any()
    assert not _filled([]).any()


def test_coordinates_far_outside_cost_nothing():
    huge = [[-1e300, -1e300], [1e300, -1e300], [1e300, 1e300], [-1e300, 1e300]]
    assert _filled([huge]).shape == SIZE
    with pytest.raises(UnreadableError, match="finite"):
        _filled([[[0, 0], [np.nan, 1], [1, 1]]])


# --- COCO ---


def coco(annotations, images=None, **more):
    images = images or [{"id": 7, "file_name": "a.jpg", "height": SIZE[0], "width": SIZE[1]}]
    categories = [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}, {"id": 9, "name": "bird"}]
    for number, annotation in enumerate(annotations):
        annotation |= {"id": number, "image_id": annotation.get("image_id", 7)}
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories, **more}


def flat(polygon):
    return [number for point in polygon for number in point]


def uncompressed(mask):
    """Lengths of runs down the columns, the first of zeros."""
    counts, last, run = [], False, 0
    for value in mask.ravel(order="F").tolist():
        if value != last:
            counts.append(run)
            last, run = value, 0
        run += 1
    return {"size": list(mask.shape), "counts": [*counts, run]}


def test_coco_polygons_and_their_order(tmp_path):
    content = coco(
        [
            {"category_id": 3, "segmentation": [flat(SQUARE), flat(TRIANGLE)]},
            {"category_id": 5, "segmentation": [flat([[10, 8], [18, 8], [18, 16], [10, 16]])], "iscrowd": 0},
        ]
    )
    name = _written(tmp_path / "instances.json", content)
    decoded = _decode(tmp_path, name, encoding="coco")
    above = _filled([[[10, 8], [18, 8], [18, 16], [10, 16]]])
    below = oracle(SQUARE) | oracle(TRIANGLE)
    np.testing.assert_array_equal(decoded.ids, np.where(above, 2, np.where(below, 1, 0)))
    assert decoded.values == {"cat": below.sum(), "dog": above.sum()}
    assert dict(decoded.notes) == {"overlapping_masks": f"dog covers {(above & below).sum()} pixels of cat"}


def test_coco_run_lengths_of_both_kinds():
    """The compressed texts were made by pycocotools 2.0.11."""
    mask = np.zeros((6, 5), bool)
    mask[1:4, 1:3] = True
    assert decode_run_lengths({"size": [6, 5], "counts": "7330;"}, (6, 5)).tolist() == mask.tolist()
    assert decode_run_lengths(uncompressed(mask), (6, 5)).tolist() == mask.tolist()
    mask = np.random.default_rng(5).random((60, 50)) < 0.004
    text = ";1X70W60nC0kk00gTO0Y20l80[C0Q30Z<0hB"
    np.testing.assert_array_equal(decode_run_lengths({"size": [60, 50], "counts": text}, (60, 50)), mask)
    mask = np.random.default_rng(0).random(SIZE) < 0.3
    np.testing.assert_array_equal(decode_run_lengths(uncompressed(mask), SIZE), mask)
    for counts in ([5, 3], [-1, 601], "zzz", [[1]], None):
        with pytest.raises((UnreadableError, TypeError, ValueError)):
            decode_run_lengths({"size": list(SIZE), "counts": counts}, SIZE)
    with pytest.raises(UnreadableError, match="of size"):
        decode_run_lengths({"size": [10**6, 10**6], "counts": [10**12]}, SIZE)


def test_compressed_run_lengths_agree_with_pycocotools():
    masks = pytest.importorskip("pycocotools.mask")
    generator = np.random.default_rng(0)
    for share in (0.01, 0.3, 0.9):
        for size in ((1, 1), (37, 53), (400, 300)):
            mask = np.asfortranarray(generator.random(size) < share)
            encoded = masks.encode(mask.astype(np.uint8, order="F"))
            encoded["counts"] = encoded["counts"].decode()
            np.testing.assert_array_equal(decode_run_lengths(encoded, size), mask)


def test_coco_crowds_are_ignored_and_lie_below(tmp_path):
    crowd = np.zeros(SIZE, bool)
    crowd[2:10, 2:20] = True
    annotations = [
        {"category_id": 3, "segmentation": [flat(SQUARE)]},
        {"category_id": 3, "segmentation": uncompressed(crowd), "iscrowd": 1},
    ]
    name = _written(tmp_path / "a.json", coco(annotations))
    decoded = _decode(tmp_path, name, encoding="coco")
    np.testing.assert_array_equal(decoded.ids, np.where(oracle(SQUARE), 1, np.where(crowd, 255, 0)))


def test_coco_labels(tmp_path):
    name = _written(tmp_path / "a.json", coco([{"category_id": 9, "segmentation": [flat(SQUARE)]}]))
    decoded = _decode(tmp_path, name, encoding="coco")
    assert (decoded.undeclared, decoded.undeclared_kind) == ({"bird": 80}, "undeclared_labels")
    assert (decoded.ids[oracle(SQUARE)] == 255).all()
    decoded = _decode(tmp_path, name, encoding="coco", labels={"bird": "dog"})
    np.testing.assert_array_equal(decoded.ids, oracle(SQUARE) * 2)
    assert decoded.undeclared_kind == ""
    decoded = _decode(tmp_path, name, encoding="coco", ignore_labels=["bird"])
    assert ((decoded.ids == 255) == oracle(SQUARE)).all()


def test_coco_images_are_found_by_name_and_folders(tmp_path):
    names = ["left/a.jpg", "right/a.jpg", "C:\\data\\b.jpg", "train/c.jpg"]
    images = [{"id": n, "file_name": name, "height": 20, "width": 30} for n, name in enumerate(names)]
    annotations = [
        {"category_id": 3, "image_id": n, "segmentation": [[n, 0, n + 1, 0, n + 1, 1, n, 1]]} for n in range(4)
    ]
    name = _written(tmp_path / "a.json", coco(annotations, images))
    cases = {"images/left/a.jpg": 0, "right/a.jpg": 1, "b.jpg": 2, "data/train/c.jpg#4": 3}
    for image, column in cases.items():
        assert np.argwhere(_decode(tmp_path, name, encoding="coco", image=image).ids).tolist() == [[0, column]]
    with pytest.raises(UnreadableError, match=r"2 images that could be a\.jpg"):
        _decode(tmp_path, name, encoding="coco", image="a.jpg")
    for image in ("d.jpg", "test/c.jpg"):
        with pytest.raises(UnreadableError, match=f"does not list the image {image} .it lists 4, such as") as caught:
            _decode(tmp_path, name, encoding="coco", image=image)
        assert caught.value.kind == "missing_mask"


def test_coco_images_without_objects_are_background(tmp_path):
    name = _written(tmp_path / "a.json", coco([]))
    assert not _decode(tmp_path, name, encoding="coco").ids.any()


def test_coco_sizes_must_fit(tmp_path):
    name = _written(tmp_path / "a.json", coco([]))
    for size, kind in (((21, 30), "size_mismatch"), ((30, 20), "turned_mask")):
        with pytest.raises(EncodingError, match="annotates an image of 30 x 20") as caught:
            _decode(tmp_path, name, encoding="coco", size=size)
        assert caught.value.kind == kind


def test_the_hash_is_of_this_images_annotations(tmp_path):
    def sha256(name, annotations, **more):
        images = [{"id": n, "file_name": f"{'ab'[n]}.jpg", "height": 20, "width": 30} for n in range(2)]
        _written(tmp_path / name, coco(annotations, images, **more))
        return _decode(tmp_path, name, encoding="coco").sha256

    one = {"category_id": 3, "image_id": 0, "segmentation": [flat(SQUARE)]}
    other = {"category_id": 5, "image_id": 1, "segmentation": [flat(TRIANGLE)]}
    moved = {"category_id": 3, "image_id": 0, "segmentation": [flat(TRIANGLE)]}
    first = sha256("1.json", [dict(one)])
    assert first == sha256("2.json", [dict(other), dict(one)], licenses=[])
    assert first != sha256("3.json", [dict(moved)])
    assert first != sha256("4.json", [one | {"category_id": 5}])


def test_large_files_are_parsed_once_by_many_threads(tmp_path, monkeypatch):
    count = 200
    images = [{"id": n, "file_name": f"{n}.jpg", "height": 20, "width": 30} for n in range(count)]
    annotations = [
        {"category_id": 3, "image_id": n, "segmentation": [[n % 30, 0, n % 30 + 1, 0, n % 30 + 1, 1, n % 30, 1]]}
        for n in range(count)
    ]
    name = _written(tmp_path / "a.json", coco(annotations, images))
    parsed = []
    original = CocoFile.__init__
    monkeypatch.setattr(CocoFile, "__init__", lambda self, text: parsed.append(1) or original(self, text))
    wrong = []

    def work(start):
        for n in range(start, count, 8):
            ids = _decode(tmp_path, name, encoding="coco", image=f"{n}.jpg").ids
            if np.argwhere(ids).tolist() != [[0, n % 30]]:
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (wrong, len(parsed)) == ([], 1)
    for number in range(10):
        _decode(tmp_path, _written(tmp_path / f"{number}.json", coco([])), encoding="coco")
    assert len(coco_format._OPEN_FILES) <= MAX_OPEN_FILES


# --- one file for each image ---


def test_yolo(tmp_path):
    shares = [f"{x / 30} {y / 20}" for x, y in SQUARE]
    name = _written(tmp_path / "a.txt", f"1 {' '.join(shares)}\n\n0 {24 / 30} {10 / 20} {4 / 30} {6 / 20}\n")
    decoded = _decode(tmp_path, name, encoding="yolo")
    expected = oracle(SQUARE) * 2
    expected[7:13, 22:26] = 1  # a box: center, width and height
    np.testing.assert_array_equal(decoded.ids, expected)
    assert decoded.values == {"1": 80, "0": 24}
    decoded = _decode(tmp_path, name, encoding="yolo", labels={"0": "dog", "1": "cat"})
    np.testing.assert_array_equal(decoded.ids, np.array([0, 2, 1])[expected])
    assert _decode(tmp_path, name, encoding="yolo", labels={"0": "dog"}).undeclared == {"1": 80}
    assert _decode(tmp_path, name, encoding="yolo", classes=CLASSES[:2]).undeclared == {"1": 80}
    assert not _decode(tmp_path, _written(tmp_path / "empty.txt", ""), encoding="yolo").ids.any()


LABELME = {
    "version": "5.0",
    "imagePath": "a.jpg",
    "imageData": None,
    "imageHeight": SIZE[0],
    "imageWidth": SIZE[1],
}


def labelme(*shapes):
    return LABELME | {"shapes": [{"label": label, "shape_type": kind, **rest} for label, kind, rest in shapes]}


def test_labelme(tmp_path):
    mask = np.array([[1, 0, 1], [1, 1, 1]], np.uint8)
    stream = io.BytesIO()
    Image.fromarray(mask.astype(bool)).save(stream, "PNG")
    content = labelme(
        ("cat", "polygon", {"points": TRIANGLE}),
        ("dog", "rectangle", {"points": [[9, 9], [2, 3]]}),
        ("cat", "circle", {"points": [[6, 6], [6, 3]]}),
        ("background", "polygon", {"points": [[5, 5], [7, 5], [7, 7], [5, 7]]}),  # a hole
        ("dog", "mask", {"points": [[20, 15], [22, 16]], "mask": base64.b64encode(stream.getvalue()).decode()}),
    )
    decoded = _decode(tmp_path, _written(tmp_path / "a.json", content), encoding="labelme")
    rows, columns = np.mgrid[:20, :30] + 0.5
    expected = oracle(TRIANGLE).astype(np.uint8)
    expected[3:9, 2:9] = 2
    expected[(rows - 6) ** 2 + (columns - 6) ** 2 < 9] = 1
    expected[5:7, 5:7] = 0
    expected[15:17, 20:23][mask > 0] = 2
    np.testing.assert_array_equal(decoded.ids, expected)
    with pytest.raises(EncodingError) as caught:
        _decode(tmp_path, "a.json", encoding="labelme", size=(30, 20))
    assert caught.value.kind == "turned_mask"
    line = labelme(("cat", "linestrip", {"points": [[1, 1], [5, 5]]}))
    with pytest.raises(UnreadableError, match=r"linestrip in shape 0 .*has no area"):
        _decode(tmp_path, _written(tmp_path / "line.json", line), encoding="labelme")


def pascal(*objects, size=SIZE):
    sized = f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
    return f"<?xml version='1.0'?><annotation><filename>a.jpg</filename>{sized}{''.join(objects)}</annotation>"


def tags(**values):
    return "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in values.items())


def test_pascal(tmp_path):
    points = "".join(f"<pt>{tags(x=x, y=y)}</pt>" for x, y in TRIANGLE)
    numbered = tags(**{f"{'xy'[axis]}{n + 1}": SQUARE[n][axis] for n in range(4) for axis in (0, 1)})
    box = f"<bndbox>{tags(xmin=1, ymin=2, xmax=4, ymax=6)}</bndbox>"
    content = pascal(
        f"<object><name>cat</name><bndbox>{tags(xmin=0, ymin=0, xmax=30, ymax=20)}</bndbox>"
        f"<polygon>{points}</polygon></object>",
        f"<object><name>dog</name><polygon>{numbered}</polygon></object>",
        f"<object><name>cat</name>{box}</object>",
        f"<object><name>dog</name><deleted>1</deleted>{box}</object>",
    )
    decoded = _decode(tmp_path, _written(tmp_path / "a.xml", content), encoding="pascal")
    expected = np.where(oracle(SQUARE), 2, oracle(TRIANGLE))
    expected[2:6, 1:4] = 1
    np.testing.assert_array_equal(decoded.ids, expected)


def test_annotation_files_can_be_joined(tmp_path):
    first = labelme(("cat", "polygon", {"points": SQUARE}))
    second = labelme(("dog", "polygon", {"points": TRIANGLE}))
    names = [_written(tmp_path / "a.json", first), _written(tmp_path / "b.json", second)]
    decoded = _decode(tmp_path, *names, encoding="labelme", merge=True)
    np.testing.assert_array_equal(decoded.ids, np.where(oracle(TRIANGLE), 2, oracle(SQUARE)))


MALFORMED = {
    "coco": [
        ("", "is empty"),
        ("[]", "Expecting '{'.*line 1 column 1"),
        ('{"images": [\n{"id": 1 "x": 2}]}', "line 2 column 10"),
        ('{"images": [{"id": 1}]}', "lacks 'file_name'"),
        ('{"shapes": []}', "lists no images"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"} {"id": 2, "file_name": "b.jpg"}]}', "Expecting ','.*line 1"),
        (coco([{"category_id": 77, "segmentation": [flat(SQUARE)]}]), "annotation 0 has category 77"),
        (coco([{"category_id": 3, "segmentation": [[1, 2, 3]]}]), "annotation 0 holds a polygon"),
        (coco([{"category_id": 3, "segmentation": [["a", "b"]]}]), "annotation 0 holds a polygon"),
        (coco([{"category_id": 3, "bbox": [1, 2, 3, 4]}]), "only a box.*annotation 0"),
        (coco([{"category_id": 3, "segmentation": {"size": [20, 30], "counts": [1]}}]), "do not add up"),
        ("[" * 100_000, "malformed"),
    ],
    "yolo": [
        ("cat 0.1 0.1 0.2 0.2", "line 1"),
        ("0 0.1 0.1 0.2 0.2\n0 0.1 0.1 0.2", "line 2"),
        ("0 0.1 0.1 x 0.2", "line 1"),
        ("0 10 10 200 10 30 40", "line 1.*not shares"),
        ("0 nan 0.1 0.2 0.2", "line 1"),
    ],
    "labelme": [
        ("", "is empty"),
        ('{"shapes": [\n}', "line 2 column 1"),
        ("{}", "has no shapes"),
        ({"shapes": [{"points": SQUARE}]}, "lacks 'label'"),
        ({"shapes": [{"label": "cat", "points": [1, 2, 3]}]}, "malformed"),
        (labelme(("cat", "mask", {"points": [[1, 1]], "mask": "????"})), "malformed"),
    ],
    "pascal": [
        ("", "is empty"),
        ("<annotation><object></annotation>", "mismatched tag: line 1, column"),
        (pascal("<object></object>"), "object 0 .* has no name"),
        (pascal("<object><name>cat</name></object>"), "neither polygon nor bndbox"),
        (pascal("<object><name>cat</name><bndbox><xmin>a</xmin></bndbox></object>"), "neither polygon nor bndbox"),
    ],
}


@pytest.mark.parametrize(
    ("encoding", "content", "reason"), [(kind, *case) for kind, cases in MALFORMED.items() for case in cases]
)
def test_malformed_files_are_refused_with_the_place(tmp_path, encoding, content, reason):
    name = _written(tmp_path / "a.txt", content)
    for _ in range(2):  # what is known to be malformed stays so
        with pytest.raises(UnreadableError, match=reason) as caught:
            _decode(tmp_path, name, encoding=encoding)
        assert caught.value.kind == "unreadable_mask"


def test_entity_bombs_are_refused(tmp_path):
    lines = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e0 "ha">{lines}]><annotation>&e11;</annotation>'
    (tmp_path / "a.xml").write_text(bomb)
    (tmp_path / "b.xml").write_text(bomb.replace('"1.0"', '"1.0" encoding="UTF-16"'), encoding="utf-16")
    for name in ("a.xml", "b.xml"):
        with pytest.raises(UnreadableError, match="entities"):
            _decode(tmp_path, name, encoding="pascal")


@pytest.mark.parametrize("encoding", ["coco", "yolo", "labelme", "pascal"])
def test_damaged_files_are_refused_or_read_but_nothing_else_happens(tmp_path, encoding):
    contents = {
        "coco": json.dumps(coco([{"category_id": 3, "segmentation": [flat(SQUARE)]}])),
        "yolo": "1 0.1 0.1 0.2 0.1 0.2 0.3\n0 0.5 0.5 0.2 0.2\n",
        "labelme": json.dumps(labelme(("cat", "circle", {"points": [[6, 6], [6, 3]]}))),
        "pascal": pascal(f"<object><name>cat</name><bndbox>{tags(xmin=1, ymin=2, xmax=4, ymax=6)}</bndbox></object>"),
    }
    whole = contents[encoding].encode()
    generator = random.Random(0)
    for number in range(250):
        damaged = bytearray(whole)
        for _ in range(generator.choice([1, 2, 10])):
            damaged[generator.randrange(len(damaged))] = generator.choice([generator.randrange(256), *b'0-9e.{}[]",<>'])
        (tmp_path / f"{number}.txt").write_bytes(
            damaged[: generator.choice([len(whole), generator.randrange(len(whole))])]
        )
        try:
            decoded = _decode(tmp_path, f"{number}.txt", encoding=encoding)
        except (UnreadableError, EncodingError):
            continue
        assert decoded.ids.shape == SIZE
