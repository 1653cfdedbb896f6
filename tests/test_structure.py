"""The shape of the code: the direction of imports, the length of functions, the words of CONTRIBUTING.md."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from unet_segmentation.parameters import Parameters

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "unet_segmentation"
BANNED_NAMES = {"found", "known", "given", "told", "ours", "theirs", "wanted", "kept", "taken", "said", "settled"}
BANNED_FIRST_WORDS = {"Give", "Gives", "Say", "Says", "What", "Whether", "Where", "How", "Tell", "Hold", "Let"}
MAX_LINES, MAX_POSITIONAL = 50, 6
# first parts of references to what is no module or parameter of this project
FOREIGN = {
    "ARCHITECTURES", "GTcls", "Study", "Tensor", "UnetDecoderBlock", "context", "git", "kedro", "lightning", "mlflow",
    "np", "numpy", "obj", "onnxruntime", "optuna", "pathlib", "pd", "rasterio", "scipy", "smp", "torch", "weights",
}  # fmt: skip
FILE_NAME = re.compile(
    r"\.(json|jsonl|ya?ml|csv|parquet|npy|npz|bin|png|html|md|py|txt|toml|lock|log|db|zip|tif|tar|gz|safetensors|ckpt|"
    r"pt2|onnx|sha256|geojson|mat|xml)$"
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


@functools.cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}


def walk() -> Iterator[tuple[str, ast.AST]]:
    for path, tree in trees().items():
        for node in ast.walk(tree):
            yield f"{path.relative_to(SOURCE)}:{getattr(node, 'lineno', 0)}", node


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


def test_no_function_is_longer_than_a_page():
    long = {}
    for place, node in walk():
        if isinstance(node, Function) and node.name != "create_pipeline":
            first = node.body[0]
            docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) is not None else 0
            lines = node.end_lineno - node.lineno + 1 - docstring
            if lines > MAX_LINES:
                long[place] = f"{node.name}, {lines} lines"
    assert not long


def test_functions_take_at_most_six_positional_arguments():
    many = {}
    for place, node in walk():
        if isinstance(node, Function) and not place.startswith("pipelines"):  # Kedro calls nodes by keyword
            names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
            if len(names) - (names[:1] in (["self"], ["cls"])) > MAX_POSITIONAL:
                many[place] = node.name
    assert not many


def test_variables_say_what_they_hold():
    names = (
        (place, node.id if isinstance(node, ast.Name) else node.arg)
        for place, node in walk()
        if isinstance(node, ast.Name | ast.arg)
    )
    assert not {place: name for place, name in names if name.strip("_") in BANNED_NAMES}


def test_docstrings_begin_with_a_verb_of_the_field():
    docstrings = ((place, ast.get_docstring(node)) for place, node in walk() if isinstance(node, Function))
    words = {place: text.split()[0].strip(",.:") for place, text in docstrings if text}
    assert not {place: word for place, word in words.items() if word in BANNED_FIRST_WORDS}


def test_what_docstrings_refer_to_exists():
    definitions = {module: dict(defined_names(tree)) for module, tree in modules().items()}
    reference = re.compile(r"(?<![`\w])`{1,2}([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(?:\(\))?`{1,2}")
    dead = {}
    for place, node in walk():
        docstring = ast.get_docstring(node) if isinstance(node, Function | ast.ClassDef | ast.Module) else None
        for name in reference.findall(docstring or ""):
            if name.split(".")[0] in FOREIGN or FILE_NAME.search(name) or is_parameter(name, Parameters):
                continue
            if not is_defined(name, definitions):
                dead[f"{place} {name}"] = name
    assert not dead


def modules() -> dict[str, ast.Module]:
    named = {path.relative_to(SOURCE.parent).with_suffix("").parts: tree for path, tree in trees().items()}
    return {".".join(parts).removesuffix(".__init__"): tree for parts, tree in named.items()}


def defined_names(tree: ast.Module | ast.ClassDef) -> Iterator[tuple[str, set[str]]]:
    """Yield what a module defines, with the members of its classes."""
    for node in tree.body:
        if isinstance(node, Function):
            yield node.name, set()
        elif isinstance(node, ast.ClassDef):
            yield node.name, {name for name, _ in defined_names(node)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, set()
        elif isinstance(node, ast.Assign):
            yield from ((target.id, set()) for target in node.targets if isinstance(target, ast.Name))


def is_defined(reference: str, definitions: dict[str, dict[str, set[str]]]) -> bool:
    """Return whether it is a module, something in a module, or a member of a class."""
    parts = reference.split(".")
    for split in range(len(parts), 0, -1):
        head, rest = ".".join(parts[:split]), parts[split:]
        for module, names in definitions.items():
            if f".{module}".endswith(f".{head}") and (not rest or rest[0] in names):
                return True
    return any(parts[0] in names and parts[1] in names[parts[0]] for names in definitions.values())


def is_parameter(reference: str, model: type[BaseModel]) -> bool:
    """Return whether it is the dotted key of a parameter."""
    name, _, rest = reference.partition(".")
    if name not in model.model_fields:
        return False
    annotation = model.model_fields[name].annotation
    nested = [kind for kind in (annotation, *typing.get_args(annotation)) if hasattr(kind, "model_fields")]
    return not rest or not nested or any(is_parameter(rest, kind) for kind in nested)
