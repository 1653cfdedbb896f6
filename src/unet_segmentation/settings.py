"""Project settings, read by Kedro at every command: nothing heavy may be imported here."""

import warnings

# OmegaConf 2.4 has renamed a function that Kedro 1.7 still calls.
warnings.filterwarnings("ignore", message=r".*register_new_resolver.*")

from unet_segmentation.config_loader import ProblemConfigLoader  # noqa: E402
from unet_segmentation.hooks import make_hooks  # noqa: E402

HOOKS = make_hooks()

CONFIG_LOADER_CLASS = ProblemConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "cells",
    "config_patterns": {"mlflow": ["mlflow*"]},
    "merge_strategy": {"parameters": "soft", "mlflow": "soft"},
}
