"""Draw docs/pictures/layers.svg: the packages in the order of the import contract in pyproject.toml.

`make screenshots` calls it; a test compares the picture with the code.
"""

from __future__ import annotations

import ast
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "unet_segmentation"
PICTURE = ROOT / "docs" / "pictures" / "layers.svg"
FIRST_LIBRARY_LAYER = "deployment"  # from here on no Kedro
WIDTH, ROW, NAME = 920, 34, 190


def read_layers() -> list[list[str]]:
    """Return the modules of each layer, the topmost layer first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [layer.split(" | ") for layer in layers]


def summary_of(module: str) -> str:
    """Return the first sentence of a module's docstring, without its full stop."""
    path = PACKAGE / module / "__init__.py"
    tree = ast.parse((path if path.exists() else PACKAGE / f"{module}.py").read_text())
    first = (ast.get_docstring(tree) or "").split("\n")[0]
    return first.split(". ")[0].split(": nothing heavy")[0].rstrip(".")


def draw_layers() -> str:
    """Return the picture: one row for a layer, an arrow for the direction of imports."""
    layers = read_layers()
    height = ROW * len(layers) + 20
    rows = []
    kedro = True
    for number, modules in enumerate(layers):
        kedro = kedro and FIRST_LIBRARY_LAYER not in modules
        top = 10 + ROW * number
        fill = "#fff3bf" if kedro else "#d0ebff"
        text = "; ".join(summary_of(module) for module in modules)
        rows.append(
            f'<rect x="40" y="{top}" width="{WIDTH - 50}" height="{ROW - 6}" rx="5" fill="{fill}"/>'
            f'<text x="52" y="{top + 19}" font-weight="bold">{escape(", ".join(modules))}</text>'
            f'<text x="{NAME + 90}" y="{top + 19}">{escape(text)}</text>'
        )
    arrow = (
        f'<line x1="20" y1="14" x2="20" y2="{height - 24}" stroke="#495057" stroke-width="2"/>'
        f'<path d="M14 {height - 26} L26 {height - 26} L20 {height - 12} Z" fill="#495057"/>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="13" fill="#212529" role="img" aria-label="Layers of the package; imports run only downwards">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n{arrow}\n' + "\n".join(rows) + "\n</svg>\n"
    )


if __name__ == "__main__":
    PICTURE.write_text(draw_layers())
