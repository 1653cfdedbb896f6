"""Where a problem's files come from, and how images and masks are found among them."""

from typing import Literal, Self

from pydantic import Field, model_validator

from unet_segmentation.parameters.base import StrictModel


class ArchiveParameters(StrictModel):
    """One archive to download.

    Attributes:
        url: http(s) address.
        sha256: hash of the archive file, where it is stable.
        md5: the same, where the publisher gives only this.
        content_sha256: hash over the sorted (path, sha256) of the files that the layout uses, where the archive's own
            hash is not stable (GitHub makes its zips anew).
    """

    url: str
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    md5: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")
    content_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


class GeneratorParameters(StrictModel):
    """The embedded generator: how many images it draws, how large, and from which seed."""

    name: Literal["cells"] = "cells"
    images: int = Field(default=240, ge=3)
    size: int = Field(default=128, ge=32)
    seed: int = Field(default=0, ge=0)


class SourceParameters(StrictModel):
    """Where the files come from (exactly one of generator, archives, folder) and the layout that pairs them.

    Attributes:
        generator: draw the embedded problem instead of downloading one.
        archives: what to download.
        archive: a local path or file:// URL that replaces the download (for people behind a firewall).
        folder: a folder of one's own, read where it lies.
        images: glob for the images, relative to the extracted archives or the folder, with `{id}` and,
            where there is an official split, `{split}`.
        masks: the same for the masks. Absent where nothing is labelled.
        splits: the values `{split}` takes in the paths, by the project's name for the split.
        group: a pattern with one group `(...)`, matched against the sample's id; what it captures names the group of
            samples that must not be split apart (a patient, a video, a slide).
        licence: under which terms the data may be used.
        citation: what to cite.
        timeout_seconds: how long a server may stay silent before the download gives up.
        retries: how often a download that failed for a passing reason is tried again.
    """

    generator: GeneratorParameters | None = None
    archives: list[ArchiveParameters] = Field(default_factory=list)
    archive: str | None = None
    folder: str | None = None
    images: str
    masks: str | None = None
    splits: dict[Literal["train", "validation", "test"], str] = Field(default_factory=dict)
    group: str | None = None
    licence: str = "not stated"
    citation: str = ""
    timeout_seconds: float = Field(default=30.0, gt=0)
    retries: int = Field(default=3, ge=0)

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        origins = [self.generator is not None, bool(self.archives) or self.archive is not None, self.folder is not None]
        if sum(origins) != 1:
            raise ValueError("give exactly one of: generator, archives (or archive), folder")
        if "{id}" not in self.images or (self.masks is not None and "{id}" not in self.masks):
            raise ValueError("images and masks need {id} where the sample's name stands, as in images/{id}.png")
        if ("{split}" in self.images) != bool(self.splits):
            raise ValueError("{split} in images and the table splits go together: give both or neither")
        return self
