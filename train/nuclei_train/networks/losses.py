"""The loss for the maps that separate nuclei."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BORDER_WEIGHT = 6.0
"""Additional weight of pixels on a touching border, which are about one in fifty."""


@dataclass(frozen=True)
class LossParts:
    """The parts of the loss that can be switched off; cross-entropy of foreground and distance always counts.

    Attributes
    ----------
    dice : bool
        Dice loss of the foreground.
    border : bool
        The border map, and the additional weight of pixels on a touching border.
    offsets : bool
    """

    dice: bool = True
    border: bool = True
    offsets: bool = True


ALL_PARTS = LossParts()


def loss_of(parts: LossParts) -> Callable[[Any, Any], Any]:
    """Return `map_loss` with these parts, as a function of truth and prediction."""

    def loss(truth: Any, predicted: Any) -> Any:
        return map_loss(truth, predicted, parts)

    return loss


def map_loss(truth: Any, predicted: Any, parts: LossParts = ALL_PARTS) -> Any:
    """Return the loss for a batch, one number per image.

    Foreground: binary cross-entropy and soft Dice (Milletari et al. 2016). Distance: binary cross-entropy with a higher
    weight in nuclei, as in StarDist (Schmidt et al. 2018); its minimum is the entropy of the truth, not 0. Border:
    weighted binary cross-entropy. Offset: absolute error within nuclei.

    Parameters
    ----------
    truth : (N, H, W, 6) tensor
        `nuclei_train.batches.targets.TARGETS`, then 1 for pixels that count.
    predicted : (N, H, W, 5) tensor
        Logits of foreground, distance and border, then the offsets.
    parts : LossParts, optional
        All by default.
    """
    from keras import ops

    # Unstacked, because the gradient of a slice is a tensor of zeros as large as the whole.
    foreground, distance, border, offset_row, offset_column, valid = ops.unstack(truth, axis=-1)
    foreground_logit, distance_logit, border_logit, predicted_row, predicted_column = ops.unstack(
        ops.cast(predicted, "float32"), axis=-1
    )
    n_valid = ops.sum(valid, axis=(1, 2)) + 1.0
    inside = foreground * valid
    n_inside = ops.sum(inside, axis=(1, 2)) + 1.0

    cross_entropy = _cross_entropy(foreground, foreground_logit)
    # The few pixels between touching nuclei decide whether two are counted as one.
    weight = valid * (1.0 + BORDER_WEIGHT * border) if parts.border else valid
    loss = ops.sum(cross_entropy * weight, axis=(1, 2)) / n_valid
    if parts.dice:
        probability = ops.sigmoid(foreground_logit) * valid
        both = ops.sum(probability * inside, axis=(1, 2))
        either = ops.sum(probability, axis=(1, 2)) + n_inside
        loss += 1.0 - (2.0 * both + 1.0) / either

    # Cross-entropy has its minimum at the mean of the possible truths, an absolute error at their median: so the
    # distance dips where it is uncertain whether two nuclei touch.
    error = _cross_entropy(distance, distance_logit)
    loss += ops.sum(error * valid * (1.0 + 3.0 * foreground), axis=(1, 2)) / n_valid

    if parts.border:
        loss += ops.sum(_cross_entropy(border, border_logit) * weight, axis=(1, 2)) / n_valid

    if parts.offsets:
        error = ops.abs(predicted_row - offset_row) + ops.abs(predicted_column - offset_column)
        # At least one half: what only a teacher takes for a nucleus has no offset.
        known = ops.cast(foreground >= 0.5, "float32") * valid
        loss += 0.5 * ops.sum(error * known, axis=(1, 2)) / (ops.sum(known, axis=(1, 2)) + 1.0)
    return loss


def _cross_entropy(truth: Any, logits: Any) -> Any:
    """Element-wise binary cross-entropy from logits, in the form that cannot overflow."""
    from keras import ops

    return ops.maximum(logits, 0.0) - logits * truth + ops.log1p(ops.exp(-ops.abs(logits)))
