"""The networks that a recipe can train, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from nuclei_train.networks import residual_unet, stem_unet, unet

if TYPE_CHECKING:
    import keras


class Builder(Protocol):
    """Builds a network; see `stem_unet.build_stem_unet`. The last layer gives the maps."""

    def __call__(
        self,
        height: int | None,
        width: int | None,
        channels: int,
        *,
        filters: int,
        maps: int,
        activation: str | None = None,
    ) -> keras.Model:
        """Return a network from images (N, H, W, channels) to maps (N, H, W, maps)."""


@dataclass(frozen=True)
class Architecture:
    """A network and what tiling needs to know about it.

    Attributes
    ----------
    build : Builder
    multiple_of_px : int
        Height and width must be multiples of this.
    halo_px : int
        How far from a cut at such a multiple the output changes with what lies beyond it, rounded up to one.
    """

    build: Builder
    multiple_of_px: int
    halo_px: int


ARCHITECTURES = {
    "unet": Architecture(unet.build_unet, unet.MULTIPLE_OF_PX, unet.HALO_PX),
    "stem_unet": Architecture(stem_unet.build_stem_unet, stem_unet.MULTIPLE_OF_PX, stem_unet.HALO_PX),
    "residual_unet": Architecture(
        residual_unet.build_residual_unet, residual_unet.MULTIPLE_OF_PX, residual_unet.HALO_PX
    ),
}
