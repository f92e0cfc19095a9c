"""What changed between two label images of one plane, such as before and after a correction by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import check_labels
from nuclei_runtime.errors import ImageShapeError


@dataclass(frozen=True)
class LabelChanges:
    """How many nuclei were changed, and how.

    A nucleus before and one after belong together if they share more than half of the pixels of the smaller one.

    Attributes
    ----------
    before, after : int
        Number of nuclei.
    unchanged : int
        Nuclei with the same pixels, whatever their numbers.
    redrawn : int
        Nuclei with other pixels, of which one before belongs to one after.
    added, removed : int
        Nuclei after that belong to none before, and nuclei before to which none after belongs.
    split : int
        Nuclei before to which several after belong.
    merged : int
        Nuclei after to which several before belong.
    """

    before: int
    after: int
    unchanged: int
    redrawn: int
    added: int
    removed: int
    split: int
    merged: int


def compare_labels(before: NDArray[Any], after: NDArray[Any]) -> LabelChanges:
    """Count what changed from one label image to another.

    Parameters
    ----------
    before, after : (H, W) ndarray of integers
        0 background, each nucleus its number; gaps are allowed, and the numbers of the two need not agree.

    Raises
    ------
    ImageShapeError, ImageValueError
        These are not two label images of one size.
    """
    check_labels(before)
    check_labels(after)
    if before.shape != after.shape:
        size, expected = (" x ".join(map(str, shape)) for shape in (after.shape, before.shape))
        raise ImageShapeError(f"found a label image of {size} pixels, expected {expected} as in the earlier one")
    counter = ChangeCounter()
    counter.add(before, after)
    return counter.changes()


class ChangeCounter:
    """Compares two label images region by region, so that neither has to be in memory."""

    def __init__(self) -> None:
        self._pairs: list[tuple[NDArray[np.int64], NDArray[np.intp]]] = []

    def add(self, before: NDArray[Any], after: NDArray[Any]) -> None:
        """Take one region of both. Each pixel counts once.

        Parameters
        ----------
        before, after : (h, w) ndarray of integers
        """
        pairs = before.astype(np.int64).ravel() << 32 | after.astype(np.int64).ravel()
        self._pairs.append(np.unique(pairs[pairs > 0], return_counts=True))

    def changes(self) -> LabelChanges:
        """Return what changed in all regions together."""
        pairs, shared = _summed(
            np.concatenate([np.zeros(0, np.int64), *(pairs for pairs, _ in self._pairs)]),
            np.concatenate([np.zeros(0, np.intp), *(counts for _, counts in self._pairs)]),
        )
        old_of, new_of = pairs >> 32, pairs & 0xFFFFFFFF
        (old_numbers, old_areas), (new_numbers, new_areas) = (
            _summed(numbers[numbers > 0], shared[numbers > 0]) for numbers in (old_of, new_of)
        )
        both = (old_of > 0) & (new_of > 0)
        old, new = np.searchsorted(old_numbers, old_of[both]), np.searchsorted(new_numbers, new_of[both])
        shared = shared[both]
        belong = 2 * shared > np.minimum(old_areas[old], new_areas[new])
        old, new, shared = old[belong], new[belong], shared[belong]
        n_of_old, n_of_new = np.bincount(old, minlength=old_areas.size), np.bincount(new, minlength=new_areas.size)
        alone = (n_of_old[old] == 1) & (n_of_new[new] == 1)
        same = alone & (shared == old_areas[old]) & (shared == new_areas[new])
        return LabelChanges(
            before=old_areas.size,
            after=new_areas.size,
            unchanged=int(same.sum()),
            redrawn=int((alone & ~same).sum()),
            added=int((n_of_new == 0).sum()),
            removed=int((n_of_old == 0).sum()),
            split=int((n_of_old > 1).sum()),
            merged=int((n_of_new > 1).sum()),
        )


def _summed(keys: NDArray[np.int64], counts: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Return each key once, ascending, with the sum of its counts."""
    found, places = np.unique(keys, return_inverse=True)
    return found, np.bincount(places, weights=counts, minlength=found.size).astype(np.intp)
