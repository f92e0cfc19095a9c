"""Recipes: what to train, on what, for how long. Each decision of a training stands here once."""

from __future__ import annotations

from dataclasses import dataclass

from nuclei_runtime.preprocess import Step


@dataclass(frozen=True)
class Recipe:
    """How a network is trained and how its output is read.

    Attributes
    ----------
    name : str
    seed : int
        Of the initial weights, dropout, the order of batches and, where there is no images.csv, the split.
    size_px : int
        Height and width to which images and masks are resized.
    normalisation : Step
        What happens to an image before the resize.
    batch_size, epochs : int
    patience : int
        Epochs without a better validation loss after which training stops.
    learning_rate : float
        Of Adam.
    validation_fraction : float
        Of the images, drawn at random, where there is no images.csv.
    threshold : float
        Foreground is where the probability is above it.
    tolerance : float
        Largest absolute difference in probability that the exported model may show against the checkpoint.
    description : str
        For the model card: what the network is.
    limitations : tuple of str
        For the model card: what it cannot do.
    """

    name: str
    seed: int
    size_px: int
    normalisation: Step
    batch_size: int
    epochs: int
    patience: int
    learning_rate: float
    validation_fraction: float
    threshold: float
    tolerance: float
    description: str
    limitations: tuple[str, ...]

    @property
    def preprocessing(self) -> tuple[Step, ...]:
        """What happens to an image before the network, in order."""
        return (self.normalisation, Step("resize", {"height": self.size_px, "width": self.size_px}))


BASELINE = Recipe(
    name="baseline",
    seed=42,
    size_px=128,
    # Limits of StarDist's normalisation (Schmidt et al. 2018, code): robust against single hot pixels, and the
    # same picture in 8, 12 or 16 bits gives the same input.
    normalisation=Step("percentile_normalisation", {"lower": 1.0, "upper": 99.8}),
    batch_size=16,
    epochs=25,
    patience=2,
    learning_rate=1e-3,  # Kingma and Ba 2015, and Keras's default
    validation_fraction=0.1,
    threshold=0.5,  # of a sigmoid trained with binary cross-entropy: the more probable class
    # Some hundred times the difference that float32 and another order of summation make (measured: about 1e-6).
    tolerance=1e-4,
    description="Finds nuclei as foreground: a U-Net on the whole image resized to 128 x 128 pixels.",
    limitations=(
        "Touching nuclei come out as one: nuclei are the connected pieces of the foreground.",
        "Every image is squeezed to 128 x 128 pixels, whatever its size and aspect ratio: outlines are coarse, and "
        "nuclei that are small against the image are lost. Cut large images into tiles of about 256 x 256 pixels.",
        "Contrast is stretched to the brightest of the image, so an image without any nucleus may show false ones.",
        "For research; not validated for diagnosis.",
    ),
)

RECIPES = {recipe.name: recipe for recipe in (BASELINE,)}
