"""The loss of the maps that separate nuclei."""

from __future__ import annotations

from typing import Any

from keras import ops

BORDER_WEIGHT = 6.0
"""How much more a pixel on a touching border counts than another: such pixels are about one in fifty."""


def map_loss(truth: Any, predicted: Any) -> Any:
    """Return the loss of a batch, one number an image.

    Foreground: binary cross-entropy and soft Dice (Milletari et al. 2016). Distance: absolute error, nuclei weighted.
    Border: weighted binary cross-entropy. Offset: absolute error within nuclei.

    Parameters
    ----------
    truth : (N, H, W, 6) tensor
        `nuclei_train.targets.TARGETS`, then 1 where a pixel counts.
    predicted : (N, H, W, 5) tensor
        Logits of foreground, distance and border, then the offsets.
    """
    predicted = ops.cast(predicted, "float32")
    valid = truth[..., 5]
    foreground, distance, border = truth[..., 0], truth[..., 1], truth[..., 2]
    n_valid = ops.sum(valid, axis=(1, 2)) + 1.0
    inside = foreground * valid
    n_inside = ops.sum(inside, axis=(1, 2)) + 1.0

    cross_entropy = _cross_entropy(foreground, predicted[..., 0])
    # The few pixels around touching nuclei decide whether two are counted as one.
    weight = valid * (1.0 + BORDER_WEIGHT * border)
    loss = ops.sum(cross_entropy * weight, axis=(1, 2)) / n_valid
    probability = ops.sigmoid(predicted[..., 0]) * valid
    both = ops.sum(probability * inside, axis=(1, 2))
    either = ops.sum(probability, axis=(1, 2)) + n_inside
    loss += 1.0 - (2.0 * both + 1.0) / either

    error = ops.abs(ops.sigmoid(predicted[..., 1]) - distance)
    loss += ops.sum(error * valid * (1.0 + 3.0 * foreground), axis=(1, 2)) / n_valid

    loss += ops.sum(_cross_entropy(border, predicted[..., 2]) * weight, axis=(1, 2)) / n_valid

    error = ops.sum(ops.abs(predicted[..., 3:5] - truth[..., 3:5]), axis=-1)
    loss += 0.5 * ops.sum(error * inside, axis=(1, 2)) / n_inside
    return loss


def _cross_entropy(truth: Any, logits: Any) -> Any:
    """Binary cross-entropy from logits, element by element, in the form that cannot overflow."""
    return ops.maximum(logits, 0.0) - logits * truth + ops.log1p(ops.exp(-ops.abs(logits)))
