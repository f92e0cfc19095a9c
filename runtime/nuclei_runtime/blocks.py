"""A plane of any size -> its nuclei, block by block, each nucleus whole and once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nuclei_runtime.instances import Labels
from nuclei_runtime.planes import Plane
from nuclei_runtime.reading import Image
from nuclei_runtime.segmenter import Segmenter


@dataclass(frozen=True, eq=False)
class Block:
    """A window of a plane with the nuclei that belong to it.

    Attributes
    ----------
    rows, columns : slice
        Where the window lies in the plane. Windows overlap; together they cover the plane.
    image : ndarray
        The plane's pixels in the window.
    labels : (h, w) ndarray of int32
        The nuclei that belong to this block, each whole, with the numbers that they have in the plane: over all
        blocks 1..N without gaps, in the order in which the blocks come. Pixels of other blocks' nuclei are 0.
    """

    rows: slice
    columns: slice
    image: Image
    labels: Labels


def segment_plane(plane: Plane, segmenter: Segmenter) -> Iterator[Block]:
    """Find the nuclei of a plane.

    Raises
    ------
    ImageError
        The plane cannot be read or segmented.
    """
    rows, columns = slice(0, plane.shape[0]), slice(0, plane.shape[1])
    image = plane.read(rows, columns)
    yield Block(rows, columns, image, segmenter.segment(image).labels)
