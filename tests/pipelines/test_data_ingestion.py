"""The four nodes, one after the other, as the pipeline runs them."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import fsspec
import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml

from tests.data.ingestion.conftest import PAIRS, Site, put, site, tarred, zipped
from unet_segmentation.data.ingestion.content_hash import content_sha256
from unet_segmentation.data.ingestion.extract import MARKER
from unet_segmentation.data.ingestion.records import DownloadedArchive, Downloads, ExtractedFiles
from unet_segmentation.errors import DataError, ProjectError, SourceError
from unet_segmentation.parameters import GeneratorParameters, SourceParameters
from unet_segmentation.pipelines.data_ingestion import nodes
from unet_segmentation.utils.strict_model import StrictModel

__all__ = ["put", "site"]  # the fixtures

Record = TypeVar("Record", bound=StrictModel)
LAYOUT = {"images": "top/images/{id}.png", "masks": "top/masks/{id}.png", "timeout_seconds": 0.3, "retries": 0}
CONTENT = content_sha256({path: hashlib.sha256(body).hexdigest() for path, body in PAIRS.items()})
BODY = zipped(PAIRS)


def stored(record: Record) -> Record:
    """The record as the catalog would load it again."""
    return type(record).model_validate_json(record.model_dump_json())


class Work:
    """The working folders of one problem."""

    def __init__(self, root: Path) -> None:
        self.archives, self.files = root / "data/archives", root / "data/files"
        self.extracted: ExtractedFiles

    def run(self, **source: object) -> pd.DataFrame:
        parameters = SourceParameters.model_validate({**LAYOUT, **source})
        for folder in (self.archives, self.files):
            folder.mkdir(parents=True, exist_ok=True)  # as the catalog does
        downloads = stored(nodes.download(parameters, self.archives))
        verified = stored(nodes.verify(downloads, parameters, self.archives))
        self.extracted = stored(nodes.extract(verified, parameters, self.archives, self.files))
        return nodes.index(self.extracted, parameters)

    def refused(self, **source: object) -> str:
        with pytest.raises(ProjectError) as refusal:
            self.run(**source)
        return str(refusal.value)

    def stored(self) -> list[str]:
        return [path.name for path in self.archives.iterdir()] if self.archives.is_dir() else []


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    monkeypatch.chdir(tmp_path)
    yield Work(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if ".partial" in path.name], "something half-written was left"


def check_table(table: pd.DataFrame) -> None:
    assert table.to_dict("list") == {
        "sample_id": ["a", "b", "c"],
        "image": [f"top/images/{name}.png" for name in "abc"],
        "masks": [[f"top/masks/{name}.png"] for name in "abc"],
        "roi": ["", "", ""],
        "group": ["a", "b", "c"],
        "split": [None, None, None],
    }


def test_from_an_address_to_an_index(site: Site, work: Work) -> None:
    site.files["a.zip"] = BODY
    archive = {"url": f"{site.url}/a.zip", "content_sha256": CONTENT, "sha256": hashlib.sha256(BODY).hexdigest()}
    check_table(work.run(archives=[archive]))
    assert work.extracted == ExtractedFiles(root=str(work.files), files=6, content_sha256=CONTENT)
    assert (work.files / "top/images/a.png").read_bytes() == PAIRS["top/images/a.png"]
    assert site.requests == ["/a.zip"]
    before = {path: path.stat().st_mtime_ns for path in work.files.rglob("*")}
    check_table(work.run(archives=[archive]))
    assert site.requests == ["/a.zip"]
    assert {path: path.stat().st_mtime_ns for path in work.files.rglob("*")} == before


def test_a_project_that_moved_downloads_nothing_again(site: Site, work: Work, tmp_path: Path) -> None:
    site.files["a.zip"] = BODY
    source = SourceParameters.model_validate({**LAYOUT, "archives": [{"url": f"{site.url}/a.zip"}]})
    downloads = nodes.download(source, work.archives)
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    assert nodes.verify(downloads, source, tmp_path / "elsewhere/archives").content_sha256 == CONTENT


def test_what_was_extracted_is_repaired(site: Site, work: Work) -> None:
    site.files["a.zip"] = BODY
    work.run(archives=[{"url": f"{site.url}/a.zip"}])
    for harm in (
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b"cut"),
        lambda _: (work.files / MARKER).unlink(),
        lambda _: (work.files / MARKER).write_text("{"),
    ):
        harm(work.files / "top/images/a.png")
        check_table(work.run(archives=[{"url": f"{site.url}/a.zip"}]))
        assert (work.files / "top/images/a.png").read_bytes() == PAIRS["top/images/a.png"]
    assert len(site.requests) == 1


def test_another_archive_replaces_what_was_extracted(site: Site, work: Work) -> None:
    site.files |= {"a.zip": zipped({**PAIRS, "top/images/d.png": b"d"}), "b.zip": BODY}
    assert len(work.run(archives=[{"url": f"{site.url}/a.zip"}])) == 4
    check_table(work.run(archives=[{"url": f"{site.url}/b.zip"}]))


def test_several_archives(site: Site, work: Work) -> None:
    site.files["i.zip"] = zipped({name: body for name, body in PAIRS.items() if "images" in name})
    site.files["m.tar.gz"] = tarred({name: body for name, body in PAIRS.items() if "masks" in name}, "w:gz")
    check_table(work.run(archives=[{"url": f"{site.url}/{name}"} for name in ("i.zip", "m.tar.gz")]))
    assert re.fullmatch("[0-9a-f]{64}", work.extracted.content_sha256)


@pytest.mark.parametrize(
    ("declared", "key"),
    [("sha256", "sha256"), ("content_sha256", "content_sha256"), ("md5", "md5"), ("sha1", "sha1")],
)
def test_a_wrong_hash_deletes_the_download(declared: str, key: str, site: Site, work: Work) -> None:
    site.files["a.zip"] = zipped({**PAIRS, "top/masks/a.png": b"changed"})
    truth = {"sha256": hashlib.sha256(BODY), "md5": hashlib.md5(BODY), "sha1": hashlib.sha1(BODY)}
    value = CONTENT if key == "content_sha256" else truth[key].hexdigest()
    archive = {"url": f"{site.url}/a.zip", declared: value}
    message = work.refused(archives=[archive])
    assert f"its {key} is" in message
    assert f"declared is {value}" in message
    assert "source.archive=" in message
    assert work.stored() == []
    site.files["a.zip"] = BODY
    check_table(work.run(archives=[archive]))
    assert len(site.requests) == 2


def test_a_damaged_download_is_deleted(site: Site, work: Work) -> None:
    damaged = bytearray(BODY)
    damaged[60:70] = bytes(10)
    site.files["a.zip"] = bytes(damaged)
    assert "truncated or damaged" in work.refused(archives=[{"url": f"{site.url}/a.zip"}])
    assert work.stored() == []


def test_a_hostile_download_writes_nothing(site: Site, work: Work, tmp_path: Path) -> None:
    site.files["a.zip"] = zipped({**PAIRS, "../../evil.png": b"x"})
    assert "'../../evil.png' leads out of the folder" in work.refused(archives=[{"url": f"{site.url}/a.zip"}])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("path", ["missing.zip", "status/500", "hang/a.zip", "portal/a.zip"])
def test_what_cannot_be_had_leaves_nothing(path: str, site: Site, work: Work) -> None:
    site.files["a.zip"] = BODY
    assert f"{site.url}/{path} could not be downloaded" in work.refused(archives=[{"url": f"{site.url}/{path}"}])
    assert work.stored() == []


def test_what_was_cut_is_gone_on_with(site: Site, work: Work) -> None:
    site.files["a.zip"], site.cuts = BODY, [500]
    archive = {"url": f"{site.url}/a.zip", "file": "a.zip", "sha256": hashlib.sha256(BODY).hexdigest()}
    assert "the connection broke" in work.refused(archives=[archive])
    assert sorted(work.stored()) == [".a.zip.part", ".a.zip.part.json"]
    check_table(work.run(archives=[archive]))
    assert work.stored() == ["a.zip"]
    assert site.answered == [200, 206]


def test_pieces_of_two_files_do_not_pass(site: Site, work: Work) -> None:
    """Where a hash is declared, bytes are joined that no validator vouches for: if that goes wrong, it shows."""
    another = bytes(255 - byte for byte in BODY)  # as long
    site.files["a.zip"], site.cuts, site.validators = another, [200], {}
    archive = {"url": f"{site.url}/a.zip", "sha256": hashlib.sha256(BODY).hexdigest()}
    work.refused(archives=[archive])
    site.files["a.zip"] = BODY
    assert "its sha256 is" in work.refused(archives=[archive])
    assert site.answered == [200, 206]
    assert work.stored() == []
    check_table(work.run(archives=[archive]))
    assert site.answered == [200, 206, 200]


def test_a_download_without_a_hash_says_which_to_declare(
    site: Site, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    site.files["a.zip"] = BODY
    with caplog.at_level("INFO"):
        work.run(archives=[{"url": f"{site.url}/a.zip"}])
    assert f"content_sha256: {CONTENT}" in caplog.text


def parts(tmp_path: Path) -> list[Path]:
    """The images and the masks in two archives, with a bad name for the shell."""
    files = []
    for kind in ("images", "masks"):
        file = tmp_path / f"own {kind}.zip"
        file.write_bytes(zipped({path: body for path, body in PAIRS.items() if kind in path}))
        files.append(file)
    return files


def part_hash(kind: str) -> str:
    hashes = {path: hashlib.sha256(body).hexdigest() for path, body in PAIRS.items() if kind in path}
    return content_sha256(hashes)


@pytest.mark.parametrize("form", ["list", "text"])
def test_several_archives_of_ones_own_keep_what_is_declared(form: str, work: Work, tmp_path: Path) -> None:
    own = [str(file) for file in parts(tmp_path)]
    archives = [
        {"url": f"https://example.org/{kind}.zip", "content_sha256": part_hash(kind)} for kind in ("images", "masks")
    ]
    given: object = own if form == "list" else "; ".join(own)
    check_table(work.run(archives=archives, archive=given))
    check_table(work.run(archive=given))  # nothing has to be declared of them
    given = own[::-1] if form == "list" else ";".join(own[::-1])
    assert "is not the archive that is declared" in work.refused(archives=archives, archive=given)


def test_the_command_line_takes_several_archives(tmp_path: Path) -> None:
    """As kedro reads ``--params "source.archive=a.zip;b.zip"``: it splits at commas, and knows no lists."""
    import click
    from kedro.framework.cli.utils import _split_params

    given = _split_params(
        click.Context(click.Command("run")), click.Option(["--params"]), "source.archive=a b.zip;c.zip"
    )
    assert SourceParameters.model_validate({**LAYOUT, **given["source"]}).local_archives == ["a b.zip", "c.zip"]


def test_what_needs_a_login_is_told_at_once(site: Site, work: Work) -> None:
    site.files["free.zip"] = BODY
    pages = {"images": "https://example.org/login", "masks": "https://example.org/forms"}
    by_hand = [{"page": page, "file": f"{kind}.zip"} for kind, page in pages.items()]
    message = work.refused(archives=[by_hand[0], {"url": f"{site.url}/free.zip"}, by_hand[1]])
    for kind, page in pages.items():
        assert f"{kind}.zip  from {page}" in message
    assert f"Put it into {work.archives}" in message
    assert "source.archive=/path/to/images.zip;/path/to/archive.zip;/path/to/masks.zip" in message
    assert site.requests == []


def test_what_was_fetched_by_hand_is_used_and_never_deleted(work: Work, tmp_path: Path) -> None:
    work.archives.mkdir(parents=True)
    for file, kind in zip(parts(tmp_path), ("images", "masks"), strict=True):
        shutil.copy(file, work.archives / f"{kind}.zip")
    archives = [
        {"page": "https://example.org", "file": f"{kind}.zip", "content_sha256": part_hash(kind)}
        for kind in ("images", "masks")
    ]
    check_table(work.run(archives=archives))
    archives[0]["content_sha256"] = "0" * 64
    message = work.refused(archives=archives)
    assert "is not the archive that is declared" in message
    assert "left as it is" in message
    assert sorted(work.stored()) == ["images.zip", "masks.zip"]


def test_a_mirror_stands_in(site: Site, work: Work) -> None:
    site.files["b.zip"] = BODY
    check_table(work.run(archives=[{"url": f"{site.url}/a.zip", "mirrors": [f"{site.url}/b.zip"]}]))
    assert site.requests == ["/a.zip", "/b.zip"]


def test_a_file_of_ones_own_may_have_mirrors(site: Site, work: Work, tmp_path: Path) -> None:
    site.files["b.zip"] = BODY
    archive = {"url": (tmp_path / "own.zip").as_uri(), "mirrors": [f"{site.url}/b.zip"]}
    check_table(work.run(archives=[archive]))
    assert site.requests == ["/b.zip"]
    (tmp_path / "own.zip").write_bytes(BODY)
    check_table(work.run(archives=[archive]))
    assert site.requests == ["/b.zip"]


def test_archives_that_would_share_a_name(work: Work) -> None:
    archives = [{"url": f"https://example.org/{n}", "file": "a.zip"} for n in range(2)]
    assert "2 of them would be stored as 'a.zip'" in work.refused(archives=archives)


def test_archives_and_plain_files_go_where_they_are_to(site: Site, work: Work) -> None:
    for kind in ("images", "masks"):
        site.files[f"{kind}.zip"] = zipped({f"{name}.png": PAIRS[f"top/{kind}/{name}.png"] for name in "abc"})
    site.files["names.txt"] = b"a\nb\n"
    archives = [
        {"url": f"{site.url}/images.zip", "into": "top/images", "content_sha256": part_hash("images")},
        {"url": f"{site.url}/masks.zip", "into": "top/masks", "content_sha256": part_hash("masks")},
        {"url": f"{site.url}/names.txt?download=1", "unpack": False, "into": "lists"},
        {"url": f"{site.url}/names.txt", "unpack": False, "file": "train.txt"},
    ]
    site.files["names.txt?download=1"] = site.files["names.txt"]
    check_table(work.run(archives=archives))
    assert (work.files / "lists/names.txt").read_bytes() == b"a\nb\n"
    assert (work.files / "train.txt").read_bytes() == b"a\nb\n"
    assert work.extracted.files == 8
    before = work.extracted.content_sha256
    check_table(work.run(archives=archives))
    assert len(site.requests) == 4
    archives[2]["into"] = "other"
    work.run(archives=archives)
    assert not (work.files / "lists").exists()
    assert work.extracted.content_sha256 != before


def test_a_plain_file_of_ones_own_gets_the_declared_name(work: Work, tmp_path: Path) -> None:
    (tmp_path / "own.zip").write_bytes(BODY)
    (tmp_path / "mine.csv").write_text("id,split\n")
    archives = [{"url": "https://example.org/a.zip"}, {"url": "https://example.org/split.csv", "unpack": False}]
    check_table(work.run(archives=archives, archive="own.zip;mine.csv"))
    assert (work.files / "split.csv").read_text() == "id,split\n"


def test_addresses_with_slashes_in_their_query(site: Site, work: Work) -> None:
    site.files |= {"get?path=": BODY, "get?list=": b"a\nb\n", "a.zip?key=x": zipped({"more/x.txt": b"x"})}
    archives = [
        {"url": f"{site.url}/get?path=/set/a.zip"},
        {"url": f"{site.url}/get?list=/set/names.txt", "unpack": False},
        {"url": f"{site.url}/a.zip?key=x/y"},
    ]
    check_table(work.run(archives=archives))
    assert (work.files / "names.txt").read_bytes() == b"a\nb\n"
    assert (work.files / "more/x.txt").read_bytes() == b"x"
    assert sorted(name.partition("-")[0] for name in work.stored()) == ["a", "a", "names"]
    missing = work.refused(archives=[{"url": f"{site.url}/gone?path=/set/a.zip"}])
    assert f"{site.url}/gone?path=/set/a.zip could not be downloaded" in missing
    assert "source.archive=/path/to/a.zip" in missing


def test_a_wrong_plain_file_is_deleted(site: Site, work: Work) -> None:
    site.files |= {"a.zip": BODY, "n.txt": b"changed"}
    right = hashlib.sha1(b"names").hexdigest()
    archives = [{"url": f"{site.url}/a.zip"}, {"url": f"{site.url}/n.txt", "unpack": False, "sha1": right}]
    assert "its sha1 is" in work.refused(archives=archives)
    assert len(work.stored()) == 1
    site.files["n.txt"] = b"names"
    check_table(work.run(archives=archives))


def test_archives_in_an_archive(site: Site, work: Work) -> None:
    layout = {"images": "set/top/images/{id}.png", "masks": "set/top/masks/{id}.png"}
    site.files["a.zip"] = zipped({"set.zip": BODY, "README": b"hello"})
    table = work.run(archives=[{"url": f"{site.url}/a.zip"}], **layout)
    assert list(table["image"]) == [f"set/top/images/{name}.png" for name in "abc"]
    assert work.extracted.files == 7


def test_a_folder_on_a_url_is_read_where_it_lies(work: Work) -> None:
    import fsspec

    system = fsspec.filesystem("memory")
    for path, body in PAIRS.items():
        system.pipe(f"/bucket/{path}", body)
    source = SourceParameters.model_validate({**LAYOUT, "folder": "memory://bucket"})
    downloads = nodes.download(source, work.archives)
    verified = nodes.verify(downloads, source, work.archives)
    extracted = nodes.extract(verified, source, work.archives, work.files)
    assert extracted == ExtractedFiles(root="memory://bucket", files=6, content_sha256=None)
    assert not work.files.exists()
    nowhere = SourceParameters.model_validate({**LAYOUT, "folder": "nosuch://bucket"})
    with pytest.raises(DataError, match="nosuch"):
        nodes.extract(
            nodes.verify(nodes.download(nowhere, work.archives), nowhere, work.archives),
            nowhere,
            work.archives,
            work.files,
        )


def test_the_authorities_to_trust_are_a_file_of_ones_own(work: Work) -> None:
    message = work.refused(archives=[{"url": "https://example.org/a.zip"}], ca_bundle="missing.pem")
    assert "source.ca_bundle" in message
    assert "missing.pem" in message


@pytest.mark.parametrize("form", ["{path}", "file://{path}", "own.zip"])
def test_an_archive_of_ones_own_replaces_the_download(form: str, site: Site, work: Work, tmp_path: Path) -> None:
    own = tmp_path / "own.zip"
    own.write_bytes(BODY)
    archives = [{"url": f"{site.url}/a.zip", "content_sha256": CONTENT}]
    check_table(work.run(archives=archives, archive=form.format(path=own)))
    assert site.requests == []
    assert work.stored() == []  # it is read where it lies


def test_a_wrong_archive_of_ones_own_is_left_alone(work: Work, tmp_path: Path) -> None:
    own = tmp_path / "own.zip"
    own.write_bytes(zipped({**PAIRS, "top/masks/a.png": b"changed"}))
    message = work.refused(archives=[{"url": "https://example.org/a.zip", "content_sha256": CONTENT}], archive=str(own))
    assert "own.zip is not the archive that is declared" in message
    assert "left as it is" in message
    assert own.is_file()


def test_archives_of_ones_own_that_cannot_be(work: Work, tmp_path: Path) -> None:
    assert "There is no archive" in work.refused(archive="missing.zip")
    assert "is a folder, not an archive" in work.refused(archive=str(tmp_path))
    (tmp_path / "cut.zip").write_bytes(BODY[:-30])
    assert "cut.zip is no whole zip or tar archive, but a truncated zip" in work.refused(archive="cut.zip")
    (tmp_path / "text.zip").write_text("hello")
    assert "but something that begins with b'hello'" in work.refused(archive="text.zip")


def test_a_folder_of_ones_own_is_read_where_it_lies(work: Work, tmp_path: Path) -> None:
    for name, body in PAIRS.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_bytes(body)
    check_table(work.run(folder="own"))
    assert work.extracted == ExtractedFiles(root=str(tmp_path / "own"), files=6, content_sha256=None)
    assert not list(work.files.iterdir())
    assert "There is no folder" in work.refused(folder="missing")
    shutil.rmtree(tmp_path / "own")
    (tmp_path / "own").mkdir()
    assert "There is no file at all" in work.refused(folder="own")
    with pytest.raises(DataError, match="not there any more"):
        nodes.index(ExtractedFiles(root=str(tmp_path / "gone"), files=0), SourceParameters(folder="own", **LAYOUT))  # type: ignore[arg-type]


def test_a_relative_path_holds_from_the_projects_root_too(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.kedro]\npackage_name = 'x'\n")
    (tmp_path / "own.zip").write_bytes(BODY)
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    check_table(work.run(archive="own.zip"))


def test_a_lost_archive_is_told(work: Work, tmp_path: Path) -> None:
    source = SourceParameters.model_validate({**LAYOUT, "archives": [{"url": "https://example.org/a.zip"}]})
    lost = DownloadedArchive(name="a.zip", path="a.zip", bytes=1, url="x")
    with pytest.raises(SourceError, match="run the node download again"):
        nodes.verify(Downloads(archives=(lost,)), source, tmp_path)


def test_the_embedded_problem_goes_the_same_way(work: Work) -> None:
    pytest.importorskip("unet_segmentation.data.synthetic.cells")
    layout = {"images": "cells/images/{id}.png", "masks": "cells/masks/{id}.png"}
    few = GeneratorParameters(images=3, size=32)
    table = work.run(generator=few, **layout)
    assert len(table) == 3
    assert (table["masks"].str.len() == 1).all()
    (archive,) = work.stored()
    drawn = (work.archives / archive).stat().st_mtime_ns
    content = work.extracted.content_sha256
    work.run(generator=few, **layout)
    assert (work.archives / archive).stat().st_mtime_ns == drawn
    work.run(generator=GeneratorParameters(images=3, size=32, seed=1), **layout)
    assert len(work.stored()) == 2
    assert work.extracted.content_sha256 != content


BUILT_IN = {
    "camvid": (
        [
            "SegNet/CamVid/train/1.png",
            "SegNet/CamVid/trainannot/1.png",
            "SegNet/CamVid/val/2.png",
            "SegNet/CamVid/valannot/2.png",
            "SegNet/CamVid/test/3.png",
            "SegNet/CamVid/testannot/3.png",
            "SegNet/CamVid/test.txt",
        ],
        {"1": "train", "2": "validation", "3": "test"},
    ),
    "isbi2012": (
        [
            "unet/data/membrane/train/image/0.png",
            "unet/data/membrane/train/label/0.png",
            "unet/data/membrane/train/aug/image_0_1.png",
            "unet/data/membrane/test/0.png",
        ],
        {"0": None},
    ),
    "wbc": (
        [
            "segmentation_WBC/Dataset 1/001.bmp",
            "segmentation_WBC/Dataset 1/001.png",
            "segmentation_WBC/Dataset 2/001.bmp",
            "segmentation_WBC/Dataset 2/001.png",
            "segmentation_WBC/Dataset 1.png",
        ],
        {"001": None},
    ),
}


@pytest.mark.parametrize("problem", BUILT_IN)
def test_the_layouts_of_the_built_in_problems(problem: str, root: Path, site: Site, work: Work) -> None:
    names, splits = BUILT_IN[problem]
    site.files["a.zip"] = zipped({name: name.encode() for name in names})
    source = yaml.safe_load((root / "conf" / problem / "parameters.yml").read_text(encoding="utf-8"))["source"]
    table = work.run(**{**source, "archives": [{"url": f"{site.url}/a.zip"}]})
    assert dict(zip(table["sample_id"], table["split"], strict=True)) == splits
    assert (table["masks"].str.len() == 1).all()


def indexed(folder: object, **source: object) -> pd.DataFrame:
    parameters = SourceParameters.model_validate({**LAYOUT, "folder": str(folder), **source})
    return nodes.index(ExtractedFiles(root=str(folder), files=0), parameters)


def index_refused(folder: object, **source: object) -> str:
    with pytest.raises(DataError) as refusal:
        indexed(folder, **source)
    return str(refusal.value)


def test_an_official_split_by_lists(put: Callable[[str, bytes], Path], tmp_path: Path) -> None:
    for name, body in PAIRS.items():
        put(name, body)
    put("top/trainval.txt", b"\xef\xbb\xbf# id class\r\na 1 1 1\r\n")
    lists = {"train": "*/trainval.txt", "test": ["c.png"]}
    table = indexed(tmp_path, split_lists=lists)
    assert dict(zip(table["sample_id"], table["split"], strict=True)) == {"a": "train", "c": "test"}
    table = indexed(tmp_path, split_lists=lists, unlisted="train")
    assert list(table["split"]) == ["train", "train", "test"]
    message = index_refused(tmp_path, split_lists={"train": "trainval.txt"})
    assert "matches source.split_lists.train 'trainval.txt'. Files like it: top/trainval.txt." in message
    put("top/binary.txt", b"\xff\x00\x01")
    assert "top/binary.txt is no text in UTF-8" in index_refused(tmp_path, split_lists={"train": "top/binary.txt"})


def test_groups_and_splits_by_a_table(
    put: Callable[[str, bytes], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, body in PAIRS.items():
        put(f"data/{name}", body)
    put("project/pyproject.toml", b"[tool.kedro]\npackage_name = 'x'\n")
    put("project/tables/mine.csv", b"file,who,set\na.png,007,train\nb.png,007,train\nc.png,NA,test\n")
    put("data/meta.tsv", b"id\twho\na\t1\nb\t2\nc\t1\n")
    (tmp_path / "project" / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "project" / "sub")
    table = indexed(
        tmp_path / "data", split_table={"file": "tables/mine.csv", "id": "file", "group": "who", "split": "set"}
    )
    assert list(table["group"]) == ["007", "007", "NA"]
    assert list(table["split"]) == ["train", "train", "test"]
    put("project/tables/latin.csv", "id,who\na,ä\n".encode("latin-1"))
    message = index_refused(tmp_path / "data", split_table={"file": "tables/latin.csv", "group": "who"})
    assert "latin.csv is no text in UTF-8" in message
    table = indexed(tmp_path / "data", split_table={"file": "*.tsv", "group": "who"})
    assert list(table["group"]) == ["1", "2", "1"]
    assert list(table["split"]) == [None, None, None]
    message = index_refused(tmp_path / "data", split_table={"file": "meta.csv", "group": "who"})
    assert "matches source.split_table.file 'meta.csv'" in message
    assert "meta.tsv has no column 'whom'" in index_refused(
        tmp_path / "data", split_table={"file": "*.tsv", "group": "whom"}
    )


def test_the_pages_of_a_stack_are_samples(put: Callable[[str, bytes], Path], tmp_path: Path) -> None:
    def stack(pages: int) -> bytes:
        stream = io.BytesIO()
        tifffile.imwrite(stream, np.zeros((pages, 8, 8), np.uint8), photometric="minisblack")
        return stream.getvalue()

    put("x/train-volume.tif", stack(12))
    put("x/train-labels.tif", stack(11))
    put("x/test-volume.tif", stack(1)[:20])
    layout = {"images": "**/{split}-volume.tif#{page}", "masks": "**/{split}-labels.tif#{page}"}
    table = indexed(tmp_path, **layout, splits={"train": "train", "test": "test"})
    assert list(table["image"]) == ["x/test-volume.tif#0", *(f"x/train-volume.tif#{page}" for page in range(12))]
    assert list(table["masks"]) == [[], *([f"x/train-labels.tif#{page}"] for page in range(11)), []]
    assert list(table["sample_id"])[:3] == ["test-000", "train-000", "train-001"]
    assert set(table["split"]) == {"train", "test"}


def test_a_folder_on_a_url(tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    for name, body in {**PAIRS, "top/._x.png": b"", "list.txt": b"a\nb"}.items():
        system.pipe_file(f"/bucket/own/{name}", body)
    table = indexed("memory://bucket/own", split_lists={"train": "list.txt"})
    assert list(table["image"]) == ["top/images/a.png", "top/images/b.png"]
    assert "There is no file at all" in index_refused("memory://bucket/empty")
    assert "cannot be read" in index_refused("s4://bucket/own")


def test_the_index_is_stored_and_loaded_as_it_is(put: Callable[[str, bytes], Path], tmp_path: Path) -> None:
    for name in ("i/ä 'x' \"y\".png", "i/a\n#1.png", "m/a\n#1.png", "m/z.png"):
        put(name, b"")
    table = indexed(tmp_path, images="i/{id}.png", masks="m/{id}.png")
    table.to_parquet(tmp_path / "index.parquet")
    stored = pd.read_parquet(tmp_path / "index.parquet")
    stored["masks"] = stored["masks"].map(list)
    assert stored.to_dict("list") == table.to_dict("list")
    assert stored["masks"].tolist() == [["m/a\n#1.png"], [], ["m/z.png"]]


def test_links_in_a_circle_are_harmless(put: Callable[[str, bytes], Path], tmp_path: Path) -> None:
    put("i/a.png", b"")
    (tmp_path / "i" / "again").symlink_to(tmp_path)
    (tmp_path / "i" / "b.png").symlink_to(tmp_path / "i" / "b.png")  # to itself
    assert list(indexed(tmp_path, images="i/{id}.png", masks=None)["image"]) == ["i/a.png", "i/b.png"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"archives": [{"url": "ftp://example.org/a.zip"}]}, "must begin with https://"),
        (
            {"archives": [{"url": "https://a/1"}, {"url": "https://a/2"}], "archive": "x"},
            "archive replaces the downloads, of which there are 2: give as many paths",
        ),
        ({"archive": " ; "}, "archive names no path"),
        ({"archive": "x", "folder": "y"}, "exactly one of"),
        ({"archive": "x", "images": "images/{name}.png"}, "{id}"),
        ({"archive": "x", "images": "images/{id}_{frame}.png"}, "{frame}"),
        ({"archive": "x", "images": "/images/{id}.png"}, "must be relative"),
        ({"archive": "x", "images": "../images/{id}.png"}, "must be relative"),
        ({"archive": "x", "images": "i\\{id}.png"}, "forward slashes"),
        ({"archive": "x", "images": "{split}/{id}.png"}, "go together"),
        ({"archive": "x", "masks": "{split}/{id}.png"}, "needs {split} in images"),
        ({"archive": "x", "masks": "top/images/{id}.png"}, "the same glob"),
        ({"archive": "x", "masks": "{folder}/all.json"}, "masks has {folder}, which needs {id} (or #{page})"),
        ({"archive": "x", "masks": "{class}.json"}, "masks has {class}, which needs {id} (or #{page})"),
        ({"archive": "x", "images": "{class}/{id}.png"}, "{class}"),
        ({"archive": "x", "group": "(a)(b)"}, "exactly one group"),
        ({"archive": "x", "group": "(a"}, "no regular expression"),
        (
            {"archive": "x", "images": "{split}/{id}.png", "splits": {"train": "a", "test": "a"}},
            "a value of its own",
        ),
    ],
)
def test_sources_that_cannot_be_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        SourceParameters.model_validate({**LAYOUT, **change})
