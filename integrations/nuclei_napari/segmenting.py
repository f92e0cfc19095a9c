"""Planes -> labels and the features of the nuclei. Runs in a thread of its own; knows neither napari nor Qt."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclei_napari.layer_planes import LayerPlane
from nuclei_runtime import (
    Flag,
    NucleiError,
    Plane,
    Segmentation,
    SegmentationCancelledError,
    Segmenter,
    complete_flags,
    segment_plane,
)


@dataclass(frozen=True)
class Options:
    """The user's options; see `nuclei_runtime.Segmenter`. None: the bundled model, or chosen for each image."""

    model: Path | None = None
    diameter_px: float | None = None
    stain: str | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """What was found.

    Attributes
    ----------
    labels : ndarray of int32
        0 background; the nuclei are 1..N over all planes.
    features : DataFrame
        See `features_of`.
    notes : tuple of str
        One sentence for each thing that the user should know.
    """

    labels: NDArray[np.int32]
    features: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many nuclei there are."""
        return len(self.features)


@dataclass(frozen=True)
class NotFound:
    """Why there are no labels: a sentence; empty if the user cancelled."""

    reason: str


def segment_planes(
    planes: Sequence[LayerPlane], shape: tuple[int, ...], options: Options, cancel: Event
) -> Generator[float, None, Found | NotFound]:
    """Segment planes, yield the share that is done, and return what was found. Raises nothing.

    Parameters
    ----------
    planes : sequence of LayerPlane
    shape : tuple of int
        Of the labels of all planes.
    options : Options
    cancel : Event
        Ends the work before the next tile once it is set.
    """
    try:
        labels = np.zeros(shape, np.int32)
        notes: list[str] = []
        scores: list[float] = []
        count = 0
        with Segmenter(options.model, diameter_px=options.diameter_px, stain=options.stain) as segmenter:
            for n_done, plane in enumerate(planes):
                part = labels[plane.index]
                flags: tuple[Flag, ...] = ()
                for block in segment_plane(plane.plane, segmenter.network, cancel=cancel):
                    part[block.rows, block.columns] += np.where(block.labels > 0, block.labels + count, 0)
                    flags = block.flags
                    scores += [] if block.scores is None else block.scores.tolist()
                    yield (n_done + block.rows.stop / plane.plane.shape[0]) / len(planes)
                count = max(count, int(part.max()))
                flags = complete_flags(flags, int(part.any()))
                notes += [f"{plane.suffix.strip('_')} {flag.reason}; {flag.advice}".strip() for flag in flags]
        features = features_of(planes, labels)
        if scores:  # in the order of the numbers, plane by plane
            features.insert(features.columns.get_loc("area_px"), "score", scores)
        return Found(labels, features, tuple(notes))
    except SegmentationCancelledError:
        return NotFound("")
    except (NucleiError, ValueError) as error:
        return NotFound(str(error))
    except MemoryError:
        return NotFound("there is not enough memory; segment a single plane or a part of the image")
    except Exception as error:  # of whatever holds the layer's data: a remote store, a lazy computation
        return NotFound(f"the layer cannot be read: {type(error).__name__}: {error}")


def features_of(planes: Sequence[LayerPlane], labels: NDArray[Any]) -> pd.DataFrame:
    """Measure the nuclei of a labels layer.

    Returns
    -------
    DataFrame
        The columns of ``nuclei.csv`` that apply, one row per nucleus and plane, and ``index``, by which napari finds
        the row of a label.

    Raises
    ------
    ImageError
        A plane cannot be read.
    """
    tables = []
    for plane in planes:
        table = pd.DataFrame(measured(np.asarray(labels[plane.index]), plane.plane))
        for column, value in reversed(plane.where.items()):
            table.insert(0, column, value)
        tables.append(table)
    return with_index(pd.concat(tables, ignore_index=True))


def with_index(table: pd.DataFrame) -> pd.DataFrame:
    """Add the column by which napari finds the row of a label."""
    table.insert(0, "index", table["label"].astype(int))
    return table


def measured(labels: NDArray[Any], plane: Plane) -> dict[str, NDArray[Any]]:
    """Measure the nuclei of one plane; their numbers may have gaps, as after a correction by hand."""
    numbers = np.unique(labels[labels > 0])
    dense = np.zeros(labels.shape, np.int32)
    dense[labels > 0] = np.searchsorted(numbers, labels[labels > 0]) + 1
    image = plane.read(slice(0, plane.shape[0]), slice(0, plane.shape[1]))
    return {**Segmentation(dense).table(image, plane.pixel_size_um), "label": numbers}
