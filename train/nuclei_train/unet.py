"""The U-Net of the baseline recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

FILTERS = (16, 32, 64, 128, 256)
"""Of the contraction path, level by level; the last is the bottom."""

DROPOUT = (0.1, 0.1, 0.2, 0.2, 0.3)
"""Between the two convolutions of each level, on the way down and, mirrored, up."""


def build_unet(height: int, width: int, channels: int) -> keras.Model:
    """Build a U-Net (Ronneberger et al. 2015) with "same" padding and dropout; 1,941,105 parameters for 3 channels.

    Contraction: two 3x3 convolutions with ReLU and He normal initialisation a level, max pooling between levels.
    Expansion: 2x2 transposed convolution of stride 2, concatenation with the level's contraction output, two 3x3
    convolutions. Head: 1x1 convolution and sigmoid.

    Parameters
    ----------
    height, width : int
        In pixels, multiples of 16.
    channels : int

    Returns
    -------
    keras.Model
        Input ``image`` (N, height, width, channels) float32 in [0, 1]; output ``foreground``
        (N, height, width, 1), the probability of nucleus.
    """
    import keras
    from keras import layers

    def convolutions(tensor: keras.KerasTensor, level: int, path: str) -> keras.KerasTensor:
        for index in (1, 2):
            tensor = layers.Conv2D(
                FILTERS[level],
                3,
                padding="same",
                activation="relu",
                kernel_initializer="he_normal",
                name=f"{path}_{level}_convolution_{index}",
            )(tensor)
            if index == 1:
                tensor = layers.Dropout(DROPOUT[level], name=f"{path}_{level}_dropout")(tensor)
        return tensor

    image = keras.Input((height, width, channels), name="image")
    bottom = len(FILTERS) - 1
    tensor = image
    skips = []
    for level in range(bottom):
        tensor = convolutions(tensor, level, "contraction")
        skips.append(tensor)
        tensor = layers.MaxPooling2D(2, name=f"contraction_{level}_pooling")(tensor)
    tensor = convolutions(tensor, bottom, "bottom")
    for level in reversed(range(bottom)):
        tensor = layers.Conv2DTranspose(
            FILTERS[level], 2, strides=2, padding="same", name=f"expansion_{level}_transposed"
        )(tensor)
        tensor = layers.Concatenate(name=f"expansion_{level}_concatenation")([tensor, skips[level]])
        tensor = convolutions(tensor, level, "expansion")
    foreground = layers.Conv2D(1, 1, activation="sigmoid", name="foreground")(tensor)
    return keras.Model(image, foreground, name="unet")
