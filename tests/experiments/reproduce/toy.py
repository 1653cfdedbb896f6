"""The toy project under git, with a training that leaves what the real one leaves."""

from __future__ import annotations

import subprocess
from textwrap import dedent

from tests.toy_project import make_toy_project

FILES = {
    ".gitignore": "data mlflow.db* mlartifacts .tracking .viz conf/local __pycache__ /downloaded /weights.safetensors",
    "requirements.lock": "click==0.0.1\n",
    "src/toy/pipeline_registry.py": """
        from kedro.pipeline import Node, Pipeline
        from toy import nodes

        def register_pipelines():
            first = Pipeline([
                Node(nodes.download, ["params:classes", "archives_dir"], "dataset_statistics", name="download")
            ])
            second = Pipeline([
                Node(
                    nodes.train, ["dataset_statistics", "params:split"], ["best_model", "training_plan"], name="train"
                ),
                Node(nodes.score, "best_model", "metrics", name="score"),
            ])
            return {"data_ingestion": first, "training": second, "__default__": first + second}
    """,
    "src/toy/nodes.py": """
        import os, time
        from pathlib import Path
        import numpy as np
        from safetensors.numpy import load_file, save_file

        FACTOR = 1.0

        def download(classes, folder):
            file = Path(folder, "numbers.txt")
            if not file.is_file():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("1 2 3")
                Path("downloaded").touch()
            return {"data_sha256": file.read_text()}

        def train(profile, split):
            if os.environ.get("TOY") == "sleep":
                Path(os.environ["TOY_SIGN"]).touch()
                time.sleep(60)
            if os.environ.get("TOY") == "fail":
                raise RuntimeError("a bug")
            weights = FACTOR * np.arange(3.0) + split["seed"] + float(os.environ.get("TOY_NOISE", 0))
            save_file({"weights": weights}, "weights.safetensors")
            return Path("weights.safetensors"), {"batch_size": 4, "epochs": 3, "fingerprint": "ab12"}

        def score(model):
            return {"dice/mean": float(load_file(model)["weights"].sum()), "iou/mean": 0.25}
    """,
    "conf/base/catalog.yml": """
        archives_dir:
          type: unet_segmentation.datasets.WorkingFolderDataset
          path: data/01_raw/${problem:}/archives
        dataset_statistics:
          type: unet_segmentation.datasets.JSONDataset
          filepath: data/${problem:}/dataset_statistics.json
          metadata: {mlflow: {tags: {data.sha256: data_sha256}}}
        best_model:
          type: unet_segmentation.datasets.FileDataset
          filepath: data/${problem:}/best.safetensors
          metadata: {mlflow: {weights_tag: weights.sha256}}
        training_plan:
          type: unet_segmentation.datasets.JSONDataset
          filepath: data/${problem:}/plan.json
          metadata: {mlflow: {artifact: training}}
        metrics:
          type: unet_segmentation.datasets.JSONDataset
          filepath: data/${problem:}/metrics.json
          metadata: {mlflow: {artifact: evaluation, metrics: test}}
    """,
    "conf/base/parameters.yml": "split: {seed: 0}\n",
}


def git(folder, *arguments):
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def make_toy(folder):
    project = make_toy_project(folder)
    for name, text in FILES.items():
        (project / name).write_text(dedent(text).replace(" ", "\n") if name == ".gitignore" else dedent(text))
    git(project, "init", "--quiet")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "all")
    return project
