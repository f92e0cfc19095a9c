"""Chooses the view of a plane: the network looks at a part of it in several views, and the most promising one is taken.

What a view promises, and which ones are tried, is decided in `nuclei_runtime.steps.view_choice`. Here is where the
network looks. A plane of one block is seen as a whole as it is, and in most cases that is its result. Everything else
is looked at in the squares with the most structure; if the model's contrast does not look for structure, in squares
that are spread over the plane. Where they lie depends on the plane alone, so the choice does not depend on memory or
threads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels, Maps
from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.segmentation.kept_blocks import Found
from nuclei_runtime.segmentation.memory import Budget
from nuclei_runtime.segmentation.network import Network
from nuclei_runtime.segmentation.plane_input import (
    PlaneInput,
    Region,
    as_grey,
    lies_in,
    may_be_stained,
    moved,
    regions,
    shown_plane,
)
from nuclei_runtime.segmentation.plane_maps import PlaneMaps
from nuclei_runtime.segmentation.plane_tiles import Cut, OwnTiles
from nuclei_runtime.steps.evidence import Evidence, evidence_of
from nuclei_runtime.steps.instances import METHODS, find_instances
from nuclei_runtime.steps.preprocess import as_input
from nuclei_runtime.steps.score import NO_SIGNS, Scores, nucleus_signs
from nuclei_runtime.steps.stains import AS_IS
from nuclei_runtime.steps.structure import BLOCK_PX
from nuclei_runtime.steps.view import View
from nuclei_runtime.steps.view_choice import Look, ViewChoice, choose, look_at

SQUARE_PX = 512
"""Side of the squares that are looked at: a multiple of `BLOCK_PX`, and less than a tile of the bundled model."""
PX_PER_SQUARE = 1 << 23
MAX_SQUARES = 4
"""One square for each 8 megapixels of a plane, but at least one and at most four. The network needs 3 % more time for
one square in 8 megapixels."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A plane as a network is shown it.

    Attributes
    ----------
    network : Network
        With the view, and without others.
    plane_input : PlaneInput
    evidence : Evidence
    found : Found, optional
        The nuclei of the whole plane, if they are found already.
    """

    network: Network
    plane_input: PlaneInput
    evidence: Evidence
    found: Found | None = None

    def scores(self, found: Found) -> Scores | None:
        """Return the scores of nuclei of the plane; None if the model's card has none.

        Where nothing has structure, nothing is expected.
        """
        model = self.network.card.score
        expected_ap = self.evidence.expected_ap or 0.0
        return None if model is None else model.scores(found.signs, expected_ap)


def choose_view(plane: Plane, network: Network, budget: Budget, whole_px: int) -> Shown:
    """Choose how a network for images of any size is shown a plane.

    Parameters
    ----------
    plane : Plane
    network : Network
        If it has no other views, there is nothing to choose: then it is only said what its view promises.
    budget : Budget
        The plane's, measured before anything of it was read.
    whole_px : int
        Longest side of a plane that is one block.

    Raises
    ------
    ImageTooLargeError
        A part of the plane cannot be looked at within the memory.
    ImageError
        The plane cannot be read or segmented.
    """
    eye = Eye(plane, network, budget, whole_px)
    if network.view.stain != AS_IS and not eye.is_colour:
        return choose_view(plane, network.unstained(), budget, whole_px)
    choice = network.card.views
    if choice is None or not eye.parts:
        return eye.shown(network.view)
    view, expected_ap = choose(
        choice,
        (network.view, *network.others),
        network.card.training_nucleus_diameter_px,
        lambda view: eye.look_first(choice) if view == eye.first else eye.look(view),
    )
    return replace(eye.shown(view), evidence=eye.evidence(replace(view, tta=False), expected_ap))


class Eye:
    """Looks at a plane in several views, none of which is averaged. What they share is computed once.

    Parameters
    ----------
    plane : Plane
    network : Network
    budget : Budget
    whole_px : int
        As in `choose_view`.
    """

    def __init__(self, plane: Plane, network: Network, budget: Budget, whole_px: int) -> None:
        self.first = replace(network.view, tta=False)
        """The network's own view, which is looked at first."""
        self._plane, self._network, self._budget = as_grey(plane), replace(network, view=self.first), budget
        self._inputs: dict[str, PlaneInput] = {}
        self._last: tuple[str, Region, NDArray[np.float32]] | None = None
        self._found: dict[View, Found] = {}
        self._looks: dict[View, Look] = {}
        self._masks: dict[View, list[NDArray[np.bool_]]] = {}
        height, width = plane.shape[:2]
        self._whole = slice(0, height), slice(0, width)
        self._is_one_block = max(height, width) <= whole_px
        self.parts = self._parts()
        """Where to look. Empty if nothing in a large plane has structure."""

    @cached_property
    def is_colour(self) -> bool:
        """Whether the plane may be stained."""
        return may_be_stained(self._plane, self._input(AS_IS).contrast)

    def shown(self, view: View) -> Shown:
        """Return the plane in a view, with its nuclei if they were found while looking."""
        plane_input, network = self._input(view.stain), replace(self._network, view=view, others=())
        return Shown(network, plane_input, Evidence(plane_input.contrast), self._found.get(view))

    def find(self, view: View) -> list[tuple[Maps, Labels]]:
        """Return the maps and the nuclei of each of the parts."""
        if self.parts == [self._whole]:
            return [self._find_whole(view)]
        return [self._find(view, part) for part in self.parts]

    def look(self, view: View) -> Look | None:
        """Look at the parts in a view; None if the network sees in it what it has seen.

        It does in a stain of a plane without colours, and at all scales where nothing stands out, so that all is 0:
        an empty field would take twenty times as long as one with nuclei.
        """
        if view.stain != AS_IS and not self.is_colour:
            return None
        contrast = self._input(view.stain).contrast
        if view.scale != self.first.scale and contrast is not None and contrast.is_blank:
            return None
        return self._look(view, self.find(view))

    def look_first(self, choice: ViewChoice) -> Look | None:
        """Look at the plane in the first view: as a whole if it is one block, because that may be its result.

        If it promises little, it is looked at in the same parts as in the other views, so that they can be compared.
        """
        view = self.first
        if not self._is_one_block or self.parts == [self._whole]:
            return self.look(view)
        maps, labels = self._find_whole(view)
        whole = self._look(view, [(maps, labels)])
        if choice.expected_ap(whole.signs) >= choice.trigger:
            self._masks[view] = [labels[part] > 0 for part in self.parts]
            return whole
        method = replace(self._network, view=view).postprocessing
        return self._look(view, [(maps[part], find_instances(maps[part], method)) for part in self.parts])

    def _look(self, view: View, found: list[tuple[Maps, Labels]]) -> Look:
        self._looks[view] = look_at(found)
        self._masks[view] = [labels > 0 for _, labels in found]
        return self._looks[view]

    def _shown_parts(self) -> list[NDArray[np.float32]]:
        """What the network is shown of the parts in the first view, at the plane's own scale."""
        return [self._shown(self.first.stain, part) for part in self.parts]

    def _shown(self, stain: str, region: Region) -> NDArray[np.float32]:
        """What the network is shown of a region: mostly that, or what lies in it, is what is asked for next."""
        if self._last is None or self._last[0] != stain or not lies_in(region, self._last[1]):
            self._last = stain, region, self._input(stain).shown(*region)
        _, (rows, columns), shown = self._last
        return shown[moved(region[0], -rows.start), moved(region[1], -columns.start)]

    def evidence(self, view: View, expected_ap: float) -> Evidence:
        """Return what is known of the plane, which was looked at in this view.

        Its colours and textures are those of the first view, and do not depend on the one that was chosen.
        """
        contrast, card = self._input(view.stain).contrast, self._network.card
        if contrast is not None and contrast.is_blank:
            return Evidence(contrast, expected_ap)
        return evidence_of(
            list(zip(self._shown_parts(), self._masks[view], strict=True)),
            self._looks[view],
            card.training_nucleus_diameter_px,
            expected_ap=expected_ap,
            scale=view.scale.factor,
            contrast=contrast,
            familiar=None if card.flags is None else card.flags.familiar,
        )

    def _parts(self) -> list[Region]:
        height, width = self._plane.shape[:2]
        if max(height, width) <= SQUARE_PX:
            return [self._whole]
        contrast = self._input(self.first.stain).contrast
        n_squares = min(max(height * width // PX_PER_SQUARE, 1), MAX_SQUARES)
        if contrast is None or contrast.blocks is None:
            if self._is_one_block:
                return [self._whole]
            squares = list(regions((height, width), SQUARE_PX))
            return [squares[(2 * i + 1) * len(squares) // (2 * n_squares)] for i in range(n_squares)]
        return most_structure(contrast.blocks, (height, width), n_squares)

    def _input(self, stain: str) -> PlaneInput:
        if stain != AS_IS and not self.is_colour:
            return self._input(AS_IS)
        if stain not in self._inputs:
            contrast = None if stain == AS_IS else self._input(AS_IS).contrast
            shown = shown_plane(self._plane, stain, contrast)
            self._inputs[stain] = PlaneInput(shown, self._network.card.preprocessing)
        return self._inputs[stain]

    def _find_whole(self, view: View) -> tuple[Maps, Labels]:
        """Return the maps and the nuclei of the plane, which may be its result."""
        maps, labels = self._find(view, self._whole)
        signs = NO_SIGNS if self._network.card.score is None else nucleus_signs(maps, labels)
        self._found[view] = Found(*self._whole, labels, signs)
        return maps, labels

    def _find(self, view: View, part: Region) -> tuple[Maps, Labels]:
        """Return the maps and the nuclei of a part of the plane, as if it were an image of its own."""
        network = replace(self._network, view=view, others=())
        rows, columns = part
        shape = rows.stop - rows.start, columns.stop - columns.start
        budget = self._budget.of(network, shape)

        def read_part(part_rows: slice, part_columns: slice) -> NDArray[np.float32]:
            self._plane.check()  # what an earlier view has read is not read again
            return as_input(self._shown(view.stain, (moved(part_rows, rows.start), moved(part_columns, columns.start))))

        assert network.tiling is not None  # the networks that choose are for images of any size
        cut, method = Cut(shape, budget.tiling(network.tiling, max(shape))), network.postprocessing
        tiles, n_maps = OwnTiles(read_part, network, shape), len(METHODS[method.id].maps)
        with PlaneMaps(cut, tiles, n_maps, memory_bytes=budget.in_memory_bytes) as found:
            maps = found.read(slice(0, shape[0]), slice(0, shape[1]))
        return maps, find_instances(maps, method)


def most_structure(blocks: NDArray[np.bool_], shape: tuple[int, int], n_squares: int) -> list[Region]:
    """Return the squares of a plane with the most structure, at most `n_squares`; of equals, the first.

    Parameters
    ----------
    blocks : (rows, columns) ndarray of bool
        See `nuclei_runtime.steps.structure.Contrast`.
    shape : (int, int)
        Height and width of the plane.
    n_squares : int

    Returns
    -------
    list of (slice, slice)
        Rows and columns. Empty if nothing has structure.
    """

    def n_blocks(part: Region) -> int:
        rows, columns = (slice(one.start // BLOCK_PX, -(-one.stop // BLOCK_PX)) for one in part)
        return int(np.count_nonzero(blocks[rows, columns]))

    squares = [part for part in regions(shape, SQUARE_PX) if n_blocks(part)]
    return sorted(squares, key=lambda part: -n_blocks(part))[:n_squares]
