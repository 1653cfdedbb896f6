"""One file per loss: each registers a class with its settings; `CompositeLoss` sums those whose weight is above 0.

This package is imported when parameters are read, so its modules import torch in functions only.
"""
