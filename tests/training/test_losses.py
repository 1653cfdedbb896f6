import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.parameters.loss import LossParameters
from unet_segmentation.training import composite_loss
from unet_segmentation.training.composite_loss import CompositeLoss, one_hot
from unet_segmentation.training.loss_docs import PAGE, update_page
from unet_segmentation.training.losses.base import LOSSES, region_sums
from unet_segmentation.training.plan import automatic_class_weights

ROOT = Path(__file__).parents[2]

NAMES = ["cross_entropy", "dice", "jaccard", "tversky", "focal", "lovasz", "ohem"]
RATIOS = [name for name in NAMES if name not in {"lovasz", "ohem"}]
OVERLAPS = ["dice", "jaccard", "tversky"]


def only(name, class_weights=None, **settings):
    """One loss, of weight 1."""
    parameters = LossParameters(**(dict.fromkeys(NAMES, 0.0) | {name: 1.0} | settings))
    return CompositeLoss(parameters, class_weights)


def without_smoothing(name, sums, **settings):
    """A loss of classes as a ratio of sums, with nothing added to either."""
    loss = LOSSES[name]
    return loss(loss.Settings(**settings)).from_sums(sums, smooth=0.0)


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
    torch.testing.assert_close(only("cross_entropy", weights)(logits, target), expected)


def test_dice_is_smps_where_every_class_occurs_and_nothing_is_smoothed():
    import segmentation_models_pytorch as smp

    logits, target = random_batch()
    reference = smp.losses.DiceLoss("multiclass", from_logits=True, smooth=0.0, ignore_index=255)(logits, target.long())
    torch.testing.assert_close(without_smoothing("dice", region_sums(logits.softmax(1), one_hot(target, 4))), reference)


def test_dice_closed_form():
    # one pixel of each class, p(truth) = 0.75 and 0.5: (2 * .75 + 1) / (1.25 + 1 + 1) and (2 * .5 + 1) / (.75 + 1 + 1)
    logits = torch.tensor([[0.75, 0.5], [0.25, 0.5]]).log().view(1, 2, 1, 2)
    target = torch.tensor([[[0, 1]]])
    expected = 1 - (2.5 / 3.25 + 2.0 / 2.75) / 2
    assert only("dice")(logits, target).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", OVERLAPS)
def test_predicting_an_absent_class_costs(name):
    target = torch.zeros(1, 8, 8, dtype=torch.uint8)
    right, wrong = torch.zeros(2, 1, 2, 8, 8)
    right[:, 0] = 20.0
    wrong[:, 1] = 20.0
    loss = only(name)
    assert loss(right, target).item() == pytest.approx(0.0, abs=1e-4)
    assert loss(wrong, target).item() > 0.95


@pytest.mark.parametrize("name", NAMES)
def test_ignored_pixels_have_no_gradient_and_no_influence(name):
    logits, target = random_batch()
    loss = only(name, [1.0, 2.0, 3.0, 4.0])
    value = loss(logits, target)
    value.backward()
    ignored = (target == 255).unsqueeze(1).expand_as(logits)
    assert (logits.grad[ignored] == 0).all()
    assert (logits.grad[~ignored] != 0).any()
    torch.testing.assert_close(loss(torch.where(ignored, 50.0, logits), target), value)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_a_single_labeled_pixel_gives_no_nan(name):
    logits, target = random_batch(ignored=1.1)
    value = only(name)(logits, target)
    value.backward()
    assert value.item() == pytest.approx(0.0)
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_is_computed_in_float32_even_under_autocast(name, dtype):
    logits = torch.randn(2, 3, 256, 256).to(dtype).requires_grad_()
    target = torch.randint(0, 3, (2, 256, 256), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        value = only(name)(logits, target)
    value.backward()
    assert value.dtype == torch.float32
    assert logits.grad.isfinite().all()
    torch.testing.assert_close(value, only(name)(logits.float(), target))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradients_are_finite_however_certain_the_network_is(name, gamma):
    logits = (torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 1e4).requires_grad_()
    value = only(name, focal_gamma=gamma)(logits, torch.randint(0, 3, (2, 8, 8), dtype=torch.uint8))
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


def test_certain_and_wrong_is_large_but_finite():
    logits = torch.tensor([1e4, -1e4]).view(1, 2, 1, 1)
    assert only("cross_entropy")(logits, torch.ones(1, 1, 1, dtype=torch.uint8)).item() == pytest.approx(2e4)


def probabilities_and_truth(seed, classes=4, ignored=0.3, absent=None):
    """Labeled pixels alone, in float64: (pixels, classes) probabilities and (pixels,) ids."""
    logits, target = random_batch(seed, ignored)
    if absent is not None:
        target[target == absent] = (absent + 1) % classes
    valid = target.flatten() != 255
    probabilities = logits.detach().double().softmax(1).movedim(1, -1).reshape(-1, classes)[valid]
    return logits, target, probabilities.numpy(), target.flatten()[valid].numpy().astype(int)


def one_ratio_per_class(formula, probabilities, ids):
    ratios = []
    for number in range(probabilities.shape[1]):
        p, t = probabilities[:, number], (ids == number).astype(float)
        ratios.append(formula((p * t).sum(), (p * (1 - t)).sum(), ((1 - p) * t).sum()))
    return 1 - np.mean(ratios)


@pytest.mark.parametrize("absent", [None, 2])
@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("dice", lambda tp, fp, fn: (2 * tp + 1) / (2 * tp + fp + fn + 1)),
        ("jaccard", lambda tp, fp, fn: (tp + 1) / (tp + fp + fn + 1)),
        ("tversky", lambda tp, fp, fn: (tp + 1) / (tp + 0.2 * fp + 0.9 * fn + 1)),
    ],
)
def test_overlaps_by_brute_force(name, formula, absent):
    logits, target, probabilities, ids = probabilities_and_truth(3, absent=absent)
    value = only(name, tversky_alpha=0.2, tversky_beta=0.9)(logits, target)
    assert value.item() == pytest.approx(one_ratio_per_class(formula, probabilities, ids), rel=1e-5)


def test_jaccard_and_tversky_are_smps_where_every_class_occurs_and_nothing_is_smoothed():
    import segmentation_models_pytorch as smp

    logits, target = random_batch(ignored=0.0)
    sums = region_sums(logits.softmax(1), one_hot(target, 4))
    reference = smp.losses.JaccardLoss("multiclass", from_logits=True)(logits, target.long())
    torch.testing.assert_close(without_smoothing("jaccard", sums), reference)
    logits, target = random_batch()
    sums = region_sums(logits.softmax(1), one_hot(target, 4))
    reference = smp.losses.TverskyLoss("multiclass", from_logits=True, ignore_index=255, alpha=0.3, beta=0.7)
    torch.testing.assert_close(
        without_smoothing("tversky", sums, alpha=0.3, beta=0.7), reference(logits, target.long())
    )


def test_tversky_of_one_and_one_is_jaccard():
    batch = random_batch()
    tversky = only("tversky", tversky_alpha=1.0, tversky_beta=1.0)
    torch.testing.assert_close(tversky(*batch), only("jaccard")(*batch))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 3.0])
def test_focal_is_smps_softmax_focal_loss(gamma):
    from segmentation_models_pytorch.losses._functional import softmax_focal_loss_with_logits

    logits, target = random_batch(ignored=0.0)
    reference = softmax_focal_loss_with_logits(logits, target.long(), gamma=gamma)
    torch.testing.assert_close(only("focal", focal_gamma=gamma)(logits, target), reference)


def test_focal_with_class_weights_by_brute_force():
    weights = np.array([1.0, 0.5, 3.0, 0.0])
    logits, target, probabilities, ids = probabilities_and_truth(1)
    p = probabilities[np.arange(len(ids)), ids]
    expected = (weights[ids] * (1 - p) ** 2 * -np.log(p)).sum() / weights[ids].sum()
    assert only("focal", weights.tolist())(logits, target).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 3.0, 0.0]])
def test_without_focus_or_with_every_pixel_it_is_the_cross_entropy(weights):
    batch = random_batch()
    expected = only("cross_entropy", weights)(*batch)
    torch.testing.assert_close(only("focal", weights, focal_gamma=0.0)(*batch), expected)
    torch.testing.assert_close(only("ohem", weights, ohem_fraction=1.0)(*batch), expected)


@pytest.mark.parametrize("absent", [None, 1])
@pytest.mark.parametrize("ignored", [0.0, 0.5])
def test_lovasz_and_its_gradient_are_the_authors(absent, ignored):
    """smp carries the authors' code, which takes differences of neighbors."""
    import segmentation_models_pytorch as smp

    logits, target, *_ = probabilities_and_truth(5, ignored=ignored, absent=absent)
    reference = smp.losses.LovaszLoss("multiclass", ignore_index=255)(logits, target.long())
    (gradient,) = torch.autograd.grad(reference, logits)
    actual = only("lovasz")(logits, target)
    torch.testing.assert_close(actual, reference)
    torch.testing.assert_close(torch.autograd.grad(actual, logits)[0], gradient, rtol=1e-4, atol=1e-7)


def test_lovasz_of_a_certain_prediction_is_one_minus_the_mean_iou():
    """The Lovasz extension is the set function itself on the corners of the cube (ibid., definition 1)."""
    generator = torch.Generator().manual_seed(0)
    truth, prediction = torch.randint(0, 3, (2, 2, 20, 20), generator=generator)
    value = only("lovasz")(torch.nn.functional.one_hot(prediction, 3).movedim(-1, 1) * 200.0, truth.to(torch.uint8))
    ious = [((truth == c) & (prediction == c)).sum() / ((truth == c) | (prediction == c)).sum() for c in range(3)]
    assert value.item() == pytest.approx(1 - np.mean(ious), rel=1e-5)


@pytest.mark.parametrize("share", [0.05, 0.25, 0.8])
@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 3.0, 0.2]])
def test_ohem_by_brute_force(share, weights):
    logits, target, probabilities, ids = probabilities_and_truth(2)
    weight = np.ones(len(ids)) if weights is None else np.array(weights)[ids]
    losses = weight * -np.log(probabilities[np.arange(len(ids)), ids])
    hardest = np.argsort(-losses)[: math.ceil(share * len(ids))]
    value = only("ohem", weights, ohem_fraction=share)(logits, target)
    assert value.item() == pytest.approx(losses[hardest].sum() / weight[hardest].sum(), rel=1e-5)
    value.backward()
    assert (logits.grad.abs().sum(1) > 0).sum() == len(hardest)


def test_a_sum_weighs_its_losses():
    batch = random_batch()
    weights = {name: 0.5 + number for number, name in enumerate(NAMES)}
    expected = sum(weight * only(name)(*batch) for name, weight in weights.items())
    torch.testing.assert_close(CompositeLoss(LossParameters(**weights))(*batch), expected)


@pytest.mark.parametrize("names", [[name] for name in RATIOS] + [RATIOS])
def test_two_halves_with_summed_sums_are_the_whole_batch(names, monkeypatch):
    """As two processes would, each with half the batch: value, and gradient of both halves' sum of sums."""
    settings = dict.fromkeys(NAMES, 0.0) | dict.fromkeys(names, 1.0)
    weights = [1.0, 0.5, 3.0, 2.0]
    logits, target = random_batch()
    whole = CompositeLoss(LossParameters(**settings), weights)(logits, target)
    (expected,) = torch.autograd.grad(whole, logits)
    halves = [(logits[:1].detach().requires_grad_(), target[:1]), (logits[1:].detach().requires_grad_(), target[1:])]
    for mine, other in (halves, halves[::-1]):
        reference = []
        monkeypatch.setattr(composite_loss, "all_reduce_sum", lambda s, t=reference: t.append(s) or s)
        CompositeLoss(LossParameters(**settings), weights)(*other)
        assert len(reference) == 1  # one exchange for all losses
        monkeypatch.setattr(composite_loss, "all_reduce_sum", lambda s, t=reference: s + t[0])
        value = CompositeLoss(LossParameters(**settings), weights)(*mine)
        torch.testing.assert_close(value, whole)
        gradients = torch.autograd.grad(value, [half for half, _ in halves])
        torch.testing.assert_close(torch.cat(gradients), expected)


def test_nothing_is_reduced_in_evaluation_mode(monkeypatch):
    batch = random_batch()
    expected = CompositeLoss()(*batch)
    monkeypatch.setattr(composite_loss, "all_reduce_sum", lambda sums: sums * torch.nan)
    torch.testing.assert_close(CompositeLoss().eval()(*batch), expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_bits_again_with_deterministic_algorithms(name):
    logits, target = random_batch(7)
    gradients = []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            gradients.append(torch.autograd.grad(only(name)(logits, target), logits)[0])
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(*gradients)


def test_automatic_class_weights_are_enets_with_mean_one():
    shares = [0.9, 0.1, 0.0]
    weights = np.array(automatic_class_weights(shares))
    expected = np.array([1 / math.log(1.02 + share) for share in shares])
    np.testing.assert_allclose(weights, expected / expected.mean())
    assert weights.mean() == pytest.approx(1.0)
    assert (np.diff(weights) > 0).all()


def test_the_defaults_in_the_configuration_are_those_of_the_losses():
    section = yaml.safe_load((ROOT / "conf/base/parameters_training.yml").read_text(encoding="utf-8"))
    assert section["training"]["loss"].items() <= LossParameters().model_dump().items()


def test_the_docs_list_every_loss():
    """Written by: python -m unet_segmentation.training.loss_docs."""
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert update_page(page) == page
    assert all(f"| `{name}` |" in page for name in LOSSES.names())
    assert sorted(NAMES) == LOSSES.names()


def test_an_unknown_loss_names_the_nearest():
    with pytest.raises(ConfigurationError, match=r"training\.loss: there is no 'dise'; did you mean 'dice'"):
        LOSSES["dise"]


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="'dice' is registered twice"):
        LOSSES.register("dice")(LOSSES["dice"])
