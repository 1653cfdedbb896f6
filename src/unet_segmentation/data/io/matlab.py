"""MATLAB files of the versions 5 to 7: their matrices of numbers, read with every length checked.

Not scipy's reader: on some damaged files it ends the process (a segmentation fault) or asks for all the memory. The
format is described in MathWorks' "MAT-File Format".
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Order = Literal["little", "big"]

MATRIX, COMPRESSED = 14, 15
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CELL, STRUCTURE = 1, 2
NUMBERS = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
LOGICAL = 0x0200  # a flag
LARGEST_BYTES = 2**31


def read_matrices(data: bytes) -> dict[str, NDArray[Any]]:
    """Return all two-dimensional arrays of numbers by name; those in structures by dotted names (`GTcls.Segmentation`).

    Raises:
        ValueError: it is none of these versions, or is damaged; or zlib.error.
    """
    if not data.startswith(b"MATLAB") or data[126:128] not in {b"IM", b"MI"}:
        raise ValueError("it is no MATLAB file of version 5 to 7")
    order: Order = "little" if data[126:128] == b"IM" else "big"
    return dict(_all(memoryview(data)[128:], order))


def _all(view: memoryview, order: Order) -> Iterator[tuple[str, NDArray[Any]]]:
    for kind, content in _elements(view, order):
        if kind == COMPRESSED:
            unpacker = zlib.decompressobj()
            unpacked = unpacker.decompress(content, LARGEST_BYTES)
            if not unpacker.eof:
                raise ValueError("a compressed variable is truncated or larger than 2 GiB")
            yield from _all(memoryview(unpacked), order)
        elif kind == MATRIX:
            yield from _matrices(content, order, "")


def _elements(view: memoryview, order: Order) -> Iterator[tuple[int, memoryview]]:
    """Yield type and content of one element after the other."""
    place = 0
    while place < len(view):
        kind = int.from_bytes(view[place : place + 4], order)
        if kind >> 16:  # a small element: size and type share four bytes, the content lies in the next four
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
            end = start + 4
        else:
            size, start = int.from_bytes(view[place + 4 : place + 8], order), place + 8
            end = start + size + (-size % 8 if kind != COMPRESSED else 0)
        if start + size > min(end, len(view)):
            raise ValueError("it is truncated")
        yield kind, view[start : start + size]
        place = end


def _matrices(view: memoryview, order: Order, name: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield a matrix of numbers, or those in a structure or a cell that holds one thing."""
    parts = _elements(view, order)
    try:
        flags = int(_numbers(*next(parts), order)[0])
        shape = tuple(_numbers(*next(parts), order).tolist())
        own_name = bytes(next(parts)[1]).decode("latin-1")  # empty inside of structures
        name = name or own_name
        kind = flags & 0xFF
        if kind in NUMBERS and len(shape) == 2 and min(shape) > 0:
            values = _numbers(*next(parts), order)
            if len(values) != math.prod(shape):
                raise ValueError(f"{name} holds {len(values)} numbers, {shape} are declared")
            yield name, values.astype(bool if flags & LOGICAL else NUMBERS[kind]).reshape(shape, order="F")
        elif kind in {CELL, STRUCTURE} and math.prod(shape) == 1:
            names = [name] if kind == CELL else [f"{name}.{field}" for field in _fields(parts, order)]
            for inner, (_, content) in zip(names, parts, strict=False):
                if len(content):
                    yield from _matrices(content, order, inner)
    except StopIteration:
        raise ValueError("a variable lacks a part") from None


def _numbers(kind: int, content: memoryview, order: Order) -> NDArray[Any]:
    if kind not in STORED:
        raise ValueError(f"numbers of the unknown type {kind}")
    dtype = np.dtype(STORED[kind]).newbyteorder("<" if order == "little" else ">")
    return np.frombuffer(content, dtype).astype(STORED[kind], copy=False)


def _fields(parts: Iterator[tuple[int, memoryview]], order: Order) -> list[str]:
    """Names of a structure's fields: zero-padded texts of one length."""
    length = int(_numbers(*next(parts), order)[0])
    if length < 1:
        raise ValueError("the fields of a structure have no names")
    names = bytes(next(parts)[1])
    return [names[start : start + length].split(b"\0")[0].decode("latin-1") for start in range(0, len(names), length)]
