"""A U-Net of residual blocks with depthwise convolutions, nearly all at a quarter of the resolution or less."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

BLOCKS_DOWN = (3, 3, 3)
"""Number of blocks on the way down, at a quarter, an eighth and a sixteenth of the image's resolution."""

BLOCKS_UP = (2, 2)
"""Number of blocks on the way up, at a quarter and an eighth."""

EXPANSION = 4
"""Factor by which the channels grow within a block (Liu et al. 2022, section 2.4)."""

MULTIPLE_OF_PX = 2 ** (len(BLOCKS_DOWN) + 1)
"""Height and width must be multiples of this."""

HALO_PX = 128
"""How far from a cut what lies beyond it changes the output, rounded up to a multiple of `MULTIPLE_OF_PX`.

Tiles are cut at such multiples. From there, each block reaches the step of its resolution, 3 * 4 + 3 * 8 + 3 * 16 px on
the way down and 2 * 8 + 2 * 4 px on the way up; the rest adds 14 px. The sum is 122, as
`tests/train/networks/test_architectures.py` measures.
"""


def build_residual_unet(
    height: int | None,
    width: int | None,
    channels: int,
    *,
    filters: int,
    maps: int,
    activation: str | None = None,
) -> keras.Model:
    """Build a U-Net of residual blocks: a depthwise 3x3 convolution, then 1x1 convolutions that widen and narrow.

    The blocks are those of ConvNeXt (Liu et al. 2022) with three differences. ReLU and batch normalisation, which the
    export folds into the convolutions, replace GELU and layer normalisation; the normalisation follows the 1x1
    convolutions; and kernels are 3x3, so that tiles do not need a halo as wide as themselves. A stem and one
    convolution draw the outlines at half resolution.

    Parameters
    ----------
    height, width : int or None
        In pixels, multiples of `MULTIPLE_OF_PX`; None for any size.
    channels : int
    filters : int
        At half resolution; the number doubles with each level.
    maps : int
        Number of channels of the output.
    activation : str, optional
        Of the output; logits by default.

    Returns
    -------
    keras.Model
        Input ``image`` (N, H, W, channels) float32 in [0, 1]; output ``maps`` (N, H, W, maps) float32.
    """
    import keras
    from keras import layers

    def convolution(tensor: keras.KerasTensor, n: int, name: str, size: int, strides: int = 1) -> keras.KerasTensor:
        tensor = layers.Conv2D(
            n, size, strides=strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
        )(tensor)
        return layers.BatchNormalization(name=f"{name}_normalisation")(tensor)

    def block(tensor: keras.KerasTensor, name: str) -> keras.KerasTensor:
        n = tensor.shape[-1]
        inner = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}_depthwise")(tensor)
        inner = layers.ReLU(name=f"{name}_relu")(convolution(inner, EXPANSION * n, f"{name}_wide", 1))
        return layers.Add(name=f"{name}_sum")([tensor, convolution(inner, n, f"{name}_narrow", 1)])

    image = keras.Input((height, width, channels), name="image")
    tensor = layers.ReLU(name="stem_relu")(convolution(image, filters, "stem", 4, strides=2))
    skips = [tensor]
    for level, n_blocks in enumerate(BLOCKS_DOWN, start=1):
        tensor = convolution(tensor, filters * 2**level, f"contraction_{level}_step", 2, strides=2)
        for index in range(1, n_blocks + 1):
            tensor = block(tensor, f"contraction_{level}_block_{index}")
        skips.append(tensor)
    for level, n_blocks in reversed(list(enumerate(BLOCKS_UP, start=1))):
        n = filters * 2**level
        tensor = layers.Conv2DTranspose(n, 2, strides=2, name=f"expansion_{level}_transposed")(tensor)
        tensor = layers.Concatenate(name=f"expansion_{level}_concatenation")([tensor, skips[level]])
        tensor = convolution(tensor, n, f"expansion_{level}_merge", 1)
        for index in range(1, n_blocks + 1):
            tensor = block(tensor, f"expansion_{level}_block_{index}")
    tensor = layers.Conv2DTranspose(filters, 2, strides=2, name="expansion_0_transposed")(tensor)
    tensor = layers.Concatenate(name="expansion_0_concatenation")([tensor, skips[0]])
    tensor = layers.ReLU(name="expansion_0_relu")(convolution(tensor, filters, "expansion_0_convolution", 3))
    # In float32 even if the rest is trained in bfloat16, whose eight bits are too few for an offset.
    maps_out = layers.Conv2DTranspose(maps, 2, strides=2, activation=activation, dtype="float32", name="maps")(tensor)
    return keras.Model(image, maps_out, name="residual_unet")
