"""What is reported of a prediction: the table of images, a contact sheet, and what failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from PIL.Image import Image

OK, FAILED = "ok", "failed"  # the column `status`
SHOWN = 16  # images of the contact sheet
NAMED = 5  # failed images that a message names


@dataclass(frozen=True)
class PredictionSummary:
    """How a prediction went."""

    folder: str  # of the results
    images: int  # their number
    failed: int  # that could not be predicted
    out_of_distribution: int  # that are unlike the training images

    @classmethod
    def from_table(cls, table: pd.DataFrame, folder: Path) -> PredictionSummary:
        """Count the rows of `prediction_table`."""
        flagged = int((table["flags"].fillna("") != "").sum()) if "flags" in table else 0
        return cls(str(folder), len(table), int((table["status"] == FAILED).sum()), flagged)


def prediction_table(rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    """Build the table; failed images have no size, which must not turn the others' sizes into floats."""
    table = pd.DataFrame([dict(row) for row in rows])
    sizes = [name for name in ("height", "width") if name in table]
    return table.astype(dict.fromkeys(sizes, "Int64"))


def draw_contact_sheet(table: pd.DataFrame, folder: Path) -> Image:
    """Draw the first predictions of the table, flagged ones before the others."""
    import numpy as np
    from PIL import Image

    from unet_segmentation.inference.writers import OVERLAY
    from unet_segmentation.visualization import color_mask, contact_sheet

    done = table[table["status"] == OK] if "mask" in table else table.iloc[:0]
    flags = done["flags"].fillna("") if len(done) else pd.Series(dtype=str)
    first = done.assign(flags=flags).sort_values("flags", key=lambda text: text == "", kind="stable").head(SHOWN)
    tiles, captions = [], []
    for row in first.to_dict("records"):
        mask = Path(folder, row["mask"])
        overlay = mask.with_name(f"{mask.stem}{OVERLAY}")
        if overlay.is_file():
            tiles.append(np.asarray(Image.open(overlay).convert("RGB")))
        elif mask.suffix == ".png":
            tiles.append(color_mask(np.array(Image.open(mask))))
        else:  # a raster may be larger than memory
            continue
        captions.append(f"{row['image']} {row['flags']}".strip())
    return contact_sheet(tiles, columns=4, captions=captions, side=320)


def failure_message(table: pd.DataFrame, folder: str) -> str | None:
    """Name the images that could not be predicted, and why; None where all could."""
    failed = table[table["status"] == FAILED].to_dict("records")
    if not failed:
        return None
    lines = [f"  {row['image']} {row['message']}" for row in failed[:NAMED]]
    if len(failed) > NAMED:
        lines.append(f"  and {len(failed) - NAMED} more")
    rest = len(table) - len(failed)
    done = f"The other {rest} are done: {folder}" if rest else "There was no other."
    return "\n".join([f"{len(failed)} of {len(table)} images could not be predicted:", *lines, done])
