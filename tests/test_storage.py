from __future__ import annotations

import pytest

from unet_segmentation.storage import split_page


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("volume.tif#3", ("volume.tif", 3)),
        ("a.png", ("a.png", None)),
        ("a/b#2/v#1.tif#012", ("a/b#2/v#1.tif", 12)),
        ("cell #3.png", ("cell #3.png", None)),
        ("a.png#", ("a.png#", None)),
        ("a\n.tif#0", ("a\n.tif", 0)),
        ("#3", ("#3", None)),
        ("", ("", None)),
    ],
)
def test_a_page_is_the_number_after_the_last_hash(path: str, parts: tuple[str, int | None]) -> None:
    assert split_page(path) == parts
