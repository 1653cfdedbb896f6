from itertools import pairwise

import pytest
import torch

from unet_segmentation.parameters import ScheduleParameters
from unet_segmentation.training.lr_schedule import lr_lambda


def factors(steps, **parameters):
    schedule = ScheduleParameters(**parameters)
    return [lr_lambda(step, [steps], schedule) for step in range(steps)]


@pytest.mark.parametrize("name", ["poly", "cosine"])
def test_warms_up_falls_and_ends_where_it_should(name):
    values = factors(100, name=name, warmup_fraction=0.1, min_lr_ratio=0.05)
    assert values[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert max(values) == values[10] == 1.0
    assert all(after < before for before, after in pairwise(values[10:]))
    assert values[-1] == pytest.approx(0.05)


def test_cosine_is_torchs():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=49, eta_min=0.01)
    expected = []
    for _ in range(50):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert factors(50, name="cosine", warmup_fraction=0.0, min_lr_ratio=0.01) == pytest.approx(expected)


@pytest.mark.parametrize("steps", [4, 10, 37, 200])
@pytest.mark.parametrize("min_lr_ratio", [0.01, 1e-4])
def test_one_cycle_is_torchs(steps, min_lr_ratio):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    divisor = 1 / 25 / min_lr_ratio
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=steps, final_div_factor=divisor, cycle_momentum=False
    )
    expected = []
    for step in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < steps - 1:
            reference.step()
    assert factors(steps, name="one_cycle", min_lr_ratio=min_lr_ratio) == pytest.approx(expected, rel=1e-6)


def test_one_cycle_with_hardly_a_step_and_with_added_epochs():
    assert factors(1, name="one_cycle") == [1.0]
    assert factors(2, name="one_cycle", min_lr_ratio=0.1) == pytest.approx([1.0, 0.1])
    schedule = ScheduleParameters(name="one_cycle", min_lr_ratio=0.1)
    values = [lr_lambda(step, [20, 10], schedule) for step in range(31)]
    assert values[:20] == factors(20, name="one_cycle", min_lr_ratio=0.1)
    assert values[20:30] == pytest.approx(factors(10, name="cosine", warmup_fraction=0.0, min_lr_ratio=0.1))
    assert values[30] == pytest.approx(0.1)


def test_poly_closed_form():
    assert factors(11, name="poly", warmup_fraction=0.0, power=2.0, min_lr_ratio=0.0)[5] == pytest.approx(0.25)


def test_constant_stays_and_a_single_step_works():
    assert factors(10, name="constant", warmup_fraction=0.2)[2:] == [1.0] * 8
    assert factors(1, name="cosine") == [1.0]


def test_a_step_after_the_last_keeps_the_last_value():
    assert lr_lambda(99, [10], ScheduleParameters(min_lr_ratio=0.25)) == pytest.approx(0.25)


def test_added_epochs_start_the_schedule_again_without_its_warm_up():
    schedule = ScheduleParameters(name="cosine", warmup_fraction=0.2, min_lr_ratio=0.0)
    values = [lr_lambda(step, [10, 5], schedule) for step in range(15)]
    assert values[:10] == factors(10, name="cosine", warmup_fraction=0.2, min_lr_ratio=0.0)
    assert values[10:] == factors(5, name="cosine", warmup_fraction=0.0, min_lr_ratio=0.0)
    assert lr_lambda(15, [10, 5], schedule) == values[-1]
