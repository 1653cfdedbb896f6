"""Near-duplicate images, and masks that fit another image better than their own.

Both need signatures only and compare each sample with a bounded number of others, so that the cost per sample does not
grow with their number, nor with how many of them are alike.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from unet_segmentation.data.audit.thumbnails import COARSE, SIDE
from unet_segmentation.utils.ignore_index import IGNORE_INDEX

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]

CHUNK = 128  # samples, or pairs, at a time
# Positions of two images, the pose of the second (see `_best_pose`), and how similar they are.
PAIR = np.dtype([("first", np.intp), ("second", np.intp), ("pose", np.uint8), ("similarity", np.float32)])

# Near-duplicate images
FREQUENCIES = 8  # lowest of the cosine transform, by axis
SORTINGS = 16  # of the hashes, each by another order of their bits
NEAREST = 4  # samples compared with, in each sorting
PARTNERS = 3  # a pair is reported where it is among that many most similar ones of one of its images
COARSE_SIMILARITY = 0.9  # of the low frequencies; pairs below are not compared further
SCENE = 3.0  # thumbnail pixels; what is smoother than that (light, layout) is no evidence

# Masks that fit another image better
REACH = 5  # samples before and after, in order of path
LIGHT = 6.0  # thumbnail pixels; what is smoother than that is uneven light
NOISE = 2.0  # gray levels of a stretched thumbnail
LEAST_INFORMATION = 0.01  # in nats; a mask that says less of every image is no evidence
LEAST_MASKS = 8  # that are evidence, below which nothing is reported
CONSISTENCY = 0.5  # share of the masks whose best image is as many files away as that of the mask before
CLEAR_LEAD = 0.25  # of the best pairing over the second best, as a share of the median lead


def find_near_duplicates(
    signatures: NDArray[Any], rows: Indices, threshold: float, same: NDArray[Any] | None = None
) -> list[tuple[int, int, float]]:
    """Find images that show the same but for compression, size, brightness, noise, a small crop, a mirror or a turn.

    A hash of the low frequencies (as pHash, but blind to mirrors and turns by 90 degrees) is sorted several times,
    each time by another order of its bits; every image is compared with the next few of each sorting and of `rows`.

    Args:
        signatures: records of `SIGNATURE`; may be a memory map.
        rows: which of them to compare, in order of their path (neighboring frames are compared in any case).
        threshold: least similarity, as `similarity` has it.
        same: a label per record; of records with one label only the first is compared: copies are reported elsewhere.

    Returns:
        Pairs `(i, j, similarity)` of indices into `signatures`, i before j in `rows`, the most similar first. A pair is
        reported where it is among the PARTNERS most similar of one of its images. Constant images have no pair.
    """
    if same is not None:
        rows = rows[np.sort(np.unique(np.asarray(same)[rows], return_index=True)[1])]
    coefficients, rows = _low_frequencies(signatures, rows)
    if len(rows) < 2:
        return []
    pairs = _candidates(coefficients)
    for start in range(0, len(pairs), CHUNK):
        part = pairs[start : start + CHUNK]
        other = _apply_pose(signatures["gray"][rows[part["second"]]], part["pose"])
        part["similarity"] = similarity(signatures["gray"][rows[part["first"]]], other)
    pairs = _best_of_each(pairs[pairs["similarity"] >= threshold], PARTNERS)
    pairs = pairs[np.argsort(-pairs["similarity"], kind="stable")]
    first, second = rows[pairs["first"]], rows[pairs["second"]]
    return list(zip(first.tolist(), second.tolist(), pairs["similarity"].tolist(), strict=True))


def similarity(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> Floats:
    """Correlate the details of thumbnails, after the shift and zoom (up to a thumbnail pixel) that align them best.

    Alignment is linear: the other thumbnail is fitted by the one and its derivatives by shift and zoom (the tangent
    distance of Simard et al. 1993). What is smoother than SCENE pixels is subtracted before, because light and layout
    are common to images of one kind.

    Returns:
        Correlations, (pairs,), 0 to 1 (what is negative counts as 0), of gray thumbnails, (pairs, SIDE, SIDE) each.
    """
    detail, target = _detail(one, SCENE), _flat(_detail(other, SCENE))
    down, across = (np.gradient(detail, axis=axis).astype(np.float32) for axis in (1, 2))
    place = np.linspace(-1, 1, SIDE, dtype=np.float32)
    tangents = (detail, down, across, down * place[:, None], across * place)
    basis = np.stack([_flat(tangent) for tangent in tangents], axis=1)
    gram = basis @ basis.transpose(0, 2, 1)
    ridge = 1e-6 * (1 + np.trace(gram, axis1=1, axis2=2)[:, None, None]) * np.eye(len(tangents), dtype=np.float32)
    projected = (basis @ target[:, :, None])[:, :, 0]
    weights = np.linalg.solve(gram + ridge, projected[:, :, None])[:, :, 0]
    power = np.maximum((target**2).sum(axis=1), 1e-6)
    aligned = np.sqrt(np.clip((weights * projected).sum(axis=1) / power, 0, 1))
    still = np.clip(projected[:, 0] / np.sqrt(np.maximum(gram[:, 0, 0], 1e-6) * power), 0, 1)
    small = np.abs(weights[:, 1:]).max(axis=1) <= weights[:, 0]  # at most a pixel; else the line is no good guide
    return np.where(small, np.maximum(aligned, still), still).astype(np.float32)


def _low_frequencies(signatures: NDArray[Any], rows: Indices) -> tuple[Floats, Indices]:
    """Return cosine transforms, (n, FREQUENCIES, FREQUENCIES), without mean and of norm 1, of images not constant."""
    cosines = fft.dct(np.eye(SIDE, dtype=np.float32), axis=0, norm="ortho")[:FREQUENCIES]
    coefficients = np.empty((len(rows), FREQUENCIES, FREQUENCIES), np.float32)
    for start in range(0, len(rows), CHUNK):
        gray = signatures["gray"][rows[start : start + CHUNK]].astype(np.float32)
        coefficients[start : start + CHUNK] = cosines @ gray @ cosines.T
    coefficients[:, 0, 0] = 0
    norms = np.sqrt((coefficients**2).sum(axis=(1, 2)))
    varied = norms > 0.5
    return coefficients[varied] / norms[varied, None, None], rows[varied]


def _best_of_each(pairs: NDArray[Any], most: int) -> NDArray[Any]:
    """Return the pairs that are among the `most` most similar ones of one of their images."""
    member = np.concatenate([pairs["first"], pairs["second"]])
    ranked = np.lexsort((-np.tile(pairs["similarity"], 2), member))
    ordered = member[ranked]
    rank = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    is_best = np.zeros(len(pairs), bool)
    is_best[ranked[rank < most] % max(1, len(is_best))] = True
    return pairs[is_best]


def _candidates(coefficients: Floats) -> NDArray[Any]:
    """Return pairs worth comparing, (n,) of PAIR; `similarity` is the correlation of their low frequencies."""
    bits = _hash_bits(coefficients)
    count = len(bits)
    random = np.random.default_rng(0)
    pairs = _neighbors(coefficients, np.arange(count))
    for _ in range(SORTINGS):
        packed = np.packbits(bits[:, random.permutation(bits.shape[1])], axis=1)
        sorting = np.argsort(np.ascontiguousarray(packed).view(">u8")[:, 0], kind="stable")
        pairs = np.concatenate([pairs, _neighbors(coefficients, sorting)])
        pairs = pairs[np.unique(pairs["first"] * count + pairs["second"], return_index=True)[1]]
        pairs = _best_of_each(pairs, 2 * PARTNERS)  # at once, so that memory stays flat where thousands are alike
    return pairs


def _neighbors(coefficients: Floats, sorting: Indices) -> NDArray[Any]:
    """Compare each image with the NEAREST next ones of a sorting."""
    pairs = []
    for start in range(0, len(sorting), CHUNK):
        for step in range(1, NEAREST + 1):
            second = sorting[start + step : start + step + CHUNK]
            near = np.empty(len(second), PAIR)
            near["first"], near["second"] = np.sort([sorting[start : start + len(second)], second], axis=0)
            near["pose"], near["similarity"] = _best_pose(coefficients[near["first"]], coefficients[near["second"]])
            pairs.append(near[near["similarity"] >= COARSE_SIMILARITY])
    return np.concatenate(pairs)


def _hash_bits(coefficients: Floats) -> NDArray[np.bool_]:
    """Compute 64 bits an image, the same for its mirror images and turns.

    Each bit compares with the median of the data set, so that what all images have in common does not count.
    """
    medians = np.median(_magnitudes(coefficients[:: max(1, len(coefficients) // 10_000)]), axis=0)
    chunks = range(0, len(coefficients), CHUNK)
    return np.concatenate([_magnitudes(coefficients[start : start + CHUNK]) > medians for start in chunks])


def _magnitudes(coefficients: Floats) -> Floats:
    """Compute 64 values an image that mirrors (which change signs) and turns (which also transpose) do not change."""
    size = np.abs(coefficients)
    turned = size.transpose(0, 2, 1)
    upper, strict = np.triu_indices(FREQUENCIES), np.triu_indices(FREQUENCIES, 1)
    return np.concatenate([(size + turned)[:, *upper], np.abs(size - turned)[:, *strict]], axis=1)


def _best_pose(one: Floats, other: Floats) -> tuple[NDArray[np.uint8], Floats]:
    """Return the pose of the other, of eight, that is most similar to the one, and the correlation then.

    A pose is three bits: transposed (4), then upside down (2), left and right exchanged (1).
    """
    odd = np.arange(FREQUENCIES) % 2
    signs = np.stack([(-1.0) ** (down * odd[:, None] + across * odd) for down in (0, 1) for across in (0, 1)])
    signs = signs.reshape(4, -1).astype(np.float32)
    upright = (one * other).reshape(-1, signs.shape[1]) @ signs.T
    turned = (one * other.transpose(0, 2, 1)).reshape(-1, signs.shape[1]) @ signs.T
    correlations = np.concatenate([upright, turned], axis=1)
    pose = correlations.argmax(axis=1)
    return pose.astype(np.uint8), correlations[np.arange(len(pose)), pose]


def _apply_pose(thumbnails: NDArray[np.uint8], pose: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mirror and turn thumbnails, (n, SIDE, SIDE), into their poses."""
    for bit, change in ((4, lambda x: x.transpose(0, 2, 1)), (2, lambda x: x[:, ::-1]), (1, lambda x: x[:, :, ::-1])):
        thumbnails = np.where((pose & bit > 0)[:, None, None], change(thumbnails), thumbnails)
    return thumbnails


def find_mismatched_masks(signatures: NDArray[Any], rows: Indices) -> list[tuple[int, int, float, float]]:
    """Find masks that fit the image of another sample better than their own: swapped, or shifted along the files.

    The fit of a mask to an image is the information, in nats, that classes give on gray and color
    (`information`). A mask is reported where another image within reach fits it best and no other mask fits that image
    as well, with a clear lead over the second best. The lead is relative to those of the data set: where masks say
    little of their images, or images are all alike, leads are small or follow no order, and nothing is reported.

    Args:
        signatures: records of `SIGNATURE`; may be a memory map.
        rows: which of them to compare, in order of their path. Samples of one size are compared, REACH to either side.

    Returns:
        Tuples `(i, j, own, other)`: the mask of `i` fits the image of `j` better; the fits to both, in nats. Indices
        into `signatures`, in the order of `rows`.
    """
    by_size = np.lexsort((signatures["height"][rows], signatures["width"][rows]))  # those of one size stay in order
    ordered = rows[by_size]
    fits = _fits(signatures, ordered)
    own = fits[:, REACH]
    best, lead = _leads(fits)
    is_evidence = (np.isfinite(fits).sum(axis=1) > 2) & (fits.max(axis=1) > LEAST_INFORMATION)
    offsets = best[is_evidence]
    if len(offsets) < LEAST_MASKS or np.mean(offsets[1:] == offsets[:-1]) < CONSISTENCY:
        return []
    median_lead = np.median(lead[is_evidence & (lead > 0)])
    is_clear = lead > max(LEAST_INFORMATION, CLEAR_LEAD * median_lead)
    masks = np.flatnonzero(is_evidence & (best != 0) & is_clear)
    masks = masks[np.argsort(by_size[masks])]
    return [(int(ordered[i]), int(ordered[i + best[i]]), float(own[i]), float(fits[i, REACH + best[i]])) for i in masks]


def information(classes: NDArray[np.uint8], planes: Floats) -> Floats:
    """Compute the information of classes on the values of pixels, were those normal in each class (Wilks' lambda).

    It is `(ln det T - ln det W) / 2` with the covariances over all labeled pixels (T) and within classes (W), both
    with the variance of rounding and noise (NOISE squared) added: (n,) in nats, 0 or more, of classes, (n, pixels) with
    255 ignored, and planes, (n, pixels, planes).
    """
    present = np.flatnonzero(np.bincount(classes.ravel(), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX])
    labeled = (classes != IGNORE_INDEX).astype(np.float32)
    members = (classes[:, None] == present[:, None]).astype(np.float32)
    pixels = np.maximum(labeled.sum(axis=1), 1)[:, None, None]
    centered = (planes - labeled[:, None] @ planes / pixels) * labeled[:, :, None]
    sums, counts = members @ centered, np.maximum(members.sum(axis=2), 1)
    total = centered.transpose(0, 2, 1) @ centered / pixels + NOISE**2 * np.eye(planes.shape[2], dtype=np.float32)
    between = sums.transpose(0, 2, 1) @ (sums / counts[:, :, None]) / pixels
    nats = (np.linalg.slogdet(total)[1] - np.linalg.slogdet(total - between)[1]) / 2
    return np.maximum(nats, 0).astype(np.float32)


def _fits(signatures: NDArray[Any], ordered: Indices) -> Floats:
    """Compute the fit of each mask to the images within reach: (n, 2 REACH + 1), -inf where none has its size."""
    count = len(ordered)
    fits = np.full((count, 2 * REACH + 1), -np.inf, np.float32)
    for start in range(0, count, CHUNK):
        first, last = max(0, start - REACH), min(count, start + CHUNK + REACH)
        records = signatures[ordered[first:last]]
        planes, classes = _planes(records), records["classes"].reshape(len(records), -1)
        size = np.stack([records["height"], records["width"]], axis=1)
        masks = np.arange(start, min(start + CHUNK, count))
        for offset in range(-REACH, REACH + 1):
            mask = masks[(masks + offset >= 0) & (masks + offset < count)] - first
            mask = mask[(size[mask] == size[mask + offset]).all(axis=1)]
            if len(mask):
                fits[mask + first, offset + REACH] = information(classes[mask], planes[mask + offset])
    return fits


def _planes(records: NDArray[Any]) -> Floats:
    """Return gray and color without uneven light: (n, pixels, 3)."""
    color = records["color"].repeat(SIDE // COARSE, axis=2).repeat(SIDE // COARSE, axis=3)
    planes = np.concatenate([records["gray"][:, None], color], axis=1)
    return _detail(planes, LIGHT).reshape(len(records), 3, -1).transpose(0, 2, 1)


def _leads(fits: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Return the offset of each mask's best image, from -REACH to REACH, and its lead over other pairings of the two.

    The lead is over the second-best image of the mask and the second-best mask of the image; negative where the image
    has a better mask.
    """
    count = len(fits)
    masks = np.arange(count)
    best = fits.argmax(axis=1) - REACH
    padded = np.pad(fits, ((REACH, REACH), (0, 0)), constant_values=-np.inf)
    steps = np.arange(-REACH, REACH + 1)
    of_image = padded[masks[:, None] + REACH - steps, steps + REACH]  # (images, their masks by offset)
    value = fits.max(axis=1)
    rivals = fits.copy()
    rivals[masks, best + REACH] = -np.inf
    others = of_image[masks + best]
    others[masks, best + REACH] = -np.inf
    return best, value - np.maximum(rivals.max(axis=1), others.max(axis=1))


@cache
def _smooth(sigma: float) -> Floats:
    """Return the matrix that smooths a column of SIDE pixels."""
    return np.asarray(ndimage.gaussian_filter1d(np.eye(SIDE), sigma, axis=0), np.float32)


def _detail(planes: NDArray[np.uint8], sigma: float) -> Floats:
    """Subtract what a Gaussian of that many pixels leaves: (..., SIDE, SIDE)."""
    values = planes.astype(np.float32)
    smooth = _smooth(sigma)
    return np.subtract(values, smooth @ values @ smooth.T, dtype=np.float32)


def _flat(planes: Floats) -> Floats:
    """Reshape (n, SIDE, SIDE) to (n, pixels) of mean 0."""
    flat = planes.reshape(len(planes), -1)
    return flat - flat.mean(axis=1, keepdims=True)
