"""The table of losses in docs/reference/losses.md: ``python -m unet_segmentation.training.loss_docs`` writes it."""

from __future__ import annotations

from pathlib import Path

from unet_segmentation.training.losses.base import LOSSES

PAGE = Path("docs/reference/losses.md")
BEGIN, END = "<!-- losses -->\n", "<!-- /losses -->\n"


def loss_table() -> str:
    """Format all registered losses as a Markdown table."""
    lines = ["| name | formula | settings | source |", "|---|---|---|---|"]
    for name, loss in LOSSES:
        fields = loss.Settings.model_fields.items()
        settings = ", ".join(f"`{name}_{key}` ({info.default:g})" for key, info in fields if key != "weight")
        lines.append(f"| `{name}` | {loss.formula} | {settings} | {loss.source} |")
    return "\n".join(lines) + "\n"


def update_page(text: str) -> str:
    """Replace the table in the text of the page."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + loss_table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(update_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
