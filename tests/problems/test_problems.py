"""Every built-in problem, from archives of the publishers' layout on a web server to class ids and a verdict."""

from __future__ import annotations

import hashlib
import io
import logging
import re
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from PIL import Image

from tests.data.ingestion.conftest import Site, site
from tests.problems import fabrication
from tests.problems.fabrication import IGNORED, PROBLEMS, Fabricated
from unet_segmentation.data.audit.result import AuditResult
from unet_segmentation.data.ingestion.records import ExtractedFiles
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_reader import read_image, read_roi
from unet_segmentation.data.io.mask_decoder import MaskDecoder
from unet_segmentation.data.statistics import DatasetStatistics
from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.errors import SourceError
from unet_segmentation.parameters import Parameters, SourceParameters, validate_parameters
from unet_segmentation.pipelines.data_ingestion import nodes
from unet_segmentation.pipelines.data_preparation import nodes as preparation

__all__ = ["site"]  # the fixture

HASHES = ("sha256", "sha1", "md5")
UNHASHED = {"carvana", "chase_db1", "cityscapes", "dsb2018", "isbi2012_complete"}  # no publisher states one
OF_FEW_PIXELS = {"mask_values", "rare_in_split"}  # always there; and many classes in a handful of tiny images
ROOT = Path(__file__).parents[2]
# By name, because conf/ may hold problems of one's own, too.
NAMES = [
    *("ade20k", "camvid", "camvid_full", "carvana", "cells", "chase_db1", "cityscapes", "drive", "dsb2018", "isbi2012"),
    *("isbi2012_complete", "isic2018", "kvasir", "loveda", "oxford_pet", "oxford_pet_trimap", "template", "test"),
    *("voc2012", "wbc"),
]


def declared(problem: str) -> Parameters:
    """Merge a problem's parameters over those of conf/base, as the configuration loader does (but for conf/local)."""
    files = [*sorted((ROOT / "conf" / "base").glob("parameters*.yml")), ROOT / "conf" / problem / "parameters.yml"]
    merged = OmegaConf.to_container(OmegaConf.merge({"problem": problem}, *map(OmegaConf.load, files)))
    return validate_parameters(merged)  # type: ignore[arg-type]


def served(source: SourceParameters, fabricated: Fabricated, site: Site) -> SourceParameters:
    """Let the archives come from the local server, and replace each declared hash by that of the fabricated archive."""
    archives = []
    for archive in source.archives:
        tail = _tail(archive.url) if archive.url else str(archive.file)
        body = fabricated.archives[tail]
        if archive.url:
            site.files[tail] = body
        hashes = {key: hashlib.new(key, body).hexdigest() for key in HASHES if getattr(archive, key)}
        changes = {"url": f"{site.url}/{tail}", "mirrors": []} if archive.url else {}
        archives.append(archive.model_copy(update=hashes | changes))
    assert {_tail(one.url) if one.url else one.file for one in archives} == set(fabricated.archives)
    return source.model_copy(update={"archives": archives})


def _tail(url: str) -> str:
    parts = urlsplit(url)
    return parts.path.rpartition("/")[2] + (f"?{parts.query}" if parts.query else "")


@pytest.mark.parametrize("case", PROBLEMS)
def test_from_the_publishers_archives_to_a_verdict(
    case: str, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    problem, fabricate = PROBLEMS[case]
    fabricated, parameters = fabricate(), declared(problem)
    source = served(parameters.source, fabricated, site)
    archives, raw = tmp_path / "archives", tmp_path / "raw"
    for folder in (archives, raw):
        folder.mkdir()
    for archive in source.archives:
        if archive.url is None:  # what needs a login was put there by hand
            (archives / str(archive.file)).write_bytes(fabricated.archives[str(archive.file)])

    verified = nodes.verify(nodes.download(source, archives), source, archives)
    extracted = nodes.extract(verified, source, archives, raw)
    with caplog.at_level(logging.INFO):
        table = nodes.index(extracted, source)

    assert dict(zip(table["sample_id"], table["split"], strict=True)) == fabricated.splits
    groups = fabricated.groups or {name: name for name in fabricated.splits}
    assert dict(zip(table["sample_id"], table["group"], strict=True)) == groups
    left_out = re.findall(r"(\d+) samples on no list: left out", caplog.text)
    assert sum(map(int, left_out)) == fabricated.left_out
    assert "fit no sample" not in caplog.text

    storage = FileStore(extracted.root)
    decoder = MaskDecoder(storage, parameters.masks, parameters.classes)
    for row in table.itertuples():
        image = read_image(storage, row.image, parameters.images).pixels
        mask = decoder.decode(row.masks, row.image, image.shape[:2])
        assert mask.undeclared == {}
        np.testing.assert_array_equal(mask.ids, fabricated.truth[row.sample_id])
        assert bool(row.roi) == bool(fabricated.inside)
        if row.roi:
            np.testing.assert_array_equal(read_roi(storage, row.roi), fabricated.inside[row.sample_id])

    prepared = prepare(table, extracted, source, parameters, tmp_path)
    errors = prepared.findings.loc[prepared.findings["severity"] == "error"]
    assert errors.to_dict("records") == []
    assert prepared.verdict.status.startswith("passed")
    remarks = prepared.findings["kind"].value_counts().to_dict()
    assert {kind: count for kind, count in remarks.items() if kind not in OF_FEW_PIXELS} == fabricated.remarks
    assert f"<title>{problem}: audit" in prepared.page
    for name, truth in fabricated.truth.items():
        expected = np.where(fabricated.inside.get(name, True), truth, IGNORED)
        np.testing.assert_array_equal(prepared.packed.mask(name), expected)
    check_split(prepared.samples, fabricated)
    check_profile(prepared.statistics, prepared.samples, fabricated, parameters.classes)


@dataclass(frozen=True)
class Prepared:
    """What the preparation pipeline makes of an index."""

    samples: pd.DataFrame
    findings: pd.DataFrame
    packed: PackedSamples
    verdict: AuditResult
    page: str
    statistics: DatasetStatistics


def prepare(
    table: pd.DataFrame, extracted: ExtractedFiles, source: SourceParameters, parameters: Parameters, folder: Path
) -> Prepared:
    """Run the nodes of the preparation pipeline, as `kedro run` does."""
    packing, splitting = folder / "packing", folder / "splitting"
    for path in (packing, splitting):
        path.mkdir()
    label_map = preparation.define_label_map(parameters.classes)
    declared = (source, label_map, parameters.images, parameters.masks, parameters.inspection)
    inspected, result, packed = preparation.inspect(table, extracted, *declared, packing)
    samples, found_by_split = preparation.split(inspected, result, parameters.split, splitting, label_map)
    verdict, findings, page = preparation.audit(
        parameters.problem, inspected, samples, result, found_by_split, packed, extracted, *declared
    )
    kept = preparation.enforce_audit(samples, verdict)
    profile = preparation.compute_statistics(kept, inspected, label_map, parameters.images)
    return Prepared(kept, findings, packed, verdict, page, profile)


def check_split(samples: pd.DataFrame, fabricated: Fabricated) -> None:
    """Every sample has a side, no side is empty, what is officially for testing or validation stays so; groups hold."""
    sides = dict(zip(samples["sample_id"], samples["split"], strict=True))
    assert set(sides) == set(fabricated.splits)
    assert set(sides.values()) == {"train", "validation", "test"}
    official = set(fabricated.splits.values())
    for name, split in fabricated.splits.items():
        if split in {"validation", "test"}:
            assert sides[name] == split
        elif split == "train":  # from here a missing validation split is cut, and nothing else
            assert sides[name] in ({"train"} if "validation" in official else {"train", "validation"})
    groups: dict[str, set[str]] = {}
    for name, side in sides.items():
        groups.setdefault(fabricated.groups.get(name, name), set()).add(side)
    assert all(len(result) == 1 for result in groups.values())


def check_profile(
    profile: DatasetStatistics, samples: pd.DataFrame, fabricated: Fabricated, classes: list[str]
) -> None:
    """The class shares that training weighs by are those of the true masks of its split, ignored pixels left out."""
    counts = np.zeros(256, int)
    for name in samples.loc[samples["split"] == "train", "sample_id"]:
        ids = np.where(fabricated.inside.get(name, True), fabricated.truth[name], IGNORED)
        counts += np.bincount(ids.ravel(), minlength=256)
    labeled = counts[: len(classes)]
    assert counts.sum() - labeled.sum() == counts[IGNORED]
    np.testing.assert_allclose(list(profile.class_shares.values()), labeled / labeled.sum())
    assert profile.ignored_share == pytest.approx(counts[IGNORED] / counts.sum())


@pytest.mark.parametrize("problem", sorted({problem for problem, _ in PROBLEMS.values()} - UNHASHED))
def test_the_hashes_in_conf_are_heeded(problem: str, site: Site, tmp_path: Path) -> None:
    """A fabricated archive is not the real one, and so is refused by each hash that is declared."""
    parameters, fabricated = declared(problem), PROBLEMS[problem][1]()
    true = served(parameters.source, fabricated, site)
    refused = 0
    for number, archive in enumerate(parameters.source.archives):
        for key in HASHES:
            if getattr(archive, key) is None:
                continue
            wrong = [one.model_copy() for one in true.archives]
            wrong[number] = wrong[number].model_copy(update={key: getattr(archive, key)})
            source = true.model_copy(update={"archives": wrong})
            with pytest.raises(SourceError, match=f"not the archive that is declared: its {key} is"):
                nodes.verify(nodes.download(source, tmp_path), source, tmp_path)
            refused += 1
    assert refused


@pytest.mark.parametrize("problem", ["cityscapes", "carvana"])
def test_archives_that_need_a_login(problem: str, tmp_path: Path) -> None:
    source, fabricated = declared(problem).source, PROBLEMS[problem][1]()
    with pytest.raises(SourceError, match="needs a login") as refusal:
        nodes.download(source, tmp_path)
    for archive in source.archives:
        assert f"{archive.file}  from {archive.page}" in str(refusal.value)
    own = []
    for number, archive in enumerate(source.archives):
        own.append(tmp_path / f"saved ({number}).zip")  # as browsers do
        own[-1].write_bytes(fabricated.archives[str(archive.file)])
    source = source.model_copy(update={"archive": ";".join(map(str, own))})
    verified = nodes.verify(nodes.download(source, tmp_path), source, tmp_path)
    extracted = nodes.extract(verified, source, tmp_path, tmp_path / "raw")
    assert set(nodes.index(extracted, source)["sample_id"]) == set(fabricated.splits)


def test_the_fabricated_files_are_as_odd_as_the_real_ones() -> None:
    """What the problems must cope with is really there."""

    def opened(files: dict[str, bytes], path: str) -> Image.Image:
        return Image.open(io.BytesIO(files[path]))

    pets = members(fabrication.oxford_pet().archives["images.tar.gz"])
    assert [opened(pets, f"images/{name}.jpg").format for name in ("Abyssinian_2", "Bengal_3")] == ["PNG", "GIF"]
    assert opened(pets, "images/shiba_inu_4.jpg").mode == "L"
    polyps = members(fabrication.kvasir().archives["kvasir-seg.zip"])
    masks = [np.asarray(opened(polyps, path)) for path in polyps if "/masks/" in path]
    assert all(mask.ndim == 3 and len(np.unique(mask)) > 10 for mask in masks)
    eyes = members(fabrication.chase_db1().archives["CHASEDB1.zip"])
    assert (len(eyes), opened(eyes, "Image_01L_1stHO.png").mode) == (84, "1")
    for split, number, mode in (("training", 21, "L"), ("test", 1, "P")):
        files = members(fabrication.drive().archives[f"{split}.zip?dl=1"])
        assert opened(files, f"{split}/1st_manual/{number:02d}_manual1.gif").mode == mode
    voc = members(fabrication.voc2012().archives["VOCtrainval_11-May-2012.tar"])
    mask = opened(voc, "VOCdevkit/VOC2012/SegmentationClass/2007_000032.png")
    colors = mask.convert("RGB").getcolors()
    assert mask.mode == "P"
    assert {color for _, color in colors} == {(0, 0, 0), (128, 0, 0), (0, 64, 128), (224, 224, 192)}


def members(archive: bytes) -> dict[str, bytes]:
    """Read an archive with the standard library alone."""
    if zipfile.is_zipfile(io.BytesIO(archive)):
        with zipfile.ZipFile(io.BytesIO(archive)) as contents:
            return {name: contents.read(name) for name in contents.namelist()}
    with tarfile.open(fileobj=io.BytesIO(archive)) as contents:
        return {member.name: contents.extractfile(member).read() for member in contents}  # type: ignore[union-attr]


@pytest.mark.parametrize("problem", NAMES)
def test_every_problem_is_declared_in_full(problem: str) -> None:
    """Parameters that are valid, a title, terms, what to cite, and a hash where the archive may change."""
    text = (ROOT / "conf" / problem / "parameters.yml").read_text(encoding="utf-8")
    source = declared(problem).source
    assert text.startswith("# ")
    assert source.license
    for archive in source.archives:
        assert source.citation
        assert source.homepage
        assert source.license != "not stated"
        if archive.url and re.match("https://github.com/[^/]+/[^/]+/archive/", archive.url):
            assert archive.content_sha256  # GitHub makes these anew


def test_the_page_of_data_sets_says_what_is_declared() -> None:
    page = (ROOT / "docs" / "reference" / "datasets.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| `")
    ]
    assert sorted(row[0].strip("`") for row in rows) == [name for name in NAMES if name not in {"template", "test"}]
    for name, _, classes, images, split, license, command in rows:
        parameters = declared(name.strip("`"))
        source = parameters.source
        official = source.splits or source.split_lists or (source.split_table is not None and source.split_table.split)
        assert int(classes) == len(parameters.classes)
        assert split.startswith("official" if official else "drawn")
        assert ("validation cut" in split) == bool(
            official and "validation" not in {**source.splits, **source.split_lists}
        )
        sizes = [int(size) for size in re.findall(r"[0-9]+", split.replace(",", ""))]
        assert sum(sizes) in {0, int(images.replace(",", ""))}
        assert ("grouped" in split) == (source.group is not None)
        assert license == source.license
        assert command == f"`kedro run --env {parameters.problem}`"
