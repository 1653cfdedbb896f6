"""An annotation format is one module: its name is the value of masks.encoding, and nothing else lists it."""

import numpy as np
import pytest
from pydantic import ValidationError

from unet_segmentation.data.io.annotation_format import ANNOTATION_FORMATS, Annotation, AnnotationFormat
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.mask_decoder import MaskDecoder
from unet_segmentation.data.io.shapes import box_shape
from unet_segmentation.data.onboarding.file_types import kind_of, may_be_data
from unet_segmentation.parameters import MaskParameters
from unet_segmentation.parameters import data as data_parameters


def test_the_parameters_know_exactly_the_registered_formats():
    assert set(data_parameters.mask_encodings()) - set(data_parameters.PIXEL_ENCODINGS) == set(
        ANNOTATION_FORMATS.names()
    )
    with pytest.raises(ValidationError, match="did you mean 'labelme'"):
        MaskParameters(encoding="labelmee")


@pytest.fixture
def halves(monkeypatch):
    """A format of one word per file: the half of the image that is a cell."""

    class Halves(AnnotationFormat):
        title = "Halves"
        extensions = frozenset({"half"})

        def detect(self, text):
            return text.strip() in {"left", "right"}

        def read(self, storage, path, image, size):
            left = 0 if storage.read(path).strip() == b"left" else size[1] / 2
            return Annotation([box_shape("cell", left, 0, left + size[1] / 2, size[0], size)], size, path)

    monkeypatch.setitem(ANNOTATION_FORMATS._load(), "halves", Halves())
    monkeypatch.setattr(data_parameters, "mask_encodings", lambda: ("index", "halves"))


@pytest.mark.usefixtures("halves")
def test_a_format_of_ones_own_is_recognized_and_read(tmp_path):
    (tmp_path / "a.half").write_text("right\n")
    storage = FileStore(tmp_path)
    assert may_be_data("a.half")
    assert kind_of(storage, "a.half") == "halves"
    decoder = MaskDecoder(storage, MaskParameters(encoding="halves"), ["background", "cell"])
    np.testing.assert_array_equal(decoder.decode(["a.half"], "a.png", (2, 4)).ids, [[0, 0, 1, 1]] * 2)
