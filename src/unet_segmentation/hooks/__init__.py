"""Kedro hooks: what happens around a run. Heavy imports stay inside the methods."""

from __future__ import annotations

from unet_segmentation.hooks.console import ConsoleHooks
from unet_segmentation.hooks.input_check import InputCheckHooks
from unet_segmentation.hooks.mlflow import MlflowHooks
from unet_segmentation.hooks.state import RunState

__all__ = ["ConsoleHooks", "InputCheckHooks", "MlflowHooks", "RunState", "find_run_state", "make_hooks"]


def make_hooks() -> tuple[MlflowHooks, ConsoleHooks, InputCheckHooks]:
    """Return the project's hooks. Kedro calls the last one first."""
    mlflow = MlflowHooks()
    return mlflow, ConsoleHooks(mlflow), InputCheckHooks()


def find_run_state() -> RunState | None:
    """Return the state of this process's last run, from the hooks that the project has registered with Kedro."""
    from kedro.framework.project import settings

    return next((hooks.state for hooks in settings.HOOKS if isinstance(hooks, MlflowHooks)), None)
