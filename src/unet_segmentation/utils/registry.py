"""Registries: what the files of a package add by a decorator, by name; nothing else lists them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from unet_segmentation.utils.did_you_mean import unknown_name_error

Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """Entries by name, in alphabetical order of the files that register them.

    Args:
        key: the parameter that chooses among them, for error messages.
        package: whose modules register entries; they are imported when the first entry is asked for.
    """

    def __init__(self, key: str, package: str) -> None:
        self._key, self._package = key, package
        self._entries: dict[str, Entry] = {}
        self._is_loaded = False

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Return a decorator that adds an entry; raise ValueError where the name is taken."""

        def add(entry: Entry) -> Entry:
            if name in self._entries:
                raise ValueError(f"{self._package}: {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return add

    def module_names(self) -> frozenset[str]:
        """Return the names of the package's modules; none of them is imported."""
        return frozenset(
            module.name for module in pkgutil.iter_modules(importlib.import_module(self._package).__path__)
        )

    def names(self) -> list[str]:
        """Return the names of all entries."""
        return list(self._load())

    def __getitem__(self, name: str) -> Entry:
        """Return an entry; raise ConfigurationError, with the nearest names, where there is none of this name."""
        entries = self._load()
        if name not in entries:
            raise unknown_name_error(self._key, name, entries)
        return entries[name]

    def __contains__(self, name: str) -> bool:
        """Return whether there is an entry of this name."""
        return name in self._load()

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        """Yield names and entries."""
        return iter(self._load().items())

    def _load(self) -> dict[str, Entry]:
        if not self._is_loaded:
            for name in sorted(self.module_names()):
                importlib.import_module(f"{self._package}.{name}")
            self._is_loaded = True
        return self._entries
