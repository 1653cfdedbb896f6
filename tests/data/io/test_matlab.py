"""MATLAB files are read as scipy reads them; what is damaged is refused (scipy's reader ends the process on some)."""

import io
import zlib

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from unet_segmentation.data.io.matlab import read_matrices


def _written(content, **options):
    stream = io.BytesIO()
    scipy.io.savemat(stream, content, **options)
    return stream.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_matrices_agree_with_scipy(dtype, compressed):
    matrix = np.random.default_rng(0).integers(0, 100, (5, 7)).astype(dtype)
    cell, two = np.empty((1, 1), object), np.empty((2, 1), object)
    cell[0, 0] = two[0, 0] = two[1, 0] = matrix
    content = {
        "matrix": matrix,
        "long_name_of_a_variable": matrix.T,
        "one": 3,
        "logical": matrix > 50,
        "structure": {"field": {"inner": matrix}, "text": "x", "a_longer_name": matrix + 1},
        "cell": cell,
        "text": "hello",
        "sparse": scipy.sparse.eye(3).tocsc(),
        "volume": np.zeros((2, 3, 4)),
        "nothing": np.zeros((0, 0)),
        "two": two,
    }
    data = _written(content, do_compression=compressed)
    expected = scipy.io.loadmat(io.BytesIO(data))
    result = read_matrices(data)
    for name in ("matrix", "long_name_of_a_variable", "one"):
        np.testing.assert_array_equal(result[name], expected[name])
        assert result[name].dtype == expected[name].dtype
    assert result["logical"].dtype == bool
    np.testing.assert_array_equal(result["logical"], matrix > 50)
    for name in ("structure.field.inner", "cell"):
        np.testing.assert_array_equal(result[name], matrix)
    np.testing.assert_array_equal(result["structure.a_longer_name"], matrix + 1)
    assert not {"text", "sparse", "volume", "nothing", "two"} & set(result)


def test_big_endian_files():
    """Written by hand: nothing writes them any more."""
    numbers = np.arange(6, dtype=">i2")
    parts = [(6, np.array([10, 0], ">u4")), (5, np.array([2, 3], ">i4")), (1, b"m"), (3, numbers)]
    matrix = b""
    for kind, content in [(kind, bytes(content)) for kind, content in parts]:
        matrix += kind.to_bytes(4) + len(content).to_bytes(4) + content + bytes(-len(content) % 8)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\1\0MI"
    data = header + (14).to_bytes(4) + len(matrix).to_bytes(4) + matrix
    np.testing.assert_array_equal(read_matrices(data)["m"], [[0, 2, 4], [1, 3, 5]])
    np.testing.assert_array_equal(scipy.io.loadmat(io.BytesIO(data))["m"], [[0, 2, 4], [1, 3, 5]])


def test_damaged_files_are_refused_or_read():
    matrix = np.random.default_rng(0).integers(0, 9, (30, 20)).astype(np.uint8)
    generator = np.random.default_rng(1)
    for compressed in (False, True):
        whole = _written({"a": matrix, "s": {"b": matrix, "c": "text"}}, do_compression=compressed)
        for number in range(400):
            damaged = bytearray(whole)
            for _ in range(generator.choice([1, 4, 30])):
                damaged[generator.integers(generator.choice([len(whole), 300]))] = generator.integers(256)
            try:
                result = read_matrices(bytes(damaged[: len(whole) if number % 2 else generator.integers(len(whole))]))
            except (ValueError, zlib.error):
                continue
            assert all(array.ndim == 2 for array in result.values())
