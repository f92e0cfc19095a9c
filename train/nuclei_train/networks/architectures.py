"""The networks that a recipe can train, by name: small builders of one signature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from nuclei_train.networks import residual_unet, stem_unet, unet

if TYPE_CHECKING:
    import keras


class Builder(Protocol):
    """Builds a network; see `stem_unet.build_stem_unet`. The layer that gives the maps is the last."""

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
        """Return the network, from images (N, H, W, channels) to maps (N, H, W, maps)."""


@dataclass(frozen=True)
class Architecture:
    """A network, and what tiles must know of it.

    Attributes
    ----------
    build : Builder
    multiple_of_px : int
        Height and width must be multiples of it.
    halo_px : int
        What a pixel of the output can see in each direction, rounded up to such a multiple.
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
