"""A short hash of JSON values, the same in every process."""

from __future__ import annotations

import hashlib
import json


def stable_hash(*parts: object) -> str:
    """Hash JSON values: 16 hexadecimal digits, the same for the same content in any order of keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
