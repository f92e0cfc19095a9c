"""The nuclei of a plane of any size, block by block: each nucleus is complete and appears once.

How they are found is said in `nuclei_runtime.segmentation.block_search`.

Neither the cuts nor the maps (see `nuclei_runtime.steps.tiling`) depend on the memory: the same plane and model give
the same nuclei with the same numbers on every machine with enough memory.

Blocks that show nothing but glass are left out. Blocks that an interrupted run has kept are not found again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arguments import check_argument, is_path, is_whole
from nuclei_runtime.arrays import Image, Labels, Maps
from nuclei_runtime.faults import allocating_for
from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.segmentation.block_search import GRID, BlockSearch, Grid, WholeMaps
from nuclei_runtime.segmentation.cancelling import CancelFlag, cancellable
from nuclei_runtime.segmentation.choice import choose_view
from nuclei_runtime.segmentation.glass import without_glass
from nuclei_runtime.segmentation.kept_blocks import Found, KeptBlocks
from nuclei_runtime.segmentation.memory import Budget
from nuclei_runtime.segmentation.network import Network
from nuclei_runtime.segmentation.plane_input import regions
from nuclei_runtime.segmentation.plane_maps import resized_maps
from nuclei_runtime.segmentation.plane_tiles import Helpers
from nuclei_runtime.segmentation.scratch_raster import ScratchRaster
from nuclei_runtime.segmentation.shown_maps import open_maps
from nuclei_runtime.steps.evidence import NO_EVIDENCE, Evidence
from nuclei_runtime.steps.flags import Flag, flags_of
from nuclei_runtime.steps.instances import find_instances
from nuclei_runtime.steps.score import Scores
from nuclei_runtime.steps.sieve import Sifting
from nuclei_runtime.steps.view import AS_IT_IS, View

_BYTES = "a whole number of bytes, such as 2 << 30 for 2 GiB"


@dataclass(frozen=True, eq=False)
class Block:
    """A window of a plane, and the nuclei that belong to it.

    Attributes
    ----------
    rows, columns : slice
        Where the window lies in the plane. Windows overlap; together they cover what is not skipped as glass.
    image : ndarray
        The plane's pixels in the window.
    labels : (h, w) ndarray of int32
        The nuclei that belong to this block, each complete, with their numbers in the plane. Over all blocks, the
        numbers are 1..N without gaps, in the order of the blocks. Pixels of other blocks' nuclei are 0.
    evidence : Evidence
        What is known of the whole plane.
    view : View
        How the network was shown the plane; the same for all blocks of a plane.
    flags : tuple of Flag
        Why its result may not be trusted, if there are nuclei in the plane; see `nuclei_runtime.steps.flags`. The same
        for all blocks of a plane.
    n_left_out : int
        Nuclei of this block that the sieve of the network left out.
    left_out : (h, w) ndarray of bool, optional
        Their pixels; None if there are none.
    glass_share : float, optional
        See `nuclei_runtime.readers.plane.Plane`. The same for all blocks of a plane.
    scores : (n,) ndarray of float64, optional
        The score of each nucleus, 0 to 1, in the order of their numbers; None if the model's card has none. See
        `nuclei_runtime.steps.score`.
    """

    rows: slice
    columns: slice
    image: Image
    labels: Labels
    evidence: Evidence = NO_EVIDENCE
    view: View = AS_IT_IS
    flags: tuple[Flag, ...] = ()
    n_left_out: int = 0
    left_out: NDArray[np.bool_] | None = None
    glass_share: float | None = None
    scores: Scores | None = None


def segment_plane(
    plane: Plane,
    network: Network,
    *,
    max_memory: int | None = None,
    share: int | None = None,
    cancel: CancelFlag | None = None,
    keep: Path | None = None,
    report: Callable[[int, int], None] = lambda _done, _total: None,
    helpers: Helpers | None = None,
    grid: Grid = GRID,
) -> Iterator[Block]:
    """Find the nuclei of a plane.

    Parameters
    ----------
    plane : Plane
    network : Network
        `Segmenter.network`.
    max_memory : int, optional
        Ceiling in bytes for the resident memory of this process. Without it, half of what there is.
    share : int, optional
        The plane's share of it in bytes, if others are segmented at the same time; see
        `nuclei_runtime.segmentation.memory.Budget`.
    cancel : CancelFlag, optional
        Once it is set, the segmentation ends before the next tile.
    keep : Path, optional
        Where to keep the blocks of a large plane, for a later call with the same plane and network that continues; see
        `nuclei_runtime.segmentation.kept_blocks`. The caller removes the file.
    report : callable
        ``report(done, total)`` is told how many blocks are done, if there are several: once at the beginning, and
        after each block that is found.
    helpers : Helpers, optional
        Others that compute tiles of a large plane. The result is the same with and without them.
    grid : Grid
        Only tests change it: the numbers of the nuclei depend on it.

    Raises
    ------
    ImageTooLargeError
        The plane cannot be segmented within the ceiling. If possible, this is raised before the plane is read.
    ImageError
        The plane cannot be read or segmented, or does not state the size of a pixel that the sieve needs.
    SegmentationCancelledError
        The flag was set.
    ArgumentError
        An argument is of another type, or out of range.
    """
    for is_valid, name, expected, found in (
        (isinstance(plane, Plane), "plane", "a Plane, as plane_of(image) and open_planes give it", plane),
        (isinstance(network, Network), "network", "the `network` of a Segmenter", network),
        (max_memory is None or is_whole(max_memory, 1), "max_memory", _BYTES, max_memory),
        (share is None or is_whole(share), "share", _BYTES, share),
        (keep is None or is_path(keep), "keep", "the path of a file", keep),
        (callable(report), "report", "a function of two numbers", report),
    ):
        check_argument(is_valid, name, expected, found)
    with allocating_for(plane.shape):
        sifting = Sifting(network.sieve, plane.shape, plane.pixel_size_um)
        keep, helpers = (keep, helpers) if plane.is_large else (None, None)
        plane = cancellable(plane, cancel)
        budget = Budget(plane, max_memory, network, share)
        for block in _segment(plane, network, budget, grid, keep, report, helpers):
            origin = block.rows.start, block.columns.start
            labels, scores, n_left_out = sifting.sift(block.labels, origin, block.scores)
            left_out = (block.labels > 0) & (labels == 0) if n_left_out else None
            yield replace(block, labels=labels, scores=scores, n_left_out=n_left_out, left_out=left_out)


def _segment(
    plane: Plane,
    network: Network,
    budget: Budget,
    grid: Grid,
    keep: Path | None,
    report: Callable[[int, int], None],
    helpers: Helpers | None,
) -> Iterator[Block]:
    height, width = plane.shape[:2]
    shape = height, width
    whole = slice(0, height), slice(0, width)
    if network.tiling is None:
        budget.check_whole()
        image = plane.read(*whole)
        whole_maps, contrast = resized_maps(image, network)
        evidence = Evidence(contrast)
        flags = flags_of(evidence, network.card.flags, network.min_quality)
        yield Block(*whole, image, label_maps(whole_maps, network), evidence, flags=flags)
        return
    budget.tiling(network.tiling, grid.window_px)  # refused before it is read
    if network.skips_glass:
        plane = without_glass(plane)
    shown = choose_view(plane, network, budget, grid.core_px)
    network = shown.network
    flags = flags_of(shown.evidence, network.card.flags, network.min_quality)

    def block_of(found: Found) -> Block:
        return Block(
            found.rows,
            found.columns,
            plane.read(found.rows, found.columns),
            found.labels,
            shown.evidence,
            network.view,
            flags,
            glass_share=plane.glass_share,
            scores=shown.scores(found),
        )

    if shown.found is not None:
        yield block_of(shown.found)
        return
    cores = [core for core in regions(shape, grid.core_px) if not plane.shows_glass(*core)]
    with ExitStack() as opened:
        kept = opened.enter_context(KeptBlocks(keep))
        windows = (grid.window(core, shape) for core in cores[kept.count :])
        maps = opened.enter_context(open_maps(shown, budget, grid.window_px, windows, helpers))
        taken = opened.enter_context(ScratchRaster(np.bool_, memory_bytes=budget.in_memory_bytes))
        has_signs = network.card.score is not None
        method = network.postprocessing
        search = BlockSearch(maps, taken, method, shape, grid, budget.check_window, kept, has_signs)
        report(kept.count, len(cores))
        for done, found in enumerate(search.find_all(cores), 1):
            yield block_of(found)
            if done > kept.count:
                report(done, len(cores))


def label_maps(maps: Maps, network: Network, grid: Grid = GRID) -> Labels:
    """Label the nuclei in the maps of a whole image.

    The labels are those of `segment_plane` without a sieve and without a mask of the tissue.

    Parameters
    ----------
    maps : (H, W, M) ndarray of float32 in [0, 1]
        See `nuclei_runtime.segmentation.plane_maps.image_maps`.
    network : Network
        The one that the maps are from.
    grid : Grid
        See `segment_plane`.

    Returns
    -------
    (H, W) ndarray of int32
        0 background, 1..N.

    Raises
    ------
    ImageError
        A nucleus is larger than any window may be.
    """
    method = network.postprocessing
    if network.tiling is None:
        return find_instances(maps, method)
    height, width = maps.shape[:2]
    labels = np.zeros((height, width), np.int32)
    with ScratchRaster(np.bool_, memory_bytes=maps.nbytes) as taken:
        search = BlockSearch(WholeMaps(maps), taken, method, (height, width), grid, lambda *_: None, KeptBlocks(None))
        for found in search.find_all(regions(maps.shape, grid.core_px)):
            labels[found.rows, found.columns] += found.labels
    return labels
