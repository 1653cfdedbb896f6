from __future__ import annotations

import errno
import re
import socket
from pathlib import Path

import pytest

from tests.data.ingestion.conftest import PAIRS, Site, tarred, zipped
from unet_segmentation.data.ingestion import http_transfer
from unet_segmentation.data.ingestion.download import Download, Network, fetch_all
from unet_segmentation.data.ingestion.urls import archive_name, file_name, local_path, shown
from unet_segmentation.errors import ResourceError, SourceError

BODY = zipped(PAIRS)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "archives" / "a.zip"


def fetch(url: str, target: Path, **network: float) -> None:
    fetch_all([Download([url], target)], Network(**network))  # type: ignore[arg-type]


def refused(url: str, target: Path, begun: bytes = b"", **more: float) -> str:
    """The message of a failed download, after which nothing lies in the folder but what was begun."""
    with pytest.raises(SourceError) as refusal:
        fetch(url, target, **{"timeout": 0.2, "retries": 1, **more})
    part = target.with_name(f".{target.name}.part")
    left = [part, Path(f"{part}.json")] if begun else []
    assert sorted(target.parent.iterdir()) == left
    assert not begun or part.read_bytes() == begun
    assert url in str(refusal.value)
    assert "--params source.archive=/path/to/" in str(refusal.value)
    assert f"save it as {target}" in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize("path", ["a.zip", "redirect/redirect/a.zip", "slow/a.zip", "chunked/a.zip"])
def test_what_is_served_arrives(path: str, site: Site, target: Path) -> None:
    site.files["a.zip"] = BODY
    fetch(f"{site.url}/{path}", target)
    assert target.read_bytes() == BODY
    assert list(target.parent.iterdir()) == [target]


def test_a_compressed_tar_arrives_as_it_is(site: Site, target: Path) -> None:
    site.files["a.tar.gz"] = tarred(PAIRS, "w:gz")
    fetch(f"{site.url}/a.tar.gz", target)
    assert target.read_bytes() == site.files["a.tar.gz"]


@pytest.mark.parametrize(
    ("status", "words", "attempts"),
    [
        (404, "does not have it", 1),
        (403, "refuses access", 1),
        (401, "wants a login", 1),
        (418, "answers (418", 1),
        (500, "answers 500", 2),
        (503, "(2 attempts)", 2),
        (429, "answers 429", 2),
    ],
)
def test_bad_answers_are_explained(status: int, words: str, attempts: int, site: Site, target: Path) -> None:
    assert words in refused(f"{site.url}/status/{status}", target)
    assert len(site.requests) == attempts


def test_a_busy_server_is_asked_again(site: Site, target: Path, caplog: pytest.LogCaptureFixture) -> None:
    site.files["a.zip"], site.failures = BODY, 2
    with caplog.at_level("INFO"):
        fetch(f"{site.url}/a.zip", target, retries=2)
    assert target.read_bytes() == BODY
    assert len(site.requests) == 3
    assert caplog.text.count("trying again") == 2


def test_a_silent_server_is_given_up(site: Site, target: Path) -> None:
    site.files["a.zip"] = BODY
    assert "silent for 0.2 s (2 attempts)" in refused(f"{site.url}/hang/a.zip", target)
    message = refused(f"{site.url}/stalled/a.zip", target, retries=0, begun=BODY[:100])
    assert "silent for 0.2 s" in message


def test_a_truncated_body_is_no_download(site: Site, target: Path) -> None:
    site.files["a.zip"] = BODY
    assert "the connection broke" in refused(f"{site.url}/truncated/a.zip", target, begun=BODY[:-20])
    assert len(site.requests) == 2


def test_a_page_instead_of_an_archive_is_told(site: Site, target: Path) -> None:
    message = refused(f"{site.url}/portal/a.zip", target)
    assert "text/html" in message
    assert "Log in" in message
    assert len(site.requests) == 1


def test_nobody_listens(target: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    assert "refused the connection" in refused(f"http://127.0.0.1:{port}/a.zip", target)


def test_no_such_host(target: Path) -> None:
    assert "no host 'no-such-host.invalid'" in refused("http://no-such-host.invalid/a.zip", target)


def test_plain_http_where_tls_is_expected(site: Site, target: Path) -> None:
    message = refused(f"https{site.url[4:]}/a.zip", target)
    assert "certificate is not trusted" in message or "the connection broke" in message


def test_a_circle_of_redirects(site: Site, target: Path) -> None:
    assert "30 redirects" in refused(f"{site.url}/circle/a.zip", target)


def test_too_little_room_is_seen_beforehand(site: Site, target: Path) -> None:
    with pytest.raises(ResourceError, match=r"has 1000000000.00 GB, but the disk of"):
        fetch(f"{site.url}/huge/a.zip", target, retries=0)
    assert not list(target.parent.iterdir())


def test_a_disk_that_fills(site: Site, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.files["a.zip"] = BODY
    with monkeypatch.context() as patch:
        patch.setattr(http_transfer.Bar, "advance", full)  # as the file's own write would
        with pytest.raises(ResourceError, match=r"The disk is full.*will resume"):
            fetch(f"{site.url}/a.zip", target)
    assert not target.exists()
    fetch(f"{site.url}/a.zip", target)
    assert target.read_bytes() == BODY


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_names_tell_urls_apart() -> None:
    one = archive_name("https://example.org/a/archive/master.zip")
    other = archive_name("https://example.org/b/archive/master.zip")
    assert one != other
    assert one.startswith("master-")
    assert one.endswith(".zip")
    assert archive_name("https://example.org/x%20y.tar.gz?download=1").startswith("x y-")
    assert archive_name("https://example.org/x.tar.gz").endswith(".tar.gz")
    assert "/" not in archive_name("https://example.org/")


def test_a_file_that_the_query_names_is_called_so() -> None:
    for query in ("path=/a/b.zip", "path=%2Fa%2Fb.zip", "file=a/b.zip&v=1.5", "v=1.5&f=b.zip", r"f=a\b.zip"):
        url = f"https://example.org/x/download?{query}"
        assert file_name(url) == "b.zip"
        assert re.fullmatch(r"b-[0-9a-f]{8}\.zip", archive_name(url))
    assert file_name("https://example.org/x/c.zip?path=/a/b.zip") == "c.zip"
    for query in ("id=7", "v=1.5", "path=/a/b", "path=../..", "x"):
        assert file_name(f"https://example.org/x/download?{query}") == "download"


def test_addresses() -> None:
    assert local_path("https://example.org/a.zip") is None
    assert local_path("file:///tmp/with%20space.zip") == Path("/tmp/with space.zip")
    assert local_path("data/a.zip") == Path("data/a.zip")
    assert local_path("~/a.zip") == Path.home() / "a.zip"
    assert shown("https://me:secret@example.org/a.zip") == "https://example.org/a.zip"
