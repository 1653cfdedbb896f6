"""Fixtures for tests of the samples."""

import logging

import pytest

from tests.data.preparation.fabrication import Fabricated


@pytest.fixture
def fabricated(tmp_path):
    logging.getLogger("unet_segmentation").setLevel(logging.INFO)
    return Fabricated(tmp_path / "raw", tmp_path / "packed")
