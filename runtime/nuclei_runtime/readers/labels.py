"""Label images that a person has made or corrected: a label image in any image format, or a file of outlines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import MAX_GIVEN_LABEL, Labels
from nuclei_runtime.errors import ImageShapeError, ImageValueError
from nuclei_runtime.readers.bounds import CACHE_BYTES, DECODING_COPIES
from nuclei_runtime.readers.channels import UndecidedError
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.outlines.drawing import Outlines
from nuclei_runtime.readers.outlines.of_planes import outlines_of_plane
from nuclei_runtime.readers.outlines.opening import is_outline_file, read_outlines
from nuclei_runtime.readers.plane import EACH_SCENE, Plane, Selection
from nuclei_runtime.wording import counted

_OUTLINE_BYTES_PER_FILE_BYTE = 24
"""Memory for reading a file of outlines, per byte of the file: at most 14 were measured for GeoJSON without
measurements, 5 with them, and 24 for a small zip of ROIs."""


@dataclass(frozen=True, eq=False)
class LabelPlane:
    """The labels of one plane, not yet read.

    Attributes
    ----------
    read : callable
        ``read(rows, columns)`` returns the (h, w) int32 labels of a region. Raises ImageError.
    held_bytes : int
        Memory that reading holds.
    numbers : tuple of int
        Of outlines: the numbers that there must be. Empty for a label image.
    remarks : tuple of str
        What the user should know: what is in the file and is no nucleus of this plane.
    """

    read: Callable[[slice, slice], Labels]
    held_bytes: int
    numbers: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class LabelFile:
    """An open file of labels.

    Attributes
    ----------
    planes : sequence of Plane
        Of a label image.
    outlines : Outlines, optional
        Of a file of outlines.
    held_bytes : int
    """

    planes: Sequence[Plane] = ()
    outlines: Outlines | None = None
    held_bytes: int = 0

    def of(self, plane: Plane, planes: Sequence[Plane] | None = None) -> LabelPlane:
        """Return the labels of a plane of an image.

        Parameters
        ----------
        plane : Plane
            Of the image.
        planes : sequence of Plane, optional
            All of the image, if the labels are for all of them. Otherwise, they are for this one.

        Raises
        ------
        ImageShapeError, ImageValueError
            The labels are of another size, or are no whole numbers; or outlines lie outside the image, or do not say on
            which of its planes they were drawn.
        """
        if self.outlines is not None:
            outlines, remarks = outlines_of_plane(self.outlines, plane, planes)
            outlines = outlines.at(plane.downsample)
            outlines.check(plane.shape)
            return LabelPlane(outlines.read, self.held_bytes, outlines.numbers, (*outlines.left_out, *remarks))
        suffixes = [one.suffix for one in planes or (plane,)]
        if len(self.planes) != len(suffixes):
            raise ImageShapeError(
                f"the labels have {counted(len(self.planes), 'plane')}, the image {len(suffixes)}; save the labels of "
                "all planes in one file, or of each plane in a file of its own, named as in the results folder"
            )
        _check_order(self.planes, planes or (plane,))
        labels = self.planes[suffixes.index(plane.suffix)]
        size, expected = (" x ".join(map(str, one.shape[:2])) for one in (labels, plane))
        if size != expected:
            raise ImageShapeError(
                f"the labels are {size} pixels, the image is {expected}; both must show the same pixels, "
                "without cropping, scaling or rotation"
            )
        dtype = np.dtype(labels.dtype)
        if labels.shape[2:] not in ((), (1,)):
            raise ImageShapeError(
                "this is a colour picture of labels, not a label image; save the label image itself as TIFF"
            )
        n_bytes = labels.shape[0] * labels.shape[1] * dtype.itemsize
        held = min(n_bytes, CACHE_BYTES) if labels.reads_blocks else n_bytes * DECODING_COPIES
        return LabelPlane(lambda rows, columns: _as_labels(labels.read(rows, columns)), held)


def _check_order(labels: Sequence[Plane], planes: Sequence[Plane]) -> None:
    """Refuse labels with other times and depths than the image, though as many; one dimension may go by either name."""
    for one, of_image in zip(labels, planes, strict=True):
        found, expected = (one.time, one.z), (of_image.time, of_image.z)
        if found != expected and None not in (*found, *expected):
            raise ImageShapeError(
                f"the labels have a plane of time {found[0]} and Z {found[1]} where the image has one of time "
                f"{expected[0]} and Z {expected[1]}, counted from 0; save them with the dimensions of the image"
            )


@contextmanager
def open_labels(path: Path, axes: str | None = None) -> Iterator[LabelFile]:
    """Open a label image or a file of outlines.

    Parameters
    ----------
    path : Path
    axes : str, optional
        Dimensions of the image, which are those of its labels if the file does not state them.

    Raises
    ------
    ImageError, RuntimeEnvironmentError
        It cannot be read.
    """
    if is_outline_file(path):
        yield LabelFile(outlines=read_outlines(path), held_bytes=path.stat().st_size * _OUTLINE_BYTES_PER_FILE_BYTE)
        return
    every = Selection(scene=EACH_SCENE, z="each")
    with ExitStack() as opened:
        try:
            planes = opened.enter_context(_label_planes(path, every))
        except ImageShapeError:
            if axes is None:
                raise
            of_image = replace(every, axes="".join(axis for axis in axes if axis not in "CS"))
            planes = opened.enter_context(_label_planes(path, of_image))
        yield LabelFile(planes)


@contextmanager
def _label_planes(path: Path, selection: Selection) -> Iterator[Sequence[Plane]]:
    """Open a label image; the options that choose among several images are about those that were segmented."""
    with ExitStack() as opened:
        try:
            planes = opened.enter_context(open_planes(path, selection))
        except UndecidedError as error:
            raise ImageShapeError(f"the file holds {error.found}; save the label image alone as a file") from error
        yield planes


def _as_labels(found: NDArray[Any]) -> Labels:
    """Return labels of any type as whole numbers.

    Raises
    ------
    ImageValueError
        They are no numbers of nuclei.
    """
    found = found.reshape(found.shape[:2])
    if found.dtype.kind == "f" and not np.array_equal(found, np.rint(found)):
        odd = found[found != np.rint(found)][0]
        raise ImageValueError(
            f"found the label {odd:g}, expected whole numbers: 0 for the background and one for each nucleus; is this "
            "a label image, or an image of intensities or probabilities?"
        )
    least, most = found.min(), found.max()
    if least < 0 or most > MAX_GIVEN_LABEL:
        raise ImageValueError(
            f"found the label {least if least < 0 else most:.0f}, expected 0 for the background and 1 to "
            f"{MAX_GIVEN_LABEL} for nuclei; renumber the nuclei"
        )
    return found.astype(np.int32)
