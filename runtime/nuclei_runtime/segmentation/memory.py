"""How much memory a run may use, and how much each of its parts needs.

The estimates per pixel were measured as the growth of the resident memory on Linux with ONNX Runtime 1.31, NumPy 2 and
scikit-image 0.26, and rounded up. `tests/runtime/segmentation/test_memory.py` compares their sum with real processes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from copy import copy
from dataclasses import replace

import numpy as np

from nuclei_runtime.errors import ImageTooLargeError
from nuclei_runtime.readers.bounds import CACHE_BYTES, DECODING_COPIES
from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.resources import format_memory
from nuclei_runtime.segmentation.network import Network
from nuclei_runtime.segmentation.plane_input import contrast_bytes
from nuclei_runtime.segmentation.process_memory import default_max_memory, release_memory, resident_bytes
from nuclei_runtime.steps.stains import AS_IS, stained_type
from nuclei_runtime.steps.tiling import Tiling, computed_px, tile_side

NETWORK_BYTES_PER_PX = 400
"""Per pixel of a tile, halo included. A network of the recipe `native` needs 140 to 190: tiles of one size reuse ONNX
Runtime's memory arena, which is why the arena stays on (without it, 240 to 290). The rest is for wider networks: one
with 32 filters needs 300. A plain U-Net with 16 filters at full resolution needs 560, more than is counted here."""

SCALING_BYTES_PER_PX = 36
"""Per pixel of a tile that is reduced before the network sees it, in addition to the stored pixels: what is read for
the tile, and the maps at the scale of the image."""

STAINING_COPIES = 5
"""Values of a stain for each pixel of a tile: the optical densities of three colours, and their sum twice."""

LABELLING_BYTES_PER_PX = 100
"""Per pixel of a window: at most 77 for a watershed in a window full of foreground, 12 for the maps, and the rest for
the pixels that are read and those that other nuclei have taken. Nuclei are measured afterwards."""

WHOLE_BYTES_PER_VALUE = 28
"""Per pixel and channel of an image that a network of fixed size takes in one piece: normalisation in float64, then
scaling, each with a copy."""

OVERLAY_BYTES_PER_PX = 7
OVERLAY_BYTES = 160 << 20
"""For an 8-bit picture and its 32-bit labels, at most `overlay_png.MAX_OVERLAY_PX` on each side, and for drawing one
strip of it."""

WAITING_BYTES_PER_PX = 17
"""Per pixel of the plane that is kept until it is needed: three maps in float32, 32-bit labels, and one byte that says
whether a nucleus has taken the pixel."""

LABELS_IN_MEMORY_BYTES = 32 << 20
"""How much of the labels is kept in memory until their number decides the bit depth of the file."""

MAX_COMPUTED = 1.25
"""How many pixels the network may see for each pixel of a plane: tiles overlap by their halos. With the tiles of the
bundled model's card, it is 1.89. Larger tiles than this takes would need more memory and save little time."""

MAX_CORE_PX = 2048
"""With the halo of the bundled model, this and less gives planes of any size at most `MAX_COMPUTED`."""

MAX_MAPS_IN_MEMORY_BYTES = 256 << 20
"""The most that is kept of the maps in memory, enough for 4096 x 4096 pixels."""

SETTLING_BYTES = 8 << 20
"""What the first plane leaves in memory for good, such as code that is loaded only then. 3 MiB were measured."""

START_SPREAD_BYTES = 16 << 20
"""How much more memory the next process may hold at its start than this one did. On one machine
24 starts differed by up to 0.7 MiB, and two with huge pages by up to 2.2 MiB. The rest is for other systems."""

_least_resident = sys.maxsize
"""The smallest resident memory measured in this process."""


def _settled_bytes() -> int:
    """Return the resident memory, but at least what it will be after the first plane: all planes count alike."""
    global _least_resident
    resident = resident_bytes()
    _least_resident = min(_least_resident, resident)
    return max(resident, _least_resident + SETTLING_BYTES)


class Budget:
    """The memory that one plane may use, in addition to what the process already holds.

    Parameters
    ----------
    plane : Plane
    max_memory : int, optional
        Ceiling in bytes for the whole process. Without it, `default_max_memory`.
    network : Network, optional
        Without one, the network sees the plane as it is.
    share : int, optional
        The most that the plane may need, in bytes, with tiles that are larger than those of the model's card, while
        others are segmented beside it. Without it, all that the ceiling allows.
    """

    def __init__(
        self, plane: Plane, max_memory: int | None, network: Network | None = None, share: int | None = None
    ) -> None:
        self._resident = _settled_bytes()
        self._ceiling = default_max_memory() if max_memory is None else max_memory
        self._share = share
        self._show(plane, network)

    def of(self, network: Network, shape: tuple[int, int] | None = None) -> Budget:
        """Return the budget of the same plane, or of a part of it, for a network with another view.

        What the process held is not measured again: it may hold by now what reading the plane needs, which would count
        twice.

        Parameters
        ----------
        network : Network
        shape : (int, int), optional
            Height and width of the part.
        """
        other = copy(self)
        plane = self._plane
        other._show(plane if shape is None else replace(plane, shape=(*shape, *plane.shape[2:])), network)
        return other

    def _show(self, plane: Plane, network: Network | None) -> None:
        self._plane = plane
        magnification = 1 if network is None else network.magnification
        self._network_bytes_per_px = NETWORK_BYTES_PER_PX * magnification**2
        if magnification < 1:
            pixel_bytes = math.prod(plane.shape[2:]) * np.dtype(plane.dtype).itemsize
            self._network_bytes_per_px += SCALING_BYTES_PER_PX + pixel_bytes
        if network is not None and network.view.stain != AS_IS:
            self._network_bytes_per_px += STAINING_COPIES * stained_type(plane.dtype).itemsize

    @property
    def in_memory_bytes(self) -> int:
        """How much of the maps, and of the pixels taken, may be kept in memory. The rest goes into temporary files."""
        return _in_memory_bytes(self._ceiling)

    def check_whole(self) -> None:
        """Refuse a plane that does not fit into memory as a whole, for a network of fixed size.

        Raises
        ------
        ImageTooLargeError
            The plane does not fit.
        """
        self._make_room(self._whole())
        advice = "this model needs the whole image at once; use a model that takes any size, or "
        self._check(lambda _: self._whole(), advice)

    def check_window(self, height: int, width: int) -> None:
        """Refuse a plane if a window of some size, in pixels, does not fit.

        Raises
        ------
        ImageTooLargeError
            The window does not fit.
        """
        self._check(
            lambda ceiling: self._held(ceiling) + height * width * LABELLING_BYTES_PER_PX,
            f"one of its objects needs a window of {height} x {width} pixels; ",
        )

    def tiling(self, tiling: Tiling, window_px: int) -> Tiling:
        """Return the tiling with the smallest tiles of which the network sees at most `MAX_COMPUTED` pixels for each.

        If these do not fit, it is the one of which it sees the fewest. The core of a tile is at least as large as its
        halo: the network then sees each pixel up to nine times. With smaller cores it would do so many more times, and
        the run would seem to hang.

        Parameters
        ----------
        tiling : Tiling
            The card's.
        window_px : int
            Side of the windows in which nuclei are found, in pixels.

        Raises
        ------
        ImageTooLargeError
            Even the smallest tiles do not fit.
        """
        self._make_room(self._in_blocks(tiling, window_px, self._ceiling))
        step = tiling.multiple_of_px
        smallest = replace(tiling, core_px=min(tiling.core_px, max(tiling.halo_px, step)))
        whole = "this format can only be read as a whole; save the image as a tiled TIFF, or "
        self._check(
            lambda ceiling: self._in_blocks(smallest, window_px, ceiling), "" if self._plane.reads_blocks else whole
        )
        cores = range(smallest.core_px, max(tiling.core_px, MAX_CORE_PX) + 1, step)
        fitting = (one for core in cores if self._may_use(one := replace(tiling, core_px=core), tiling, window_px))
        shape = self._plane.shape[:2]
        enough = MAX_COMPUTED * math.prod(shape)
        best, fewest = smallest, math.inf
        for one in fitting:
            n_computed = computed_px(shape, one)
            if n_computed <= enough:
                return one  # the first of small images, whose time would otherwise go into looking at larger tiles
            if n_computed < fewest:
                best, fewest = one, n_computed
        return best

    def _may_use(self, tiling: Tiling, of_card: Tiling, window_px: int) -> bool:
        """Return whether the plane may be cut into such tiles; for those that the card asks for, no share counts."""
        needed = self._in_blocks(tiling, window_px, self._ceiling)
        in_share = self._share is None or tiling.core_px <= of_card.core_px or needed <= self._share
        return in_share and self._fits(needed)

    def tile_bytes(self, shape: tuple[int, int], tiling: Tiling) -> int:
        """Return the bytes that the network needs for a tile of a plane of this height and width."""
        return math.ceil(tile_side(shape[0], tiling) * tile_side(shape[1], tiling) * self._network_bytes_per_px)

    def fits_in(self, share: int, tiling: Tiling | None, window_px: int) -> bool:
        """Return whether the most that the plane can need, with the tiles of a card, fits into a share of the ceiling.

        Parameters
        ----------
        share : int
            In bytes.
        tiling : Tiling, optional
            The card's. None for a network of fixed size.
        window_px : int
            As in `tiling`.
        """
        return share >= (self._whole() if tiling is None else self._in_blocks(tiling, window_px, self._ceiling))

    def _whole(self) -> int:
        """Return the bytes that a network of fixed size needs."""
        height, width = self._plane.shape[:2]
        n_values = math.prod(self._plane.shape)
        return self._reading() + n_values * WHOLE_BYTES_PER_VALUE + height * width * LABELLING_BYTES_PER_PX

    def _in_blocks(self, tiling: Tiling, window_px: int, ceiling: int) -> int:
        """Return the bytes that a network of any size needs with these windows and tiles."""
        height, width = self._plane.shape[:2]
        # The contrast is fitted before the first window, and the overlay is drawn after the last.
        window = min(height, window_px) * min(width, window_px) * LABELLING_BYTES_PER_PX
        overlay = min(OVERLAY_BYTES, height * width * OVERLAY_BYTES_PER_PX)
        held = self._held(ceiling) + max(contrast_bytes(self._plane), window, overlay)
        return held + self.tile_bytes((height, width), tiling)

    def _reading(self) -> int:
        """Return the bytes that reading needs: for the whole plane if its format gives no access to regions.

        Then each channel that is measured is kept as well.
        """
        own_bytes = math.prod(self._plane.shape) * np.dtype(self._plane.dtype).itemsize
        n_bytes, n_measured = own_bytes * self._plane.channels_together, len(self._plane.measured)
        if self._plane.reads_blocks:
            return min(n_bytes * (1 + n_measured), CACHE_BYTES)
        return n_bytes * DECODING_COPIES + own_bytes * n_measured

    def _held(self, ceiling: int) -> int:
        """Return the bytes that are held all the time: by the reader, and for maps, labels and the pixels taken."""
        waiting = 2 * _in_memory_bytes(ceiling) + LABELS_IN_MEMORY_BYTES
        return self._reading() + min(waiting, WAITING_BYTES_PER_PX * math.prod(self._plane.shape[:2]))

    def _make_room(self, needed: int) -> None:
        """If memory is short, release what earlier planes left behind, which would otherwise count twice."""
        if not self._fits(needed):
            release_memory()
            self._resident = min(self._resident, _settled_bytes())

    def _fits(self, needed: int) -> bool:
        return self._resident + needed <= self._ceiling

    def _check(self, needed: Callable[[int], int], advice: str) -> None:
        """Refuse the plane if it does not fit.

        Parameters
        ----------
        needed : callable
            Takes a ceiling and returns the bytes needed under it: the higher the ceiling, the more is kept in memory.
        advice : str
            What else the user can do, to come before the advice to allow more memory.
        """
        if self._fits(needed(self._ceiling)):
            return
        # The next process has to manage with this amount, and may hold more at its start than this one.
        resident = self._resident + START_SPREAD_BYTES
        enough = self._ceiling
        while (total := resident + needed(enough)) > enough:
            enough = total
        height, width = self._plane.shape[:2]
        raise ImageTooLargeError(
            f"{height} x {width} pixels of {np.dtype(self._plane.dtype)} need about {format_memory(enough)} of memory, "
            f"but only {format_memory(self._ceiling)} may be used: {advice}"
            "allow more with --max-memory (max_memory in Python)"
        )


def _in_memory_bytes(ceiling: int) -> int:
    return min(ceiling // 32, MAX_MAPS_IN_MEMORY_BYTES)
