from __future__ import annotations

from pathlib import Path

import pytest

from unet_segmentation.tracking import mlflow_client
from unet_segmentation.tracking.journal import Operation, RunHeader


def test_a_new_database_is_whole_or_absent(tmp_path, monkeypatch):
    from mlflow.store.tracking import sqlalchemy_store

    whole = sqlalchemy_store.SqlAlchemyStore

    def half(uri, artifacts):
        Path(uri.removeprefix("sqlite:///")).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(sqlalchemy_store, "SqlAlchemyStore", half)
    with pytest.raises(KeyboardInterrupt):
        mlflow_client.create_database(tmp_path / "mlflow.db")
    assert not list(tmp_path.iterdir())

    class Overtaken(whole):
        def __init__(self, uri, artifacts):
            super().__init__(uri, artifacts)
            (tmp_path / "mlflow.db").write_bytes(b"of another run")

    monkeypatch.setattr(sqlalchemy_store, "SqlAlchemyStore", Overtaken)
    mlflow_client.create_database(tmp_path / "mlflow.db")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    assert (tmp_path / "mlflow.db").read_bytes() == b"of another run"


def test_names_that_mlflow_would_refuse_are_written_so_that_it_does_not(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    header = RunHeader(uri=uri, experiment="toy", started=0.0, run_name="one")
    client = mlflow_client.MlflowRunClient.create(header)
    values = {"sweep.variants.größer, width=8.network.width": "8", "training.epochs": "3"}
    client.log_values([Operation(name="log_params", time=0.0, arguments={"values": values})])
    params = client._client.get_run(client.run_id).data.params
    assert params == {"sweep.variants.größer_ width_8.network.width": "8", "training.epochs": "3"}
