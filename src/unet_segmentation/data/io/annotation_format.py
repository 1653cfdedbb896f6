"""The registry of annotation formats: each is one module in `annotations`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import UnreadableError
from unet_segmentation.data.io.shapes import Shape, Size
from unet_segmentation.utils.registry import Registry


@dataclass(frozen=True)
class Annotation:
    """The shapes of one image, in the order in which they are drawn."""

    shapes: list[Shape]
    size: Size | None  # of the image that was annotated; None where the file does not say it
    sha256: str  # of what was annotated in this image


class AnnotationFormat(ABC):
    """A kind of annotation file: how it is recognized and read, and what onboarding must know of it."""

    title: ClassVar[str]  # for people
    extensions: ClassVar[frozenset[str]]  # in lower case, without the dot
    holds_many_images: ClassVar[bool] = False  # and names them; else a file's own name says which image it is of
    often_boxes: ClassVar[bool] = False  # and no shapes, so that a mask of the same name is preferred
    numbers_labels: ClassVar[bool] = False  # labels are numbers of classes

    @abstractmethod
    def detect(self, text: str) -> bool:
        """Return whether a file with one of the extensions is of this format, by its text."""

    @abstractmethod
    def read(self, storage: FileStore, path: str, image: str, size: Size) -> Annotation:
        """Read the shapes of one image; see `read_annotation`."""

    def default_class_id(self, label: str, classes: Sequence[str]) -> int | None:
        """Return the class id of a label where `masks.labels` is empty and no class has its name; None for no class."""
        return None

    def sort_labels(self, labels: Iterable[str]) -> list[str]:
        """Return labels in the order in which classes are proposed for them."""
        return sorted(labels)

    def class_names(self, storage: FileStore, annotations: Sequence[str], others: Sequence[str]) -> list[str]:
        """Return the names of the classes, in order, where files declare them: the annotations, or others."""
        return []

    def image_names(self, storage: FileStore, path: str) -> frozenset[str]:
        """Return the names, without folders, of the images that a file annotates, where it holds many."""
        return frozenset()


ANNOTATION_FORMATS: Registry[AnnotationFormat] = Registry("masks.encoding", "unet_segmentation.data.io.annotations")


def read_annotation(encoding: str, storage: FileStore, path: str, image: str, size: Size) -> Annotation:
    """Read the shapes that the annotation file ``path`` has of one image; files for many images name its path.

    Raises:
        UnreadableError: the file is missing or malformed (the message says where), or does not list the image.
    """
    with parse_errors():
        return ANNOTATION_FORMATS[encoding].read(storage, path, image, size)


@contextmanager
def parse_errors() -> Iterator[None]:
    """Turn what parsers raise into `UnreadableError`; the message keeps the place."""
    try:
        yield
    except (UnreadableError, MemoryError):
        raise
    except UnicodeDecodeError:
        raise UnreadableError("is malformed: it is no UTF-8 text") from None
    except KeyError as error:
        raise UnreadableError(f"is malformed: an entry lacks {error}") from None
    except Exception as error:
        raise UnreadableError(f"is malformed: {' '.join(str(error).split())[:200]}") from None
