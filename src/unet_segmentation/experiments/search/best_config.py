"""The best parameters of a search, as a folder of `conf/` that can be run."""

from __future__ import annotations

import hashlib
from pathlib import Path

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.experiments.search.optuna_search import BestTrial
from unet_segmentation.experiments.variants import override_parameters
from unet_segmentation.parameters import Parameters
from unet_segmentation.parameters.serialization import dump_parameters_yaml, to_builtin
from unet_segmentation.utils.atomic_io import atomic_write

HEADER = "# Written by kedro search"
DIGEST = "# Content "


def best_folder(conf: Path, problem: str) -> Path:
    """Return the folder for the best parameters; ConfigurationError where it is not as a search has written it."""
    folder = conf / f"{problem}_best"
    file = folder / "parameters.yml"
    if folder.exists() and not (file.is_file() and _is_unchanged(file.read_text(encoding="utf-8"))):
        raise ConfigurationError(
            f"{folder} exists, and it is not as a search has written it: it will not be overwritten. Rename it, or "
            "remove it"
        )
    return folder


def write_best(conf: Path, best: BestTrial, parameters: Parameters) -> Path:
    """Write the problem's parameters with the best values; return the folder, whose name is what `--env` takes.

    Raises:
        ConfigurationError: the folder was not written by a search.
    """
    problem = parameters.problem
    folder = best_folder(conf, problem)
    body = dump_parameters_yaml(to_builtin(override_parameters(parameters, best.parameters, "search"))).decode()
    changes = "".join(f"#   {name}: {value}\n" for name, value in best.parameters.items())
    text = (
        f"{HEADER} --env {problem}: study {best.study}, trial {best.trial}, the best of {best.trials} by\n"
        f"# {best.score}: {best.value:.4f}. Everything else is as in {problem}; what the search chose:\n"
        f"{changes}{DIGEST}{_digest(body)} (a file that was changed by hand is not overwritten)\n\n{body}"
    )
    with atomic_write(folder / "parameters.yml") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return folder


def _is_unchanged(text: str) -> bool:
    head, _, body = text.partition("\n\n")
    return head.startswith(HEADER) and f"{DIGEST}{_digest(body)} " in head


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]
