"""Configuration in three layers: base, then the problem, then local."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.parameters import validate_parameters
from unet_segmentation.parameters.seeds import derive_seeds

BASE, LOCAL = "base", "local"
NOT_PROBLEMS = {BASE, LOCAL, "template"}


class ProblemConfigLoader(OmegaConfigLoader):
    """Layers ``conf/base`` < ``conf/<problem>`` < ``conf/local``, and names the problem after its folder.

    Kedro itself layers two environments only, so that ``conf/local`` would be lost under ``--env camvid``.
    """

    def __init__(self, conf_source: str | Path, env: str | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        self.problem = env or kwargs.get("default_run_env") or BASE
        _check_problem(Path(conf_source), self.problem)
        OmegaConf.register_new_resolver("problem", lambda: self.problem, replace=True)
        super().__init__(conf_source, env, **kwargs)

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Load one kind of configuration; raise ConfigurationError for a wrong parameter, or a file that is no YAML."""
        if key in self.data or key not in self.config_patterns:
            return super().__getitem__(key)
        try:
            config = self._with_local(key, super().__getitem__(key))
        except (yaml.YAMLError, ValueError, AttributeError) as error:
            if "Duplicate keys" in str(error):
                raise ConfigurationError(f"{error}. Give each key in one file only") from error
            if (reason := self._unreadable(key)) is None:
                raise
            raise ConfigurationError(reason) from error
        if key == "parameters":
            if "problem" in (self.runtime_params or {}):
                raise ConfigurationError("problem is no parameter to set: choose the problem with --env")
            config["problem"] = self.problem
            config.pop("mlflow", None)
            derive_seeds(config)
            validate_parameters(config)
        if key == "mlflow":
            for name in (BASE, self.problem, LOCAL):
                if (file := Path(self.conf_source) / name / "tracking.yml").is_file():
                    raise ConfigurationError(f"{file} is no longer read: rename it to mlflow.yml")
            # `enabled: false` and `mlflow: {enabled: false}` mean the same, and --params may say it
            config |= config.pop("mlflow", None) or {}
            config |= (self.runtime_params or {}).get("mlflow") or {}
        return config

    def _unreadable(self, key: str) -> str | None:
        """Name the file that cannot be read, and where; Kedro does not always know, and counts lines from 0."""
        folders = [Path(self.conf_source) / name for name in (BASE, self.problem, LOCAL)]
        for path in [path for folder in folders for each in self.config_patterns[key] for path in folder.glob(each)]:
            try:
                if not OmegaConf.is_dict(OmegaConf.load(path)):
                    return f"{path} holds no keys with values: write them as `key: value`"
            except yaml.MarkedYAMLError as error:
                if (mark := error.problem_mark) is None:
                    return str(error)
                return f"{path}: line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
            except UnicodeDecodeError:
                return f"{path} is no text in UTF-8: save it as that"
        return None

    def _with_local(self, key: str, config: dict[str, Any]) -> dict[str, Any]:
        path = Path(self.conf_source) / LOCAL
        if self.problem == LOCAL or not path.is_dir():
            return config
        local = self.load_and_merge_dir_config(str(path), self.config_patterns[key], key, set(), key == "credentials")
        if self.merge_strategy.get(key) == "soft":
            return OmegaConf.to_container(OmegaConf.merge(config, local))  # type: ignore[return-value]
        return {**config, **local}


def problems(conf_source: Path) -> list[str]:
    """Name the segmentation problems that have a folder under ``conf/``."""
    return sorted(path.parent.name for path in conf_source.glob("*/parameters*.yml") if path.parent.name != BASE)


def _check_problem(conf_source: Path, problem: str) -> None:
    if not conf_source.is_dir() or (conf_source / problem).is_dir():
        return
    names = [name for name in problems(conf_source) if name not in NOT_PROBLEMS]
    near = difflib.get_close_matches(problem, names, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise ConfigurationError(
        f"There is no environment {problem!r} (no folder conf/{problem}). {hint}"
        f"Known: {', '.join(names)}. To add a problem of your own, copy conf/template to conf/{problem}."
    )
