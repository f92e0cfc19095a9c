"""A trained network -> the weights of a wider one that computes the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras


def widen(narrow: keras.Model, wide: keras.Model) -> list[NDArray[np.float32]] | None:
    """Return weights for `wide` with which it computes what `narrow` does.

    The channels that both networks have keep their weights. The others weigh nothing in them, so the output is the
    same; what flows into the others stays as `wide` has it, so each of them can learn something else. Net2Net (Chen et
    al. 2016, arXiv:1511.05641) makes copies of channels instead.

    Parameters
    ----------
    narrow, wide : keras.Model
        Functional models of the layers that `nuclei_train.networks.architectures` uses.

    Returns
    -------
    list of ndarray or None
        In the order of `keras.Model.get_weights`; None unless `wide` is the same architecture with as many filters or
        more.
    """
    from keras import layers

    if not _is_wider(narrow, wide):
        return None
    kept: dict[str, NDArray[np.intp]] = {}  # per tensor of the wide network: which channels the narrow one has too
    weights = []
    for old, new in zip(narrow.layers, wide.layers, strict=True):
        tensors = new.input if isinstance(new.input, list) else [new.input]
        if isinstance(new, layers.InputLayer):
            channels = np.arange(old.output.shape[-1])
        elif isinstance(new, layers.Conv2D | layers.Conv2DTranspose):
            channels = np.arange(old.output.shape[-1])
            weights += _convolution(old, new, kept[tensors[0].name])
        elif isinstance(new, layers.Concatenate):
            starts = np.cumsum([0, *(tensor.shape[-1] for tensor in tensors[:-1])])
            channels = np.concatenate([start + kept[t.name] for start, t in zip(starts, tensors, strict=True)])
        else:
            channels = kept[tensors[0].name]
            for had, has in zip(old.get_weights(), new.get_weights(), strict=True):
                # A depthwise kernel has its channels in the axis 2, a normalisation has only one axis.
                np.moveaxis(has, 2 if has.ndim > 1 else 0, 0)[channels] = np.moveaxis(had, 2 if had.ndim > 1 else 0, 0)
                weights.append(has)
        kept[new.output.name] = channels
    return weights


def _convolution(old: keras.Layer, new: keras.Layer, before: NDArray[np.intp]) -> list[NDArray[np.float32]]:
    """Return the weights of `new`, in which the channels `before` of its input are those of `old`."""
    from keras import layers

    (had, *had_bias), (has, *has_bias) = old.get_weights(), new.get_weights()
    # The kernel of a transposed convolution has the channels of its output before those of its input.
    axes = (0, 1, 3, 2) if isinstance(new, layers.Conv2DTranspose) else (0, 1, 2, 3)
    had, kernel = had.transpose(axes), has.transpose(axes)  # a view of `has`
    n_out = had.shape[-1]
    kernel[..., :n_out] = 0
    kernel[:, :, before, :n_out] = had
    for bias, value in zip(has_bias, had_bias, strict=True):
        bias[:n_out] = value
    return [has, *has_bias]


def _is_wider(narrow: keras.Model, wide: keras.Model) -> bool:
    """Return whether both have the same layers and the same output, and `wide` has no fewer filters anywhere."""

    def layout(network: keras.Model) -> list[tuple[type, str]]:
        return [(type(layer), layer.name) for layer in network.layers]

    same = layout(narrow) == layout(wide) and narrow.output.shape[-1] == wide.output.shape[-1]
    return same and all(
        len(had.shape) == len(has.shape)
        and all(small <= large for small, large in zip(had.shape, has.shape, strict=True))
        for had, has in zip(narrow.weights, wide.weights, strict=True)
    )
