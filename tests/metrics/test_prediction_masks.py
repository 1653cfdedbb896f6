"""Predictions on the disk: any sample id makes a file name and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_segmentation.errors import DataError
from unet_segmentation.metrics.prediction_masks import file_name, read_prediction, sample_id_of, write_prediction

ODD = [
    "a/b/c",
    "..",
    ".hidden",
    "50%",
    "100%2F",
    "Zelle ü",
    'quote " < > | ?',
    "back\\slash",
    "new\nline",
    "end.",
    " x ",
]


@pytest.mark.parametrize("sample_id", ODD)
def test_odd_names_are_written_and_read(tmp_path, sample_id):
    mask = np.random.default_rng(0).integers(0, 255, (7, 5), dtype=np.uint8)
    write_prediction(tmp_path, sample_id, mask)
    (file,) = tmp_path.iterdir()
    assert sample_id_of(file.name) == sample_id
    np.testing.assert_array_equal(read_prediction(tmp_path, sample_id), mask)


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_names_are_reversible_and_safe(first, second):
    assert sample_id_of(file_name(first)) == first
    assert (file_name(first) == file_name(second)) == (first == second)
    assert not set('/\\:*?"<>|') & set(file_name(first))


def test_a_missing_prediction_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="kedro run --pipelines evaluation"):
        read_prediction(tmp_path, "a")
