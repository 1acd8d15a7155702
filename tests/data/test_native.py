"""Back to the own resolution: exact outside the mask, faithful inside."""

import numpy as np
import pytest

from anojax.data.native import to_native

RNG = np.random.default_rng


def case(own_shape, kind="uint8", size=(16, 16)):
    top = np.iinfo(kind).max
    native = RNG(0).integers(0, top, own_shape, kind, endpoint=True)
    normal = RNG(1).integers(0, 256, (*size, own_shape[-1]), "uint8")
    mask = np.zeros((*size, 1), np.uint8)
    mask[4:9, 3:12] = 255
    image = np.where(mask > 0, 255 - normal, normal)
    return native, normal, image, mask


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", [(16, 16, 1), (64, 48, 3), (7, 40, 1)])
def test_pixels_outside_the_mask_are_the_files(shape, kind):
    native, *rest = case(shape, kind)
    image, mask = to_native(native, *rest)
    assert image.dtype == native.dtype and mask.shape == (*shape[:2], 1)
    assert set(np.unique(mask)) == {0, 255}
    outside = np.broadcast_to(mask == 0, shape)
    np.testing.assert_array_equal(image[outside], native[outside])


def test_the_same_size_gives_the_same_image():
    _, normal, image, mask = case((16, 16, 3))
    same, large = to_native(normal, normal, image, mask)
    np.testing.assert_array_equal(same, image)
    np.testing.assert_array_equal(large, mask)


def test_the_mask_is_enlarged_by_nearest_neighbor():
    native, normal, image, mask = case((64, 48, 1))
    large = to_native(native, normal, image, mask)[1]
    np.testing.assert_array_equal(large, mask.repeat(4, 0).repeat(3, 1))


def test_a_thin_scratch_survives_shrinking():
    native, normal, image, mask = case((4, 4, 1))
    mask = np.zeros_like(mask)
    mask[7, :] = 255
    assert to_native(native, normal, image, mask)[1][1].all()


def test_sixteen_bits_change_by_as_much_of_their_range():
    native = np.full((8, 8, 1), 1000, np.uint16)
    normal, image = np.full((8, 8, 1), 10, np.uint8), np.full((8, 8, 1), 110, np.uint8)
    mask = np.full((8, 8, 1), 255, np.uint8)
    changed = to_native(native, normal, image, mask)[0]
    np.testing.assert_array_equal(changed, 1000 + 100 * 257)


def test_clipping_stays_in_range():
    native = np.full((8, 8, 1), 250, np.uint8)
    normal, image = np.zeros((8, 8, 1), np.uint8), np.full((8, 8, 1), 200, np.uint8)
    mask = np.full((8, 8, 1), 255, np.uint8)
    assert (to_native(native, normal, image, mask)[0] == 255).all()
