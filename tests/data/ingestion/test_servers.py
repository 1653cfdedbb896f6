"""Several downloads, mirrors, proxies, certificates, and servers that ask for patience."""

from __future__ import annotations

import io
import random
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
import requests
import rich
from rich.console import Console

from tests.data.ingestion.conftest import Authority, Proxy, Site, make_authority, zipped
from unet_segmentation.data.ingestion import download
from unet_segmentation.data.ingestion.download import Download, Network, fetch_all
from unet_segmentation.errors import ConfigurationError, ResourceError, SourceError
from unet_segmentation.utils.threads import in_threads

BODY = zipped({"noise": random.Random(0).randbytes(20_000)})
FEW = Network(timeout=2, retries=0)


@pytest.fixture
def other(site: Site) -> Iterator[Site]:
    """A second server."""
    running = Site()
    yield running
    running.close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "archives" / "a.zip"


def several(site: Site, folder: Path, count: int) -> list[Download]:
    site.files = {f"{n}.zip": zipped({"noise": random.Random(n).randbytes(20_000)}) for n in range(count)}
    return [Download([f"{site.url}/{name}"], folder / name) for name in site.files]


# Several


def test_several_come_at_a_time(site: Site, tmp_path: Path) -> None:
    downloads = several(site, tmp_path, 6)
    site.pause = 0.002  # 100 pieces each
    times = {}
    for parallel in (1, 3):
        began = time.monotonic()
        fetch_all(downloads, Network(parallel=parallel))
        times[parallel] = time.monotonic() - began
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == site.files
        for path in tmp_path.iterdir():
            path.unlink()
    assert times[3] < 0.6 * times[1]


def test_what_is_here_is_not_fetched(site: Site, tmp_path: Path) -> None:
    downloads = several(site, tmp_path, 3)
    fetch_all(downloads[:2], FEW)
    fetch_all(downloads, FEW)
    assert sorted(site.requests) == ["/0.zip", "/1.zip", "/2.zip"]


def test_the_first_failure_stops_the_others(site: Site, tmp_path: Path) -> None:
    downloads = several(site, tmp_path, 3)
    site.pause = 0.05
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"gone.zip could not be downloaded: .* \(404"):
        fetch_all([*downloads[:2], Download([f"{site.url}/gone.zip"], tmp_path / "gone.zip"), downloads[2]], FEW)
    assert time.monotonic() - began < 2
    assert list(tmp_path.glob("[!.]*")) == []
    site.pause = 0
    fetch_all(downloads, FEW)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == site.files


def test_one_bar_for_each(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(rich, "_console", Console(file=shown, force_terminal=True, width=120))
    downloads = several(site, tmp_path, 2)
    site.pause = 0.01
    fetch_all(downloads, FEW)
    assert all(name in shown.getvalue() for name in ("0.zip", "1.zip"))
    assert re.search(r"[01]\.zip[^\n]*\n[^\n]*[01]\.zip", shown.getvalue())  # one below the other, in one display
    assert "20.1/20.1 kB" in shown.getvalue()
    assert "kB/s" in shown.getvalue()


def test_no_bar_where_there_is_no_terminal(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(rich, "_console", Console(file=shown))
    fetch_all(several(site, tmp_path, 2), FEW)
    assert shown.getvalue() == ""


def test_room_for_all_is_seen_beforehand(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = several(site, tmp_path, 3)
    room = shutil._ntuple_diskusage(10**9, 10**9, 50_000)  # type: ignore[attr-defined] # for two of them
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: room)
    with pytest.raises(ResourceError, match=r"3 downloads need 60 kB more, but the disk of .* has 50 kB free"):
        fetch_all(downloads, FEW)
    assert site.requests == []
    fetch_all(downloads[:2], FEW)
    fetch_all(downloads, FEW)  # what is here needs no room any more
    assert len(site.requests) == 3


def test_room_counts_what_has_come(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = several(site, tmp_path, 2)
    site.cuts = [18_000, 18_000]
    for one in downloads:
        with pytest.raises(SourceError):
            fetch_all([one], FEW)
    room = shutil._ntuple_diskusage(10**9, 10**9, 5_000)  # type: ignore[attr-defined]
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: room)
    fetch_all(downloads, FEW)
    assert site.answered == [200, 200, 206, 206]


def test_servers_that_tell_no_size(site: Site, tmp_path: Path) -> None:
    site.files["a.zip"] = BODY
    downloads = [Download([f"{site.url}/chunked/a.zip"], tmp_path / f"{n}.zip") for n in range(2)]
    fetch_all(downloads, FEW)
    assert all(one.target.read_bytes() == BODY for one in downloads)


def test_a_folder_that_cannot_be_written(site: Site, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.os, "access", lambda *_: False)  # permissions do not hold for root
    with pytest.raises(ResourceError, match="cannot be written to"):
        fetch_all([Download([f"{site.url}/a.zip"], target)], FEW)


def test_threads_give_results_in_order_and_raise_the_first_failure() -> None:
    assert in_threads(lambda item, _: time.sleep(0.01 * (3 - item)) or item**2, [0, 1, 2], 3) == [0, 1, 4]
    assert in_threads(lambda item, _: item, [], 3) == []
    stopped = threading.Event()

    def work(item: int, stop: threading.Event) -> None:
        if item == 1:
            raise ValueError("first")
        if stop.wait(5):
            stopped.set()

    with pytest.raises(ValueError, match="first"):
        in_threads(work, [0, 1, 2, 3], 2)
    assert stopped.is_set()


# Mirrors and patience


def test_mirrors_are_tried_in_their_order(site: Site, other: Site, target: Path, caplog) -> None:
    site.files["a.zip"] = BODY
    addresses = [f"{other.url}/a.zip", f"{other.url}/status/503", f"{site.url}/a.zip", f"{site.url}/unasked.zip"]
    with caplog.at_level("INFO"):
        fetch_all([Download(addresses, target)], FEW)
    assert target.read_bytes() == BODY
    assert other.requests == ["/a.zip", "/status/503"]
    assert site.requests == ["/a.zip"]
    assert f"trying {addresses[1]}" in caplog.text
    assert f"trying {addresses[2]}" in caplog.text


def test_every_address_and_its_reason_are_named(site: Site, target: Path) -> None:
    addresses = [f"{site.url}/a.zip", f"{site.url}/portal/b", "file:///no/such/c.zip"]
    with pytest.raises(SourceError) as refusal:
        fetch_all([Download(addresses, target)], FEW)
    message = str(refusal.value)
    assert "a.zip could not be downloaded from any of its 3 addresses" in message
    assert all(address in message for address in addresses)
    assert "does not have it" in message
    assert "text/html" in message
    assert "there is no such file" in message
    assert str(target) in message


@pytest.mark.parametrize("hashed", [False, True])
def test_a_mirror_completes_a_partial_only_if_a_hash_will_tell(
    hashed: bool, site: Site, other: Site, target: Path
) -> None:
    site.files["a.zip"] = other.files["a.zip"] = BODY
    other.validators = {"ETag": '"quite another"'}
    site.cuts = [5000]
    fetch_all([Download([f"{site.url}/a.zip", f"{other.url}/a.zip"], target, hashed)], FEW)
    assert target.read_bytes() == BODY
    assert other.answered == ([206] if hashed else [200])
    assert "If-Range" not in other.asked[0]


def test_a_mirror_on_this_machine(site: Site, tmp_path: Path, target: Path) -> None:
    (tmp_path / "own.zip").write_bytes(BODY)
    fetch_all([Download([f"{site.url}/a.zip", (tmp_path / "own.zip").as_uri()], target)], FEW)
    assert target.read_bytes() == BODY
    assert (tmp_path / "own.zip").is_file()


def test_a_page_instead_of_a_plain_file(site: Site, tmp_path: Path) -> None:
    site.files["names.txt"] = b"one\ntwo\n"
    fetch_all([Download([f"{site.url}/names.txt"], tmp_path / "names.txt", is_archive=False)], FEW)
    assert (tmp_path / "names.txt").read_bytes() == b"one\ntwo\n"
    with pytest.raises(SourceError, match="a web page, which begins with"):
        fetch_all([Download([f"{site.url}/portal/b.txt"], tmp_path / "b.txt", is_archive=False)], FEW)
    assert [path.name for path in tmp_path.iterdir()] == ["names.txt"]


@pytest.mark.parametrize(
    ("says", "pause"),
    [
        (lambda: "0", 0.01),
        (lambda: "7", 7),
        (lambda: "soon", 0.01),
        (lambda: "86400", download.LONGEST_PAUSE),
        (lambda: formatdate(time.time() + 20, usegmt=True), 20),
        (lambda: "Mon, 01 Jan 0000 00:00:00 GMT", 0.01),
    ],
)
def test_a_server_that_asks_for_patience_gets_it(
    says: Callable[[], str], pause: float, site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.files["a.zip"], site.failures, site.retry_after = BODY, 1, says()
    waited = []
    monkeypatch.setattr(threading.Event, "wait", lambda _, seconds=None: waited.append(seconds))
    download._fetch_from(
        f"{site.url}/a.zip", Download([], prepared(target)), Network(retries=1), requests.Session(), Silent(), STOP
    )
    assert target.read_bytes() == BODY
    assert [seconds for seconds in waited if seconds is not None] == [
        pytest.approx(pause, abs=1.5 if pause == 20 else 1e-9)
    ]


STOP = threading.Event()


class Silent:
    """A bar that shows nothing."""

    def start(self, *_: object) -> None:
        pass

    advance = start


def prepared(target: Path) -> Path:
    target.parent.mkdir()
    return target


# Proxies and certificates


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "keys").mkdir()
    return make_authority(tmp_path / "keys")


@pytest.fixture
def secure(site: Site, authority: Authority) -> Iterator[Site]:
    """A server whose certificate nobody trusts."""
    running = Site(authority.server)
    running.files["a.zip"] = BODY
    yield running
    running.close()


def test_a_proxy_of_the_environment_is_used(site: Site, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.files["a.zip"] = BODY
    proxy = Proxy(site)
    monkeypatch.setenv("http_proxy", proxy.url)
    fetch_all([Download(["http://only-the-proxy-knows.invalid/a.zip"], target)], FEW)
    proxy.close()
    assert target.read_bytes() == BODY
    assert proxy.seen == ["http://only-the-proxy-knows.invalid/a.zip"]


def test_a_proxy_may_be_passed_by(site: Site, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.files["a.zip"] = BODY
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    fetch_all([Download([f"{site.url}/a.zip"], target)], FEW)
    assert target.read_bytes() == BODY


def test_proxies_that_refuse_are_named(site: Site, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy(site, status=407)
    monkeypatch.setenv("http_proxy", proxy.url)
    with pytest.raises(SourceError, match="proxy wants a login"):
        fetch_all([Download(["http://only-the-proxy-knows.invalid/a.zip"], target)], FEW)
    proxy.close()
    with pytest.raises(SourceError, match="proxy"):
        fetch_all([Download(["http://only-the-proxy-knows.invalid/a.zip"], target)], FEW)


def test_an_untrusted_certificate_is_explained(secure: Site, target: Path) -> None:
    with pytest.raises(SourceError) as refusal:
        fetch_all([Download([f"{secure.url}/a.zip"], target)], Network(retries=3))
    assert "its certificate is not trusted" in str(refusal.value)
    assert "source.ca_bundle" in str(refusal.value)
    assert "REQUESTS_CA_BUNDLE" in str(refusal.value)
    assert secure.requests == []


def test_a_bundle_is_trusted_beside_the_usual_ones(
    secure: Site, authority: Authority, tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = make_authority(tmp_path / "keys", name="usual")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(usual.certificate))
    known = Site(usual.server)
    known.files["b.zip"] = BODY
    downloads = [Download([f"{secure.url}/a.zip"], target), Download([f"{known.url}/b.zip"], target.with_name("b.zip"))]
    fetch_all(downloads, Network(retries=0, ca_bundle=authority.certificate))
    known.close()
    assert all(one.target.read_bytes() == BODY for one in downloads)


def test_the_environments_bundle_works_as_well(
    secure: Site, authority: Authority, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.certificate))
    fetch_all([Download([f"{secure.url}/a.zip"], target)], FEW)
    assert target.read_bytes() == BODY
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such.pem")
    with pytest.raises(SourceError, match=r"/no/such.pem"):
        fetch_all([Download([f"{secure.url}/b.zip"], target.with_name("b.zip"))], FEW)


def test_a_certificate_of_another_host_is_not_trusted(site: Site, tmp_path: Path, target: Path) -> None:
    authority = make_authority(tmp_path, host="example.org")
    running = Site(authority.server)
    with pytest.raises(SourceError, match=r"certificate is not trusted.*127.0.0.1"):
        fetch_all([Download([f"{running.url}/a.zip"], target)], Network(ca_bundle=authority.certificate))
    running.close()


def test_tls_goes_through_a_proxy(
    secure: Site, authority: Authority, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(secure)
    monkeypatch.setenv("https_proxy", proxy.url)
    fetch_all([Download([f"{secure.url}/a.zip"], target)], Network(retries=0, ca_bundle=authority.certificate))
    proxy.close()
    assert target.read_bytes() == BODY
    assert proxy.seen == [secure.url.removeprefix("https://")]


def test_cuts_of_tls_are_gone_on_with(secure: Site, authority: Authority, target: Path) -> None:
    secure.cuts = [5000, 5000]
    fetch_all([Download([f"{secure.url}/a.zip"], target)], Network(retries=1, ca_bundle=authority.certificate))
    assert target.read_bytes() == BODY
    assert secure.answered == [200, 206, 206]


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), ("hello", "no certificate in it")])
def test_a_bundle_that_is_none(content: str | None, words: str, site: Site, tmp_path: Path, target: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)
    with pytest.raises(ConfigurationError, match=rf"source.ca_bundle: .*{words}"):
        fetch_all([Download([f"{site.url}/a.zip"], target)], Network(ca_bundle=bundle))
