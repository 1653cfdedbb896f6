"""The embedded problem: repeatable, drawn right, and a fair problem rather than a toy."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from unet_segmentation.data.synthetic.cells import BACKGROUND, CYTOPLASM, NUCLEUS, Outline, draw_sample, write_archive
from unet_segmentation.parameters import GeneratorParameters

EIGHT = np.ones((3, 3), bool)


@pytest.fixture(scope="module")
def default_set():
    """Every image and mask of the default problem: (N, H, W, 3) and (N, H, W)."""
    parameters = GeneratorParameters()
    samples = [draw_sample(index, parameters.seed, parameters.size) for index in range(parameters.images)]
    images, masks = zip(*samples, strict=True)
    return np.stack(images), np.stack(masks)


# --- what is written


def test_same_parameters_same_bytes(tmp_path):
    parameters = GeneratorParameters(images=5, size=64, seed=3)
    for name in ("one.zip", "two.zip"):
        write_archive(parameters, tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_another_seed_another_set(tmp_path):
    for seed in (0, 1):
        write_archive(GeneratorParameters(images=3, size=64, seed=seed), tmp_path / f"{seed}.zip")
    assert (tmp_path / "0.zip").read_bytes() != (tmp_path / "1.zip").read_bytes()


def test_archive_holds_what_was_drawn(tmp_path):
    write_archive(GeneratorParameters(images=3, size=96, seed=5), tmp_path / "cells.zip")
    with zipfile.ZipFile(tmp_path / "cells.zip") as archive:
        assert archive.namelist() == [
            f"cells/{folder}/{index:04d}.png" for index in range(3) for folder in ("images", "masks")
        ]
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o644}
        for index in range(3):
            image, mask = draw_sample(index, seed=5, size=96)
            for folder, drawn in (("images", image), ("masks", mask)):
                stored = Image.open(io.BytesIO(archive.read(f"cells/{folder}/{index:04d}.png")))
                np.testing.assert_array_equal(np.asarray(stored), drawn)


@pytest.mark.parametrize("size", [32, 64, 128, 160])
def test_shapes_and_types(size):
    for index in range(3):
        image, mask = draw_sample(index, seed=1, size=size)
        assert image.shape == (size, size, 3)
        assert mask.shape == (size, size)
        assert image.dtype == mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {BACKGROUND, CYTOPLASM, NUCLEUS}


def test_samples_differ_and_do_not_hang_on_each_other(default_set):
    images, _ = default_set
    assert len({image.tobytes() for image in images}) == len(images)
    np.testing.assert_array_equal(draw_sample(7, 0, 128)[0], images[7])


# --- what is drawn


def test_outline_is_the_ellipse_it_says():
    """Without waves: semi-axes r e and r / e, so the area is pi r^2 whatever the elongation."""
    rows, columns = np.mgrid[:200, :200].astype(np.float32)
    outline = Outline(100.3, 99.6, 40.0, 1.5, 0.7, ((2, 0.0, 0.0),))
    inside = outline.depth(rows, columns) > 0
    along = (rows - 100.3) * np.sin(0.7) + (columns - 99.6) * np.cos(0.7)
    across = (rows - 100.3) * np.cos(0.7) - (columns - 99.6) * np.sin(0.7)
    truth = (along / 60.0) ** 2 + (across * 1.5 / 40.0) ** 2 < 1
    assert inside.sum() == pytest.approx(np.pi * 40.0**2, rel=0.005)
    assert (inside != truth).sum() < 0.01 * truth.sum()
    assert outline.reach == pytest.approx(60.0, rel=0.01)


def test_class_shares(default_set):
    _, masks = default_set
    shares = np.bincount(masks.ravel(), minlength=3) / masks.size
    assert 0.03 <= shares[NUCLEUS] <= 0.06
    assert 0.08 <= shares[CYTOPLASM] <= 0.25


def test_a_nucleus_never_reaches_its_cells_edge(default_set):
    for mask in default_set[1]:
        around = ndimage.binary_dilation(mask == NUCLEUS, EIGHT)
        assert not (around & (mask == BACKGROUND)).any()


def test_density_varies(default_set):
    nuclei = [ndimage.label(mask == NUCLEUS, EIGHT)[1] for mask in default_set[1]]
    assert min(nuclei) <= 2
    assert max(nuclei) >= 7


def test_cells_are_cut_off_and_touch(default_set):
    _, masks = default_set
    cells = masks != BACKGROUND
    cut = (cells[:, 0] | cells[:, -1] | cells[:, :, 0] | cells[:, :, -1]).any(axis=1)
    assert cut.mean() > 0.5
    touching = 0
    for mask in masks:
        clusters, _ = ndimage.label(mask != BACKGROUND, EIGHT)
        nuclei, count = ndimage.label(mask == NUCLEUS, EIGHT)
        clusters_of_nuclei = ndimage.maximum(clusters, nuclei, range(1, count + 1)) if count else []
        touching += len(set(clusters_of_nuclei)) < count
    assert touching > 0.25 * len(masks)


def test_masks_lie_on_the_cells(default_set):
    """The step in brightness over the mask's edges is largest where the mask lies, not a few pixels beside it."""
    images, masks = default_set

    def contrast(shift):
        moved = np.roll(masks, shift, axis=(1, 2))[:, 4:-4, 4:-4]
        gray = images.mean(axis=3)[:, 4:-4, 4:-4]
        return gray[moved == CYTOPLASM].mean() - gray[moved == NUCLEUS].mean()

    assert contrast((0, 0)) > max(contrast(shift) for shift in [(2, 0), (-2, 0), (0, 2), (0, -2)])
    assert contrast((0, 0)) > 15


def test_debris_has_the_nucleus_color(default_set):
    """Of the pixels as dark as the darker half of their picture's nuclei, many lie in no cell."""
    debris = nuclei = 0
    for image, mask in zip(*default_set, strict=True):
        gray = image.mean(axis=2)
        if (mask == NUCLEUS).any():
            typical = np.median(gray[mask == NUCLEUS])
            debris += ((gray <= typical) & (mask == BACKGROUND)).sum()
            nuclei += ((gray <= typical) & (mask == NUCLEUS)).sum()
    assert debris > 0.25 * nuclei


def test_light_is_uneven(default_set):
    """Most pictures' glass is much brighter in one quarter than in another."""
    ratios = []
    for image, mask in zip(*default_set, strict=True):
        glass = np.where(mask == BACKGROUND, image.mean(axis=2), np.nan)
        quarters = [np.nanmedian(part) for half in np.split(glass, 2) for part in np.split(half, 2, axis=1)]
        ratios.append(max(quarters) / min(quarters))
    assert np.median(ratios) > 1.1


# --- a fair problem


def best_dice_from_color(images, masks, folds=4, bins=32):
    """The best mean Dice of Bayes' rule on color alone, over pictures that were held out, each of them once.

    Densities are 3-D histograms of the other folds' pictures, smoothed. Dice is from counts over all pictures. The
    priors are the best for the held-out pictures themselves, in the classifier's favor.
    """
    colors = np.ravel_multi_index(np.moveaxis(images // (256 // bins), -1, 0), (bins,) * 3)
    fold = np.arange(len(images)) % folds
    # by fold and class, how many pixels of each color: all that the rule and its Dice need
    counts = np.array(
        [
            [np.bincount(colors[fold == k][masks[fold == k] == c], minlength=bins**3) for c in range(3)]
            for k in range(folds)
        ]
    )
    known = (counts.sum(axis=0) - counts).reshape(folds, 3, bins, bins, bins).astype(float)
    density = ndimage.gaussian_filter(known, (0, 0, 0.7, 0.7, 0.7)).reshape(folds, 3, -1)
    best = 0.0
    for cytoplasm in np.geomspace(0.7, 4, 12):
        for nucleus in np.geomspace(0.7, 4, 12):
            decided = (density * np.array([1, cytoplasm, nucleus])[:, None]).argmax(axis=1)
            confusion = np.array(
                [
                    sum(np.bincount(decided[k], weights=counts[k, c], minlength=3) for k in range(folds))
                    for c in range(3)
                ]
            )
            dice = 2 * np.diag(confusion) / (confusion.sum(axis=0) + confusion.sum(axis=1))
            best = max(best, dice.mean())
    return best


def test_color_alone_does_not_solve_it(default_set):
    assert 0.4 < best_dice_from_color(*default_set) <= 0.70


def test_color_classifier_would_notice_a_toy(default_set):
    """The measure itself is sound: give it pictures whose color says the class, and it reaches 1."""
    _, masks = default_set
    toy = np.array([[250, 250, 250], [230, 150, 180], [90, 60, 150]], np.uint8)[masks[:20]]
    assert best_dice_from_color(toy, masks[:20]) == pytest.approx(1.0)
