"""What to say about a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from unet_segmentation.errors import ConfigurationError


def unknown_name_error(key: str, name: str, known: Iterable[str]) -> ConfigurationError:
    """Make the error for a name that is not known: it says which are near, else which there are."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(sorted(known)[:80])}"
    return ConfigurationError(f"{key}: there is no {name!r}; {hint}")
