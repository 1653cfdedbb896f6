"""What to say about a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from unet_segmentation.errors import ConfigurationError


def unknown_name_error(key: str, name: str, names: Iterable[str]) -> ConfigurationError:
    """Build the error for an unknown name, with the nearest names, or else all of them."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(sorted(names)[:80])}"
    return ConfigurationError(f"{key}: there is no {name!r}; {hint}")
