"""The shape of the code: imports run only downwards, and the picture of the layers shows them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_imports_run_only_downwards_and_in_no_cycle():
    # a process of its own: import-linter switches off every logger of the process that it runs in
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_picture_of_the_layers_is_up_to_date():
    specification = importlib.util.spec_from_file_location("make_layers", ROOT / "docs" / "make_layers.py")
    program = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(program)
    assert program.PICTURE.read_text() == program.draw_layers(), "make screenshots, or: python docs/make_layers.py"
