"""A U-Net at half resolution, with a strided stem in front and a transposed convolution as head."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

LEVELS = 4
"""Number of resolutions, from half to a sixteenth of the image's."""

MULTIPLE_OF_PX = 2**LEVELS
"""Height and width must be multiples of this."""

HALO_PX = 96
"""How far from a cut what lies beyond it changes the output, rounded up to a multiple of `MULTIPLE_OF_PX`.

Tiles are cut at such multiples. From there, the stem reaches 2 px, and each 3x3 convolution its stride: 2 + 8 + 16 +
32 px on the way down and 16 + 8 + 4 px on the way up; pooling rounds up by 4 px once. The sum is 92, as
`tests/train/networks/test_architectures.py` measures. Elsewhere a pixel may reach 102 px, but not as far from a cut.
"""


def build_stem_unet(
    height: int | None,
    width: int | None,
    channels: int,
    *,
    filters: int,
    maps: int,
    activation: str | None = None,
) -> keras.Model:
    """Build a U-Net behind a 4x4 convolution of stride 2, with batch normalisation.

    A plain U-Net spends nearly all its compute at full resolution, where nuclei need it least. Here only the input of
    the stem and the output of the head have full resolution.

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

    def convolution(tensor: keras.KerasTensor, n: int, name: str, size: int = 3, strides: int = 1) -> keras.KerasTensor:
        tensor = layers.Conv2D(
            n, size, strides=strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
        )(tensor)
        tensor = layers.BatchNormalization(name=f"{name}_normalisation")(tensor)
        return layers.ReLU(name=f"{name}_relu")(tensor)

    image = keras.Input((height, width, channels), name="image")
    tensor = convolution(image, filters, "stem", size=4, strides=2)
    skips = []
    for level in range(LEVELS):
        n = filters * 2**level
        if level == 0:
            tensor = convolution(tensor, n, "contraction_0_convolution_1")
        else:
            tensor = layers.MaxPooling2D(2, name=f"contraction_{level}_pooling")(tensor)
            tensor = convolution(tensor, n, f"contraction_{level}_convolution_1")
            tensor = convolution(tensor, n, f"contraction_{level}_convolution_2")
        skips.append(tensor)
    for level in reversed(range(LEVELS - 1)):
        n = filters * 2**level
        tensor = layers.Conv2DTranspose(n, 2, strides=2, name=f"expansion_{level}_transposed")(tensor)
        tensor = layers.Concatenate(name=f"expansion_{level}_concatenation")([tensor, skips[level]])
        tensor = convolution(tensor, n, f"expansion_{level}_convolution_1")
        tensor = convolution(tensor, n, f"expansion_{level}_convolution_2")
    # In float32 even if the rest is trained in bfloat16, whose eight bits are too few for an offset.
    maps_out = layers.Conv2DTranspose(maps, 2, strides=2, activation=activation, dtype="float32", name="maps")(tensor)
    return keras.Model(image, maps_out, name="stem_unet")
