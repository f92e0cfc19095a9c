"""Shuffled batches of arrays: what each depends on."""

from __future__ import annotations

import numpy as np

from nuclei_train.batches.shuffled import ShuffledBatches


def batches(first_epoch: int, seed: int = 1) -> ShuffledBatches:
    images = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1)
    return ShuffledBatches(images, images > 4, batch_size=4, seed=seed, first_epoch=first_epoch)


def test_each_epoch_shows_each_image_once_in_its_own_order() -> None:
    stream = batches(0)
    assert stream.steps_per_epoch == 3
    epochs = [np.concatenate([stream[3 * epoch + step][0].ravel() for step in range(3)]) for epoch in range(3)]
    for order in epochs:
        assert sorted(order) == list(range(10))
    assert not np.array_equal(epochs[0], epochs[1])


def test_a_batch_depends_on_its_number_alone() -> None:
    late, resumed = batches(0), batches(2)
    for step in (4, 0, 2):
        np.testing.assert_array_equal(late[6 + step][0], resumed[step][0])
    assert not np.array_equal(late[0][0], batches(0, seed=2)[0][0])
    images, foreground = late[0]
    assert (images.dtype, foreground.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(foreground, images > 4)
    assert [len(late[step][0]) for step in range(6)] == [4, 4, 2, 4, 4, 2]
