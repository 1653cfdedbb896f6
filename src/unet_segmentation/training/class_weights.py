"""What a class weighs."""

from __future__ import annotations

import math


def automatic_class_weights(shares: list[float]) -> list[float]:
    """Weigh rare classes more: w = 1 / ln(1.02 + share), brought to a mean of 1.

    The formula of ENet (Paszke et al. 2016, https://arxiv.org/abs/1606.02147): bounded, unlike the inverse share.

    Args:
        shares: of each class among the pixels of the training split, summing to 1.
    """
    weights = [1.0 / math.log(1.02 + share) for share in shares]
    mean = sum(weights) / len(weights)
    return [weight / mean for weight in weights]
