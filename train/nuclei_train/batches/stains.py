"""Stains of histology, as the Beer-Lambert law describes them: changed, taken apart, and made up.

Light that passes through a section is weakened by each stain: I = I0 exp(-sum of amount x vector), where a stain's
vector is its absorbance of red, green and blue. The minus logarithm of an image, its optical density, is therefore a
sum of stains, and can be taken apart by the inverse of their vectors (Ruifrok and Johnston 2001).

Pictures are (H, W, 3) ndarrays of float32 in [0, 1], RGB, as a contrast step gives them: 1 is the brightest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nuclei_runtime.arrays import Labels
from nuclei_runtime.steps.stains import stained
from nuclei_train.batches.textures import clouds, fibres, stretched, waves

DARKEST = 0.02
"""Where less light passes, the optical density is not known."""

HAEMATOXYLIN = (0.65, 0.70, 0.29)
EOSIN = (0.07, 0.99, 0.11)
DAB = (0.27, 0.57, 0.78)
"""Diaminobenzidine, the brown of immunohistochemistry. The three vectors are those of Ruifrok and Johnston (2001)."""

PURPLE_HAEMATOXYLIN, BLUE_HAEMATOXYLIN = (0.50, 0.80, 0.36), (0.86, 0.46, 0.19)
"""How far the vector of haematoxylin varies between laboratories and scanners: read off images of both kinds."""
PINK_EOSIN, RED_EOSIN = (0.07, 0.99, 0.11), (0.10, 0.86, 0.50)

FLUORESCENCE_CONTRAST = 0.15
"""How much brighter than the ground the nuclei of a fluorescence image are, at least."""


def restained(rng: np.random.Generator, picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a stained section as another laboratory and another scanner might show it.

    The amount of each stain is changed, as in HED jitter (Tellez et al. 2018), and so are the stains' vectors.
    """
    vectors = _normalised(np.array([HAEMATOXYLIN, EOSIN, DAB]))
    amounts = _density(picture) @ np.linalg.inv(vectors)
    amounts = amounts * rng.uniform(0.65, 1.5, 3) + rng.uniform(-0.05, 0.05, 3)
    changed = _normalised(np.clip(vectors + rng.normal(0, 0.1, (3, 3)), 0.01, None))
    return _light(amounts @ changed)


def haematoxylin(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the amount of haematoxylin in a stained section as a grey picture, in which nuclei are bright."""
    return np.repeat(stretched(stained(picture, "he", 1.0)[..., np.newaxis]), 3, axis=-1)


def shows_fluorescence(picture: NDArray[np.float32], labels: Labels) -> bool:
    """Whether the nuclei are bright and their ground is dark."""
    inside = labels > 0
    if not inside.any() or inside.all():
        return False
    return float(picture[inside].mean() - picture[~inside].mean()) > FLUORESCENCE_CONTRAST


def virtual_section(rng: np.random.Generator, picture: NDArray[np.float32], labels: Labels) -> NDArray[np.float32]:
    """Return the nuclei of a fluorescence image as a stained section might show them.

    After Giacomelli et al. (2016), who turn fluorescence into the look of haematoxylin and eosin by the Beer-Lambert
    law. Here the nuclei have the outlines of the labels and the texture of the picture; the ground is made up.

    Parameters
    ----------
    picture : (H, W, 3) ndarray of float32 in [0, 1]
    labels : (H, W) ndarray of int32
    """
    shape = labels.shape
    nuclei = _nuclei(rng, picture, labels)
    blue, purple = (_normalised(np.array(one)) for one in (BLUE_HAEMATOXYLIN, PURPLE_HAEMATOXYLIN))
    is_brown_stain = rng.random() < 0.35
    if is_brown_stain:  # immunohistochemistry: a pale ground, blue nuclei, and brown ones
        tint = rng.uniform(0.5, 1.0)
        brown = rng.random(int(labels.max()) + 1) < rng.uniform(0.1, 0.7)
        brown[0] = False
        is_brown = ndimage.gaussian_filter(brown[labels].astype(np.float32), 0.7)
        dab = _varied(rng, DAB)
        stronger = rng.uniform(0.8, 2.2)
        haze = rng.uniform(0.0, 0.15) * clouds(rng, shape, rng.uniform(2, 12))
        density = (nuclei * (1 - is_brown) + haze)[..., np.newaxis] * _varied(rng, tint * blue + (1 - tint) * purple)
        density += (stronger * nuclei * is_brown)[..., np.newaxis] * dab
        if rng.random() < 0.3:  # stain outside of nuclei
            density += (rng.uniform(0.02, 0.15) * clouds(rng, shape, rng.uniform(2, 12)))[..., np.newaxis] * dab
    else:
        tint = rng.uniform(0.0, 0.5)
        red = rng.random()
        eosin = _varied(rng, red * np.array(RED_EOSIN) + (1 - red) * np.array(PINK_EOSIN))
        haze = rng.uniform(0.0, 0.35) * clouds(rng, shape, rng.uniform(1, 6))
        ground = _ground(rng, shape)
        density = (nuclei + haze * ground)[..., np.newaxis] * _varied(rng, tint * blue + (1 - tint) * purple)
        density += (rng.uniform(0.2, 0.9) * ground * (1 - 0.5 * np.minimum(nuclei, 1)))[..., np.newaxis] * eosin
    light = _light(density) * rng.uniform(0.88, 1.0, 3)  # the scanner's white balance
    blur = rng.uniform(0.3, 1.1)
    light = ndimage.gaussian_filter(light, (blur, blur, 0), truncate=3)
    light += rng.uniform(0.0, 0.03) * rng.standard_normal(light.shape)
    return stretched(light)


def _nuclei(rng: np.random.Generator, picture: NDArray[np.float32], labels: Labels) -> NDArray[np.float32]:
    """Return the optical density of the nuclei, (H, W): each is as dark as chance has it, with its own texture."""
    inside = labels > 0
    n = int(labels.max()) + 1
    grey = picture.mean(axis=-1)
    area = np.maximum(np.bincount(labels.ravel(), minlength=n), 1)
    mean = np.bincount(labels.ravel(), grey.ravel(), minlength=n) / area
    texture = np.clip(grey / np.maximum(mean, 0.02)[labels], 0.3, 1.8) ** rng.uniform(0.3, 1.5)
    if rng.random() < 0.5:  # coarse chromatin
        texture = texture * (1 + rng.uniform(0.1, 0.5) * waves(rng, labels.shape, rng.uniform(0.7, 2.0)))
    depth = ndimage.distance_transform_edt(inside)
    pale = rng.random(n) < rng.choice([0.0, 0.3, 0.8])  # vesicular nuclei: a dark rim around a pale centre
    rim = np.exp(-np.maximum(depth - 1, 0) / rng.uniform(1.5, 3.0))
    centre = rng.uniform(0.25, 0.6)
    texture = np.where(pale[labels], texture * (centre + (1 - centre) * rim), texture)
    amount = rng.uniform(0.5, 1.6) * np.exp(rng.normal(0, rng.uniform(0.1, 0.45), n))
    density = np.where(inside, amount[labels] * np.clip(texture, 0.1, 2.5), 0.0)
    return np.asarray(ndimage.gaussian_filter(density, rng.uniform(0.4, 1.0), truncate=3), np.float32)


def _ground(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the amount of what eosin stains, (H, W), about 0 to 1: clouds, fibres, and gaps where there is none."""
    ground = 0.6 + 0.4 * waves(rng, shape, rng.uniform(4, 20))
    ground += rng.uniform(0, 0.15) * waves(rng, shape, rng.uniform(0.7, 1.5))
    if rng.random() < 0.5:
        ground += rng.uniform(0.1, 0.5) * fibres(rng, shape)
    if rng.random() < 0.7:
        gaps = waves(rng, shape, rng.uniform(2, 14)) > rng.uniform(0.5, 2.0)
        ground = ground * (1 - ndimage.gaussian_filter(gaps.astype(np.float32), rng.uniform(0.4, 1.2)))
    return np.asarray(np.clip(ground, 0.0, 2.0), np.float32)


def _varied(rng: np.random.Generator, vector: object) -> NDArray[np.float64]:
    """Return a stain's vector as it may be elsewhere."""
    return _normalised(np.clip(np.asarray(vector, np.float64) + rng.normal(0, 0.04, 3), 0.01, None))


def _normalised(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _density(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(-np.log(np.clip(picture, DARKEST, 1.0)))


def _light(density: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(np.exp(-np.clip(density, 0, None)), np.float32)
