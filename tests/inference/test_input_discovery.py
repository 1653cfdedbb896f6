"""What a user may name, and which images that means."""

import http.server
import pickle
import threading
from contextlib import contextmanager
from functools import partial
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.conftest import S3_ENVIRONMENT, put_into_bucket
from unet_segmentation.data.io.filesystem import split_page
from unet_segmentation.errors import DataError
from unet_segmentation.inference import input_discovery
from unet_segmentation.inference.input_discovery import list_inputs


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
    result = list(listed(folder / source))
    assert sorted(path for path in result if "/" not in path or "plate" in source) == expected


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def served(folder, handler):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def address(folder):
    """The folder behind a web server that lists it."""
    (folder / "notes").mkdir()
    with served(folder, Quiet) as url:
        yield url


def test_a_url_of_a_file(folder, address):
    storage, inputs = list_inputs(f"{address}/plate/two.PNG")
    assert [each.name for each in inputs] == ["two"]
    assert storage.read(inputs[0].path) == (folder / "plate/two.PNG").read_bytes()


class Guarded(Quiet):
    """Answers who knows the key, which holds a slash; `/get?path=` gives a file that the query names."""

    def send_head(self):
        address = urlsplit(self.path)
        query = parse_qs(address.query)
        if query.get("key") != ["a/b"]:
            return self.send_error(403)
        if address.path == "/get":
            self.path = quote(query["path"][0])
        return super().send_head()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("plate/two.PNG?key=a/b", {"two": "plate/two.PNG"}),
        ("plate/two.PNG?key=a%2Fb", {"two": "plate/two.PNG"}),
        ("get?key=a/b&path=/plate/two.PNG", {"two": "plate/two.PNG"}),
        ("get?path=/stack.tif&key=a/b#2", {"stack#2": "stack.tif"}),
        ("plate?key=a/b", {"one/a": "plate/one/a.png", "two": "plate/two.PNG"}),
        ("plate/?key=a/b", {"one/a": "plate/one/a.png", "two": "plate/two.PNG"}),
    ],
)
def test_a_url_with_slashes_in_its_query(folder, source, expected):
    with served(folder, Guarded) as address:
        storage, inputs = list_inputs(f"{address}/{source}")
        assert {each.name for each in inputs} == set(expected)
        storage = pickle.loads(pickle.dumps(storage))  # as it goes to another process
        for each in inputs:
            assert storage.read(split_page(each.path)[0]) == (folder / expected[each.name]).read_bytes()
            assert each.stamp.startswith(f"{(folder / expected[each.name]).stat().st_size} ")


def test_a_url_with_a_wrong_key_says_so(folder):
    with served(folder, Guarded) as address, pytest.raises(DataError, match=r"plate\?key=c/d cannot be read: 403"):
        list_inputs(f"{address}/plate?key=c/d")


def test_a_url_of_a_folder_and_a_glob(folder, address):
    strange = folder / "plate" / "ä b#1.png"
    strange.write_bytes((folder / "b.png").read_bytes())
    storage, inputs = list_inputs(f"{address}/plate")
    names = {"one/a": "one/a.png", "two": "two.PNG", "ä b#1": "ä b#1.png"}
    assert {each.name for each in inputs} == set(names)
    for each in inputs:
        assert storage.read(each.path) == (folder / "plate" / names[each.name]).read_bytes()
    assert {each.name for each in list_inputs(f"{address}/pl*/t*.PNG")[1]} == {"plate/two"}
    assert len([each for each in list_inputs(address)[1] if each.path.startswith("stack.tif#")]) == 3


def test_a_file_of_a_web_server_that_changes_has_another_stamp(folder, address):
    before = {each.path: each.stamp for each in list_inputs(address)[1]}
    Image.fromarray(np.ones((9, 9, 3), np.uint8)).save(folder / "b.png")
    after = {each.path: each.stamp for each in list_inputs(address)[1]}
    assert [path for path in before if before[path] != after[path]] == ["b.png"]
    assert all(before.values())


def test_a_bucket(folder, s3_endpoint, monkeypatch):
    for name, value in S3_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    options = {"endpoint_url": s3_endpoint}
    (folder / "plate" / "a#b.png").write_bytes((folder / "b.png").read_bytes())
    put_into_bucket(options, folder, "pictures/some")
    storage, inputs = list_inputs("s3://pictures/some/plate", options)
    assert [each.name for each in inputs] == ["a#b", "one/a", "two"]
    assert storage.read("one/a.png") == (folder / "plate/one/a.png").read_bytes()
    for source, expected in (("plate/a#b.png", ["a#b"]), ("*/two.*", ["plate/two"]), ("stack.tif#2", ["stack#2"])):
        assert [each.name for each in list_inputs(f"s3://pictures/some/{source}", options)[1]] == expected
    with pytest.raises(DataError, match="no file at all at s3://pictures/nowhere"):
        list_inputs("s3://pictures/nowhere", options)


def test_addresses_where_nothing_is_say_why(address):
    with pytest.raises(DataError, match=f"no file at all at {address}/nowhere"):
        list_inputs(f"{address}/nowhere")
    with pytest.raises(DataError, match="no image: no file"):
        list_inputs(f"{address}/notes")
    with pytest.raises(DataError, match="cannot be read: Cannot connect"):
        list_inputs("http://127.0.0.1:9/images")


@pytest.mark.parametrize("source", ["nothing", "notes.txt", "*.bmp", "none/*.png"])
def test_where_there_is_no_image_that_is_said(folder, source):
    with pytest.raises(DataError, match=r"nothing|no image|no folder"):
        list_inputs(str(folder / source))


def test_a_file_that_changes_has_another_stamp(folder):
    before = list_inputs(str(folder / "b.png"))[1][0].stamp
    Image.fromarray(np.ones((9, 9, 3), np.uint8)).save(folder / "b.png")
    assert list_inputs(str(folder / "b.png"))[1][0].stamp != before


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("wells/a%20b.png", "wells/a b.png"),
        ("%2e%2e/a.png", "%2e%2e/a.png"),
        ("wells/%2E%2E%2Fa.png", "wells/%2E%2E%2Fa.png"),
        ("wells/%2Fetc%2Fa.png", "wells/%2Fetc%2Fa.png"),
        ("..%5Ca.png", "..%5Ca.png"),
        ("a%00.png", "a%00.png"),
    ],
)
def test_an_encoded_name_never_leads_to_another_folder(path, name):
    assert input_discovery._spoken(path) == name
