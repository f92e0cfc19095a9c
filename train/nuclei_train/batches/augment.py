"""Data augmentation: random changes of geometry, light, colour and noise, as between acquisitions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nuclei_runtime.arrays import Labels, from_uint8
from nuclei_train.batches.haze import hazed
from nuclei_train.batches.stains import haematoxylin, restained, shows_fluorescence, virtual_section


@dataclass(frozen=True)
class Augmentation:
    """How strongly crops are changed.

    Attributes
    ----------
    scale : tuple of float
        Smallest and largest magnification, drawn log-uniformly.
    rotate : bool
        By any angle, not just by quarter turns.
    light : bool
        Gamma, contrast, brightness, uneven light, blur and noise.
    stain : bool
        Stains and scanners that are not in the training data: see `nuclei_train.batches.stains`; also conversion to
        grey, negatives of grey images, and tints.
    appearance_share : float
        Share of the crops, 0 to 1, whose light and stain are changed; the others look like their image.
    """

    scale: tuple[float, float] = (0.7, 1.6)
    rotate: bool = True
    light: bool = True
    stain: bool = True
    appearance_share: float = 0.6

    def eased(self) -> Augmentation:
        """Return the same augmentation with a third of the `appearance_share`."""
        return replace(self, appearance_share=self.appearance_share / 3)


def random_crop(
    rng: np.random.Generator, image: NDArray[np.uint8], labels: Labels, size_px: int, augmentation: Augmentation
) -> tuple[NDArray[np.float32], Labels, NDArray[np.bool_]]:
    """Cut a randomly placed, rotated, flipped and scaled square out of an image.

    Parameters
    ----------
    image : (H, W, C) ndarray of uint8
    labels : (H, W) ndarray of int32
    size_px : int
        Side of the crop.

    Returns
    -------
    image : (size, size, C) ndarray of float32 in [0, 1]
    labels : (size, size) ndarray of int32
    valid : (size, size) ndarray of bool
        False where the crop extends beyond the image; there the image is mirrored and the labels are 0.
    """
    low, high = augmentation.scale
    scale = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    angle = rng.uniform(0, 2 * np.pi) if augmentation.rotate and rng.random() < 0.5 else 0.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
    reach = size_px / scale
    extent = np.array(image.shape[:2], dtype=np.float64)
    # The centre is chosen so that the crop stays inside if it can; pixel 0 extends from -0.5 to 0.5.
    centre = np.array([rng.uniform(reach / 2, n - reach / 2) if n > reach else n / 2 for n in extent]) - 0.5
    offset = centre - turn @ np.full(2, (size_px - 1) / 2)
    shape = (size_px, size_px)
    matrix = turn if angle else turn.diagonal()  # SciPy treats a diagonal as mere scaling, which takes half the time
    cropped = np.stack(
        [
            ndimage.affine_transform(image[..., c], matrix, offset, shape, np.float32, order=1, mode="mirror")
            for c in range(image.shape[2])
        ],
        axis=-1,
    )
    cropped_labels = ndimage.affine_transform(
        labels, matrix, offset, shape, np.int32, order=0, mode="constant", cval=-1
    )
    if rng.random() < 0.5:
        cropped, cropped_labels = cropped[::-1], cropped_labels[::-1]
    quarter_turns = int(rng.integers(4))
    cropped, cropped_labels = np.rot90(cropped, quarter_turns), np.rot90(cropped_labels, quarter_turns)
    valid = cropped_labels >= 0
    return from_uint8(cropped), np.where(valid, cropped_labels, 0).astype(np.int32), valid


def random_appearance(
    rng: np.random.Generator, image: NDArray[np.float32], labels: Labels, augmentation: Augmentation
) -> NDArray[np.float32]:
    """Change stain, light, sharpness and noise of an (H, W, 3) image in [0, 1]; the result is in [0, 1] as well."""
    if rng.random() >= augmentation.appearance_share:
        return image
    changed = image
    if augmentation.stain:
        changed = _change_stain(rng, changed, labels)
    if augmentation.light:
        changed = _change_light(rng, changed)
    return np.clip(changed, 0.0, 1.0).astype(np.float32)


def _change_stain(rng: np.random.Generator, image: NDArray[np.float32], labels: Labels) -> NDArray[np.float32]:
    """Return the image as another stain might show it, or a channel of it.

    Only grey becomes its negative: in colour, bright spots are gaps in the tissue, not nuclei.
    """
    colourful = float(np.abs(image[..., 0] - image[..., 1]).mean()) > 0.01
    kind = rng.random()
    if colourful:
        if kind < 0.12:
            return _maybe_negative(rng, np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1))
        if kind < 0.24:
            return haematoxylin(image)
        if kind < 0.32:
            return image[..., rng.permutation(3)]
        return restained(rng, image) if kind < 0.75 else image
    if kind < 0.50 and shows_fluorescence(image, labels):
        return virtual_section(rng, image, labels) if kind < 0.30 else hazed(rng, image)
    if 0.50 <= kind < 0.70:  # tinted, as in false-coloured fluorescence and with old cameras
        return image * rng.uniform(0.2, 1.0, 3).astype(np.float32)
    return _maybe_negative(rng, image)


def _maybe_negative(rng: np.random.Generator, image: NDArray[np.float32]) -> NDArray[np.float32]:
    return 1.0 - image if rng.random() < 0.2 else image


def _change_light(rng: np.random.Generator, image: NDArray[np.float32]) -> NDArray[np.float32]:
    if rng.random() < 0.6:
        image = np.clip(image, 0.0, 1.0) ** np.float32(np.exp(rng.uniform(-0.7, 0.7)))
    if rng.random() < 0.6:
        image = (image - 0.5) * rng.uniform(0.6, 1.3) + 0.5 + rng.uniform(-0.15, 0.15)
    if rng.random() < 0.2:  # illumination that falls off towards one side
        height, width = image.shape[:2]
        ramp = np.linspace(-1, 1, height)[:, np.newaxis] * rng.normal() + np.linspace(-1, 1, width) * rng.normal()
        image = image * (1 + 0.25 * np.tanh(ramp)).astype(np.float32)[..., np.newaxis]
    softness = rng.random()
    if softness < 0.25:
        sigma = rng.uniform(0.4, 1.8)
        image = ndimage.gaussian_filter(image, (sigma, sigma, 0), truncate=3)
    elif softness < 0.35:
        blurred = ndimage.gaussian_filter(image, (1.0, 1.0, 0), truncate=3)
        image = image + rng.uniform(0.3, 1.0) * (image - blurred)
    if rng.random() < 0.35:
        noise = rng.standard_normal((*image.shape[:2], 1) if rng.random() < 0.7 else image.shape, dtype=np.float32)
        image = image + rng.uniform(0.01, 0.08) * noise
    return image.astype(np.float32)
