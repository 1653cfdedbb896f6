"""Downloads that are cut, killed or interrupted, against a server that knows ranges, or pretends to."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.data.ingestion.conftest import Site, zipped
from unet_segmentation.data.ingestion.download import Download, Network, fetch_all
from unet_segmentation.data.ingestion.http_transfer import Partial
from unet_segmentation.errors import SourceError

BODY = zipped({"noise": random.Random(0).randbytes(20_000)})
OTHER = zipped({"noise": random.Random(1).randbytes(20_000)})
FEW = Network(timeout=2, retries=1)

PROGRAM = """
import logging, signal, sys
from pathlib import Path
from unet_segmentation.data.ingestion.download import Download, Network, fetch_all
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as the project's command has it
logging.basicConfig(level=logging.INFO, format="%(message)s")
fetch_all([Download([url], Path(f"{sys.argv[1]}/{n}.zip")) for n, url in enumerate(sys.argv[2:])], Network(timeout=60))
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "a.zip"


def start(folder: Path, *urls: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(folder), *urls]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(condition: object, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


def begin(target: Path, site: Site, count: int = 5000, hashed: bool = False) -> str:
    """Have a run fail after some bytes, and give the address."""
    url = f"{site.url}/a.zip"
    site.cuts = [count]
    with pytest.raises(SourceError, match="the connection broke"):
        fetch_all([Download([url], target, hashed)], Network(timeout=2, retries=0))
    assert Partial(target).path.read_bytes() == site.files["a.zip"][:count]
    assert not target.exists()
    site.asked.clear()
    site.answered.clear()
    return url


def whole(target: Path, body: bytes) -> bool:
    """Return whether the file is there, and nothing else."""
    return target.read_bytes() == body and list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("seed", range(5))
def test_cuts_within_a_run_cost_nothing_twice(seed: int, site: Site, target: Path) -> None:
    draw = random.Random(seed)
    site.files["a.zip"] = BODY
    site.cuts = [draw.randrange(1, 4000) for _ in range(8)]
    places = [sum(site.cuts[:count]) for count in range(1, 9)]
    fetch_all([Download([f"{site.url}/a.zip"], target)], FEW)  # more cuts than retries: each attempt brings a piece
    assert whole(target, BODY)
    assert site.answered == [200] + [206] * 8
    assert [headers.get("Range") for headers in site.asked] == [None, *(f"bytes={place}-" for place in places)]
    assert {headers.get("If-Range") for headers in site.asked[1:]} == {'"1"'}


def test_the_next_run_goes_on(site: Site, target: Path) -> None:
    site.files["a.zip"] = BODY
    fetch_all([Download([begin(target, site)], target)], FEW)
    assert whole(target, BODY)
    assert site.answered == [206]


def test_a_run_that_gets_nothing_more_gives_up(site: Site, target: Path) -> None:
    site.files["a.zip"] = BODY
    url = begin(target, site)
    site.cuts = [0] * 10
    with pytest.raises(SourceError, match=r"\(2 attempts\)"):
        fetch_all([Download([url], target)], FEW)
    assert site.answered == [206, 206]


@pytest.mark.parametrize(
    "change",
    [
        {"ranges": False},
        {"validators": {"ETag": '"2"'}},
        {"validators": {"ETag": '"2"'}, "heeds_if_range": False},
        {"validators": {"Last-Modified": "Sun, 18 Oct 2026 09:00:00 GMT"}, "heeds_if_range": False},
        {"content_range": "bytes 4000-9999/20000", "heeds_if_range": False},
        {"content_range": "items", "heeds_if_range": False},
        {"content_range": f"bytes 5000-{len(BODY)}/{len(BODY) + 1}", "heeds_if_range": False},
    ],
    ids=["knows no ranges", "changed", "changed unheeded", "newer unheeded", "wrong start", "nonsense", "other length"],
)
def test_it_starts_over_where_the_rest_cannot_be_had(change: dict[str, object], site: Site, target: Path) -> None:
    site.files["a.zip"] = OTHER
    url = begin(target, site)
    for name, value in change.items():
        setattr(site, name, value)
    site.files["a.zip"] = BODY
    fetch_all([Download([url], target)], FEW)
    assert whole(target, BODY)
    assert site.answered in ([200], [206, 200])
    assert site.asked[0]["Range"] == "bytes=5000-"


def test_a_file_that_became_shorter(site: Site, target: Path) -> None:
    site.files["a.zip"] = OTHER
    url = begin(target, site, count=len(OTHER) - 10)
    site.files["a.zip"], site.heeds_if_range = zipped({"a": b"1"}), False
    fetch_all([Download([url], target)], FEW)
    assert whole(target, site.files["a.zip"])
    assert site.answered == [416, 200]


@pytest.mark.parametrize("validators", [{}, {"ETag": 'W/"1"'}], ids=["none", "weak"])
def test_without_a_validator_only_a_hash_can_tell(validators: dict[str, str], site: Site, target: Path) -> None:
    site.files["a.zip"], site.validators = BODY, validators
    url = begin(target, site)
    fetch_all([Download([url], target)], FEW)
    assert site.answered == [200]
    target.unlink()
    begin(target, site)
    fetch_all([Download([url], target, hashed=True)], FEW)
    assert whole(target, BODY)
    assert site.answered == [206]


def test_a_date_is_a_validator_too(site: Site, target: Path) -> None:
    site.files["a.zip"], site.validators = BODY, {"Last-Modified": "Sat, 17 Oct 2026 09:00:00 GMT"}
    fetch_all([Download([begin(target, site)], target)], FEW)
    assert site.asked[0]["If-Range"] == "Sat, 17 Oct 2026 09:00:00 GMT"
    assert whole(target, BODY)


@pytest.mark.parametrize("record", [None, "", "{", "[]", '{"url": 3}', '{"total": 1}'])
def test_bytes_of_unknown_origin_are_not_used(record: str | None, site: Site, target: Path) -> None:
    site.files["a.zip"] = BODY
    url = begin(target, site)
    file = target.with_name(".a.zip.part.json")
    if record is None:
        file.unlink()
    else:
        file.write_text(record)
    fetch_all([Download([url], target)], FEW)
    assert whole(target, BODY)
    assert site.answered == [200]


def test_killed_between_the_last_byte_and_the_name(site: Site, target: Path) -> None:
    site.files["a.zip"] = BODY
    url = begin(target, site)
    Partial(target).path.write_bytes(BODY)
    fetch_all([Download([url], target)], FEW)
    assert whole(target, BODY)
    assert site.asked == []


def test_more_bytes_than_there_can_be(site: Site, target: Path) -> None:
    site.files["a.zip"] = BODY
    url = begin(target, site)
    Partial(target).path.write_bytes(BODY + b"more")
    fetch_all([Download([url], target)], FEW)
    assert whole(target, BODY)
    assert site.answered == [200]


def test_a_password_is_not_written_down(site: Site, target: Path) -> None:
    site.files["a.zip"], site.cuts = BODY, [5000]
    url = f"{site.url}/a.zip".replace("//", "//me:secret@")
    with pytest.raises(SourceError) as refusal:
        fetch_all([Download([url], target)], Network(retries=0))
    assert "secret" not in str(refusal.value)
    assert "secret" not in target.with_name(".a.zip.part.json").read_text()
    fetch_all([Download([url], target)], FEW)
    assert site.answered == [200, 206]


def test_a_killed_run_is_gone_on_with(site: Site, tmp_path: Path) -> None:
    site.files["a.zip"], site.pause = BODY, 0.01
    target = tmp_path / "0.zip"
    killed = start(tmp_path, f"{site.url}/a.zip")
    wait_for(lambda: Partial(target).size > 1000)
    killed.kill()
    killed.communicate()
    size = Partial(target).size
    assert not target.exists()
    fetch_all([Download([f"{site.url}/a.zip"], target)], FEW)
    assert whole(target, BODY)
    assert site.asked[1]["Range"] == f"bytes={size}-"
    assert site.answered == [200, 206]


def test_two_runs_at_once_share_a_download(site: Site, tmp_path: Path) -> None:
    site.files["a.zip"], site.pause = BODY, 0.01
    first = start(tmp_path, f"{site.url}/a.zip")
    wait_for(lambda: Partial(tmp_path / "0.zip").size)
    second = start(tmp_path, f"{site.url}/a.zip")
    assert "Another run is downloading 0.zip; waiting for it" in second.communicate(timeout=30)[1]
    first.communicate(timeout=30)
    assert (first.returncode, second.returncode) == (0, 0)
    assert whole(tmp_path / "0.zip", BODY)
    assert len(site.requests) == 1


def test_the_second_run_takes_over_from_one_that_is_killed(site: Site, tmp_path: Path) -> None:
    site.files["a.zip"], site.pause = BODY, 0.02
    first = start(tmp_path, f"{site.url}/a.zip")
    wait_for(lambda: Partial(tmp_path / "0.zip").size > 1000)
    second = start(tmp_path, f"{site.url}/a.zip")
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    site.pause = 0
    first.kill()
    first.communicate()
    second.communicate(timeout=30)
    assert second.returncode == 0
    assert whole(tmp_path / "0.zip", BODY)
    assert site.answered == [200, 206]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_all_at_once(number: int, site: Site, tmp_path: Path) -> None:
    site.files["a.zip"], site.pause = BODY, 0.01
    run = start(tmp_path, f"{site.url}/a.zip", f"{site.url}/hang/a.zip", f"{site.url}/stalled/a.zip")
    wait_for(lambda: Partial(tmp_path / "0.zip").size > 1000 and Partial(tmp_path / "2.zip").size == 100)
    began = time.monotonic()
    run.send_signal(number)
    run.communicate(timeout=30)  # the servers would be waited for twice as long
    assert time.monotonic() - began < 5
    assert run.returncode in {143, -signal.SIGINT}
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == []
    site.pause = 0
    fetch_all([Download([f"{site.url}/a.zip"], tmp_path / "0.zip")], FEW)
    assert site.answered[-1] == 206
    assert (tmp_path / "0.zip").read_bytes() == BODY
