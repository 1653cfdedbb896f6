"""What the project's HTML pages share: each is whole by itself, and opens without a network."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_segmentation.parameters.source import SourceParameters

if TYPE_CHECKING:
    import jinja2
    import plotly.graph_objects as go


@dataclass(frozen=True)
class ReportSection:
    """A part of the report."""

    blocks: Mapping[str, str]  # HTML by the name of its place on the page
    charts: Mapping[str, str] = field(default_factory=dict)  # Plotly figures as JSON, by the name of their element


def render(template: str, **values: object) -> str:
    """Fill in a template of this folder. Texts are escaped, and a name that is missing is an error."""
    return _template(template).render(**values)


def render_blocks(template: str, **values: object) -> dict[str, str]:
    """Fill in the blocks of a template of this folder, each by itself: HTML by the name of the block."""
    loaded = _template(template)
    context = loaded.new_context(values)
    return {name: "".join(block(context)).strip() for name, block in loaded.blocks.items()}


def _template(name: str) -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(name)


def figure_json(figure: go.Figure) -> str:
    """Encode a figure as JSON that cannot end the script it stands in."""
    return str(figure.to_json()).replace("<", "\\u003c")


def plotly_code() -> str:
    """Return Plotly's code, which cannot end the script it stands in."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs().replace("</script", "<\\/script")


def encode_charts(charts: Mapping[str, go.Figure]) -> dict[str, Any]:
    """Return what `charts.html` draws: Plotly's code, and the figures by the name of their element (less `chart-`)."""
    return {"plotly": plotly_code(), "charts": {name: figure_json(figure) for name, figure in charts.items()}}


def data_uri(data: bytes, media_type: str) -> str:
    """Write a file as an address that holds the file itself; `media_type`: `image/png`, say."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def provenance(source: SourceParameters) -> list[tuple[str, str]]:
    """Return lines for a table: where the data come from."""
    if source.generator is not None:
        origin = f"drawn by the embedded generator {source.generator.name} (seed {source.generator.seed})"
    elif source.folder is not None:
        origin = source.folder
    else:
        origins = [archive.url or archive.page or "" for archive in source.archives]
        origin = ", ".join(source.local_archives or origins)
    lines = [("Origin", origin), ("License", source.license), ("Citation", source.citation or "none stated")]
    return lines + ([("Described at", source.homepage)] if source.homepage else [])


def count(number: int, noun: str, plural: str = "") -> str:
    """Count things: `1 image`, `2,000 images`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def capitalize(words: str) -> str:
    """Write the first letter as a capital, the others as they are."""
    return words[:1].upper() + words[1:]


def percent(shares: Any) -> str:  # noqa: ANN401 - a share, or shares by name
    """Write a share, or shares by name, in per cent."""
    if isinstance(shares, Mapping):
        return ", ".join(f"{name} {percent(share)}" for name, share in shares.items())
    return f"{100 * shares:.2f} %"


def rows(values: Mapping[str, Any], skipped: set[str] | frozenset[str] = frozenset()) -> list[tuple[str, str]]:
    """Flatten a JSON object to lines for a table, without the names that are skipped."""
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        if key in skipped or value is None or value in ([], {}):
            continue
        name = capitalize(str(key).replace("_", " "))
        if isinstance(value, Mapping):
            lines += [(f"{name}: {inner.lower()}", words) for inner, words in rows(value, skipped)]
        else:
            lines.append((name, text(value)))
    return lines


def text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Write a JSON value for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(text, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text(part)}" for key, part in value.items())
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
