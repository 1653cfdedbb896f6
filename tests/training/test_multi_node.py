"""Two hosts, as two network namespaces that share the file system, train together."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import PATIENCE
from unet_segmentation.training.train_model import train_model

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
FIRST = """
import logging, pickle, sys
from pathlib import Path
from unet_segmentation.training.train_model import train_model
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
inputs, plan, folder = pickle.loads(Path(sys.argv[1]).read_bytes())
folder.mkdir()
result = train_model(inputs, plan.parameters, folder, plan=plan,
                   on_epoch_saved=lambda epoch, values, when: print("told", epoch, flush=True))
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


def test_two_hosts_give_the_losses_of_one(hosts, make_plan, tmp_path):
    def first(folder, **parameters):
        plan, inputs = make_plan(**parameters)
        path = tmp_path / f"{folder}.pickle"
        path.write_bytes(pickle.dumps((inputs, plan, tmp_path / folder)))
        return start(hosts[0], "-c", FIRST, str(path))

    plan, inputs = make_plan()
    alone = train_model(inputs, plan.parameters, tmp_path, plan=plan).history
    together = first("two", num_nodes=2, rdzv_endpoint="10.77.0.1:29477")
    output = ""
    while "torchrun" not in output:
        output = together.stdout.readline()
    variable, _, *command = output[output.index("TORCH_") :].split()
    variables = dict([variable.split("=")])
    joining = start(hosts[1], "-m", "torch.distributed.run", "--local-addr", "10.77.0.2", *command, **variables)
    rest = together.communicate(timeout=PATIENCE)[0]
    assert together.returncode == 0, rest
    assert joining.wait(PATIENCE) == 0, joining.stdout.read()
    assert [line for line in rest.splitlines() if line.startswith("told")] == ["told 1", "told 2"]
    both = pd.read_csv(tmp_path / "two" / "given.csv")
    np.testing.assert_allclose(both["train/loss"], alone["train/loss"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(both["validation/loss"], alone["validation/loss"], rtol=0, atol=1e-5)
