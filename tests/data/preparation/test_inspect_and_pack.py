"""Inspection finds what is wrong, measures what is right, packs it, and does it once."""

import errno
import logging
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.data.preparation.fabrication import kinds, mask, picture, values
from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.preparation import inspect_and_pack as inspection_module
from unet_segmentation.data.store.packed_arrays import PackedSamples, PackedWriter
from unet_segmentation.errors import ResourceError


def test_measures_agree_with_numpy(fabricated):
    ids = {}
    for number in range(7):
        size = (8 + number, 10)
        ids[f"s{number}"] = mask(number, size, (0, 1, 255))
        fabricated.add(f"s{number}", picture(number, size), [ids[f"s{number}"]])
    inspected, findings, packed = fabricated.inspect()
    assert kinds(findings) == []
    assert inspected["sample_id"].tolist() == packed.sample_ids == list(ids)
    for number, row in enumerate(inspected.to_dict("records")):
        pixels = picture(number, (8 + number, 10))
        assert (row["height"], row["width"], row["channels"], row["dtype"]) == (*pixels.shape, "uint8")
        np.testing.assert_allclose(row["channel_mean"], pixels.mean(axis=(0, 1)), rtol=1e-12)
        np.testing.assert_allclose(row["channel_std"], pixels.std(axis=(0, 1)), rtol=1e-12)
        assert (row["minimum"], row["maximum"]) == (pixels.min(), pixels.max())
        result = dict(zip(*np.unique(ids[row["sample_id"]], return_counts=True), strict=True))
        assert list(row["class_pixels"]) == [result[0], result[1]]
        assert row["ignored_pixels"] == result[255]
        np.testing.assert_array_equal(packed.image(row["sample_id"]), pixels)
        np.testing.assert_array_equal(packed.mask(row["sample_id"]), ids[row["sample_id"]])


def test_the_number_of_threads_changes_nothing(fabricated):
    for number in range(20):
        fabricated.add(f"s{number}", picture(number), [mask(number)])
    files = []
    for threads in (1, 5):
        fabricated.inspect(threads=threads)
        result = (file for file in fabricated.packing.rglob("*") if file.is_file())
        files.append({file.relative_to(fabricated.packing): file.read_bytes() for file in result})
        shutil.rmtree(fabricated.packing)  # so that it is done again
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("image", "masks", "kind"),
    [
        (picture(), [mask(size=(9, 8))], "size_mismatch"),
        (picture(), [mask(size=(10, 8))], "turned_mask"),
        (picture(), [mask(options=(0, 7))], "undeclared_values"),
        (picture(), [picture(3)], "colored_mask"),
        (picture(), [], "missing_mask"),
        ("", [mask()], "missing_image"),
        (picture(), [mask(1), mask(2)], "several_masks"),
        ("images/nowhere.png", [mask()], "unreadable_image"),
        (picture(), ["masks/nowhere.png"], "unreadable_mask"),
    ],
)
def test_each_error_is_found_and_the_others_are_packed(fabricated, image, masks, kind):
    fabricated.add("good", picture(1), [mask(1)])
    fabricated.add("bad", image, masks)
    inspected, findings, packed = fabricated.inspect()
    assert kinds(findings) == [kind]
    assert packed.sample_ids == ["good"]
    assert len(inspected) == 2


def test_what_differs_within_a_data_set_is_an_error_of_the_whole(fabricated):
    fabricated.add("color", picture(1), [mask(1)])
    fabricated.add("deep", picture(dtype=np.uint16, channels=1), [mask()])
    _, findings, packed = fabricated.inspect()
    assert kinds(findings) == ["mixed_depths"]
    assert packed.image("deep").dtype == np.uint16
    fabricated.rows.pop()
    fabricated.add("alpha", picture(2, channels=4), [mask(2)])
    _, findings, _ = fabricated.inspect(images={"alpha": "keep"})
    assert kinds(findings) == ["mixed_channels"]


def test_pixels_outside_the_region_of_interest_are_ignored(fabricated):
    region = np.zeros((8, 10), np.uint8)
    region[2:6, 3:] = 255
    ids = mask(1)
    fabricated.add("s", picture(1), [ids], roi=region)
    inspected, findings, packed = fabricated.inspect(roi="roi/{id}.png")
    assert kinds(findings) == []
    np.testing.assert_array_equal(packed.mask("s"), np.where(region, ids, 255))
    assert inspected["ignored_pixels"].tolist() == [80 - 4 * 7]


@pytest.mark.parametrize(
    ("region", "kind"),
    [("", "missing_roi"), ("roi/nowhere.png", "unreadable_roi"), (np.ones((9, 9), np.uint8), "size_mismatch")],
)
def test_a_region_of_interest_that_cannot_be_used_is_an_error(fabricated, region, kind):
    fabricated.add("good", picture(1), [mask(1)], roi=np.ones((8, 10), np.uint8))
    fabricated.add("bad", picture(2), [mask(2)], roi=region)
    _, findings, packed = fabricated.inspect(roi="roi/{id}.png")
    assert kinds(findings) == [kind]
    assert packed.sample_ids == ["good"]


def test_findings_name_sizes_values_and_files(fabricated):
    fabricated.add("one", picture(size=(8, 10)), [mask(size=(6, 4))])
    fabricated.add("two", picture(), [mask(options=(0, 128, 255))])
    _, findings, _ = fabricated.inspect()
    messages = findings.set_index("kind")["message"]
    assert messages["size_mismatch"] == "is 10 x 8, its mask masks/one_0.png 4 x 6"
    assert findings.set_index("kind")["file"]["undeclared_values"] == "masks/two_0.png"
    assert set(values(findings, "undeclared_values")) == {"128"}
    assert set(values(findings, "mask_values")) == {"0", "1", "128", "255"}


def test_warnings_and_notes(fabricated):
    fabricated.add("constant", np.full((8, 10, 3), 9, np.uint8), [mask()])
    fabricated.add("ignored", picture(1), [np.full((8, 10), 255, np.uint8)])
    fabricated.add("gray", picture(2, channels=1), [mask(2)])
    fabricated.add("alpha", picture(3, channels=4), [mask(3)])
    fabricated.add("copy", picture(1), [mask(4)])
    inspected, findings, packed = fabricated.inspect(rare_class_fraction=0.9)
    assert kinds(findings) == []
    assert kinds(findings, "warning") == [
        *("constant_image", "ignored_mask", "rare_class", "rare_class", "same_image_other_mask"),
    ]
    assert kinds(findings, "note") == ["alpha_dropped", "gray_among_color", "mask_values", "same_pixels"]
    gray = inspected.set_index("sample_id").loc["gray"]
    assert gray["channels"] == 3
    np.testing.assert_allclose(gray["channel_mean"], [picture(2, channels=1).mean()] * 3)
    assert packed.shape("gray") == (8, 10, 3)


@pytest.mark.parametrize(("encoding", "reports"), [("index", True), ("threshold", False)])
def test_masks_as_jpeg_are_told_unless_a_threshold_is_declared_for_them(fabricated, encoding, reports):
    ids = np.kron(mask(3, (6, 8), (0, 1)), np.ones((12, 12), np.uint8)) * 255
    fabricated.root.mkdir()
    Image.fromarray(ids).save(fabricated.root / "mask.jpg", quality=70)
    fabricated.add("s", picture(1, ids.shape), ["mask.jpg"])
    _, findings, packed = fabricated.inspect(encoding=encoding, **({"values": {0: "a", 255: "b"}} if reports else {}))
    assert ("lossy_mask" in set(findings["kind"])) == reports
    if not reports:
        np.testing.assert_array_equal(packed.mask("s"), ids // 255)


def test_a_class_that_never_occurs_and_no_samples_are_errors(fabricated):
    _, findings, packed = fabricated.inspect()
    assert kinds(findings) == ["no_samples"]
    assert len(packed) == 0
    fabricated.add("s", picture(), [mask(options=(0,))])
    _, findings, _ = fabricated.inspect()
    assert findings.loc[findings["severity"] == "error", ["kind", "message"]].to_numpy().tolist() == [
        ["absent_class", "b"]
    ]


@pytest.fixture
def reads(monkeypatch):
    """The files that are opened, in their order."""
    opened = []
    read, open_ = FileStore.read, FileStore.open
    monkeypatch.setattr(FileStore, "read", lambda self, path: opened.append(path) or read(self, path))
    monkeypatch.setattr(FileStore, "open", lambda self, path: opened.append(path) or open_(self, path))
    return opened


def test_each_file_is_read_once_and_never_again(fabricated, reads):
    for number in range(6):
        fabricated.add(f"s{number}", picture(number), [mask(number)])
    first = fabricated.inspect()
    assert len(reads) == len(set(reads)) == 12
    second = fabricated.inspect(threads=1)
    assert len(reads) == 12
    assert first[0].equals(second[0])
    assert first[1].equals(second[1])
    assert first[2].folder == second[2].folder


def test_a_run_that_was_killed_goes_on_where_it_was(fabricated, reads, monkeypatch):
    for number in range(30):
        fabricated.add(f"s{number:02d}", picture(number), [mask(number)])
    write = inspection_module._write_part

    def killed(folder, results):
        if len(list(fabricated.packing.glob("parts/[0-9a-f]*"))) == 3:
            raise KeyboardInterrupt
        write(folder, results)

    monkeypatch.setattr(inspection_module, "_write_part", killed)
    with pytest.raises(KeyboardInterrupt):
        fabricated.inspect(threads=1)
    monkeypatch.setattr(inspection_module, "_write_part", write)
    done = sum(len(PackedSamples(part)) for part in fabricated.packing.glob("parts/*"))
    assert 3 <= done < 30
    reads.clear()
    inspected, _, packed = fabricated.inspect()
    assert len(reads) == 2 * (30 - done)
    assert packed.sample_ids == inspected["sample_id"].tolist() == [f"s{number:02d}" for number in range(30)]
    for number in range(30):
        np.testing.assert_array_equal(packed.image(f"s{number:02d}"), picture(number))


def test_an_added_sample_and_another_split_leave_what_was_packed(fabricated, reads):
    for number in range(100):
        fabricated.add(f"s{number:03d}", picture(number), [mask(number)])
    fabricated.inspect()
    reads.clear()
    for row in fabricated.rows:
        row |= {"split": "train", "group": "g"}
    inspected, _, _ = fabricated.inspect()
    assert set(inspected["split"]) == {"train"}
    assert set(inspected["group"]) == {"g"}
    assert reads == []
    fabricated.add("s050b", picture(200), [mask(200)], split="test")
    fabricated.rows.sort(key=lambda row: row["sample_id"])
    inspected, _, packed = fabricated.inspect()
    assert 2 <= len(reads) <= 2 * 17  # its own part alone
    assert packed.sample_ids == inspected["sample_id"].tolist() == [row["sample_id"] for row in fabricated.rows]
    np.testing.assert_array_equal(packed.image("s050b"), picture(200))


def test_a_changed_file_or_declaration_is_inspected_again_and_the_old_folder_goes(fabricated):
    fabricated.add("s", picture(), [mask()])
    folders = [fabricated.inspect()[2].folder]
    Image.fromarray(picture(5)).save(fabricated.root / "images/s.png")
    os.utime(fabricated.root / "images/s.png", ns=(1, 1))
    folders.append(fabricated.inspect()[2].folder)
    folders.append(fabricated.inspect(ignore=[3])[2].folder)
    folders.append(fabricated.inspect(ignore=[3], classes=("b", "a"))[2].folder)
    assert len(set(folders)) == 4
    assert set(fabricated.packing.iterdir()) == {folders[-1], fabricated.packing / "parts"}
    assert len(list((fabricated.packing / "parts").iterdir())) == 1


def test_a_damaged_folder_is_made_again(fabricated):
    fabricated.add("s", picture(), [mask()])
    _, _, packed = fabricated.inspect()
    with (packed.parts[0] / "images.bin").open("ab") as stream:
        stream.truncate(5)
    assert not packed.is_whole()
    _, _, packed = fabricated.inspect()
    np.testing.assert_array_equal(packed.image("s"), picture())


def test_a_full_disk_is_told_and_leaves_nothing(fabricated, monkeypatch):
    for number in range(5):
        fabricated.add(f"s{number}", picture(number), [mask(number)])
    original = PackedWriter.add

    def full(self, sample_id, *arrays):
        if sample_id == "s3":
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, sample_id, *arrays)

    with monkeypatch.context() as patch:
        patch.setattr(PackedWriter, "add", full)
        with pytest.raises(ResourceError, match="disk is full"):
            fabricated.inspect()
    left = [PackedSamples(part) for part in (fabricated.packing / "parts").iterdir()]
    assert all(part.is_whole() and "s3" not in part for part in left)
    assert list(fabricated.packing.iterdir()) == [fabricated.packing / "parts"]
    assert len(fabricated.inspect()[2]) == 5


def test_says_in_one_line_what_was_done(fabricated, caplog):
    fabricated.add("s", picture(), [mask()])
    with caplog.at_level(logging.INFO):
        fabricated.inspect()
        fabricated.inspect()
    assert [record.getMessage().split(" in ")[0] for record in caplog.records] == [
        "Inspected and packed 1 samples",
        "The samples have not changed since they were packed: nothing is decoded again",
    ]
