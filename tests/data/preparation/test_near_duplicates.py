import cv2
import numpy as np
import pytest
from scipy import ndimage, stats

from unet_segmentation.data.audit import near_duplicates
from unet_segmentation.data.audit.near_duplicates import (
    NOISE,
    PARTNERS,
    find_mismatched_masks,
    find_near_duplicates,
    information,
)
from unet_segmentation.data.audit.thumbnails import SIDE, SIGNATURE, signature
from unet_segmentation.data.synthetic.cells import draw_sample

COUNT = 60
THRESHOLD = 0.96


@pytest.fixture(scope="module")
def pictures():
    return [draw_sample(number, seed=3, size=192) for number in range(COUNT)]


@pytest.fixture(scope="module")
def signatures(pictures):
    return np.stack([signature(*picture) for picture in pictures])


def jpeg(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def smaller(image, share):
    return cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)


def noisy(image, sigma):
    return (image + np.random.default_rng(0).normal(0, sigma, image.shape)).clip(0, 255).astype(np.uint8)


VARIANTS = {
    "jpeg 75": lambda image: jpeg(image, 75),
    "jpeg 50": lambda image: jpeg(image, 50),
    "resized": lambda image: smaller(image, 0.9),
    "brighter": lambda image: np.minimum(image * 1.05, 255).astype(np.uint8),
    "darker": lambda image: (image * 0.7).astype(np.uint8),
    "16 bits": lambda image: image.astype(np.uint16) * 200,
    "gray": lambda image: image.mean(axis=2, keepdims=True).astype(np.uint8),
    "cropped": lambda image: image[2:-2, 2:-2],
    "shifted": lambda image: image[1:, 1:],
    "noisy": lambda image: noisy(image, 2),
    "mirrored": lambda image: image[:, ::-1],
    "upside down, as JPEG": lambda image: jpeg(image[::-1], 75),
    "turned": np.rot90,
    "turned and mirrored, smaller": lambda image: smaller(np.rot90(image, 3)[::-1], 0.8),
}


@pytest.mark.parametrize("change", VARIANTS.values(), ids=VARIANTS.keys())
def test_variants_are_found_and_nothing_else(pictures, signatures, change):
    variants = [signature(np.ascontiguousarray(change(image))) for image, _ in pictures]
    both = np.concatenate([signatures, np.stack(variants)])
    result = find_near_duplicates(both, np.arange(2 * COUNT), THRESHOLD)
    right = [(i, j) for i, j, _ in result if j == i + COUNT]
    assert len(right) >= 0.95 * COUNT
    assert len(result) == len(right)
    similarities = [value for *_, value in result]
    assert similarities == sorted(similarities, reverse=True)
    assert THRESHOLD <= min(similarities) <= max(similarities) <= 1


def test_different_pictures_are_not_near_identical(signatures):
    assert find_near_duplicates(signatures, np.arange(COUNT), 0.9) == []


def test_a_common_vignette_is_no_resemblance():
    """Pictures of little but the same uneven light correlate above 0.99, and differ all the same."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[-1:1:128j, -1:1:128j]
    light = 200 - 120 * (rows**2 + columns**2) / 2
    specks = ndimage.gaussian_filter(random.normal(size=(20, 128, 128)), (0, 4, 4)) * 40
    images = (light + specks).clip(0, 255).astype(np.uint8)[..., None]
    records = np.stack([signature(image) for image in images])
    gray = records["gray"].reshape(20, -1).astype(float)
    assert np.corrcoef(gray)[~np.eye(20, dtype=bool)].min() > 0.97
    assert find_near_duplicates(records, np.arange(20), 0.9) == []


def test_pairs_are_those_of_brute_force(signatures):
    """Frames drifting slowly: which are found is what comparing all with all finds."""
    random = np.random.default_rng(1)
    gray = signatures["gray"][:30].astype(float).repeat(2, axis=0)
    gray[1::2] += (
        random.uniform(0, 30, (30, 1, 1)) * ndimage.gaussian_filter(random.normal(size=(30, 32, 32)), (0, 1, 1)) * 4
    )
    records = np.zeros(60, SIGNATURE)
    records["gray"] = gray.clip(0, 255)
    first, second = np.triu_indices(60, 1)
    truth = near_duplicates.similarity(records["gray"][first], records["gray"][second])
    expected = {(i, j) for i, j, value in zip(first.tolist(), second.tolist(), truth, strict=True) if value >= 0.9}
    assert 5 < len(expected) < 30
    assert {(i, j) for i, j, _ in find_near_duplicates(records, np.arange(60), 0.9)} == expected


def test_rows_say_which_signatures_and_in_which_order(signatures):
    records = np.concatenate([signatures[:10], signatures[:10]])
    assert find_near_duplicates(records, np.arange(10), THRESHOLD) == []
    result = find_near_duplicates(records, np.array([13, 7, 3, 2]), THRESHOLD)
    assert [(i, j) for i, j, _ in result] == [(13, 3)]
    assert result[0][2] == pytest.approx(1, abs=1e-3)
    for rows in ([], [4]):
        assert find_near_duplicates(records, np.array(rows, np.intp), THRESHOLD) == []


def test_copies_with_one_label_are_told_of_once(signatures):
    """Three copies, pixel by pixel, and one variant: one pair, not three."""
    records = np.concatenate([signatures[:4], signatures[:1], signatures[:1], signatures[:1]])
    same = np.array(["a", "b", "c", "d", "a", "a", "variant"])
    result = find_near_duplicates(records, np.arange(7), THRESHOLD, same)
    assert [(i, j) for i, j, _ in result] == [(0, 6)]
    assert len(find_near_duplicates(records, np.arange(7), THRESHOLD)) > 1


def test_constant_images_have_no_pair():
    records = np.stack([signature(np.full((64, 64, 3), value, np.uint8)) for value in (0, 0, 128, 255)])
    assert find_near_duplicates(records, np.arange(4), 0.1) == []


@pytest.mark.parametrize("count", [200, 1000])
def test_many_frames_of_one_video_are_compared_and_told_of_a_bounded_number_of_times(monkeypatch, signatures, count):
    compared = []
    similarity = near_duplicates.similarity
    monkeypatch.setattr(near_duplicates, "similarity", lambda a, b: (compared.append(len(a)), similarity(a, b))[1])
    records = np.zeros(count, SIGNATURE)
    noise = np.random.default_rng(0).normal(0, 2, (count, SIDE, SIDE))
    records["gray"] = (signatures["gray"][0] + noise).clip(0, 255)
    result = find_near_duplicates(records, np.arange(count), 0.9)
    assert sum(compared) <= 2 * PARTNERS * count
    assert len(result) <= PARTNERS * count
    assert len({i for pair in result for i in pair[:2]}) == count  # every frame is told of
    assert len({pair[:2] for pair in result}) == len(result)


def test_similarity_without_displacement_is_the_correlation_of_details(signatures):
    one = signatures["gray"][:20]
    noise = np.random.default_rng(0).normal(0, 8, one.shape)
    other = (one * 0.6 + 30 + noise).clip(0, 255).astype(np.uint8)
    details = [
        [picture - ndimage.gaussian_filter(picture.astype(float), 3) for picture in stack] for stack in (one, other)
    ]
    truth = [stats.pearsonr(a.ravel(), b.ravel()).statistic for a, b in zip(*details, strict=True)]
    np.testing.assert_allclose(near_duplicates.similarity(one, other), truth, atol=0.01)


def test_similarity_follows_small_shifts_and_zooms_only(signatures):
    one = signatures["gray"][:20]
    small = np.stack([ndimage.shift(picture.astype(float), (0.4, -0.3), mode="nearest") for picture in one])
    large = np.roll(one, 5, axis=1)
    details = [[p - ndimage.gaussian_filter(p.astype(float), 3) for p in stack] for stack in (one, small)]
    still = np.array([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(*details, strict=True)])
    aligned = near_duplicates.similarity(one, small.clip(0, 255).astype(np.uint8))
    assert np.median(still) < 0.95
    assert np.median(aligned) > 0.98
    assert np.median(near_duplicates.similarity(one, large)) < 0.3
    assert near_duplicates.similarity(one, 255 - one).max() == 0  # a negative is another picture


def test_information_is_that_of_covariances():
    random = np.random.default_rng(0)
    classes = random.choice(np.array([0, 1, 4, 255], np.uint8), (3, 500))
    means = random.normal(0, 20, (256, 2))
    planes = (means[classes] + random.normal(0, 10, (3, 500, 2))).astype(np.float32)
    planes[classes == 255] = 1e4  # ignored pixels say nothing
    for mask, plane, result in zip(classes, planes, information(classes, planes), strict=True):
        labeled = mask != 255
        total = np.cov(plane[labeled].T, bias=True)
        within = sum((mask == c).sum() * np.cov(plane[mask == c].T, bias=True) for c in (0, 1, 4)) / labeled.sum()
        noise = NOISE**2 * np.eye(2)
        truth = 0.5 * np.log(np.linalg.det(total + noise) / np.linalg.det(within + noise))
        assert result == pytest.approx(truth, rel=1e-3)


def test_masks_of_one_class_or_none_say_nothing():
    planes = np.random.default_rng(0).normal(0, 50, (2, 100, 3)).astype(np.float32)
    np.testing.assert_allclose(information(np.full((2, 100), 3, np.uint8), planes), 0, atol=1e-5)
    np.testing.assert_allclose(information(np.full((2, 100), 255, np.uint8), planes), 0, atol=1e-5)


def with_masks(signatures, order):
    records = signatures.copy()
    records["classes"] = signatures["classes"][order]
    return records


def test_right_masks_are_not_told_of(signatures):
    assert find_mismatched_masks(signatures, np.arange(COUNT)) == []


@pytest.mark.parametrize("distance", [1, 2, 5])
def test_swapped_masks_are_told_of(signatures, distance):
    order = np.arange(COUNT)
    swapped = (3, 12, 20, 28, 41, 50)
    for i in swapped:
        order[[i, i + distance]] = order[[i + distance, i]]
    result = find_mismatched_masks(with_masks(signatures, order), np.arange(COUNT))
    assert {(i, j) for i, j, *_ in result} <= {(i, int(order[i])) for i in range(COUNT) if order[i] != i}
    assert len({frozenset(pair[:2]) for pair in result}) >= len(swapped) - 1
    assert all(own < other for *_, own, other in result)


@pytest.mark.parametrize("first", [0, 30])
def test_masks_shifted_by_one_from_some_sample_on_are_told_of(signatures, first):
    order = np.arange(COUNT)
    order[first:] = np.roll(order[first:], 1)
    result = find_mismatched_masks(with_masks(signatures, order), np.arange(COUNT))
    assert {(i, j) for i, j, *_ in result} <= {(i, i - 1) for i in range(first + 1, COUNT)}
    assert len(result) >= 0.75 * (COUNT - first - 1)


def test_only_masks_of_the_same_size_are_compared(signatures):
    order = np.arange(COUNT)
    order[[10, 11]] = [11, 10]
    records = with_masks(signatures, order)
    assert {pair[:2] for pair in find_mismatched_masks(records, np.arange(COUNT))} == {(10, 11), (11, 10)}
    records["height"][11:] = 100
    assert find_mismatched_masks(records, np.arange(COUNT)) == []
    records["height"] = np.where(np.isin(np.arange(COUNT), [10, 11]), 192, np.arange(COUNT))  # every other size once
    assert find_mismatched_masks(records, np.arange(COUNT)) == []


def test_interleaved_sizes_are_compared_each_in_its_own_order(signatures):
    order = np.arange(COUNT)
    order[[10, 16]] = [16, 10]  # three apart among those of even number
    records = with_masks(signatures, order)
    records["width"] = np.where(np.arange(COUNT) % 2, 100, 200)
    assert {pair[:2] for pair in find_mismatched_masks(records, np.arange(COUNT))} == {(10, 16), (16, 10)}


def test_rows_of_better_fitting_say_which_signatures(signatures):
    order = np.arange(COUNT)
    order[[10, 50]] = [50, 10]
    records = with_masks(signatures, order)
    assert find_mismatched_masks(records, np.arange(COUNT)) == []  # out of reach
    rows = np.r_[0:11, 50, 11:40]
    assert {pair[:2] for pair in find_mismatched_masks(records, rows)} == {(10, 50), (50, 10)}
    for few in ([], [1], [1, 2, 3]):
        assert find_mismatched_masks(records, np.array(few, np.intp)) == []


SILENT = {
    "masks in any order": lambda records, random: random.permutation(records["classes"]),
    "noise": lambda records, random: random.integers(0, 3, records["classes"].shape),
    "one mask for all": lambda records, random: records["classes"][:1].repeat(len(records), axis=0),
    "empty": lambda records, random: 0,
    "ignored": lambda records, random: 255,
}


@pytest.mark.parametrize("masks", SILENT.values(), ids=SILENT.keys())
def test_masks_that_say_little_give_silence(signatures, masks):
    records = signatures.copy()
    records["classes"] = masks(records, np.random.default_rng(0))
    assert find_mismatched_masks(records, np.arange(COUNT)) == []


def test_images_all_alike_give_silence(signatures):
    records = signatures[:1].repeat(COUNT)
    noise = np.random.default_rng(0).normal(0, 2, (COUNT, SIDE, SIDE))
    records["gray"] = (records["gray"] + noise).clip(0, 255)
    order = np.arange(COUNT)
    order[[10, 11]] = [11, 10]
    assert find_mismatched_masks(with_masks(records, order), np.arange(COUNT)) == []


def test_both_searches_read_memory_maps(tmp_path, signatures):
    records = np.lib.format.open_memmap(tmp_path / "signatures.npy", "w+", SIGNATURE, (COUNT + 1,))
    records[:COUNT], records[COUNT] = signatures, signatures[0]
    records.flush()
    mapped = np.load(tmp_path / "signatures.npy", mmap_mode="r")
    assert [pair[:2] for pair in find_near_duplicates(mapped, np.arange(COUNT + 1), THRESHOLD)] == [(0, COUNT)]
    assert find_mismatched_masks(mapped, np.arange(COUNT)) == []
