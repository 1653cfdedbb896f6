"""Files are found and read alike on a disk, behind a web server and in an S3-compatible store."""

import functools
import pickle
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.conftest import S3_ENVIRONMENT, put_into_bucket
from unet_segmentation.data.io.filesystem import FileStore, split_page
from unet_segmentation.errors import DataError

FILES = {
    "images/a b.png": b"one",
    "images/ü'\".png": b"two" * 1000,
    "masks/deep/er/c#3.png": b"three",
    "readme.txt": b"",
}
HIDDEN = {"images/._a b.png": b"twin", "__MACOSX/x.png": b"x", ".git/config": b"x", "images/Thumbs.db": b"x"}


@pytest.fixture
def folder(tmp_path):
    for name, content in (FILES | HIDDEN).items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_bytes(content)
    return tmp_path / "root"


@pytest.fixture
def bucket(s3_endpoint, folder, monkeypatch):
    """The files in a bucket, below a prefix; gives the options that reach it."""
    for name, value in S3_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    options = {"endpoint_url": s3_endpoint}
    put_into_bucket(options, folder, "bucket/some/data")
    return options


def test_a_folder_is_walked_in_order_without_what_is_no_data(folder):
    storage = FileStore(folder)
    assert list(storage.walk()) == sorted(FILES)
    for name, content in FILES.items():
        assert storage.read(name) == content
        with storage.open(name) as stream:
            stream.seek(1)
            assert stream.read(2) == content[1:3]


def test_an_s3_store_is_read_like_a_folder(folder, bucket):
    store, local = FileStore("s3://bucket/some/data", bucket), FileStore(folder)
    assert list(store.walk()) == list(local.walk())
    for name, content in FILES.items():
        assert store.read(name) == content
    with store.open("images/ü'\".png") as stream:
        stream.seek(1500)
        assert stream.read(3) == b"two"
    assert pickle.loads(pickle.dumps(store)).read("readme.txt") == b""
    with pytest.raises(FileNotFoundError):
        store.read("images/nowhere.png")


def test_a_web_server_gives_files(folder):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        storage = FileStore(f"http://127.0.0.1:{server.server_port}")
        assert storage.read("masks/deep/er/c%233.png") == b"three"
        assert "images/a%20b.png" in list(storage.walk())
        server.shutdown()


def test_a_stamp_changes_with_the_file(folder, bucket):
    import s3fs

    local = FileStore(folder)
    before = local.stamp("images/a b.png")
    (folder / "images/a b.png").write_bytes(b"other")
    assert "" != before != local.stamp("images/a b.png")
    assert local.stamp("nowhere") == ""
    store = FileStore("s3://bucket/some/data", bucket)
    before = store.stamp("images/a b.png")
    assert before.startswith("3 ")
    assert store.stamp("nowhere") == ""
    s3fs.S3FileSystem(**bucket, skip_instance_cache=True).pipe_file("bucket/some/data/images/a b.png", b"ONE")
    assert (
        FileStore("s3://bucket/some/data", bucket).stamp("images/a b.png") != before
    )  # the same size, another content


def test_links_in_a_circle_end(folder):
    (folder / "images" / "again").symlink_to(folder, target_is_directory=True)
    assert list(FileStore(folder).walk()) == sorted(FILES)


@pytest.mark.parametrize("root", ["/nowhere/at/all", "nosuch://bucket/x"])
def test_what_cannot_be_reached_is_said(root):
    with pytest.raises(DataError, match=r"cannot be read|needs a package"):
        list(FileStore(root).walk())


def test_a_store_that_is_away_is_said(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    storage = FileStore(
        "s3://bucket/x", {"endpoint_url": "http://127.0.0.1:9", "config_kwargs": {"retries": {"max_attempts": 0}}}
    )
    with pytest.raises(DataError, match=r"s3://bucket/x cannot be read.*storage_options"):
        list(storage.walk())


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("volume.tif#3", ("volume.tif", 3)),
        ("a.png", ("a.png", None)),
        ("a/b#2/v#1.tif#012", ("a/b#2/v#1.tif", 12)),
        ("cell #3.png", ("cell #3.png", None)),
        ("a.png#", ("a.png#", None)),
        ("a\n.tif#0", ("a\n.tif", 0)),
        ("#3", ("#3", None)),
        ("", ("", None)),
    ],
)
def test_a_page_is_the_number_after_the_last_hash(path: str, parts: tuple[str, int | None]) -> None:
    assert split_page(path) == parts
