"""The loss of the maps: what counts, what does not, and that no logit breaks it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_train.batches.targets import target_maps
from nuclei_train.networks.losses import BORDER_WEIGHT, LossParts, loss_of, map_loss

Tensor = NDArray[np.float32]


@pytest.fixture
def truth() -> Tensor:
    """Two crops with touching nuclei; a part of them does not count."""
    fields = [fluorescence_field(seed, height=48, width=48, n_nuclei=6)[1] for seed in (1, 4)]
    maps = np.stack([np.concatenate([target_maps(labels), np.ones((48, 48, 1))], axis=-1) for labels in fields])
    maps[:, :, 40:] = 0
    return maps.astype(np.float32)


def perfect(truth: Tensor, certainty: float = 25.0) -> Tensor:
    """Logits and offsets of a perfect prediction."""
    inner = np.clip(truth[..., :3].astype(np.float64), 1e-9, 1 - 1e-9)
    logits = np.clip(np.log(inner / (1 - inner)), -certainty, certainty)
    return np.concatenate([logits, truth[..., 3:5]], axis=-1).astype(np.float32)


def loss(truth: Tensor, predicted: Tensor) -> NDArray[np.float32]:
    return np.asarray(keras.ops.convert_to_numpy(map_loss(keras.ops.array(truth), keras.ops.array(predicted))))


def least(truth: Tensor) -> NDArray[np.float64]:
    """The entropy of the distances, from 0 to 1; the pixels of nuclei count four times."""
    distance, valid = truth[..., 1].astype(np.float64), truth[..., 5] > 0
    between = (distance > 0) & (distance < 1) & valid
    inner = np.where(between, distance, 0.5)
    entropy = np.where(between, -inner * np.log(inner) - (1 - inner) * np.log(1 - inner), 0)
    return np.asarray((4 * entropy).sum(axis=(1, 2)) / (valid.sum(axis=(1, 2)) + 1))


def test_it_is_least_where_all_is_right(truth: Tensor) -> None:
    assert truth[..., 2].any()
    losses = loss(truth, perfect(truth))
    assert losses.shape == (2,)
    np.testing.assert_allclose(losses, least(truth), atol=1e-3)
    for step in (-0.3, 0.3):
        moved = perfect(truth)
        moved[..., 1] += step
        assert (loss(truth, moved) > losses).all()


def test_what_only_a_teacher_takes_for_a_nucleus_has_no_offset(truth: Tensor) -> None:
    """There, half of the foreground comes from the teacher, and the true offset is 0: any other one costs the same."""
    invented = truth.copy()
    outside = (truth[..., 0] == 0) & (truth[..., 5] > 0)
    invented[outside, 0] = 0.4
    moved = perfect(invented)
    moved[outside, 3:5] = 1.0
    np.testing.assert_array_equal(loss(invented, moved), loss(invented, perfect(invented)))
    invented[outside, 0] = 0.5  # half of the truth's own
    assert (loss(invented, moved) > loss(invented, perfect(invented))).all()


@pytest.mark.parametrize("channel", range(5))
def test_it_grows_with_an_error_in_any_map(truth: Tensor, channel: int) -> None:
    wrong = perfect(truth)
    wrong[0, ..., channel] *= -1
    losses = loss(truth, wrong)
    assert losses[0] > loss(truth, perfect(truth))[0] + 0.02
    assert losses[1] == loss(truth, perfect(truth))[1]  # each image by itself


def test_what_does_not_count_changes_nothing(truth: Tensor) -> None:
    predicted = perfect(truth, 3.0)
    changed = predicted.copy()
    changed[:, :, 40:] = np.random.default_rng(0).normal(0, 50, (2, 48, 8, 5))
    np.testing.assert_array_equal(loss(truth, changed), loss(truth, predicted))
    changed[:, :, 39] = 50
    assert (loss(truth, changed) > loss(truth, predicted) + 0.1).all()


def test_an_offset_counts_within_nuclei_only(truth: Tensor) -> None:
    changed = perfect(truth)
    changed[truth[..., 0] == 0, 3:] = 9
    np.testing.assert_array_equal(loss(truth, changed), loss(truth, perfect(truth)))


def test_a_pixel_on_a_border_counts_more() -> None:
    truth = np.zeros((2, 8, 8, 6), np.float32)
    truth[..., [0, 5]] = 1
    truth[0, 3, 3, 2] = 1
    right = perfect(truth)
    wrong = right.copy()
    wrong[:, 3, 3, 2] *= -1  # one missed, one false
    missed, invented = loss(truth, wrong) - loss(truth, right)
    assert missed / invented == pytest.approx(1 + BORDER_WEIGHT, rel=0.01)


@pytest.mark.parametrize(
    ("part", "channels"), [("dice", []), ("border", [2]), ("offsets", [3, 4])], ids=["dice", "border", "offsets"]
)
def test_a_part_can_be_taken_out(truth: Tensor, part: str, channels: list[int]) -> None:
    """The remaining loss ignores the maps of that part, and is lower than the full loss if that part is wrong."""
    parts = LossParts(**{part: False})
    wrong = np.random.default_rng(2).normal(0, 2, truth[..., :5].shape).astype(np.float32)
    other = wrong.copy()
    other[..., channels] += 1
    left = [np.asarray(loss_of(parts)(keras.ops.array(truth), keras.ops.array(one))) for one in (wrong, other)]
    np.testing.assert_array_equal(*left)
    assert (left[0] < loss(truth, wrong)).all()
    whole = np.asarray(loss_of(LossParts())(keras.ops.array(truth), keras.ops.array(wrong)))
    np.testing.assert_array_equal(whole, loss(truth, wrong))


EXTREMES = [1e4, -1e4, 1e30, -1e30]


@pytest.mark.parametrize("value", EXTREMES)
def test_it_stays_finite_at_extreme_logits(truth: Tensor, value: float) -> None:
    assert np.isfinite(loss(truth, np.full((2, 48, 48, 5), value, np.float32))).all()


@pytest.mark.parametrize("value", [0.0, 30.0, -30.0, *EXTREMES])
@pytest.mark.parametrize("counting", [0.0, 1.0])
def test_its_gradient_is_finite(truth: Tensor, value: float, counting: float) -> None:
    tf = pytest.importorskip("tensorflow")
    truth[..., 5] *= counting
    predicted = tf.Variable(np.full((2, 48, 48, 5), value, np.float32))
    with tf.GradientTape() as tape:
        losses = map_loss(tf.constant(truth), predicted)
    gradient = tape.gradient(losses, predicted).numpy()
    assert np.isfinite(losses.numpy()).all()
    assert np.isfinite(gradient).all()
    assert gradient.any() == bool(counting)
    assert not gradient[:, :, 40:].any()


def test_a_crop_in_which_nothing_counts_costs_nothing() -> None:
    nothing = np.zeros((1, 16, 16, 6), np.float32)
    assert loss(nothing, np.full((1, 16, 16, 5), 3.0, np.float32)) == pytest.approx(0, abs=1e-5)


def test_half_precision_is_computed_in_float32(truth: Tensor) -> None:
    predicted = perfect(truth, 3.0)
    halves = keras.ops.cast(predicted, "bfloat16")
    losses = map_loss(keras.ops.array(truth), halves)
    assert keras.backend.standardize_dtype(losses.dtype) == "float32"
    np.testing.assert_allclose(keras.ops.convert_to_numpy(losses), loss(truth, predicted), rtol=0.02)
