"""The picture that bioimage.io shows of a package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from nuclei_export.bioimageio.contrast import scale_range
from nuclei_runtime.arrays import Image, Maps


def draw_cover(path: Path, image: Image, maps: Maps) -> None:
    """Draw the test image and, to its right, the network's maps: foreground, distance, border in red, green, blue.

    Twice as wide as high, as bioimage.io asks for.
    """
    shown = np.zeros((*maps.shape[:2], 3), np.float32)
    shown[..., : maps.shape[-1]] = maps
    both = np.concatenate([scale_range(image), shown], axis=1)
    PillowImage.fromarray((both * 255).round().astype(np.uint8)).save(path)
