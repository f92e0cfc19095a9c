"""How alike images are, and how unlike those that a model was trained on: by their colours, textures and nuclei."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.model.card import ModelCard
from nuclei_runtime.steps.novelty import Appearance, Familiar

N_COORDINATES = len(fields(Appearance)) + 1

ODD = 2.0
"""How many standard deviations from the training images a number is worth a word."""

WORDS_SHOWN = 2

WORDS = {
    "brightness": ("dark", "bright"),
    "contrast": ("little contrast", "much contrast"),
    "red_green": ("greenish", "reddish"),
    "green_blue": ("bluish", "yellowish"),
    "red_green_contrast": ("uniform colours", "varied colours"),
    "detail_1": ("smooth", "grainy"),
    "detail_4": ("blurred", "sharp"),
    "detail_16": ("no large structures", "large structures"),
}
"""For a number that is much lower or higher than in training images."""

SIZE_WORDS = ("small nuclei", "large nuclei")
"""For a size that is less than half of that of the training nuclei, or more than twice as large."""


@dataclass(frozen=True)
class Ruler:
    """Measures how images differ.

    Attributes
    ----------
    familiar : Familiar
        The images whose spread is the unit: those that the model was trained on, or others if these are not known.
    known_px : float
        Diameter of the nuclei that the model knows.
    max_novelty : float, optional
        How far images like the training images are from their mean, in standard deviations; None if these are not
        known.
    """

    familiar: Familiar
    known_px: float
    max_novelty: float | None = None

    def coordinates(self, appearance: Appearance, diameter_px: float | None) -> NDArray[np.float64]:
        """Return where an image lies among others, (N_COORDINATES,).

        These are the appearance in standard deviations of the training images, beyond one of them on a logarithmic
        scale, so that images are told apart far from the training images too; and the size of the nuclei in octaves.
        """
        octaves = 0.0 if diameter_px is None else math.log2(diameter_px / self.known_px)
        return np.append(np.arcsinh(self.familiar.whitened(appearance)), octaves)

    def familiarity(self, appearance: Appearance) -> float:
        """Return how much an image is like the training images of the model, 0 to 1; 1 if they are not known."""
        if self.max_novelty is None:
            return 1.0
        return min(1.0, self.max_novelty / max(self.familiar.distance(appearance), 1e-9))

    def in_words(self, appearance: Appearance, diameter_px: float | None) -> str:
        """Return how an image differs from the training images, such as ``large nuclei, dark``; empty if it does not.

        Empty too if they are not known.
        """
        if self.max_novelty is None:
            return ""
        spreads = np.sqrt(np.square(np.linalg.inv(np.array(self.familiar.whitening))).sum(axis=1))
        odd = np.subtract(astuple(appearance), astuple(self.familiar.means)) / spreads
        by_name = dict(zip((one.name for one in fields(Appearance)), odd.tolist(), strict=True))
        found = sorted((name for name in WORDS if abs(by_name[name]) >= ODD), key=lambda name: -abs(by_name[name]))
        words = [WORDS[name][by_name[name] > 0] for name in found[:WORDS_SHOWN]]
        octaves = 0.0 if diameter_px is None else math.log2(diameter_px / self.known_px)
        return ", ".join([SIZE_WORDS[octaves > 0], *words] if abs(octaves) >= 1 else words)


def ruler_of(card: ModelCard, appearances: Sequence[Appearance]) -> Ruler:
    """Return the ruler of a model, or of some images if its card does not say what it was trained on."""
    known_px = card.training_nucleus_diameter_px
    if card.flags is not None:
        return Ruler(card.flags.familiar, known_px, card.flags.max_novelty)
    numbers = np.array([astuple(one) for one in appearances])
    spreads = numbers.std(axis=0)
    whitening = np.diag(np.divide(1.0, spreads, out=np.zeros_like(spreads), where=spreads > 0))
    return Ruler(Familiar(Appearance(*numbers.mean(axis=0)), tuple(map(tuple, whitening.tolist()))), known_px)
