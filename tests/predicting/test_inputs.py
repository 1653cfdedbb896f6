"""What a user may name, and which images that means."""

import http.server
import threading
from functools import partial

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_segmentation.errors import DataError
from unet_segmentation.predicting.inputs import list_inputs


@pytest.fixture
def folder(tmp_path):
    pixels = np.zeros((4, 5, 3), np.uint8)
    (tmp_path / "plate" / "one").mkdir(parents=True)
    for name in ("b.png", "a.jpg", "a.png", "plate/one/a.png", "plate/two.PNG"):
        Image.fromarray(pixels).save(tmp_path / name)
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((3, 4, 5), np.uint8), photometric="minisblack")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_bytes(b"")
    return tmp_path


def listed(source) -> dict[str, str]:
    return {each.path: each.name for each in list_inputs(str(source))[1]}


def test_a_folder_means_all_images_below_it_and_every_page(folder, caplog):
    caplog.set_level("INFO")
    assert listed(folder) == {
        "a.jpg": "a.jpg",  # beside a.png both keep their endings
        "a.png": "a.png",
        "b.png": "b",
        "plate/one/a.png": "plate/one/a",
        "plate/two.PNG": "plate/two",
        **{f"stack.tif#{page}": f"stack#{page}" for page in range(3)},
    }
    assert "1 txt" in caplog.text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("b.png", ["b.png"]),
        ("stack.tif", ["stack.tif#0", "stack.tif#1", "stack.tif#2"]),
        ("stack.tif#1", ["stack.tif#1"]),
        ("*.png", ["a.png", "b.png"]),
        ("plate/*/a.*", ["one/a.png"]),
    ],
)
def test_a_file_a_page_and_a_glob(folder, source, expected):
    found = list(listed(folder / source))
    assert sorted(path for path in found if "/" not in path or "plate" in source) == expected


def test_a_url_of_a_file(folder):
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        storage, inputs = list_inputs(f"http://127.0.0.1:{server.server_port}/plate/two.PNG")
        assert [each.name for each in inputs] == ["two"]
        assert storage.read(inputs[0].path) == (folder / "plate/two.PNG").read_bytes()
        server.shutdown()


@pytest.mark.parametrize("source", ["nothing", "notes.txt", "*.bmp", "none/*.png"])
def test_where_there_is_no_image_that_is_said(folder, source):
    with pytest.raises(DataError, match=r"nothing|no image|no folder"):
        list_inputs(str(folder / source))


def test_a_file_that_changes_has_another_stamp(folder):
    before = list_inputs(str(folder / "b.png"))[1][0].stamp
    Image.fromarray(np.ones((9, 9, 3), np.uint8)).save(folder / "b.png")
    assert list_inputs(str(folder / "b.png"))[1][0].stamp != before
