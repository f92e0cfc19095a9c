"""The pictures of a package, for people: bioimage.io shows the cover, and other programs offer the samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from nuclei_export.bioimageio.contrast import scale_range
from nuclei_runtime.arrays import Image, Maps


def draw_cover(path: Path, image: Image, maps: Maps) -> None:
    """Draw an image and, to its right, its maps. Twice as wide as high, as bioimage.io asks for."""
    _save(path, np.concatenate([scale_range(image), maps_as_rgb(maps)], axis=1))


def draw_samples(input_path: Path, output_path: Path, image: Image, maps: Maps) -> None:
    """Save an image as it is, and its maps as a picture."""
    PillowImage.fromarray(image).save(input_path)
    _save(output_path, maps_as_rgb(maps))


def maps_as_rgb(maps: Maps) -> NDArray[np.float32]:
    """Show foreground in red, distance in green and border in blue."""
    shown = np.zeros((*maps.shape[:2], 3), np.float32)
    shown[..., : maps.shape[-1]] = maps
    return shown


def _save(path: Path, picture: NDArray[Any]) -> None:
    PillowImage.fromarray((picture * 255).round().astype(np.uint8)).save(path)
