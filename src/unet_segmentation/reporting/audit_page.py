"""One HTML page about a data set: the verdict, every finding with its files and the fix, and what was checked."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from unet_segmentation.data.audit.findings import KINDS
from unet_segmentation.data.audit.resolution import ResolvedFindings, by_kind
from unet_segmentation.data.audit.result import AuditResult
from unet_segmentation.data.audit.verdict import VALUE_KINDS, value_name
from unet_segmentation.parameters.data import MaskParameters
from unet_segmentation.parameters.source import SourceParameters
from unet_segmentation.reporting import html
from unet_segmentation.utils.ignore_index import IGNORE_INDEX
from unet_segmentation.visualization import (
    Picture,
    class_colors,
    color_mask,
    displayable,
    fitted,
    overlay,
)

FILES = 20  # listed of one kind
LONGEST_NAME, LONGEST_MESSAGE = 200, 320  # characters; what is longer is cut in its middle
THUMBNAIL_SIDE = 240  # pixels
PICTURE_WIDTH = 2 * THUMBNAIL_SIDE + 3  # pixels; wider ones are shrunk
PICTURE_BYTES = 4_500_000  # of all pictures: the page stays below 10 MB
GAP = (127, 127, 127)
SPLITS = ("train", "validation", "test")

STATES = {  # in the order in which they are told; tone and sign, so that nothing is said by color alone
    "error": ("bad", "✕"),
    "set aside": ("warn", "⊘"),
    "allowed": ("warn", "✓"),
    "warning": ("warn", "!"),
    "note": ("plain", "•"),
}
HEADLINES = {
    "failed": ("bad", "✕", "Failed: this data set cannot be trained on"),
    "passed with warnings": ("warn", "!", "Passed with warnings"),
    "passed": ("good", "✓", "Passed"),
}
Thumbnail = Callable[[str], Image.Image | None]


def render_audit(
    *,
    problem: str,
    result: AuditResult,
    findings: ResolvedFindings,
    samples: pd.DataFrame,
    source: SourceParameters,
    classes: Sequence[str],
    masks: MaskParameters,
    thumbnail: Thumbnail,
    facts: Mapping[str, Any] | None = None,
    unchecked: Collection[str] = (),
    per_kind: int = 6,
) -> str:
    """Render the page: HTML that fetches nothing, below 10 MB however many findings there are.

    Args:
        problem: its name.
        result: of the audit.
        findings: all of them, and what was allowed or set aside.
        samples: a row per sample: `sample_id`, `split`, and of `height` (0 where it could not be read), `width`,
            `channels`, `dtype`, `class_pixels`, `ignored_pixels` what is known.
        source: where the data came from.
        classes: names, in the order of their ids.
        masks: how masks are declared.
        thumbnail: gives the picture of a sample (see `sample_thumbnail`), or None.
        facts: further lines for the data card, by name.
        unchecked: kinds that were not looked for, so that their absence says nothing.
        per_kind: samples of a kind that are shown as pictures.
    """
    sections = _sections(findings, result, _Album(thumbnail), per_kind)
    tone, sign, headline = HEADLINES[result.status]
    mentioned = {*result.kinds, *unchecked, "mask_values", "set_aside"}
    return html.render(
        "audit.html",
        problem=problem,
        subtitle=f"Audit of the data: {html.count(len(samples), 'sample')}, {len(classes)} classes",
        verdict={"tone": tone, "sign": sign, "headline": headline, "sentence": _sentence(result, sections)},
        message=result.message,
        sections=sections,
        tiles=_tiles(samples, classes),
        data_card=_data_card(samples, source, facts or {}),
        class_table=class_table(samples, classes),
        values=_values(result, classes, masks),
        silent=[(kind, entry.heading) for kind, entry in KINDS.items() if kind not in mentioned],
        unchecked=[(kind, KINDS[kind].heading) for kind in KINDS if kind in unchecked],
        states=STATES,
    )


def sample_thumbnail(
    image: NDArray[Any] | None, ids: NDArray[np.uint8] | None, side: int = THUMBNAIL_SIDE
) -> Image.Image | None:
    """Draw a sample: the image, and next to it the image with the classes laid over it and outlined.

    `image`: (height, width, channels), any depth; `ids`: (height, width) class ids, 255 = ignored; None where there is
    none. A mask of another size than the image's is shown by itself. Each picture has a longer side of `side` pixels.
    """
    tiles: list[Picture] = []
    if image is not None:
        step = max(1, max(image.shape[:2]) // (4 * side))  # enough for a thumbnail, and quick for large images
        tiles.append(fitted(displayable(image[::step, ::step]), side))
    if ids is not None and image is not None and ids.shape == image.shape[:2]:
        height, width = tiles[0].shape[:2]
        nearest = Image.fromarray(ids).resize((width, height), Image.Resampling.NEAREST)
        tiles.append(_outlined(tiles[0], np.asarray(nearest)))
    elif ids is not None:
        step = max(1, max(ids.shape) // (2 * side))
        tiles.append(fitted(color_mask(ids[::step, ::step]), side))
    if not tiles:
        return None
    width, height = sum(tile.shape[1] + 3 for tile in tiles) - 3, max(tile.shape[0] for tile in tiles)
    sheet, left = Image.new("RGB", (width, height), GAP), 0
    for tile in tiles:
        sheet.paste(Image.fromarray(tile), (left, 0))
        left += tile.shape[1] + 3
    return sheet


def _outlined(picture: Picture, ids: NDArray[np.uint8]) -> Picture:
    """Lay the classes over a picture lightly, with borders in full color; ignored pixels are hatched."""
    edge = np.zeros(ids.shape, np.bool_)
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    edge[1:] |= ids[1:] != ids[:-1]
    painted = color_mask(ids)
    laid = overlay(picture, ids, opacity=0.35)
    hatched = np.where((ids == IGNORE_INDEX)[..., None], (picture // 3 + painted // 3 * 2), laid)
    return np.where(edge[..., None] & (ids != 0)[..., None], painted, hatched).astype(np.uint8)


class _Album:
    """Pictures of samples as addresses, until the page is as large as it may be."""

    def __init__(self, thumbnail: Thumbnail) -> None:
        self._left = PICTURE_BYTES
        self._encode = cache(partial(_encode_thumbnail, thumbnail))

    def add_picture(self, sample_id: str) -> str | None:
        """Return the address of a sample's picture, or None where there is none or no room."""
        uri = self._encode(sample_id) if self._left > 0 else None
        self._left -= len(uri or "") * 3 // 4
        return uri


def _encode_thumbnail(thumbnail: Thumbnail, sample_id: str) -> str | None:
    picture = thumbnail(sample_id)
    if picture is None:
        return None
    picture = picture.convert("RGB")
    picture.thumbnail((PICTURE_WIDTH, PICTURE_WIDTH))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=84, subsampling=0)
    return html.data_uri(stream.getvalue(), "image/jpeg")


def _sections(findings: ResolvedFindings, result: AuditResult, album: _Album, per_kind: int) -> list[dict[str, Any]]:
    """Describe every kind of finding, the worst first."""
    table = findings.table.assign(state=findings.states)
    table["rank"] = table["state"].map({state: place for place, state in enumerate(STATES)})
    groups = [(kind, rows.sort_values("rank", kind="stable")) for kind, rows in by_kind(table)]
    groups.sort(key=lambda group: -1 if group[0] == "set_aside" else group[1]["rank"].iloc[0])
    shown: set[str] = set()  # a proposal that is for several kinds stands in the first of them
    sections = []
    for kind, rows in groups:
        section = _section(kind, rows, result, album, per_kind)
        section["elsewhere"] = next((other for other in section["resolved_by"] if other in shown), None)
        section["proposals"] = [] if section["elsewhere"] else section["proposals"]
        shown.add(kind)
        sections.append(section)
    return sections


def _section(kind: str, rows: pd.DataFrame, result: AuditResult, album: _Album, per_kind: int) -> dict[str, Any]:
    entry = KINDS.get(kind)
    states = rows["state"].value_counts()
    proposals = [proposal for proposal in result.proposals if kind in proposal.kinds]
    files = [_row(row) for row in rows.head(FILES).to_dict("records")]
    return {
        "kind": kind,
        "heading": html.capitalize(entry.heading if entry else kind.replace("_", " ")),
        "fix": (entry.fix if entry else "") or ("Declare the values." if kind in VALUE_KINDS else ""),
        "count": len(rows),
        "states": [(state, int(states[state])) for state in STATES if state in states],
        "rows": files,
        "more": max(0, len(rows) - len(files)),
        "about_two": any(row["other"] for row in files),
        "pictures": list(_figures(rows, album, per_kind)),
        "proposals": proposals,
        "resolved_by": [other for proposal in proposals for other in proposal.kinds],
    }


def _row(row: Mapping[Any, Any]) -> dict[str, str]:
    return {
        "where": _cut(row["file"] or row["sample_id"], LONGEST_NAME),
        "message": _cut(row["message"], LONGEST_MESSAGE),
        "other": _cut(row["other"], LONGEST_NAME),
        "state": row["state"],
    }


def _figures(rows: pd.DataFrame, album: _Album, count: int) -> Iterator[dict[str, Any]]:
    """Return the pictures of the first samples of a kind; of both samples where a finding is about two."""
    for row in rows[rows["sample_id"] != ""].drop_duplicates("sample_id").head(count).to_dict("records"):
        pictures = [(name, album.add_picture(name)) for name in (row["sample_id"], row["other"]) if name]
        if any(uri for _, uri in pictures):
            shown = [(_cut(name, LONGEST_NAME), uri) for name, uri in pictures]
            yield {"pictures": shown, "message": _cut(row["message"], LONGEST_MESSAGE // 2)}


def _sentence(result: AuditResult, sections: Sequence[Mapping[str, Any]]) -> str:
    worst = [section["states"][0][0] for section in sections if section["kind"] != "set_aside"]
    errors, warnings = worst.count("error"), worst.count("warning") + worst.count("allowed")
    aside = len(result.set_aside)
    parts = []
    if errors:
        parts.append(f"{html.count(errors, 'kind')} of errors {'stops' if errors == 1 else 'stop'} the run.")
    if aside:
        verb = "would be" if errors else "was" if aside == 1 else "were"
        parts.append(f"{aside:,} of {html.count(result.samples, 'sample')} {verb} set aside because of errors.")
    if warnings:
        parts.append(f"{html.count(warnings, 'kind')} of warnings: have a look.")
    return " ".join(parts) or "Every check came to nothing that would stop or mislead a training."


def _tiles(samples: pd.DataFrame, classes: Sequence[str]) -> list[tuple[str, str]]:
    tiles = [(f"{len(samples):,}", "samples"), (str(len(classes)), "classes")]
    readable = _readable(samples)
    if len(readable) and {"height", "width"} <= set(readable):
        tiles.append((f"{readable['width'].median():g} x {readable['height'].median():g}", "median width x height"))
    if len(readable) and {"channels", "dtype"} <= set(readable):
        tiles.append((" / ".join(str(n) for n in sorted(readable["channels"].unique())), "channels"))
        tiles.append((" / ".join(sorted(readable["dtype"].unique())), "values of a pixel"))
    return tiles


def _data_card(samples: pd.DataFrame, source: SourceParameters, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    splits = _by_split(samples)
    rows = html.provenance(source)
    rows.append(("Samples", ", ".join(f"{len(part):,} {name}" for name, part in splits.items()) or "none"))
    readable = _readable(samples)
    for name in ("width", "height"):
        if len(readable) and name in readable:
            low, middle, high = (readable[name].quantile(share) for share in (0, 0.5, 1))
            text = f"{low:g} pixels in all" if low == high else f"{low:g} to {high:g} pixels, median {middle:g}"
            rows.append((html.capitalize(name), text))
    if len(readable) < len(samples):
        rows.append(("Not readable", html.count(len(samples) - len(readable), "image")))
    return rows + html.rows(facts)


def class_table(samples: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any] | None:
    """Return the share of the pixels of each class in each split, and of the ignored ones."""
    if not {"class_pixels", "ignored_pixels"} <= set(samples) or samples.empty:
        return None
    names = [*classes, "ignored"]
    shares = {}
    for split, part in _by_split(samples).items():
        pixels = np.array(part["class_pixels"].tolist(), dtype=np.int64).sum(axis=0)
        ignored = int(part["ignored_pixels"].sum())
        total = max(1, int(pixels.sum()) + ignored)
        shares[split] = [*(pixels / total).tolist(), ignored / total]
    colors = ["#" + bytes(color).hex() for color in class_colors(len(classes))] + [""]
    widest = max((share for values in shares.values() for share in values), default=0) or 1
    rows = [
        {
            "name": name,
            "color": color,
            "shares": [(values[number], 100 * values[number] / widest) for values in shares.values()],
        }
        for number, (name, color) in enumerate(zip(names, colors, strict=True))
    ]
    return {"splits": list(shares), "rows": rows}


def _values(result: AuditResult, classes: Sequence[str], masks: MaskParameters) -> list[dict[str, Any]]:
    """Describe what the masks hold: each value, its share, and what it means as declared."""
    widest = max(result.values.values(), default=1)
    return [
        {
            "name": value_name(value),
            "color": f"rgb({value})" if value.replace(",", "").isdecimal() and "," in value else "",
            "share": share,
            "width": 100 * share / widest,
            "meaning": _meaning(value, classes, masks),
        }
        for value, share in result.values.items()
    ]


def _meaning(value: str, classes: Sequence[str], masks: MaskParameters) -> str | None:
    """Describe what a mask value means: a class, `ignored`, or None where it is not declared."""
    if masks.encoding == "colors":
        named = {",".join(map(str, color)): name for name, color in masks.colors.items()}
        named |= {",".join(map(str, color)): "ignored" for color in masks.ignore_colors}
        return named.get(value)
    if not value.removeprefix("-").isdecimal():
        return masks.labels.get(value) or (value if value in classes else None)
    number = int(value)
    if number in masks.ignore:
        return "ignored"
    if masks.encoding == "threshold":
        return classes[int(number > masks.threshold)]
    if masks.encoding == "instances":
        return classes[0] if number == 0 else masks.instance_class or classes[-1]
    table = masks.values or {place + masks.offset: name for place, name in enumerate(classes)}
    return table.get(number, "ignored" if number == IGNORE_INDEX else None)


def _by_split(samples: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the samples of each split, in the usual order; those without one last."""
    if "split" not in samples:
        return {"not split": samples} if len(samples) else {}
    named = samples["split"].where(samples["split"].notna(), "not split").replace("", "not split")
    return {name: samples[named == name] for name in (*SPLITS, "not split") if (named == name).any()}


def _readable(samples: pd.DataFrame) -> pd.DataFrame:
    return samples[samples["height"] > 0] if "height" in samples else samples


def _cut(words: str, longest: int) -> str:
    return words if len(words) <= longest else f"{words[: longest // 2]} … {words[-longest // 3 :]}"
