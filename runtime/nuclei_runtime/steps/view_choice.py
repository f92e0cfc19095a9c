"""Chooses the view of an image: how a network is shown it.

A network that has learned nuclei of one size in a few stains finds many others, if it is shown them in the right way.
Its maps tell how well it sees: every true nucleus has a pixel at which the distance is 1, and a foreground that is
certain up to its edge. A linear model of such `Signs`, fitted on validation images, predicts an image's AP@0.5. Another
view than the image as it is is taken only where it promises more.

docs/card.md has the complete procedure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels, Maps
from nuclei_runtime.json_fields import Fields
from nuclei_runtime.steps.view import View

LOOKS_LARGE, LOOKS_SMALL = 1.7, 0.5
"""Of an image that is not doubtful, only the scales are tried that the size of the nuclei suggests: that at which they
are seen, relative to the training nuclei. Looking at it twice as large costs as much as looking at four images; on the
validation images, nuclei of more than half the size gained nothing by it.

Nor is test-time augmentation of use to an image whose nuclei look large in the view that was chosen: enlarged, they
look larger still."""

MIN_NUCLEI = 3
"""Fewer nuclei may be specks or noise: a view that shows so few must promise as much as an image that is not looked at
again. If there are fewer in the image as it is, it may be empty: another view is then taken only if it is beyond doubt.
"""

FOREGROUND = 0.5
UNCERTAIN = (0.2, 0.8)
"""Pixels with a higher foreground probability than the first are foreground; those between the others are ambiguous."""


MAX_WEIGHT = 1000.0
"""Bound of the numbers in a model card."""


@dataclass(frozen=True)
class Signs:
    """How well a network sees an image, judged by its own maps.

    Attributes
    ----------
    peak : float
        Mean over the nuclei of the largest distance in each, 0 to 1.
    peak_by_area : float
        The same, weighted by the areas of the nuclei.
    inside : float
        Mean foreground probability of all pixels of the nuclei.
    ambiguous : float
        Number of pixels whose foreground probability is in `UNCERTAIN`, per pixel of foreground (above `FOREGROUND`).
    log_count : float
        Natural logarithm of one plus the number of nuclei.
    """

    peak: float
    peak_by_area: float
    inside: float
    ambiguous: float
    log_count: float


@dataclass(frozen=True)
class Look:
    """What a network finds in an image, or in a part of it, in one view.

    Attributes
    ----------
    signs : Signs
    n_nuclei : int
    diameter_px : float
        Mean diameter of disks with the areas of the nuclei, weighted by these areas, in pixels of the image: pieces and
        specks count little. 0 if there are none.
    """

    signs: Signs
    n_nuclei: int
    diameter_px: float


@dataclass(frozen=True)
class ViewChoice:
    """What a model card says about the choice of views.

    Attributes
    ----------
    intercept : float
    weights : Signs
        The expected AP@0.5 is the intercept plus the weighted sum of the signs, clipped to 0..1.
    trigger : float
        An image that promises at least this as it is is not looked at in any other view.
    doubt : float
        An image that promises less than this is doubtful: it is looked at as every stain and at every scale.
    margin : float
        How much more than the image as it is another view must promise.
    """

    intercept: float
    weights: Signs
    trigger: float
    doubt: float
    margin: float

    def expected_ap(self, signs: Signs) -> float:
        """Return the AP@0.5 that is expected of what a network finds, 0 to 1."""
        weighted = (weight * sign for weight, sign in zip(astuple(self.weights), astuple(signs), strict=True))
        return min(max(self.intercept + float(sum(weighted)), 0.0), 1.0)


def choose(
    choice: ViewChoice, views: Sequence[View], known_px: float, look: Callable[[View], Look | None]
) -> tuple[View, float]:
    """Choose one of several views of an image, looking at as few of them as possible.

    Parameters
    ----------
    choice : ViewChoice
    views : sequence of View
        The first is the image as it is. If its `tta` is set, the view that is chosen is averaged, unless there were
        others and the nuclei look larger in it than `LOOKS_LARGE`. The others have no `tta`.
    known_px : float
        Diameter of the training nuclei.
    look : callable
        Returns what the network finds in a view without `tta`, or None if it sees in it what it has seen earlier.

    Returns
    -------
    view : View
    expected_ap : float
        What it promises without `tta`, 0 to 1.
    """
    first, *others = views
    view, expected_ap, size = _most_promising(choice, (replace(first, tta=False), *others), known_px, look)
    is_averaged = first.tta and (not others or size <= LOOKS_LARGE)
    return replace(view, tta=is_averaged), expected_ap


def _most_promising(
    choice: ViewChoice, views: Sequence[View], known_px: float, look: Callable[[View], Look | None]
) -> tuple[View, float, float]:
    """Return a view, what it promises, and how large the nuclei look in it, relative to the training nuclei."""
    first = views[0]
    promises: dict[View, float] = {}
    looks: dict[View, Look] = {}

    def see(view: View) -> bool:
        seen = look(view)
        if seen is not None:
            looks[view], promises[view] = seen, choice.expected_ap(seen.signs)
        return seen is not None

    def size(view: View) -> float:
        return looks[view].diameter_px * view.scale.factor / known_px

    see(first)
    if promises[first] >= choice.trigger:
        return first, promises[first], size(first)
    if promises[first] < choice.doubt:
        for view in views[1:]:
            if view.scale == first.scale:
                see(view)
    start = max(promises, key=promises.__getitem__)  # the first of equals
    is_doubtful = promises[start] < choice.doubt
    smaller = 1.0 if is_doubtful else LOOKS_SMALL
    reduced = enlarged = start
    for view in views[1:]:
        if view.stain != start.stain or view.scale == first.scale:
            continue
        # Further only where the nuclei still look large or small. If in doubt, they may be pieces of larger ones.
        if view.scale.factor < first.scale.factor:
            if (is_doubtful or size(reduced) > LOOKS_LARGE) and see(view):
                reduced = view
        elif size(enlarged) < smaller and see(view):
            enlarged = view
    needed = promises[first] + choice.margin
    if looks[first].n_nuclei < MIN_NUCLEI:
        needed = max(needed, choice.doubt)
    credible = [view for view in promises if looks[view].n_nuclei >= MIN_NUCLEI or promises[view] >= choice.trigger]
    best = max(credible, key=promises.__getitem__, default=first)
    if promises[best] <= needed:
        best = first
    return best, promises[best], size(best)


def look_at(parts: Sequence[tuple[Maps, Labels]]) -> Look:
    """Return what a network finds in an image.

    Parameters
    ----------
    parts : sequence of (maps, labels)
        (H, W, M) maps, of which the first two are foreground and distance, and the (H, W) labels found in them; of the
        whole image or of parts of it.
    """
    n_foreground = n_ambiguous = 0
    inside = 0.0
    areas: list[NDArray[np.intp]] = []
    peaks: list[NDArray[np.float32]] = []
    for maps, labels in parts:
        foreground = np.ascontiguousarray(maps[..., 0])  # it is gone through several times
        n_foreground += int(np.count_nonzero(foreground > FOREGROUND))
        n_ambiguous += int(np.count_nonzero((foreground > UNCERTAIN[0]) & (foreground < UNCERTAIN[1])))
        is_nucleus = labels > 0
        numbers = labels[is_nucleus]
        inside += float(foreground[is_nucleus].sum(dtype=np.float64))
        peak = np.zeros(int(labels.max()) + 1, np.float32)
        np.maximum.at(peak, numbers, maps[..., 1][is_nucleus])
        areas.append(np.bincount(numbers, minlength=peak.size)[1:])
        peaks.append(peak[1:])
    ambiguous = n_ambiguous / max(n_foreground, 1)
    if not any(one.size for one in areas):
        return Look(Signs(0.0, 0.0, 0.0, ambiguous, 0.0), 0, 0.0)
    area, peak = np.concatenate(areas).astype(np.float64), np.concatenate(peaks).astype(np.float64)
    total = float(area.sum())
    signs = Signs(
        peak=float(peak.mean()),
        peak_by_area=float((peak * area).sum()) / total,
        inside=inside / total,
        ambiguous=ambiguous,
        log_count=math.log1p(area.size),
    )
    return Look(signs, area.size, float((2 * np.sqrt(area / np.pi) * area).sum()) / total)


def take_view_choice(reader: Fields) -> ViewChoice:
    """Return the choice of views that the ``views`` of a model card describe, and note their problems."""
    weights = reader.object("weights")
    choice = ViewChoice(
        intercept=reader.number("intercept", -MAX_WEIGHT, MAX_WEIGHT),
        weights=Signs(*(weights.number(sign.name, -MAX_WEIGHT, MAX_WEIGHT) for sign in fields(Signs))),
        trigger=reader.number("trigger", 0, 1),
        doubt=reader.number("doubt", 0, 1),
        margin=reader.number("margin", 0, 1),
    )
    weights.close()
    reader.close()
    return choice
