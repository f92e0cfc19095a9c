"""A finished model whose answers are learned beside the truth (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime import Segmenter
from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ModelError
from nuclei_runtime.steps.step import MAPS

SHARE = 0.5
"""How much of what is learned is the teacher's answer; the rest is the truth. Not tuned."""


class Teacher:
    """A model with test-time augmentation: the mean of what it sees at two scales is better than either.

    Its own weights may be what the training begins with: the network then learns to see at once what took two looks.
    Its answers are scaled with the crops, borders between nuclei with them, which in the truth are equally wide at any
    scale.

    Parameters
    ----------
    model : Path
        An ONNX file that `nuclei-export` wrote.

    Raises
    ------
    ModelError
        It cannot be loaded, takes images of one size only, or gives other maps than those that are learned.
    """

    def __init__(self, model: Path) -> None:
        card = Segmenter(model).card
        if card.output.maps != MAPS or card.input.tiling is None:
            size = "any size" if card.input.tiling is not None else f"{card.input.height} x {card.input.width} pixels"
            raise ModelError(
                f"{model}: takes images of {size} and gives {', '.join(card.output.maps)}, expected of a teacher are "
                f"any size and {', '.join(MAPS)}; name an export of a run of the recipe native"
            )
        self._segmenter = Segmenter(model, tta=True)

    @property
    def digest(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return self._segmenter.model_sha256

    def answer(self, image: Image) -> NDArray[np.uint8]:
        """Return the model's maps of an image, (H, W, 3), 255 for 1, in the order of `instances.MAPS`.

        Raises
        ------
        ImageError
            See `nuclei_runtime.Segmenter.predict`.
        """
        (maps,) = self._segmenter.predict([image])
        return np.rint(maps * 255).astype(np.uint8)
