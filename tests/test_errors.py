"""Errors that a library wraps, and optional packages that are missing."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest

from unet_segmentation.errors import EXTRAS, DataError, find_project_error

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("package", "extra"), EXTRAS.items())
def test_a_missing_extra_is_named_with_the_command_that_installs_it(package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module(package)
    assert str(find_project_error(caught.value)) == (
        f"The package {package} is not installed; it belongs to the extra {extra!r}. "
        f"Install it with: pip install 'unet-segmentation[{extra}]'"
    )


def test_the_extras_are_those_of_the_package():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for package, extra in EXTRAS.items():
        declared = {re.split(r"[\[<>=~]", each)[0].replace("-", "_") for each in extras[extra]}
        assert package in declared, (package, extra)


def test_a_project_error_is_found_through_what_a_library_wraps_around_it():
    error = ValueError("outer")
    error.__cause__ = DataError("inner")
    assert str(find_project_error(error)) == "inner"
    assert find_project_error(ModuleNotFoundError("no", name="somebody_elses")) is None
