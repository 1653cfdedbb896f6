"""The shape of the code: imports run only downwards, and the picture of the layers shows them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parents[1]


def test_imports_run_only_downwards_and_in_no_cycle(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_the_picture_of_the_layers_is_up_to_date():
    specification = importlib.util.spec_from_file_location("make_layers", ROOT / "docs" / "make_layers.py")
    program = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(program)
    assert program.PICTURE.read_text() == program.draw_layers(), "make screenshots, or: python docs/make_layers.py"
