"""The plain U-Net at full resolution: the network of the baseline recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

LEVELS = 5
"""Number of resolutions, from the image's own to a sixteenth of it; the last is the bottom."""

MULTIPLE_OF_PX = 2 ** (LEVELS - 1)
"""Height and width must be multiples of this."""

HALO_PX = 96
"""How far from a cut what lies beyond it changes the output, rounded up to a multiple of `MULTIPLE_OF_PX`.

Tiles are cut at such multiples. From there, two 3x3 convolutions per level reach 2 + 4 + 8 + 16 + 32 px on the way down
and 16 + 8 + 4 + 2 px on the way up; pooling rounds up by 2 px once. The sum is 94, as
`tests/train/networks/test_architectures.py` measures.
"""

DROPOUT = (0.1, 0.1, 0.2, 0.2, 0.3)
"""Between the two convolutions of each level, on the way down and, mirrored, up."""


def build_unet(
    height: int | None,
    width: int | None,
    channels: int,
    *,
    filters: int,
    maps: int,
    activation: str | None = None,
) -> keras.Model:
    """Build a U-Net (Ronneberger et al. 2015) with "same" padding and dropout.

    With 16 filters and 1 map, the network has 1,941,105 parameters.

    Contraction: two 3x3 convolutions with ReLU and He normal initialisation per level, max pooling between levels.
    Expansion: 2x2 transposed convolution of stride 2, concatenation with the level's contraction output, two 3x3
    convolutions. Head: 1x1 convolution.

    Parameters
    ----------
    height, width : int or None
        In pixels, multiples of `MULTIPLE_OF_PX`; None for any size.
    channels : int
    filters : int
        At full resolution; the number doubles with each level.
    maps : int
        Number of channels of the output.
    activation : str, optional
        Of the output; logits by default.

    Returns
    -------
    keras.Model
        Input ``image`` (N, H, W, channels) float32 in [0, 1]; output ``maps`` (N, H, W, maps) float32, which is called
        ``foreground`` if it is the only map.
    """
    import keras
    from keras import layers

    def convolutions(tensor: keras.KerasTensor, level: int, path: str) -> keras.KerasTensor:
        for index in (1, 2):
            tensor = layers.Conv2D(
                filters * 2**level,
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
    bottom = LEVELS - 1
    tensor = image
    skips = []
    for level in range(bottom):
        tensor = convolutions(tensor, level, "contraction")
        skips.append(tensor)
        tensor = layers.MaxPooling2D(2, name=f"contraction_{level}_pooling")(tensor)
    tensor = convolutions(tensor, bottom, "bottom")
    for level in reversed(range(bottom)):
        tensor = layers.Conv2DTranspose(
            filters * 2**level, 2, strides=2, padding="same", name=f"expansion_{level}_transposed"
        )(tensor)
        tensor = layers.Concatenate(name=f"expansion_{level}_concatenation")([tensor, skips[level]])
        tensor = convolutions(tensor, level, "expansion")
    name = "foreground" if maps == 1 else "maps"
    # In float32 even if the rest is trained in bfloat16, whose eight bits are too few for an offset.
    maps_out = layers.Conv2D(maps, 1, activation=activation, dtype="float32", name=name)(tensor)
    return keras.Model(image, maps_out, name="unet")
