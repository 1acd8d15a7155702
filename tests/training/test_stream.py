"""The stream: every image once per epoch, the same at any position and process."""

import itertools

import numpy as np
import pytest
from toy_task import images, source

from anojax.data.stream import InMemory, Stream
from anojax.errors import AnojaxError, DataError
from anojax.types import Inputs, Synthesis


def ids(stream, count, position=0, group=1):
    taken = itertools.islice(stream.batches(position, group), count)
    return np.concatenate([b.ids.reshape(-1) for b in taken])


def test_an_epoch_visits_every_image_once_in_its_own_order():
    stream = Stream(source(20), 8, seed=3)
    seen = ids(stream, 5)  # two epochs
    assert len(set(seen.tolist())) == 40
    first, second = seen[:20], seen[20:]
    assert sorted(first) == list(range(20)) and sorted(second) == list(range(20, 40))
    assert (first != second - 20).any() and (first != np.arange(20)).any()
    assert (ids(Stream(source(20), 8, seed=4), 2) != seen[:16]).any()
    in_order = Stream(source(20), 8, shuffle=False)
    np.testing.assert_array_equal(ids(in_order, 5), np.arange(40))


def test_batches_hold_the_images_of_their_ids():
    batch = next(Stream(source(20), 8, seed=3).batches(group=2))
    assert batch.inputs.image.shape == (2, 8, 8, 8, 1)
    assert batch.inputs.image.dtype == np.uint8 and batch.ids.dtype == np.uint32
    expected = images(20)[batch.ids % 20]
    np.testing.assert_array_equal(batch.inputs.image, expected)


@pytest.mark.parametrize("position", [8, 13, 100])
def test_resumes_at_any_position_with_any_batch_size(position):
    whole = ids(Stream(source(20), 1, seed=3), position + 24)
    for size in (4, 6):
        again = ids(Stream(source(20), size, seed=3), 24 // size, position)
        np.testing.assert_array_equal(again, whole[position:])


def test_processes_divide_each_batch():
    whole = ids(Stream(source(20), 8, seed=3), 6).reshape(6, 8)
    halves = [
        ids(Stream(source(20), 8, seed=3, process=p, processes=2), 6).reshape(6, 4)
        for p in (0, 1)
    ]
    np.testing.assert_array_equal(np.concatenate(halves, 1), whole)


def test_reading_ahead_changes_nothing():
    a, b = (Stream(source(20), 8, seed=3, threads=t) for t in (0, 3))
    np.testing.assert_array_equal(ids(a, 6), ids(b, 6))


def test_precomputed_anomalies_come_along():
    class Ready(InMemory):
        def __getitem__(self, index):
            image = self.inputs.image[index]
            mask = np.full((8, 8, 1), 255, np.uint8)
            one, yes = np.int32(1), np.bool_(True)
            return Inputs(image=image), Synthesis(255 - image, mask, mask, one, yes)

    batch = next(Stream(Ready(Inputs(image=images(6))), 4).batches())
    assert batch.precomputed.mask.shape == (1, 4, 8, 8, 1)
    np.testing.assert_array_equal(batch.precomputed.image, 255 - batch.inputs.image)


def test_bad_requests():
    with pytest.raises(DataError, match="no images"):
        Stream(source(0), 4)
    with pytest.raises(AnojaxError, match=r"batch_size is 5, .* 2 processes"):
        Stream(source(4), 5, processes=2)
    with pytest.raises(AnojaxError, match="beyond the last example id"):
        Stream(source(4), 4).locate(2**32)
