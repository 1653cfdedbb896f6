"""Where a problem's files come from, and how images and masks are found among them."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from unet_segmentation.parameters.base import StrictModel


class ArchiveParameters(StrictModel):
    """One archive to download.

    Attributes:
        url: http(s) address, or the file:// URL of a file on this machine.
        sha256: hash of the archive file, where it is stable.
        md5: the same, where the publisher gives only this.
        content_sha256: hash over the sorted (path, sha256) of the files that the layout uses, where the archive's own
            hash is not stable (GitHub makes its zips anew).
    """

    url: str
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    md5: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")
    content_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        if not re.match(r"(https?://[^/]|file:///)", url, flags=re.IGNORECASE):
            raise ValueError(f"{url!r} must begin with https://, http:// or file:///")
        return url


class GeneratorParameters(StrictModel):
    """The embedded generator: how many images it draws, how large, and from which seed."""

    name: Literal["cells"] = "cells"
    images: int = Field(default=200, ge=3)
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
        group: a pattern with one group `(...)`, searched in the sample's id; what it captures names the group of
            samples that must not be split apart (a patient, a video, a slide). It must find something in every id.
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
        if self.archive is not None and len(self.archives) > 1:
            raise ValueError("archive replaces one download, but archives names more: give each its own file:// url")
        return self

    @model_validator(mode="after")
    def _sound_layout(self) -> Self:
        for key, glob in (("images", self.images), ("masks", self.masks)):
            if glob is None:
                continue
            if "{id}" not in glob:
                raise ValueError(f"{key} needs {{id}} where the sample's name stands, as in {key}/{{id}}.png")
            unknown = [name for name in re.findall(r"\{[^/]*?\}", glob) if name not in {"{id}", "{split}"}]
            if unknown:
                raise ValueError(f"{key} has {unknown[0]}, but only {{id}} and {{split}} have a meaning there")
            if glob.startswith("/") or "\\" in glob or ".." in glob.split("/"):
                raise ValueError(f"{key} must be relative, without .. and with forward slashes: {glob!r}")
        if ("{split}" in self.images) != bool(self.splits):
            raise ValueError("{split} in images and the table splits go together: give both or neither")
        if self.masks is not None and "{split}" in self.masks and not self.splits:
            raise ValueError("masks has {split}, which needs {split} in images too")
        if self.images == self.masks:
            raise ValueError(f"images and masks are the same glob, {self.images!r}")
        if len(set(self.splits.values())) != len(self.splits) or "" in self.splits.values():
            raise ValueError("splits: each split needs a value of its own")
        return self

    @field_validator("group")
    @classmethod
    def _one_group(cls, group: str | None) -> str | None:
        try:
            groups = 1 if group is None else re.compile(group).groups
        except re.error as error:
            raise ValueError(f"{group!r} is no regular expression: {error}") from None
        if groups != 1:
            raise ValueError(f"{group!r} needs exactly one group (...), as in ^([^_]+)_")
        return group
