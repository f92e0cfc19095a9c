"""The nuclei that were found in one image, and what can be computed from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arguments import check_argument
from nuclei_runtime.arrays import Image, Labels, check_image, check_labels, check_pixel_size
from nuclei_runtime.errors import ArgumentError, ImageShapeError, ImageValueError
from nuclei_runtime.faults import allocating_for
from nuclei_runtime.segmentation.blocks import Block
from nuclei_runtime.steps.contrast import Contrast
from nuclei_runtime.steps.evidence import NO_EVIDENCE, Evidence
from nuclei_runtime.steps.flags import Flag, complete_flags
from nuclei_runtime.steps.measure import Measures, areas_of, median_diameter_px
from nuclei_runtime.steps.nuclei_table import measure_nuclei
from nuclei_runtime.steps.outlines import trace_outlines
from nuclei_runtime.steps.score import Scores
from nuclei_runtime.steps.view import AS_IT_IS, View


@dataclass(frozen=True, eq=False)  # arrays have no single truth value to compare by
class Segmentation:
    """The nuclei of one image.

    Attributes
    ----------
    labels : (H, W) ndarray of int32
        0 is background, nuclei are 1..N, each one a single 4-connected piece. Read-only.
    evidence : Evidence
        What is known of the image, from which its flags follow. Empty if the labels were found in maps.
    view : View
        How the network was shown the image.
    flags : tuple of Flag
        Why the result may not be trusted, each with its `reason` and an `advice`; empty if there is no known reason, or
        if the labels were found in maps. See `nuclei_runtime.steps.flags`.
    n_left_out : int
        Nuclei that were found and left out, because they touch the edge, or for their size or score.
    scores : (N,) ndarray of float64, optional
        For each nucleus, in the order of their numbers, the probability that it is right, 0 to 1; see
        `nuclei_runtime.steps.score`. None if the model's card does not say how to compute it, or the labels were found
        in maps. Read-only.
    """

    labels: Labels
    evidence: Evidence = NO_EVIDENCE
    view: View = AS_IT_IS
    flags: tuple[Flag, ...] = ()
    n_left_out: int = 0
    scores: Scores | None = None

    def __post_init__(self) -> None:
        check_labels(self.labels)
        is_scores = isinstance(self.scores, np.ndarray) and self.scores.shape == (self.count,)
        expected = f"one probability for each of the {self.count} nuclei, as an array"
        check_argument(self.scores is None or is_scores, "scores", expected, self.scores)
        self.labels.flags.writeable = False
        if self.scores is not None:
            self.scores.flags.writeable = False

    def __reduce__(self) -> tuple[type[Segmentation], tuple[Any, ...]]:
        """Pickle by the constructor, because arrays come out of a pickle writeable."""
        return Segmentation, tuple(getattr(self, field.name) for field in fields(self))

    @property
    def contrast(self) -> Contrast | None:
        """The contrast that the image was given; None if the model's card does not set it first."""
        return self.evidence.contrast

    @property
    def expected_ap(self) -> float | None:
        """The share of nuclei that are expected to be right, 0 to 1, as the AP@0.5 on validation images.

        None if nothing stands out in a large image, or if the model's card does not tell; see
        `nuclei_runtime.steps.view_choice`.
        """
        return self.evidence.expected_ap

    @property
    def count(self) -> int:
        """How many nuclei there are."""
        return int(self.labels.max())

    @property
    def estimated_diameter_px(self) -> float | None:
        """Median diameter of disks with the areas of the nuclei, in pixels; None if there are none."""
        return median_diameter_px(areas_of(self.labels))

    def table(
        self,
        image: Image,
        pixel_size_um: tuple[float, float] | None = None,
        channels: Mapping[str, Image] | None = None,
        cells: Labels | None = None,
    ) -> Measures:
        """Measure each nucleus: the columns of ``nuclei.csv`` from ``label`` to ``intensity_sd``.

        Parameters
        ----------
        image : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) ndarray
            The image that was segmented, or another channel of the same size: intensities are measured on the mean
            of its colours, without alpha. It is a parameter because a camera may have overwritten its buffer since.
        pixel_size_um : (float, float), optional
            Height and width of a pixel in micrometres. Without it, there are no columns in micrometres.
        channels : mapping of str to ndarray, optional
            Other channels of the same size by their names, whose intensities are measured too: ``intensity_mean:GFP``.
        cells : (H, W) ndarray of integers, optional
            The nuclei, grown: each with the number of its nucleus, which it contains, as
            `skimage.segmentation.expand_labels` gives them. Intensities are measured in the cells and in the rings
            around the nuclei as well.

        Returns
        -------
        dict
            For each column a 1-D array with one value per nucleus, in the order of their numbers; NaN where there is
            no value. The names state the units; intensities are in the units of `image`.

        Raises
        ------
        ImageShapeError, ImageValueError
            The array is not one finite image of the size of the labels.
        ImageTooLargeError
            There is not enough memory.
        ArgumentError
            This is no size of a pixel, or a channel has no name.
        """
        check_pixel_size(pixel_size_um)
        is_mapping = channels is None or isinstance(channels, Mapping)
        check_argument(is_mapping, "channels", "a dictionary of images by their names", channels)
        channels = channels or {}
        if not all(isinstance(name, str) and name for name in channels):
            raise ArgumentError(f"channels must have names, found {', '.join(map(repr, channels))}")
        for one in (image, *channels.values()):
            check_image(one)
            if one.shape[:2] != self.labels.shape:
                size, expected = (" x ".join(map(str, shape)) for shape in (one.shape[:2], self.labels.shape))
                raise ImageShapeError(
                    f"found an image of {size} pixels, expected {expected} as in the labels; give the image that was "
                    "segmented"
                )
        if cells is not None and not self._are_in(cells):
            raise ImageValueError(
                "found cells that do not contain the nuclei with their numbers; grow them from `labels`"
            )
        reads = {name: partial(np.asarray, channel) for name, channel in channels.items()}
        with allocating_for(image.shape):
            return measure_nuclei(
                image, self.labels, pixel_size_um=pixel_size_um, channels=reads, cells=cells, scores=self.scores
            )

    def _are_in(self, cells: Labels) -> bool:
        """Whether each nucleus is in the cell of its number, and there are no other cells."""
        check_labels(cells)
        if cells.shape != self.labels.shape:
            return False
        is_nucleus = self.labels > 0
        return int(cells.max()) <= self.count and bool((cells == self.labels)[is_nucleus].all())

    def outlines(self) -> list[NDArray[np.float64]]:
        """Return the outline of each nucleus as a polygon around its pixels, in the order of their numbers.

        See `nuclei_runtime.steps.outlines.trace_outlines` for the coordinates and for holes.
        """
        return trace_outlines(self.labels)


def joined(blocks: Iterable[Block], shape: tuple[int, ...], view: View) -> Segmentation:
    """Return the nuclei of all blocks of an image.

    Parameters
    ----------
    blocks : iterable of Block
    shape : (int, int)
        Height and width of the image.
    view : View
        How the image was shown, if there are no blocks.
    """
    with allocating_for(shape):
        labels = np.zeros(shape, np.int32)
    scores: list[Scores] = []
    evidence, n_left_out = NO_EVIDENCE, 0
    flags: tuple[Flag, ...] = ()
    for block in blocks:
        labels[block.rows, block.columns] += block.labels
        evidence, view, flags = block.evidence, block.view, block.flags
        n_left_out += block.n_left_out
        scores += [] if block.scores is None else [block.scores]
    flags = complete_flags(flags, int(labels.max()) + n_left_out)
    return Segmentation(labels, evidence, view, flags, n_left_out, np.concatenate(scores) if scores else None)
