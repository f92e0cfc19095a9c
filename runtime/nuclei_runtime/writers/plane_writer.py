"""What every output has in common: one writer per plane, which receives the plane's blocks and finishes one file."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from numpy.typing import NDArray

from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.segmentation.blocks import Block
from nuclei_runtime.steps.measure import Measures


class LabelSource(Protocol):
    """The label image of a plane, which is read window by window."""

    def read(self, rows: slice, columns: slice, /) -> NDArray[Any]:
        """Return a window. Beyond the plane, there are no labels."""


class PlaneWriter:
    """Writes one output of one plane, as a context manager. A subclass overrides what it needs.

    The bytes must depend on nothing but the arguments: no clock, no versions. Memory must not grow with the plane.

    Parameters
    ----------
    path : Path
        The new file. The caller decides its name, and what happens to it.
    image : str
        The image file's name, as results show it.
    plane : Plane
    """

    def __init__(self, path: Path, image: str, plane: Plane) -> None:
        self.path = path
        self.image = image
        self.plane = plane

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def write_block(self, block: Block, table: Measures) -> None:
        """Take one block; together the blocks hold each nucleus of the plane once, in the order of the labels.

        Parameters
        ----------
        block : Block
        table : Measures
            Of the nuclei of the block; see `nuclei_runtime.steps.nuclei_table.measure_nuclei`. All blocks of a plane
            have the same columns. There is at least one block.
        """

    def finish(self, labels: LabelSource, n_nuclei: int) -> None:
        """Complete the file after the last block.

        Parameters
        ----------
        labels : LabelSource
            The label image of the whole plane: (H, W) int32, 0 background, 1..`n_nuclei`.
        n_nuclei : int
            The highest number: how many there are, if the numbers have no gaps.
        """

    def close(self) -> None:
        """Close what is open, even if a block could not be read."""
