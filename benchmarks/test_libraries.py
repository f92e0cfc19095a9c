"""Compare libraries that could find the instances, on the bundled model's maps of the sample, in one thread.

They have an environment of their own, because the project needs only a few of them: `benchmarks/environments.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import files, version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.side_by_side import SideBySide
from benchmarks.test_stages import decode
from nuclei_runtime import Segmenter

Pictures = Sequence[tuple[NDArray[Any], ...]]


@dataclass(frozen=True)
class Library:
    """One way to do a task.

    Attributes
    ----------
    module : str
        The module to import.
    distribution : str
        The package to install.
    call : callable
        Takes the module and the task's input; returns the task's result.
    """

    module: str
    distribution: str
    call: Callable[..., NDArray[Any]]


def _flood_with_opencv(cv2: Any, distance: NDArray[Any], seeds: NDArray[Any], inside: NDArray[Any]) -> NDArray[Any]:
    """Flood with OpenCV, which takes 8 bits, labels every pixel, and draws a line between labels."""
    markers = np.where(inside, seeds, seeds.max() + 1).astype(np.int32)
    grey = np.repeat((255 * (1 - distance[..., np.newaxis])).astype(np.uint8), 3, axis=2)
    cv2.watershed(grey, markers)
    return np.where(inside & (markers > 0), markers, 0)


TASKS = {
    "label": [
        Library("scipy.ndimage", "scipy", lambda ndimage, inside: ndimage.label(inside)[0]),
        Library("skimage.measure", "scikit-image", lambda measure, inside: measure.label(inside, connectivity=1)),
        Library(
            "cc3d",
            "connected-components-3d",
            lambda cc3d, inside: cc3d.connected_components(inside, connectivity=4),
        ),
        Library(
            "cv2",
            "opencv-python-headless",
            lambda cv2, inside: cv2.connectedComponents(inside.view(np.uint8), connectivity=4)[1],
        ),
    ],
    "renumber": [
        Library("numpy", "numpy", lambda numpy, labels: numpy.arange(labels.max() + 1)[labels]),
        Library("fastremap", "fastremap", lambda fastremap, labels: fastremap.renumber(labels)[0]),
    ],
    "watershed": [
        Library(
            "skimage.segmentation",
            "scikit-image",
            lambda segmentation, distance, seeds, inside: segmentation.watershed(-distance, seeds, mask=inside),
        ),
        Library("cv2", "opencv-python-headless", _flood_with_opencv),
    ],
    "distance": [
        Library("scipy.ndimage", "scipy", lambda ndimage, inside: ndimage.distance_transform_edt(inside)),
        Library("edt", "edt", lambda edt, inside: edt.edt(inside, parallel=1)),
        Library(
            "cv2",
            "opencv-python-headless",
            lambda cv2, inside: cv2.distanceTransform(inside.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE),
        ),
    ],
}
"""The first of each task is the one in use, or the one to prefer; the others are compared with it."""


@cache
def _material(contents: tuple[bytes, ...]) -> dict[str, Pictures]:
    """Return the input of each task, one entry per image."""
    from scipy import ndimage

    segmenter = Segmenter()
    kwargs = segmenter.card.postprocessing.kwargs
    found: dict[str, list[tuple[NDArray[Any], ...]]] = {task: [] for task in TASKS}
    for maps in segmenter.predict(map(decode, contents)):
        foreground, distance, border = np.moveaxis(maps, -1, 0)
        inside = foreground > kwargs["threshold"]
        deep = inside & (distance > kwargs["marker_distance"]) & (border < kwargs["marker_border"])
        seeds = ndimage.label(deep)[0]
        found["label"].append((inside,))
        found["renumber"].append((3 * seeds,))
        found["watershed"].append((np.ascontiguousarray(distance), seeds, inside))
        found["distance"].append((inside,))
    return {**found}


def _agree(task: str, one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Return whether two distance maps are equal, or two label images up to their numbers."""
    if task == "distance":
        return bool(np.allclose(one, other, atol=1e-3))
    both = one.astype(np.int64) * (int(other.max()) + 1) + other
    return len(np.unique(both)) == len(np.unique(one)) == len(np.unique(other))


@pytest.mark.parametrize(
    ("task", "index"), [(task, index) for task, libraries in TASKS.items() for index in range(len(libraries))]
)
def test_libraries(side_by_side: SideBySide, sample: list[bytes], task: str, index: int) -> None:
    library = TASKS[task][index]
    module = pytest.importorskip(library.module)
    if library.module == "cv2":
        module.setNumThreads(1)
    pictures = _material(tuple(sample))[task]
    used = TASKS[task][0]
    expected = [used.call(import_module(used.module), *picture) for picture in pictures]
    given = [library.call(module, *picture) for picture in pictures]
    agrees = sum(_agree(task, *pair) for pair in zip(given, expected, strict=True))
    paths = [Path(path.locate()) for path in files(library.distribution) or ()]
    side_by_side(
        lambda: [library.call(module, *picture) for picture in pictures],
        megapixels=sum(picture[0].size for picture in pictures) / 1e6,
        library=f"{library.distribution} {version(library.distribution)}",
        agrees=agrees,
        images=len(pictures),
        installed_mb=sum(path.stat().st_size for path in paths if path.is_file()) / 1e6,
    )
