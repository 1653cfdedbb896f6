import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from unet_segmentation.learning.losses import SegmentationLoss, automatic_class_weights, batch_dice, one_hot


def random_batch(seed=0, ignored=0.3):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, 6, 5, generator=generator, requires_grad=True)
    target = torch.randint(0, 4, (2, 6, 5), generator=generator, dtype=torch.uint8)
    target[torch.rand(2, 6, 5, generator=generator) < ignored] = 255
    return logits, target


@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 3.0, 0.0]])
def test_cross_entropy_is_torchs(weights):
    logits, target = random_batch()
    expected = functional.cross_entropy(
        logits, target.long(), None if weights is None else torch.tensor(weights), ignore_index=255
    )
    torch.testing.assert_close(SegmentationLoss(dice=0.0, class_weights=weights)(logits, target), expected)


def test_dice_is_smps_where_every_class_occurs_and_nothing_is_smoothed():
    import segmentation_models_pytorch as smp

    logits, target = random_batch()
    theirs = smp.losses.DiceLoss("multiclass", from_logits=True, smooth=0.0, ignore_index=255)(logits, target.long())
    torch.testing.assert_close(batch_dice(logits.softmax(1), one_hot(target, 4), smooth=0.0), theirs)


def test_dice_closed_form():
    # one pixel of each class, p(truth) = 0.75 and 0.5: (2 * .75 + 1) / (1.25 + 1 + 1) and (2 * .5 + 1) / (.75 + 1 + 1)
    logits = torch.tensor([[0.75, 0.5], [0.25, 0.5]]).log().view(1, 2, 1, 2)
    target = torch.tensor([[[0, 1]]])
    expected = 1 - (2.5 / 3.25 + 2.0 / 2.75) / 2
    assert SegmentationLoss(cross_entropy=0.0)(logits, target).item() == pytest.approx(expected)


def test_predicting_an_absent_class_costs():
    target = torch.zeros(1, 8, 8, dtype=torch.uint8)
    right, wrong = torch.zeros(2, 1, 2, 8, 8)
    right[:, 0] = 20.0
    wrong[:, 1] = 20.0
    loss = SegmentationLoss(cross_entropy=0.0)
    assert loss(right, target).item() == pytest.approx(0.0, abs=1e-4)
    assert loss(wrong, target).item() > 0.95


def test_ignored_pixels_have_no_gradient_and_no_influence():
    logits, target = random_batch()
    loss = SegmentationLoss(class_weights=[1.0, 2.0, 3.0, 4.0])
    value = loss(logits, target)
    value.backward()
    ignored = (target == 255).unsqueeze(1).expand_as(logits)
    assert (logits.grad[ignored] == 0).all()
    assert (logits.grad[~ignored] != 0).any()
    torch.testing.assert_close(loss(torch.where(ignored, 50.0, logits), target), value)


def test_a_batch_without_a_single_labelled_pixel_gives_no_nan():
    logits, target = random_batch(ignored=1.1)
    value = SegmentationLoss()(logits, target)
    value.backward()
    assert value.item() == pytest.approx(0.0)
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_is_computed_in_float32_even_under_autocast(dtype):
    logits = torch.randn(2, 3, 512, 512).to(dtype)
    target = torch.randint(0, 3, (2, 512, 512), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        value = SegmentationLoss()(logits, target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, SegmentationLoss()(logits.float(), target))


def test_certain_and_wrong_is_large_but_finite():
    logits = torch.tensor([1e4, -1e4]).view(1, 2, 1, 1)
    assert SegmentationLoss(dice=0.0)(logits, torch.ones(1, 1, 1, dtype=torch.uint8)).item() == pytest.approx(2e4)


def test_automatic_class_weights_are_enets_with_mean_one():
    shares = [0.9, 0.1, 0.0]
    weights = np.array(automatic_class_weights(shares))
    expected = np.array([1 / math.log(1.02 + share) for share in shares])
    np.testing.assert_allclose(weights, expected / expected.mean())
    assert weights.mean() == pytest.approx(1.0)
    assert (np.diff(weights) > 0).all()
