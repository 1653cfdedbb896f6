"""One seed for everything random; each section may override it."""

from __future__ import annotations

from typing import Any

SEEDED_SECTIONS = (  # each draws from a random stream of its own, so that equal seeds do not share numbers
    "source.generator",
    "split",
    "training",
    "cross_validation",
    "bootstrap",
    "search",
    "article_claims.metrics",
)


def derive_seeds(parameters: dict[str, Any]) -> None:
    """Set the seed of every section that has none of its own to the top-level `seed`.

    Args:
        parameters: of a problem, as merged by the configuration loader; changed in place.
    """
    seed = parameters.get("seed")
    for path in SEEDED_SECTIONS if seed is not None else ():
        section: Any = parameters
        for name in path.split("."):
            section = section.get(name) if isinstance(section, dict) else None
        if isinstance(section, dict) and section.get("seed") is None:
            section["seed"] = seed
