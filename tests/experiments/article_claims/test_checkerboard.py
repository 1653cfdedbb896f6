import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from unet_segmentation.experiments.article_claims.checkerboard import (
    checkerboard_energies,
    checkerboard_energy,
    power_spectrum,
    stride_frequencies,
)

SIDE = 64
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]
STRIDES = (2, 4, 8)


def wave(rows, columns):
    """A cosine with so many periods down and across."""
    return np.cos(2 * np.pi * (rows * ROWS + columns * COLUMNS) / SIDE)


def shares(*images):
    return checkerboard_energies(images, STRIDES)


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("shape", [(SIDE, SIDE), (72, 96), (75, 67)])
def test_a_pure_checkerboard_is_all_checkerboard(stride, shape):
    """Squares of half a period in two colors: the pattern's period is the stride, and no smaller one."""
    rows, columns = np.indices(shape)
    board = (rows // (stride // 2) + columns // (stride // 2)) % 2
    assert checkerboard_energy(board[None].astype(float), stride) == pytest.approx(1, abs=1e-9)
    others = [other for other in STRIDES if other < stride]
    assert all(checkerboard_energy(board[None].astype(float), other) < 1e-9 for other in others)


@pytest.mark.parametrize(("rows", "columns"), [(1, 3), (0, 5), (4, 0), (5, 5)])
def test_what_is_smooth_has_none(rows, columns):
    assert all(share == pytest.approx(0, abs=1e-12) for share in shares(wave(rows, columns)[None]).values())


def test_a_ramp_has_next_to_none_though_it_jumps_at_the_border():
    """Without a window it would be 4 / (pixels a side)^2 of the energy at stride 2 already."""
    result = shares((ROWS + 2.0 * COLUMNS)[None])
    assert result[2] < 1e-8
    assert max(result.values()) < 1e-3


@pytest.mark.parametrize(("size", "expected"), [(0.5, 0.25 / 0.75), (1.0, 1 / 1.5), (3.0, 9 / 9.5)])
@pytest.mark.parametrize("stride", STRIDES)
def test_a_known_mixture_has_the_share_of_its_energies(size, expected, stride):
    """A cosine has half the energy of +-1, and so has a cosine of any frequency but the highest."""
    pattern = (wave(SIDE // stride, 0) if stride > 2 else wave(32, 32)) * (np.sqrt(2) if stride > 2 else 1)
    assert checkerboard_energy((size * pattern + wave(20, 20))[None], stride) == pytest.approx(expected, rel=1e-9)


def test_strides_share_what_repeats():
    """One cosine of each stride, of energies 1 : 4 : 9."""
    image = wave(32, 0) / np.sqrt(2) + 2 * wave(16, 16) + 3 * wave(8, 0)
    result = shares(image[None])
    assert [result[stride] for stride in STRIDES] == pytest.approx([1 / 14, 4 / 14, 9 / 14])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100), st.floats(-50, 50))
def test_scale_and_offset_change_nothing(seed, scale, offset):
    logits = np.random.default_rng(seed).normal(size=(2, 32, 32))
    for stride in STRIDES:
        assert checkerboard_energy(scale * logits + offset, stride) == pytest.approx(
            checkerboard_energy(logits, stride), rel=1e-6
        )


def test_white_noise_has_the_share_of_the_frequencies():
    noise = np.random.default_rng(0).normal(size=(60, SIDE, SIDE))
    for stride, share in shares(*noise[:, None]).items():
        count = np.count_nonzero(stride_frequencies((SIDE, SIDE), stride))
        assert count == 9 * (stride**2 - (stride // 2) ** 2)
        assert share == pytest.approx(count / (SIDE**2 - 9), rel=0.1)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_interpolation_leaves_none_at_the_stride_of_a_constant_and_little_of_anything_smooth(mode):
    """Sugawara et al. 2019: the steady state of its step response is flat."""
    low = torch.from_numpy(5 + wave(2, 1)[::4, ::4])[None, None]
    raised = functional.interpolate(low, scale_factor=4, mode=mode)[0].numpy()
    assert max(shares(raised).values()) < 0.02
    uneven = np.kron(np.ones((16, 16)), np.arange(16.0).reshape(4, 4))  # a transposed convolution's kernel, untrained
    assert shares(low.repeat_interleave(4, -1).repeat_interleave(4, -2)[0].numpy() * uneven)[4] > 0.5


def test_channels_and_images_add_their_energies():
    board, smooth = wave(32, 32)[None], 2 * np.sqrt(2) * wave(3, 1)[None]  # energies 1 and 4
    assert shares(board, smooth)[2] == pytest.approx(1 / 5)
    assert shares(np.concatenate([board, smooth]))[2] == pytest.approx(1 / 5)


def test_constant_logits_have_no_share():
    assert np.isnan(checkerboard_energy(np.full((3, 16, 16), 0.1), 2))
    assert power_spectrum(np.full((3, 16, 16), 0.1)).sum() == 0


@pytest.mark.parametrize(
    ("stride", "message"), [(3, "2, 4, 8"), (1, "2, 4, 8"), (0, "2, 4, 8"), (8, "16x40 pixels are too few.* 32 a side")]
)
def test_what_cannot_be_seen_is_refused(stride, message):
    with pytest.raises(ValueError, match=message):
        checkerboard_energy(np.zeros((1, 16, 40)), stride)
