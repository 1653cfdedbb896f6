"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.commands import PATIENCE, Process, run_kedro, start_kedro  # noqa: F401 - PATIENCE is for the tests
from tests.toy_project import empty_store

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: threads of several would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


def pytest_configure() -> None:
    """Make an interrupt a KeyboardInterrupt, in workers and in the background too, where a shell lets it be ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slowest files first: processes that share the work then end together, with small files.

    The very first is test_run.py: it looks at runs of a project to which other files add theirs.
    """
    counts: dict[Path, list[int]] = {}
    for item in items:
        counts.setdefault(item.path, [0, 0])[item.get_closest_marker("slow") is None] += 1
    items.sort(
        key=lambda item: (
            item.path.parent.name + item.path.name != "end_to_endtest_run.py",
            counts[item.path][1] > 0,
            counts[item.path][0] == 0,
        )
    )


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


def copy_project(target: Path) -> Path:
    """Copy what makes up the project (no data, no runs) to an empty folder."""
    target.mkdir(parents=True)
    for name in ("conf", "src", "notebooks"):
        ignore = shutil.ignore_patterns("local", ".ipynb_checkpoints", "*.egg-info")  # the byte code goes along
        shutil.copytree(ROOT / name, target / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".telemetry"):
        shutil.copy(ROOT / name, target / name)
    (target / "conf" / "local").mkdir()
    return target


class Project:
    """A copy of the project on which the real command line is run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def environment(self, **extra: str) -> dict[str, str]:
        """The caller's environment without what would steer Kedro or MLflow."""
        dropped = {"MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "KEDRO_ENV", "PYTHONWARNINGS", "PYTHONPATH"}
        kept = {key: value for key, value in os.environ.items() if key not in dropped}
        return {**kept, "PATH": f"{BIN}{os.pathsep}{kept['PATH']}", "COLUMNS": "160", **extra}

    def kedro(
        self, *arguments: str, cwd: str = ".", fresh: bool = False, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a kedro command; standard output and error come back together as ``stdout``."""
        return run_kedro(arguments, self.path / cwd, self.environment(**environment), fresh=fresh)

    def start(self, *arguments: str, **environment: str) -> Process:
        """Start a kedro command; standard output and error come together through ``stdout``, line by line."""
        return start_kedro(arguments, self.path, self.environment(PYTHONUNBUFFERED="1", **environment))


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Project]:
    """Make fresh copies of the project; `with_store` spares them the making of MLflow's."""

    def make(name: str, *, with_store: bool = False) -> Project:
        project = Project(copy_project(tmp_path_factory.mktemp(name) / "project"))
        if with_store:
            (project.path / "mlflow.db").write_bytes(empty_store())
        return project

    return make


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium, or a skip where there is none."""
    result = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if result is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    return result


S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A real server that speaks S3, on loopback."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def put_into_bucket(options: dict[str, str], folder: Path, target: str) -> None:
    """Copy a folder into the store, below `bucket/prefix`."""
    import s3fs

    system = s3fs.S3FileSystem(**options, skip_instance_cache=True)
    if not system.exists(target.partition("/")[0]):
        system.mkdir(target.partition("/")[0])
    system.put(f"{folder}/", target, recursive=True)
