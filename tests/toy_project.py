"""A Kedro project of four light nodes with the real settings, hooks and commands: what they do shows in a second."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[1]

FILES = {
    "pyproject.toml": """
        [tool.kedro]
        package_name = "toy"
        project_name = "toy"
        kedro_init_version = "1.7.0"
        source_dir = "src"
    """,
    ".telemetry": "consent: false\n",
    "src/toy/__init__.py": "",
    "src/toy/settings.py": "from unet_segmentation.settings import *\n",
    "src/toy/cli.py": "from unet_segmentation.cli import cli, run\n",
    "src/toy/pipeline_registry.py": """
        from kedro.pipeline import Node, Pipeline
        from toy import nodes

        def register_pipelines():
            first = Pipeline([Node(nodes.download, "params:classes", "downloads", name="download")])
            second = Pipeline([
                Node(nodes.train, "downloads", "history", name="train"),
                Node(nodes.score, "history", "metrics", name="score"),
                Node(nodes.plot, "history", "curves", name="plot"),
            ])
            return {"data_ingestion": first, "training": second, "__default__": first + second}
    """,
    "src/toy/nodes.py": """
        import errno, logging, os, signal, time, warnings
        from unet_segmentation import tracking
        from unet_segmentation.errors import DataError

        log = logging.getLogger("unet_segmentation.toy")

        def download(classes):
            open("downloaded", "w").close()
            return {"classes": classes}

        def train(downloads):
            warnings.warn("something a library wants to say")
            logging.getLogger("mlflow").warning("chatter")
            mode = os.environ.get("TOY", "")
            for epoch in range(1, 4):
                tracking.active_run().log_metrics({"train/loss": 1 / epoch, "validation/loss": 2 / epoch}, step=epoch)
            if mode == "data":
                raise DataError("masks/a.png holds the undeclared value 7: declare it in masks.values")
            if mode == "bug":
                raise RuntimeError("a bug")
            if mode == "full":
                raise OSError(errno.ENOSPC, "No space left on device", "data/x.bin")
            if mode == "sleep":
                open("sleeping", "w").close()
                time.sleep(60)
            if mode == "swallow":  # as some libraries do with Ctrl-C
                try:
                    open("sleeping", "w").close()
                    time.sleep(60)
                except KeyboardInterrupt:
                    raise SystemExit(1)
            log.info("epoch 3 of 3: loss [0.33]")
            return {"loss": [1, 0.5, 0.33]}

        def score(history):
            return {"dice/mean": 0.9321, "iou/mean": 0.8, "iou/class/c": None}

        def plot(history):
            import plotly.graph_objects as go
            return go.Figure(go.Scatter(y=history["loss"]))
    """,
    "conf/base/catalog.yml": """
        downloads:
          type: unet_segmentation.datasets.JSONDataset
          filepath: data/${problem:}/downloads.json
        history:
          type: unet_segmentation.datasets.JSONDataset
          filepath: data/${problem:}/history.json
          metadata: {mlflow: {artifact: training}}
        metrics:
          type: unet_segmentation.datasets.JSONDataset
          filepath: data/${problem:}/metrics.json
          metadata: {mlflow: {artifact: evaluation, metrics: test}, console: {scores: true}}
        curves:
          type: unet_segmentation.datasets.PlotlyDataset
          filepath: data/${problem:}/curves.json
          metadata: {mlflow: {artifact: figures}}
    """,
    "conf/cells/parameters.yml": """
        source: {folder: "/nowhere", images: "{id}.png"}
        classes: [background, cell]
    """,
    "conf/base/mlflow.yml": "system_metrics: false\nupload_timeout_seconds: 3\n",
    "conf/local/.gitkeep": "",
}


@functools.cache
def empty_store() -> bytes:
    """A SQLite store as MLflow makes it; making one takes seconds, so tests copy it."""
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mlflow.db"
        mlflow.MlflowClient(f"sqlite:///{file}").search_experiments()
        return file.read_bytes()


def make_toy_project(target: Path) -> Path:
    """Write the project to a folder."""
    for name, text in FILES.items():
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text), encoding="utf-8")
    shutil.copy(ROOT / "conf" / "logging.yml", target / "conf" / "logging.yml")
    (target / "mlflow.db").write_bytes(empty_store())
    return target
