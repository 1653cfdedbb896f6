"""What a safetensors file says without its tensors being loaded, and whether two hold the same weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

BLOCK = 1 << 22  # bytes read at a time


def weights_sha256(path: Path) -> str:
    """Hash names, shapes, dtypes and values of the tensors of a safetensors file.

    The hash of the whole file would not do: its header also says how fast the training was, which no two runs share.

    Args:
        path: the file: eight bytes (length of the header, little-endian), the header (JSON), the values.

    Returns:
        Hexadecimal SHA-256.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        header: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header.pop("__metadata__", None)
        digest.update(json.dumps(header, sort_keys=True).encode())
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
