"""The documentation builds without a dead link, its generated pages are current, and its commands exist."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import click
import pytest
import yaml
from pydantic import BaseModel, ValidationError

from docs import make_reference
from unet_segmentation.config_loader import ProblemConfigLoader
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.parameters import Parameters
from unet_segmentation.tracking.settings import TrackingSettings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GUIDES = sorted(
    path
    for path in [
        DOCS / "index.md",
        DOCS / "troubleshooting.md",
        DOCS / "results.md",
        *DOCS.glob("getting-started/*.md"),
        *DOCS.glob("how-to/*.md"),
    ]
)
PLACEHOLDERS = {"mine", "wbc_best", "<problem>", "NAME"}  # problems that readers have, and this project has not
NO_PARAMETERS = re.compile(r"\.(onnx|pt2|html|json|yml|py)$|^evaluation\.(device|precision|torch)$")  # files and tags
OTHER_PROGRAMS = {
    "cd",
    "curl",
    "export",
    "gdal_translate",
    "git",
    "mlflow",
    "ogr2ogr",
    "pip",
    ".venv/bin/pip",
    "source",
}


# -- the site


def test_the_site_builds_without_a_dead_link(tmp_path: Path) -> None:
    mkdocs = shutil.which("mkdocs", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if mkdocs is None:
        pytest.skip("mkdocs is not installed: it belongs to the extra docs")
    command = [mkdocs, "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - {"pictures/README.md"}
    assert {page for page in pages if page not in text} == set()


def test_links_of_pages_and_of_the_readme_lead_somewhere() -> None:
    """The strict build checks anchors, too; this needs no mkdocs, and covers what the repository shows by itself."""
    dead = []
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists():
                dead.append(f"{path.relative_to(ROOT)}: {target}")
    assert dead == []


def test_paths_of_pages_in_the_code_exist() -> None:
    dead = []
    for folder in ("src", "conf", "tests", "benchmarks", "notebooks"):
        for path in (path for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".yml", ".ipynb"}):
            for page in re.findall(r"docs/[\w/-]+\.(?:md|py)", path.read_text(encoding="utf-8")):
                if not (ROOT / page).exists():
                    dead.append(f"{path.relative_to(ROOT)}: {page}")
    assert dead == []


# -- the generated pages


@pytest.mark.parametrize("page", make_reference.pages(), ids=str)
def test_generated_pages_are_current(page: Path) -> None:
    expected = make_reference.pages()[page]
    assert (ROOT / page).read_text(encoding="utf-8") == expected, "generate it: python docs/make_reference.py"


def test_every_parameter_has_a_meaning() -> None:
    page = (DOCS / "reference" / "configuration.md").read_text(encoding="utf-8")
    assert [line for line in page.splitlines() if line.startswith("| `") and line.endswith("|  |")] == []


def test_meanings_of_parameters_are_those_of_keys_that_exist() -> None:
    keys = [re.sub(r"\[\]|\.\*", "", key).split(".") for key in make_reference.MEANINGS]
    assert [key for key in keys if key[0] != "mlflow" and not _exists(Parameters, key)] == []
    assert [key for key in keys if key[0] == "mlflow" and not _exists(TrackingSettings, key[1:])] == []


def test_mlflow_keys_are_those_of_the_code() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    source += "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "conf" / "base").glob("*.yml"))
    names = {name.strip() for names in make_reference.TAGS for name in names.split(",")}
    unknown = [name for name in names if name not in source and f'"{name.partition(".")[2]}"' not in source]
    assert [name for name in unknown if not name.startswith(("version.", "evaluation."))] == []
    assert [name for name in make_reference.EPOCH_METRICS if "dice" not in name and name not in source] == []


# -- the commands of tutorials and how-to guides


def _blocks(path: Path, language: str) -> Iterator[str]:
    """Yield fenced blocks, without their indentation; those with a title belong to another file."""
    text = path.read_text(encoding="utf-8")
    for indent, block in re.findall(rf"^([ ]*)```{language}\n(.*?)^[ ]*```", text, flags=re.MULTILINE | re.DOTALL):
        yield "\n".join(line.removeprefix(indent) for line in block.splitlines())


def _commands() -> Iterator[tuple[str, list[str]]]:
    for path in GUIDES:
        for block in _blocks(path, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words = words[1:]
                if words:
                    yield f"{path.relative_to(DOCS)}: {line.strip()}", words


def _inline_commands() -> Iterator[tuple[str, list[str]]]:
    """Yield commands that stand in the text, of all pages but the generated ones."""
    for path in sorted({*GUIDES, *DOCS.glob("*.md"), *DOCS.glob("explanation/*.md"), *DOCS.glob("reference/*s.md")}):
        for line in re.findall(r"`((?:kedro|make|python -m) [^`<]+)`", path.read_text(encoding="utf-8")):
            if "..." not in line:
                yield f"{path.relative_to(DOCS)}: {line}", shlex.split(line)


COMMANDS = dict(_commands()) | dict(_inline_commands())


@cache
def _kedro() -> click.Command:
    from kedro.framework.cli.cli import KedroCLI

    return KedroCLI(ROOT)


@cache
def _pipelines() -> Mapping[str, Any]:
    from kedro.framework.project import configure_project, pipelines

    configure_project("unet_segmentation")
    return dict(pipelines)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_names_only_what_exists(name: str) -> None:
    program, *arguments = COMMANDS[name]
    program = Path(program).name if program.startswith((".venv/bin/kedro", ".venv/bin/python")) else program
    match program:
        case "kedro":
            _check_kedro(arguments)
        case "make":
            _check_make(arguments)
        case "python":
            _check_python(arguments)
        case _:
            assert program in OTHER_PROGRAMS, f"{program} is not known"


def _check_kedro(arguments: list[str]) -> None:
    command: click.Command = _kedro()
    context = click.Context(command, info_name="kedro")
    while isinstance(command, click.Group):
        name, *arguments = arguments
        inner = command.get_command(context, name)
        assert inner is not None, f"there is no command {name}"
        command, context = inner, click.Context(inner, info_name=name, parent=context)
    if not arguments and any(parameter.required for parameter in command.params):
        return  # only named, as in "so `kedro compare` accepts it"
    options, _, _ = command.make_parser(context).parse_args(list(arguments))  # raises for an unknown option
    for parameter in command.params:
        value = options.get(parameter.name or "")
        if value is not None and isinstance(parameter.type, click.Choice):
            parameter.type.convert(value, parameter, context)
        missing = parameter.required and value in (None, (), [])
        assert not missing, f"{parameter.name} is missing"
    problem = options.get("env") or "cells"
    assert problem in PLACEHOLDERS or (ROOT / "conf" / problem / "parameters.yml").is_file(), problem
    for names in (options.get("pipelines"), options.get("pipeline")):
        assert set(names.split(",") if names else []) <= set(_pipelines())
    nodes = {node.name for pipeline in _pipelines().values() for node in pipeline.nodes}
    for key in ("from_nodes", "to_nodes", "node_names"):
        assert {node for node in (options.get(key) or "").split(",") if node} <= nodes
    if options.get("params"):
        _check_parameters(options["params"], problem if problem not in PLACEHOLDERS else "cells")


def _check_parameters(text: str, problem: str) -> None:
    from kedro.framework.cli.utils import _split_params

    values = _split_params(None, None, text)
    try:
        loader = ProblemConfigLoader(
            ROOT / "conf", env=problem, base_env="base", default_run_env="cells", runtime_params=values
        )
        assert loader["parameters"]
    except ConfigurationError as error:
        pytest.fail(str(error))


def _check_make(arguments: list[str]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    variables = dict(word.split("=", 1) for word in arguments if "=" in word)
    assert {word for word in arguments if "=" not in word} <= targets
    if "NAME" in variables:
        assert (ROOT / "benchmarks" / f"{variables['NAME']}.py").is_file()
    if "ENV" in variables:
        assert (ROOT / "conf" / variables["ENV"]).is_dir()


def _check_python(arguments: list[str]) -> None:
    match arguments:
        case ["-m", module, *_]:
            assert importlib.util.find_spec(module) is not None, module
        case ["-c", code]:
            compile(code, "docs", "exec")
        case [script, *_]:
            assert (ROOT / script).is_file() or script == "predict.py", script  # that of an exported model


CLASSES = ["background", "cytoplasm", "nucleus"]
YAML_BLOCKS = {
    f"{path.relative_to(DOCS)} {number}": block
    for path in [*GUIDES, DOCS / "reference" / "losses.md"]
    for number, block in enumerate(_blocks(path, "yaml"))
}


@pytest.mark.parametrize("name", YAML_BLOCKS)
def test_yaml_of_the_guides_is_valid(name: str) -> None:
    block = yaml.safe_load(YAML_BLOCKS[name])
    values = {"problem": "docs", "source": {"folder": ".", "images": "{id}"}, "classes": CLASSES, **block}
    try:
        Parameters.model_validate(values)
    except ValidationError as error:
        pytest.fail(str(error))


def test_parameters_in_the_text_exist() -> None:
    """Dotted names in backticks that begin like a section of the parameters."""
    unknown = []
    for path in [*GUIDES, *DOCS.glob("explanation/*.md")]:
        for name in re.findall(r"`((?:--params )?[a-z_]+(?:\.[a-z_]+)+)[`=:]", path.read_text(encoding="utf-8")):
            first, *rest = name.removeprefix("--params ").split(".")
            known = first not in Parameters.model_fields or _exists(Parameters, [first, *rest]) or _is_node(name)
            if not known and not NO_PARAMETERS.search(name):
                unknown.append(f"{path.relative_to(DOCS)}: {name}")
    assert unknown == []


def _is_node(name: str) -> bool:
    return any(node.name == name for pipeline in _pipelines().values() for node in pipeline.nodes)


def _exists(model: type[BaseModel], parts: list[str]) -> bool:
    """Return whether a dotted name is a parameter; what lies below a free mapping always is."""
    first, *rest = parts
    if first not in model.model_fields:
        return False
    annotation = model.model_fields[first].annotation
    inner = _model_in(annotation)
    return not rest or (inner is not None and _exists(inner, rest)) or (inner is None and _is_mapping(annotation))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for argument in get_args(annotation) if (model := _model_in(argument))), None)


def _is_mapping(annotation: Any) -> bool:
    if get_origin(annotation) in {Union, UnionType}:
        return any(_is_mapping(argument) for argument in get_args(annotation))
    return get_origin(annotation) is dict


PYTHON_BLOCKS = {
    f"{path.relative_to(DOCS)} {number}": block
    for path in GUIDES
    for number, block in enumerate(_blocks(path, "python"))
}


@pytest.mark.parametrize("name", PYTHON_BLOCKS)
def test_python_of_the_guides_imports_what_exists(name: str) -> None:
    for node in ast.walk(ast.parse(PYTHON_BLOCKS[name])):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unet_segmentation"):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                if not hasattr(module, alias.name):
                    assert importlib.util.find_spec(f"{node.module}.{alias.name}") is not None, alias.name


def test_the_guides_were_read() -> None:
    """The expressions above find what they are to check."""
    assert len(COMMANDS) > 80
    assert len(YAML_BLOCKS) > 20
    assert len(PYTHON_BLOCKS) > 5
    assert sys.version_info >= (3, 11)
