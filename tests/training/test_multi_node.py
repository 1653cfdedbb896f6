"""Two hosts, as two network namespaces that share the file system, train together."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import PATIENCE

ROOT = Path(__file__).parents[2]
FIRST = """
import json, logging, sys, torch
from pathlib import Path
from unet_segmentation.models.factory import build_model
from unet_segmentation.training.training_inputs import TrainingInputs
from unet_segmentation.training.trainer import fit
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.data.store.packed_arrays import PackedSamples
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
job = json.loads(Path(sys.argv[1]).read_text())
torch.manual_seed(0)
network = build_model(ModelSpec.from_json(job["specification"]))
folder = Path(sys.argv[2])
folder.mkdir()
spec, packed = ModelSpec.from_json(job["specification"]), PackedSamples(Path(job["packed"]))
setup = TrainingInputs(network, spec, packed, job["recipe"])
result = fit(job["plan"], setup, folder,
             lambda epoch, values, when: print("told", epoch, flush=True), rendezvous=sys.argv[3])
result.history.to_csv(folder / "given.csv", index=False)
"""


def ip(*arguments):
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False).returncode == 0


@pytest.fixture
def hosts():
    """Two namespaces with a cable between them: 10.77.0.1 and 10.77.0.2."""
    names = [f"unet{os.getpid()}{side}" for side in "ab"]
    if shutil.which("ip") is None or not ip("netns", "add", names[0]):
        pytest.skip("network namespaces need root and iproute2")
    try:
        ip("netns", "add", names[1])
        assert ip("link", "add", "cable0", "netns", names[0], "type", "veth", "peer", "cable0", "netns", names[1])
        for number, name in enumerate(names, start=1):
            for command in (["addr", "add", f"10.77.0.{number}/24", "dev", "cable0"], ["link", "set", "cable0", "up"]):
                assert ip("-n", name, *command)
            assert ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            ip("netns", "del", name)


@pytest.fixture
def distributed_job(make_plan, packed, recipe):
    plan, specification = make_plan()
    return {"plan": plan, "specification": specification.to_json(), "recipe": recipe, "packed": str(packed.folder)}


def start(host, *command, **variables):
    environment = (
        os.environ
        | variables
        | {"PYTHONPATH": str(ROOT / "src"), "GLOO_SOCKET_IFNAME": "cable0", "OMP_NUM_THREADS": "1"}
    )
    return subprocess.Popen(
        ["ip", "netns", "exec", host, sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def test_two_hosts_give_the_losses_of_one(hosts, distributed_job, tmp_path):
    def first(plan, folder, host):
        path = tmp_path / f"{folder}.json"
        path.write_text(json.dumps(distributed_job | {"plan": plan}))
        return start(host, "-c", FIRST, str(path), str(tmp_path / folder), "10.77.0.1:29477")

    one = first(distributed_job["plan"], "one", hosts[0])
    assert one.wait(PATIENCE) == 0, one.stdout.read()
    together = first(distributed_job["plan"] | {"num_nodes": 2}, "two", hosts[0])
    said = ""
    while "torchrun" not in said:
        said = together.stdout.readline()
    variable, _, *command = said[said.index("TORCH_") :].split()
    variables = dict([variable.split("=")])
    joining = start(hosts[1], "-m", "torch.distributed.run", "--local-addr", "10.77.0.2", *command, **variables)
    rest = together.communicate(timeout=PATIENCE)[0]
    assert together.returncode == 0, rest
    assert joining.wait(PATIENCE) == 0, joining.stdout.read()
    assert [line for line in rest.splitlines() if line.startswith("told")] == ["told 1", "told 2"]
    alone, both = (pd.read_csv(tmp_path / name / "given.csv") for name in ("one", "two"))
    np.testing.assert_allclose(both["train/loss"], alone["train/loss"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(both["validation/loss"], alone["validation/loss"], rtol=0, atol=1e-5)
