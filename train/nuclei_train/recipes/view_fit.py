"""Fits, on the validation images, how the runtime may choose a view; see `nuclei_runtime.steps.view_choice`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple

import numpy as np

from nuclei_runtime.arrays import Labels, Maps
from nuclei_runtime.metrics import match
from nuclei_runtime.steps.instances import find_instances
from nuclei_runtime.steps.step import Step
from nuclei_runtime.steps.view_choice import Signs, ViewChoice, look_at

MIN_IMAGES = 20
"""With fewer validation images, six numbers cannot be fitted, and the images are shown as they are."""
RIDGE = 1e-3
"""Penalty on the squares of the weights, per image: the signs are correlated, and without it small sets give wild
weights. Between 1e-4 and 1e-2 the choices hardly change."""
TRIGGER_PERCENT, DOUBT_PERCENT = 50.0, 4.0
"""Percentiles of what the validation images promise as they are. Images like them are rarely shown in another view:
half of them are not looked at again, and only one in 25 is looked at in all views."""
MARGIN = 0.02
DECIMALS = 3
"""Of the numbers in the card."""


def fit_views(maps: Iterable[Maps], truths: Iterable[Labels], postprocessing: Step) -> ViewChoice | None:
    """Fit how the AP@0.5 of an image depends on what the network's maps of it look like.

    Only the images as they are are used. A fit on all views of them, most of which are far from anything that the
    network was trained on, predicts natural images less well: with the bundled model, the choices on stains of other
    laboratories were worse.

    Parameters
    ----------
    maps : iterable of (H, W, M) ndarray
        Of each validation image, as it is.
    truths : iterable of (H, W) ndarray of int32
    postprocessing : Step
        The model card's.

    Returns
    -------
    ViewChoice or None
        None if there are fewer than `MIN_IMAGES` images.
    """
    signs, scores = [], []
    for one, truth in zip(maps, truths, strict=True):
        labels = find_instances(one, postprocessing)
        signs.append((1.0, *astuple(look_at([(one, labels)]).signs)))
        scores.append(match(truth, labels).ap()[0])
    if len(scores) < MIN_IMAGES:
        return None
    known, ap = np.array(signs), np.array(scores)
    penalty = np.diag([0.0, *[RIDGE * len(ap)] * (known.shape[1] - 1)])
    intercept, *weights = np.linalg.solve(known.T @ known + penalty, known.T @ ap).round(DECIMALS).tolist()
    expected = np.clip(known @ np.array([intercept, *weights]), 0, 1)
    doubt, trigger = np.percentile(expected, (DOUBT_PERCENT, TRIGGER_PERCENT)).round(DECIMALS).tolist()
    return ViewChoice(intercept, Signs(*weights), trigger, doubt, MARGIN)
