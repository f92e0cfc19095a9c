"""Knowledge distillation: a finished model whose predictions are learned with the truth (Hinton et al. 2015,
arXiv:1503.02531)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime import Segmenter
from nuclei_runtime.arrays import Image, Labels, to_uint8
from nuclei_runtime.errors import ModelError
from nuclei_runtime.metrics import match
from nuclei_runtime.steps.step import MAPS

SHARE = 0.5
"""Largest weight of a teacher's answer in the target; the rest is the truth. Not tuned."""


@dataclass(frozen=True)
class Answer:
    """A teacher's prediction for one image.

    Attributes
    ----------
    maps : (H, W, 3) ndarray of uint8
        In the order of `nuclei_runtime.steps.step.MAPS`, as `nuclei_runtime.arrays.to_uint8` stores them.
    share : float
        Weight in the target: `SHARE` times the teacher's AP@0.5 on this image. A teacher that does not know a stain or
        a tissue must not teach it.
    """

    maps: NDArray[np.uint8]
    share: float


class Teacher:
    """A model with test-time augmentation: the mean of its predictions at two scales is better than either.

    Training may begin with the weights of the teacher itself: the network then learns to predict in one pass what took
    the teacher several. The answers are scaled with the crops, and so are the borders between nuclei, which in the
    truth are equally wide at any scale.

    Parameters
    ----------
    model : Path
        An ONNX file written by `nuclei-export`.

    Raises
    ------
    ModelError
        It cannot be loaded, takes images of only one size, or gives other maps than those to be learned.
    """

    def __init__(self, model: Path) -> None:
        card = Segmenter(model).card
        if card.output.maps != MAPS or card.input.tiling is None:
            size = "any size" if card.input.tiling is not None else f"{card.input.height} x {card.input.width} pixels"
            raise ModelError(
                f"{model}: takes images of {size} and gives {', '.join(card.output.maps)}, but a teacher must take any "
                f"size and give {', '.join(MAPS)}; give a model exported from a run of the recipe native"
            )
        self._segmenter = Segmenter(model, tta=True)

    @property
    def digest(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return self._segmenter.model_sha256

    def answer(self, image: Image, truth: Labels) -> Answer:
        """Return the prediction for an image, which is weighted by how well it agrees with the truth, (H, W) int32.

        Raises
        ------
        ImageError
            See `nuclei_runtime.Segmenter.predict`.
        """
        (maps,) = self._segmenter.predict([image])
        ap = match(truth, self._segmenter.find_instances(maps).labels).ap()[0]
        return Answer(to_uint8(maps), SHARE * float(ap))
