"""Pictures of another size: as OpenCV makes them."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelq.envs.resizing import Resizing


@pytest.mark.parametrize(("height", "width", "size"), [(210, 160, 84), (250, 160, 84), (210, 160, 64), (96, 96, 84)])
def test_pictures_are_those_of_opencv_to_the_bit(height: int, width: int, size: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    expected = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(Resizing(height, width, size)(picture), expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.sampled_from([(), (1,), (3,)]), st.integers(0, 9))
def test_every_pixel_is_the_mean_over_its_area(
    height: int, width: int, size: int, channels: tuple[int, ...], seed: int
) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, *channels), np.uint8)
    # Repeated `size` times in both directions, each pixel covers a block of height × width.
    blocks = picture.repeat(size, 0).repeat(size, 1).astype(np.float64)
    means = blocks.reshape(size, height, size, width, *channels).mean((1, 3))
    resized = Resizing(height, width, size)(picture)
    assert resized.shape == (size, size, *channels)
    assert np.abs(resized - means).max() <= 0.5 + 1e-3
