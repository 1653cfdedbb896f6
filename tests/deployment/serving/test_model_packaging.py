"""The code that travels with a model: what its program imports, and nothing else."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tests.deployment.serving.served import weights
from unet_segmentation.deployment.serving.model_packaging import encoded, needed_modules, pack_model
from unet_segmentation.deployment.serving.request_images import Reader, as_batch
from unet_segmentation.errors import ProjectError
from unet_segmentation.models.model_file import read_header
from unet_segmentation.parameters import PredictorParameters


def test_imports_are_followed_at_whatever_place_and_those_of_type_checkers_are_not(tmp_path):
    files = {
        "main.py": "import json\nfrom own.a import f\ndef g():\n    from own.sub import c\n    import own.sub.d\n",
        "own/__init__.py": "",
        "own/a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from own import never\n",
        "own/never.py": "",
        "own/unused.py": "",
        "own/sub/__init__.py": "",
        "own/sub/c.py": "from own import b\n",
        "own/sub/d.py": "from other import own\n",
        "own/b.py": "import own.a\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    result = needed_modules(tmp_path / "main.py", tmp_path / "own")
    names = {file.relative_to(tmp_path).as_posix() for file in result}
    assert names == set(files) - {"main.py", "own/never.py", "own/unused.py"}


@pytest.mark.parametrize(
    ("channels", "dtype", "bands"),
    [(3, np.uint8, None), (1, np.uint8, None), (3, np.uint16, None), (2, np.uint16, [4, 1])],
)
def test_the_example_is_a_file_that_gives_the_image_again(tmp_path, channels, dtype, bands):
    image = np.random.default_rng(0).integers(0, 200, (30, 40, channels)).astype(dtype)
    file = weights(tmp_path / "best.safetensors", channels=channels, bands=bands)
    pack_model(tmp_path / "packed", model=file, inference=PredictorParameters(), example=image[None])
    text = encoded(np.load(tmp_path / "packed" / "example.npy"))
    if dtype == np.uint8:
        assert Image.open(io.BytesIO(base64.b64decode(text))).format == "PNG"
    reader = Reader.of(read_header(file).spec, max_pixels=10_000)
    np.testing.assert_array_equal(next(reader.read(as_batch(text))), image)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"hello, this is no model")
    with pytest.raises(ProjectError, match=r"a\.safetensors is not a model of this project"):
        read_header(tmp_path / "a.safetensors")
