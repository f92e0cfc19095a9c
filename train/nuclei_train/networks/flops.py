"""The compute of a network: the floating-point operations of its convolutions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def flops_per_pixel(model: keras.Model) -> float:
    """Return the floating-point operations of all convolutions per pixel of the input, two per multiply-add.

    Activations, normalisation, pooling and copies do not count, as in the export report: in the exported graph,
    normalisation is part of the convolutions.

    Parameters
    ----------
    model : keras.Model
        A functional model for images (N, H, W, C) of a fixed height and width.
    """
    from keras import layers

    total = 0
    for layer in model.layers:
        if isinstance(layer, layers.Conv2DTranspose):  # the whole kernel for every input pixel
            pixels = math.prod(layer.input.shape[1:3])
        elif isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):  # the whole kernel for every output pixel
            pixels = math.prod(layer.output.shape[1:3])
        else:
            continue
        total += 2 * math.prod(layer.weights[0].shape) * pixels
    return float(total / math.prod(model.input_shape[1:3]))
