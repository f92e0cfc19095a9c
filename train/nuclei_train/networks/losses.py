"""The loss of the maps that separate nuclei."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BORDER_WEIGHT = 6.0
"""How much more a pixel on a touching border counts than another: such pixels are about one in fifty."""


@dataclass(frozen=True)
class LossParts:
    """What the loss is made of, beside the cross-entropy of foreground and distance: to take one out.

    Attributes
    ----------
    dice : bool
        Of the foreground.
    border : bool
        The border map, and the weight of pixels on a touching border.
    offsets : bool
    """

    dice: bool = True
    border: bool = True
    offsets: bool = True


ALL_PARTS = LossParts()


def loss_of(parts: LossParts) -> Callable[[Any, Any], Any]:
    """Return `map_loss` of these parts, as a function of truth and prediction."""

    def loss(truth: Any, predicted: Any) -> Any:
        return map_loss(truth, predicted, parts)

    return loss


def map_loss(truth: Any, predicted: Any, parts: LossParts = ALL_PARTS) -> Any:
    """Return the loss of a batch, one number an image.

    Foreground: binary cross-entropy and soft Dice (Milletari et al. 2016). Distance: binary cross-entropy, nuclei
    weighted, as StarDist learns it (Schmidt et al. 2018); at its least it is the truth's own entropy, not 0. Border:
    weighted binary cross-entropy. Offset: absolute error within nuclei.

    Parameters
    ----------
    truth : (N, H, W, 6) tensor
        `nuclei_train.batches.targets.TARGETS`, then 1 where a pixel counts.
    predicted : (N, H, W, 5) tensor
        Logits of foreground, distance and border, then the offsets.
    parts : LossParts, optional
        Without it all.
    """
    from keras import ops

    # Unstacked, because the gradient of a slice is a whole tensor of zeros around it.
    foreground, distance, border, offset_row, offset_column, valid = ops.unstack(truth, axis=-1)
    foreground_logit, distance_logit, border_logit, predicted_row, predicted_column = ops.unstack(
        ops.cast(predicted, "float32"), axis=-1
    )
    n_valid = ops.sum(valid, axis=(1, 2)) + 1.0
    inside = foreground * valid
    n_inside = ops.sum(inside, axis=(1, 2)) + 1.0

    cross_entropy = _cross_entropy(foreground, foreground_logit)
    # The few pixels around touching nuclei decide whether two are counted as one.
    weight = valid * (1.0 + BORDER_WEIGHT * border) if parts.border else valid
    loss = ops.sum(cross_entropy * weight, axis=(1, 2)) / n_valid
    if parts.dice:
        probability = ops.sigmoid(foreground_logit) * valid
        both = ops.sum(probability * inside, axis=(1, 2))
        either = ops.sum(probability, axis=(1, 2)) + n_inside
        loss += 1.0 - (2.0 * both + 1.0) / either

    # Its least lies at the mean of what may be true, that of an absolute error at the median: where it is uncertain
    # whether two nuclei touch, the distance dips.
    error = _cross_entropy(distance, distance_logit)
    loss += ops.sum(error * valid * (1.0 + 3.0 * foreground), axis=(1, 2)) / n_valid

    if parts.border:
        loss += ops.sum(_cross_entropy(border, border_logit) * weight, axis=(1, 2)) / n_valid

    if parts.offsets:
        error = ops.abs(predicted_row - offset_row) + ops.abs(predicted_column - offset_column)
        # Half at least: what only a teacher takes for a nucleus has no offset.
        known = ops.cast(foreground >= 0.5, "float32") * valid
        loss += 0.5 * ops.sum(error * known, axis=(1, 2)) / (ops.sum(known, axis=(1, 2)) + 1.0)
    return loss


def _cross_entropy(truth: Any, logits: Any) -> Any:
    """Binary cross-entropy from logits, element by element, in the form that cannot overflow."""
    from keras import ops

    return ops.maximum(logits, 0.0) - logits * truth + ops.log1p(ops.exp(-ops.abs(logits)))
