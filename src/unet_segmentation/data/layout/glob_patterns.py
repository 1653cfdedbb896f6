"""Globs with placeholders, translated into regular expressions. The language is described in `data.layout.layout`."""

from __future__ import annotations

import re
from collections.abc import Collection

PAGE = "#{page}"  # ends a glob whose files hold many images
PLACEHOLDERS = ("id", "folder", "split", "class")

_PLACEHOLDER = "|".join(f"\\{{{name}\\}}" for name in PLACEHOLDERS)


def compile_glob(glob: str, splits: Collection[str] = ()) -> re.Pattern[str]:
    """Translate a glob into a regular expression for whole paths, with a group for each placeholder but `#{page}`.

    ``{split}`` stands for one of the splits.
    """
    components = [component for component in glob.removesuffix(PAGE).split("/") if component not in {"", "."}]
    seen: set[str] = set()
    parts = []
    folders_in_id = False
    for position, component in enumerate(components):
        last = position == len(components) - 1
        if component == "**" and not last:
            folders_in_id = components[position + 1].startswith("{id}") and "id" not in seen
            parts.append("" if folders_in_id else "(?:[^/]+/)*")
            continue
        parts.append(".+" if component == "**" else _component(component, splits, seen, folders_in_id))
        parts.append("" if last else "/")
        folders_in_id = False
    return re.compile("".join(parts), re.DOTALL)


def literal_text(glob: str) -> str:
    """Return what is neither placeholder nor wildcard in a glob: the more of it, the more specific the glob."""
    return re.sub(f"{_PLACEHOLDER}|[*?]", "", glob.removesuffix(PAGE))


def _component(component: str, splits: Collection[str], seen: set[str], folders_in_id: bool) -> str:
    meanings = dict.fromkeys(PLACEHOLDERS, "[^/]+") | {"split": "|".join(map(re.escape, splits))}
    if folders_in_id:
        meanings["id"] = "(?:[^/]+/)*[^/]+"
    translated = ""
    for token in re.split(rf"({_PLACEHOLDER}|\*+|\?)", component):
        name = token[1:-1]
        if re.fullmatch(_PLACEHOLDER, token):
            translated += f"(?P={name})" if name in seen else f"(?P<{name}>{meanings[name]})"
            seen.add(name)
        elif token == "?":
            translated += "[^/]"
        elif token and not token.strip("*"):
            translated += "[^/]*"
        else:
            translated += re.escape(token)
    return translated
