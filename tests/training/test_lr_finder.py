"""The range test: its arithmetic beside closed forms, and the rates that the optimizer really took."""

from __future__ import annotations

import logging

import lightning as L
import numpy as np
import pandas as pd
import pytest

from tests.training.test_preflight import prepared as prepared  # noqa: PLC0414 - a fixture
from tests.training.test_trainer import digest
from unet_segmentation.errors import ProjectError
from unet_segmentation.reporting.training_curves import learning_rate_curve
from unet_segmentation.training import lr_finder
from unet_segmentation.training.lr_finder import find_learning_rate, smoothed, suggest_lr
from unet_segmentation.training.lr_schedule import LearningRateTest


def test_smoothing_beside_pandas():
    losses = np.random.default_rng(0).random(50)
    expected = pd.Series(losses).ewm(alpha=0.1, adjust=True).mean()
    np.testing.assert_allclose(smoothed(losses.tolist(), 0.9), expected)


@pytest.mark.parametrize("place", [1e-4, 1e-3, 1e-2])
def test_the_steepest_point_of_a_curve_whose_steepest_point_is_known(place):
    """A logistic curve over log10 of the rate falls most steeply at its middle; then the loss explodes."""
    rates = np.geomspace(1e-6, 1.0, 100)
    position = np.log10(rates) - np.log10(place)
    losses = 1 - 1 / (1 + np.exp(-3 * position)) + np.exp(5 * (position - 1.8))
    assert suggest_lr(rates, losses.tolist()) == pytest.approx(place, rel=0.3)


@pytest.mark.parametrize("losses", [[1.0], [1.0, 1.0, 1.0], [1.0, 2.0, 3.0]])
def test_a_loss_that_never_falls_is_said(losses):
    with pytest.raises(ProjectError, match="No learning rate made the loss fall"):
        suggest_lr([0.1, 0.2, 0.4], losses)


@pytest.fixture
def taken(monkeypatch):
    """The learning rates of all groups, at each step of an optimizer."""
    rates = []

    class Watching(lr_finder._Rise):
        def on_before_optimizer_step(self, trainer: L.Trainer, *_: object) -> None:
            rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    monkeypatch.setattr(lr_finder, "_Rise", Watching)
    return rates


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_optimizer_takes_the_rising_rates_and_the_network_stays(prepared, taken, caplog, accumulate):
    caplog.set_level(logging.INFO, "unet_segmentation")
    case = prepared(accumulate_grad_batches=accumulate, optimizer={"learning_rate": 0.03})
    before = digest(case.inputs.build_network())
    result = find_learning_rate(case.plan, case.inputs)
    assert digest(case.inputs.build_network()) == before
    np.testing.assert_allclose([max(groups) for groups in taken], result.rates)
    np.testing.assert_allclose(result.rates, np.geomspace(1e-6, 1, 100)[: len(taken)])
    assert len(result.losses) == len(result.rates) == 100
    assert result.suggested in result.rates
    assert result.current == 0.03
    assert f"--params training.optimizer.learning_rate={result.suggested:.1e}" in caplog.text


def test_it_stops_where_the_loss_diverges(prepared, taken, monkeypatch):
    monkeypatch.setattr(lr_finder, "HIGHEST", 1e6)
    monkeypatch.setattr(lr_finder, "DIVERGED", 1.5)
    case = prepared(gradient_clip_val=0)
    result = find_learning_rate(case.plan, case.inputs)
    assert 10 < len(result.losses) == len(taken) < 100
    assert result.losses[-1] > 1.5 * min(result.losses[:-1])


def test_the_curve_shows_both_rates():
    result = LearningRateTest(suggested=2e-3, current=1e-3, rates=(1e-4, 1e-3, 1e-2), losses=(3.0, 2.0, 1.0))
    figure = learning_rate_curve(result)
    assert tuple(figure.data[0].x) == result.rates
    assert tuple(figure.data[0].y) == result.losses
    assert {line.x0 for line in figure.layout.shapes} == {2e-3, 1e-3}
    assert figure.layout.xaxis.type == "log"
