"""What annotation files say: which images they know, and with which labels."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import PurePosixPath

from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import UnreadableError, read_bytes


def coco_names(storage: FileStore, path: str) -> frozenset[str]:
    """Return the names, without folders, of the images that a COCO file lists."""
    return _coco(str(storage), path, storage.stamp(path))[0]


def coco_categories(storage: FileStore, path: str) -> tuple[str, ...]:
    """Return the names of a COCO file's categories, in its order."""
    return _coco(str(storage), path, storage.stamp(path))[1]


@lru_cache(maxsize=16)
def _coco(root: str, path: str, _: str) -> tuple[frozenset[str], tuple[str, ...]]:
    try:
        content = json.loads(read_bytes(FileStore(root), path).decode("utf-8-sig"))
        names = frozenset(PurePosixPath(entry["file_name"].replace("\\", "/")).name for entry in content["images"])
        used = {entry["category_id"] for entry in content.get("annotations", ())}
        categories = [entry for entry in content.get("categories", ()) if entry["id"] in used] or []
        return names, tuple(str(entry["name"]) for entry in categories)
    except (UnreadableError, ValueError, KeyError, TypeError, AttributeError):
        return frozenset(), ()


def yolo_names(storage: FileStore, paths: list[str]) -> list[str]:
    """Find the names of YOLO's classes: in ``classes.txt``, ``obj.names`` or the ``names`` of a YAML file."""
    import yaml

    for path in paths:
        name = PurePosixPath(path).name.lower()
        try:
            if name in {"classes.txt", "obj.names", "labels.txt"}:
                return [line.strip() for line in storage.read(path).decode("utf-8-sig").splitlines() if line.strip()]
            if re.fullmatch(r".*\.ya?ml", name):
                names = (yaml.safe_load(storage.read(path)) or {}).get("names")
                if names:
                    return (
                        [str(names[key]) for key in sorted(names)] if isinstance(names, dict) else list(map(str, names))
                    )
        except (OSError, ValueError, AttributeError, yaml.YAMLError):
            continue
    return []
