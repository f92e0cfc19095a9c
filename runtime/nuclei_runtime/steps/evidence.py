"""What is known of an image from the parts of it that a network has looked at, beside its nuclei.

It is measured in what the network is shown, so that neither the exposure nor the number of bits matters.
`nuclei_runtime.steps.flags` decides what of it is unordinary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.steps.contrast import Contrast
from nuclei_runtime.steps.novelty import Appearance, Familiar, appearance_of
from nuclei_runtime.steps.view_choice import Look

Shown = Sequence[tuple[NDArray[np.float32], NDArray[np.bool_]]]
"""Parts of an image: what the network is shown of each, (h, w) or (h, w, 3) in [0, 1], and where in it there are
nuclei."""

EDGE_PX = 2
"""How far from the edge of a nucleus, on either side, its steepness is measured, in pixels as they are shown.
At three times that distance, the nucleus and its ground are expected. Relative to the diameter of the nuclei instead,
blur was told less well from small nuclei: it makes them look large."""


@dataclass(frozen=True)
class Evidence:
    """What is known of an image, in the parts of it that were looked at, as it was shown to the network.

    Attributes
    ----------
    contrast : Contrast, optional
    expected_ap : float, optional
        The share of nuclei that are expected to be right, 0 to 1; see `nuclei_runtime.steps.view_choice`.
    appearance : Appearance, optional
        What it looks like; None if nothing stands out, or if it is tiny.
    novelty : float, optional
        How far that is from the training images, in standard deviations.
    size : float, optional
        Mean diameter of the nuclei, weighted by their areas, as the network was shown them and relative to the training
        nuclei. None if there are none.
    saturation : float, optional
        Share of the pixels of the nuclei that have no contrast left, 0 to 1: all their colours are clipped.
    sharpness : float, optional
        How steep the edges of the nuclei are; see `sharpness_of`.
    flatness : float, optional
        Share of neighbouring pixels that are equal, 0 to 1; see `flatness_of`.
    """

    contrast: Contrast | None = None
    expected_ap: float | None = None
    appearance: Appearance | None = None
    novelty: float | None = None
    size: float | None = None
    saturation: float | None = None
    sharpness: float | None = None
    flatness: float | None = None


NO_EVIDENCE = Evidence()


def evidence_of(
    parts: Shown,
    look: Look,
    known_px: float,
    *,
    expected_ap: float,
    scale: float = 1.0,
    contrast: Contrast | None = None,
    familiar: Familiar | None = None,
) -> Evidence:
    """Return what is known of an image in which something stands out.

    Parameters
    ----------
    parts : sequence of (shown, mask)
        At the image's own scale.
    look : Look
        What the network finds in the view that was chosen.
    known_px : float
        Diameter of the training nuclei.
    expected_ap : float
    scale : float
        How many times larger the network was shown the image in that view.
    contrast : Contrast, optional
    familiar : Familiar, optional
        What the training images look like.
    """
    appearance = appearance_of(shown for shown, _ in parts)
    return Evidence(
        contrast,
        expected_ap,
        appearance,
        None if appearance is None or familiar is None else familiar.distance(appearance),
        look.diameter_px * scale / known_px if look.n_nuclei else None,
        saturation_of(parts),
        sharpness_of(parts, scale),
        flatness_of(shown for shown, _ in parts),
    )


def saturation_of(parts: Shown) -> float | None:
    """Return the share of the pixels of the nuclei that are clipped, at white or at black, in all colours."""
    n_pixels = n_clipped = 0
    for shown, mask in parts:
        colours = _pixels(shown).take(np.flatnonzero(mask), axis=0).T
        darkest, brightest = reduce(np.minimum, colours), reduce(np.maximum, colours)
        n_pixels += darkest.size
        n_clipped += int(np.count_nonzero((darkest >= 1) | (brightest <= 0)))
    return n_clipped / n_pixels if n_pixels else None


def sharpness_of(parts: Shown, scale: float) -> float | None:
    """Return how steep the edges of the nuclei are: about 0.3 for a long ramp, 1 for a step.

    It is the mean difference across an edge of two pixels that are close to it, divided by that of two pixels three
    times as far from it, along rows and columns.

    Parameters
    ----------
    parts : sequence of (shown, mask)
    scale : float
        How many times larger the network was shown the image; see `EDGE_PX`.

    Returns
    -------
    float or None
        None if there are no edges, or nuclei and ground are equally bright.
    """
    near = max(round(EDGE_PX / scale), 1)
    far = 3 * near
    sums = np.zeros(2)
    for shown, mask in parts:
        pixels, width = _pixels(shown), mask.shape[1]
        for inside, to_next_row, to_next_column in ((mask, width, 1), (np.ascontiguousarray(mask.T), 1, width)):
            edges = np.flatnonzero(inside[1:] != inside[:-1])  # the edge lies below these rows
            rows, columns = np.divmod(edges, inside.shape[1])
            is_within = (rows >= far - 1) & (rows < len(inside) - far)
            places = (rows * to_next_row + columns * to_next_column)[is_within]
            sign = np.where(inside.ravel()[edges[is_within]], np.float32(1), np.float32(-1))[:, np.newaxis]
            for index, step in enumerate((near, far)):
                before, after = places - (step - 1) * to_next_row, places + step * to_next_row
                across = pixels.take(before, axis=0) - pixels.take(after, axis=0)
                sums[index] += (sign * across).sum(dtype=np.float64)
    return float(sums[0] / sums[1]) if sums[1] else None


def flatness_of(parts: Iterable[NDArray[np.float32]]) -> float:
    """Return the share of neighbours, along rows and columns, that are equal in all colours.

    Only pixels that are neither black nor white count: those may be clipped. If there are no others, it is 1.
    """
    n_pairs = n_equal = 0
    for shown in parts:
        colours = shown.reshape(*shown.shape[:2], -1)
        counts = (colours.max(axis=-1) > 0) & (colours.min(axis=-1) < 1)
        for lines, counted in ((colours, counts), (colours.swapaxes(0, 1), counts.T)):
            pairs = counted[1:] & counted[:-1]
            n_pairs += int(np.count_nonzero(pairs))
            n_equal += int(np.count_nonzero(pairs & (lines[1:] == lines[:-1]).all(axis=-1)))
    return n_equal / n_pairs if n_pairs else 1.0


def _pixels(shown: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the pixels of a part, row by row, (h * w, 1) or (h * w, 3)."""
    return shown.reshape(shown.shape[0] * shown.shape[1], -1)
