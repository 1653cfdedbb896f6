"""Semantic segmentation with U-Nets as a Kedro project."""

import os

__version__ = "0.1.0"

# No library asks the network for a newer version of itself or reports home. Each reads this once, at its import.
for _name, _value in {
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}.items():
    os.environ.setdefault(_name, _value)
