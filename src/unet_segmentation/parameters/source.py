"""Where a problem's files come from, and which of them are images and masks."""

import re
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from unet_segmentation.parameters.base import StrictModel

Split = Literal["train", "validation", "test"]


class ArchiveParameters(StrictModel):
    """One archive, or one single file, to download.

    Attributes:
        url: http(s) address, or the file:// URL of a file on this machine. Absent where a login is needed: then `page`
            says where a person gets it, and `file` under which name it is looked for in the archives folder.
        mirrors: other addresses of the same bytes, tried in their order when the one before fails.
        file: name in the archives folder; by default derived from the URL.
        page: where a person gets an archive that needs a login.
        sha256: hash of the archive file, where it is stable.
        sha1: the same, where the publisher gives only this.
        md5: the same, where the publisher gives only this.
        content_sha256: hash over the sorted (path, sha256) of the files that the layout uses, where the archive's own
            hash is not stable (GitHub generates its zips).
        unpack: false for a file that is no archive (a list of names, a table): it is not unpacked.
        into: folder, relative to the raw folder, that its files go to; for archives without a folder of their own.
    """

    url: str | None = None
    mirrors: list[str] = Field(default_factory=list)
    file: str | None = Field(default=None, pattern=r"^[^/\\]+$")
    page: str | None = None
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    sha1: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")
    md5: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")
    content_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    unpack: bool = True
    into: str = Field(default="", pattern=r"^([^/\\.][^/\\]*(/[^/\\.][^/\\]*)*)?$")

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str | None) -> str | None:
        return url if url is None else _checked_url(url)

    @field_validator("mirrors")
    @classmethod
    def _known_schemes(cls, urls: list[str]) -> list[str]:
        return [_checked_url(url) for url in urls]

    @model_validator(mode="after")
    def _obtainable(self) -> Self:
        if self.url is None and (self.page is None or self.file is None):
            raise ValueError("give a url; or, where a login is needed, page (where to get it) and file (its name)")
        if self.url is None and self.mirrors:
            raise ValueError("mirrors need a url")
        return self


def _checked_url(url: str) -> str:
    if not re.match(r"(https?://[^/]|file:///)", url, flags=re.IGNORECASE):
        raise ValueError(f"{url!r} must begin with https://, http:// or file:///")
    return url


class TableParameters(StrictModel):
    """A table (CSV, or TSV by its ending) that says of every sample its split, its group, or both.

    Attributes:
        file: relative to the files of the data set, or else to the project's root.
        id: column that names the sample: its id, or a file name (folders and ending are left out of account).
        split: column with the split. Values: `splits`, or else train, training, val, valid, validation, test, testing.
        group: column with the group.
        splits: the values of the split column, by the project's name for the split.
    """

    file: str
    id: str = "id"
    split: str | None = None
    group: str | None = None
    splits: dict[Split, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _useful(self) -> Self:
        if self.split is None and self.group is None:
            raise ValueError("name the column of the split, of the group, or both")
        return self


class GeneratorParameters(StrictModel):
    """The embedded generator: how many images it draws, how large, and from which seed."""

    name: Literal["cells"] = "cells"
    images: int = Field(default=200, ge=3)
    size: int = Field(default=128, ge=32)
    seed: int = Field(default=0, ge=0)


def refuse_secrets(options: Mapping[str, object]) -> None:
    """Raise where the options of a storage hold a secret.

    Raises:
        ValueError: there is one; names it, and where it belongs.
    """
    secrets = [key for key in options if re.search("secret|password|token|^key$", key)]
    if secrets:
        raise ValueError(
            f"storage_options.{secrets[0]}: parameters are logged, so secrets do not belong here; set them in the "
            "environment (AWS_SECRET_ACCESS_KEY, say) or in the provider's own configuration file"
        )


class SourceParameters(StrictModel):
    """Where the files come from (exactly one of generator, archives, folder) and the layout that pairs them.

    Attributes:
        generator: draw the embedded problem instead of downloading one.
        archives: what to download.
        archive: local paths or file:// URLs that replace the downloads, in their order (for people behind a firewall);
            a list, or one text with `;` between them, as `--params` needs it.
        folder: a folder of one's own, read where it lies; a path, or a URL that fsspec knows (s3://bucket/folder).
        storage_options: for such a URL, what fsspec wants to know (an endpoint, say). No secrets: these come from the
            environment or the provider's own configuration files.
        images: glob for the images, relative to the extracted archives or the folder, with `{id}`; see
            `data.layout.layout` for the language.
        masks: the same for the masks. Absent where nothing is labeled.
        roi: the same for masks of the region of interest (a field of view): pixels outside, where it is 0, are ignored.
        splits: the values `{split}` takes in the paths, by the project's name for the split.
        split_lists: a predefined split as lists, by the project's name for the split: the path (a glob) of a text file
            with a sample on each line, or the ids themselves. Of a line, the first word counts, without its folders and
            its ending.
        unlisted: what becomes of samples that no list names.
        split_table: a predefined split, or groups, as a table.
        group: a pattern with one group `(...)`, searched in the sample's id; what it captures names the group of
            samples that must not be split apart (a patient, a video, a slide). It must find something in every id.
        license: under which terms the data may be used.
        citation: what to cite.
        homepage: where the data set is described.
        timeout_seconds: how long a server may stay silent before the download gives up.
        retries: how often a download that failed for a passing reason is tried again.
        parallel: archives that are downloaded at a time.
        ca_bundle: file with further certificates to trust, for servers behind a proxy of one's own or
            with an incomplete chain. The environment's REQUESTS_CA_BUNDLE works as well.
    """

    generator: GeneratorParameters | None = None
    archives: list[ArchiveParameters] = Field(default_factory=list)
    archive: str | list[str] | None = None
    folder: str | None = None
    storage_options: dict[str, object] = Field(default_factory=dict)
    images: str
    masks: str | None = None
    roi: str | None = None
    splits: dict[Split, str] = Field(default_factory=dict)
    split_lists: dict[Split, str | list[str]] = Field(default_factory=dict)
    unlisted: Literal["exclude", "train"] = "exclude"
    split_table: TableParameters | None = None
    group: str | None = None
    license: str = "not stated"
    citation: str = ""
    homepage: str = ""
    timeout_seconds: float = Field(default=30.0, gt=0)
    retries: int = Field(default=3, ge=0)
    parallel: int = Field(default=4, ge=1)
    ca_bundle: str | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        origins = [self.generator is not None, bool(self.archives) or self.archive is not None, self.folder is not None]
        if sum(origins) != 1:
            raise ValueError("give exactly one of: generator, archives (or archive), folder")
        if self.archive is not None and self.archives and len(self.local_archives) != len(self.archives):
            raise ValueError(
                f"archive replaces the downloads, of which there are {len(self.archives)}: give as many paths, in the "
                "order of archives"
            )
        if self.archive is not None and not self.local_archives:
            raise ValueError("archive names no path")
        refuse_secrets(self.storage_options)
        if self.storage_options and "://" not in (self.folder or ""):
            raise ValueError("storage_options belong to a folder that is a URL")
        return self

    @property
    def local_archives(self) -> list[str]:
        """Paths that replace the downloads; empty where none does."""
        if isinstance(self.archive, str):
            return [path.strip() for path in self.archive.split(";") if path.strip()]
        return self.archive or []

    @model_validator(mode="after")
    def _sound_layout(self) -> Self:
        for key, glob in (("images", self.images), ("masks", self.masks), ("roi", self.roi)):
            if glob is not None:
                _check_glob(key, glob)
        if ("{split}" in self.images) != bool(self.splits):
            raise ValueError("{split} in images and the table splits go together: give both or neither")
        for key, other in (("masks", self.masks), ("roi", self.roi)):
            if other is not None and "{split}" in other and not self.splits:
                raise ValueError(f"{key} has {{split}}, which needs {{split}} in images too")
        if self.images == self.masks:
            raise ValueError(f"images and masks are the same glob, {self.images!r}")
        if len(set(self.splits.values())) != len(self.splits) or "" in self.splits.values():
            raise ValueError("splits: each split needs a value of its own")
        official = [
            bool(self.splits),
            bool(self.split_lists),
            self.split_table is not None and self.split_table.split is not None,
        ]
        if sum(official) > 1:
            raise ValueError("splits, split_lists and split_table.split each give an official split: give one of them")
        if self.group is not None and self.split_table is not None and self.split_table.group is not None:
            raise ValueError("group and split_table.group each give groups: give one of them")
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


PLACEHOLDERS = {"images": {"id", "folder", "split", "page"}, "roi": {"id", "folder", "split", "page"}}
PLACEHOLDERS["masks"] = PLACEHOLDERS["images"] | {"class"}


def _check_glob(key: str, glob: str) -> None:
    """Refuse a glob that the layout language does not know."""
    allowed = PLACEHOLDERS[key]
    unknown = [name for name in re.findall(r"\{([^/]*?)\}", glob) if name not in allowed]
    if unknown:
        names = ", ".join(f"{{{name}}}" for name in sorted(allowed))
        raise ValueError(f"{key} has {{{unknown[0]}}}, but only {names} have a meaning there")
    if key != "masks" and "{id}" not in glob and "{page}" not in glob:
        raise ValueError(f"{key} needs {{id}} where the sample's name stands, as in {key}/{{id}}.png")
    for name in ("folder", "class"):
        if f"{{{name}}}" in glob and "{id}" not in glob and "{page}" not in glob:
            raise ValueError(f"{key} has {{{name}}}, which needs {{id}} (or #{{page}}) too")
    if "{page}" in glob and not glob.endswith("#{page}"):
        raise ValueError(f"{key}: {{page}} stands at the end, after #, as in volume.tif#{{page}}")
    if glob.startswith("/") or "\\" in glob or ".." in glob.split("/"):
        raise ValueError(f"{key} must be relative, without .. and with forward slashes: {glob!r}")
