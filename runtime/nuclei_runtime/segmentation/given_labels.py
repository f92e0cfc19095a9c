"""The nuclei of a plane of any size that are given as labels, block by block: each is complete and appears once.

A number is one nucleus, also if its pixels are in several pieces, and keeps this number. The plane is read twice: first
for the bounding boxes of the nuclei, then block by block. A nucleus belongs to the block in whose core the upper left
corner of its box lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels
from nuclei_runtime.errors import ImageValueError
from nuclei_runtime.faults import allocating_for
from nuclei_runtime.readers.labels import LabelPlane
from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.segmentation.block_search import GRID, Grid
from nuclei_runtime.segmentation.blocks import Block
from nuclei_runtime.segmentation.memory import LABELLING_BYTES_PER_PX, OVERLAY_BYTES, OVERLAY_BYTES_PER_PX, Budget
from nuclei_runtime.segmentation.plane_input import regions
from nuclei_runtime.steps.label_changes import ChangeCounter, LabelChanges
from nuclei_runtime.steps.measure import Regions
from nuclei_runtime.steps.sieve import Sieve, Sifting
from nuclei_runtime.wording import listed

_MOST_OVERLAP = 10
"""How often, on average, the bounding boxes of nuclei may cover a plane. Those of dense nuclei cover it once or twice,
those of the grey values of an image hundreds of times."""


@dataclass(frozen=True)
class Corrections:
    """What is known of the labels that a person gave for a plane.

    Attributes
    ----------
    changes : LabelChanges, optional
        What was changed since the labels before; None if these are not known.
    note : str, optional
        What the person should know.
    """

    changes: LabelChanges | None = None
    note: str | None = None


class GivenNuclei:
    """The nuclei that the labels of a plane give.

    Parameters
    ----------
    plane : Plane
    labels : LabelPlane
    before : LabelPlane, optional
        The labels before the correction.
    sieve : Sieve
    max_memory : int, optional
        See `nuclei_runtime.segmentation.blocks.segment_plane`.
    grid : Grid
        Only tests change it.
    """

    def __init__(
        self,
        plane: Plane,
        labels: LabelPlane,
        before: LabelPlane | None,
        sieve: Sieve,
        max_memory: int | None = None,
        grid: Grid = GRID,
    ) -> None:
        self._plane, self._labels, self._before, self._sieve = plane, labels, before, sieve
        self._max_memory, self._grid = max_memory, grid
        self._changes: LabelChanges | None = None
        self._in_pieces: list[int] = []
        self._missing: list[int] = []

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks of the plane.

        Raises
        ------
        ImageTooLargeError
            The plane cannot be measured within the ceiling.
        ImageError
            The plane or the labels cannot be read, or the labels are a mask or an image.
        """
        plane, labels = self._plane, self._labels
        with allocating_for(plane.shape):
            held_bytes = labels.held_bytes + (0 if self._before is None else self._before.held_bytes)
            budget = _Budget(plane, self._max_memory)
            budget.check_measuring(self._grid.window_px, held_bytes)
            sifting = Sifting(self._sieve, plane.shape, plane.pixel_size_um)
            numbers, boxes = self._look()
            _check_nuclei(boxes, plane)
            self._missing = sorted(set(labels.numbers) - set(numbers.tolist()))
            cores = np.maximum(boxes[:, :2] // self._grid.core_px, 0)
            for core in regions(plane.shape[:2], self._grid.core_px):
                own = (cores == [part.start // self._grid.core_px for part in core]).all(axis=1)
                rows, columns = (
                    slice(
                        min(part.start, int(boxes[own, axis].min(initial=part.start))),
                        max(part.stop, int(boxes[own, axis + 2].max(initial=part.stop))),
                    )
                    for axis, part in enumerate(core)
                )
                budget.check_window(rows.stop - rows.start, columns.stop - columns.start)
                found = labels.read(rows, columns)
                found[~np.isin(found, numbers[own])] = 0
                self._count_pieces(found, is_alone=numbers.size == 1)
                kept, _, n_left_out = sifting.sift(found, (rows.start, columns.start), keep_numbers=True)
                left_out = (found > 0) & (kept == 0) if n_left_out else None
                yield Block(rows, columns, plane.read(rows, columns), kept, n_left_out=n_left_out, left_out=left_out)

    def corrections(self) -> Corrections:
        """Return what is known after the last block."""
        notes = []
        if self._in_pieces:
            notes.append(
                f"in several pieces, and each measured as one nucleus: {listed(sorted(self._in_pieces))}; if they are "
                "several nuclei, give each piece its own number"
            )
        if self._missing:
            notes.append(
                f"outlines without a pixel of their own, too small or covered by others, are left out: "
                f"{listed(sorted(self._missing))}"
            )
        return Corrections(self._changes, "; ".join(notes) or None)

    def _look(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the numbers of the nuclei, ascending, and their boxes (top, left, bottom, right)."""
        counter = ChangeCounter()
        seen = [np.zeros((0, 5), np.intp)]
        for rows, columns in regions(self._plane.shape[:2], self._grid.core_px):
            labels = self._labels.read(rows, columns)
            if self._before is not None:
                counter.add(self._before.read(rows, columns), labels)
            part = Regions.of(labels)
            if part.numbers.size:
                last = part.starts + part.sizes - 1
                box = (
                    part.rows[part.starts] + rows.start,
                    np.minimum.reduceat(part.columns, part.starts) + columns.start,
                    part.rows[last] + rows.start + 1,
                    np.maximum.reduceat(part.columns, part.starts) + columns.start + 1,
                )
                seen.append(np.stack([part.numbers, *box], axis=1))
        if self._before is not None:
            self._changes = counter.changes()
        parts = np.concatenate(seen)
        parts = parts[np.argsort(parts[:, 0], kind="stable")]
        numbers, starts = np.unique(parts[:, 0], return_index=True)
        if not numbers.size:
            return numbers, np.zeros((0, 4), np.intp)
        boxes = [np.minimum.reduceat(parts[:, 1:3], starts), np.maximum.reduceat(parts[:, 3:5], starts)]
        return numbers, np.concatenate(boxes, axis=1)

    def _count_pieces(self, labels: Labels, *, is_alone: bool) -> None:
        """Note the nuclei whose pixels are in several pieces; two that touch at a corner are one.

        Raises
        ------
        ImageValueError
            There is only one number, in several pieces: a mask.
        """
        from skimage.measure import label

        pieces = label(labels, connectivity=2)
        _, first = np.unique(pieces[labels > 0], return_index=True)
        numbers, n_pieces = np.unique(labels[labels > 0][first], return_counts=True)
        if is_alone and n_pieces.max(initial=0) > 1:
            raise ImageValueError(
                f"all {n_pieces[0]} pieces in the label image have the same number, {numbers[0]}: this is a mask; give "
                "each nucleus its own number, for example with Analyze Particles and Count Masks in Fiji"
            )
        self._in_pieces += numbers[n_pieces > 1].tolist()


class _Budget(Budget):
    """The memory that measuring the given nuclei of a plane may use. No network sees the plane."""

    def check_measuring(self, window_px: int, labels_bytes: int) -> None:
        """Refuse a plane that does not fit.

        Parameters
        ----------
        window_px : int
            Side of the windows in which nuclei are measured, in pixels.
        labels_bytes : int
            What reading the labels holds.

        Raises
        ------
        ImageTooLargeError
        """
        height, width = self._plane.shape[:2]
        window = min(height, window_px) * min(width, window_px) * LABELLING_BYTES_PER_PX
        working = labels_bytes + max(window, min(OVERLAY_BYTES, height * width * OVERLAY_BYTES_PER_PX))
        self._make_room(working + self._held(self._ceiling))
        advice = "" if self._plane.reads_blocks else "save the image as a tiled TIFF, or "
        self._check(lambda ceiling: working + self._held(ceiling), advice)


def _check_nuclei(boxes: NDArray[np.intp], plane: Plane) -> None:
    """Raise an error if the numbers are scattered over the plane.

    Raises
    ------
    ImageValueError
    """
    covered = int(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).sum())
    if covered > _MOST_OVERLAP * plane.shape[0] * plane.shape[1]:
        raise ImageValueError(
            f"the {len(boxes)} numbers are scattered over the label image, like the intensities of an image; give a "
            "label image, in which each nucleus has its own number"
        )
