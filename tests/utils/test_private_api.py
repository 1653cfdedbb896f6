"""Private interfaces of other libraries do what the project relies on."""

from pathlib import Path

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from unet_segmentation.utils.private_api import (
    STORE_PER_RESTART,
    first_batch,
    foreach_lerp_,
    ignore_in_ddp,
    processed_batches,
)


def test_many_tensors_are_interpolated_as_one_by_one():
    generator = torch.Generator().manual_seed(0)
    averages, values = ([torch.rand(size, generator=generator) for size in (3, 7)] for _ in range(2))
    expected = [average.lerp(value, 0.3) for average, value in zip(averages, values, strict=True)]
    foreach_lerp_(averages, values, 0.3)
    assert all(torch.equal(average, each) for average, each in zip(averages, expected, strict=True))


def test_ddp_leaves_out_the_named_buffers(tmp_path):
    module = torch.nn.Linear(1, 1)
    module.register_buffer("own", torch.zeros(1))
    module.register_buffer("shared", torch.zeros(1))
    ignore_in_ddp(module, ["own"])
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(module)
        assert list(wrapped.named_module_buffers) == ["shared"]
    finally:
        torch.distributed.destroy_process_group()


def test_the_elastic_agent_knows_the_variable():
    from torch.distributed.elastic.rendezvous import dynamic_rendezvous

    assert STORE_PER_RESTART in Path(dynamic_rendezvous.__file__).read_text(encoding="utf-8")


class Line(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.first = []

    def on_train_start(self):
        self.first.append(first_batch(self.trainer))

    def training_step(self, batch, _):
        return self.layer(batch[0]).sum()

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if batch_idx == 1 and not self.first[0]:
            self.trainer.save_checkpoint(self.trainer.default_root_dir + "/within.ckpt")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_within_an_epoch_says_how_many_batches_are_done(tmp_path):
    loader = DataLoader(TensorDataset(torch.ones(5, 1)))
    options = {"max_epochs": 1, "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options |= {"default_root_dir": str(tmp_path), "accelerator": "cpu", "enable_checkpointing": False}
    L.Trainer(**options).fit(Line(), loader)
    checkpoint = torch.load(tmp_path / "within.ckpt", weights_only=True)
    assert processed_batches(checkpoint) == 2
    resumed = Line()
    L.Trainer(**options).fit(resumed, loader, ckpt_path=tmp_path / "within.ckpt", weights_only=True)
    assert resumed.first == [2]
