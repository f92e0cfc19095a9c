"""How much memory a run may take, and what its parts take of it.

The estimates are per pixel, measured as growth of the resident memory on Linux with ONNX Runtime 1.31, NumPy 2 and
scikit-image 0.26, and rounded up; `tests/runtime/test_memory.py` holds a real process against their sum.
"""

from __future__ import annotations

import ctypes
import math
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np

from nuclei_runtime.errors import ImageTooLargeError, InputsError
from nuclei_runtime.model.session import release_sessions
from nuclei_runtime.readers.bounds import CACHE_BYTES
from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.resources import memory_limit_bytes
from nuclei_runtime.steps.tiling import Tiling, tile_side

NETWORK_BYTES_PER_PX = 400
"""Of a tile, halo included. The recipe `native` takes 140 to 190: tiles of one size use ONNX Runtime's arena again and
again, which is why it stays on (off, it is 240 to 290). The rest is for wider networks: 32 filters take 300. A plain
U-Net of 16 filters at the image's own resolution takes 560, more than is counted."""

SCALING_BYTES_PER_PX = 36
"""Of a tile that the network is shown reduced, beside its pixels as they come: what is read of it, and the maps at the
image's own scale."""

LABELLING_BYTES_PER_PX = 100
"""Of a window: 77 at most for a watershed over a window full of foreground, 12 for the maps, the rest for what is read
and taken. Measuring comes afterwards."""

WHOLE_BYTES_PER_VALUE = 28
"""Of an image that goes through a network of fixed size in one piece, each channel: normalisation in float64, then
scaling, both with a copy."""

DECODING_COPIES = 3
"""Of the pixels, that a format without access to regions takes: the file, what is decoded of it, its array. With all
channels that lie together in the file: a codec's predictor takes their array too."""

OVERLAY_BYTES_PER_PX = 7
OVERLAY_BYTES = 160 << 20
"""For a picture in 8 bits and its labels in 32, at most `overlay_png.MAX_OVERLAY_PX` a side, and for
drawing a strip of it."""

WAITING_BYTES_PER_PX = 17
"""Of what waits for its turn: three maps in float32, labels in 32 bits, a byte for what is taken."""

LABEL_SPOOL_BYTES = 32 << 20
"""How much of the labels waits in memory until it is known how deep their file must be."""

MAX_SPOOL_BYTES = 256 << 20
"""How much of the maps waits in memory at most: those of 4096 x 4096 pixels."""

SETTLING_BYTES = 8 << 20
"""What the first plane leaves for good, such as code that is only then read from disk: 3 MiB were measured."""

START_SPREAD_BYTES = 16 << 20
"""How much more another process of the same run may hold at its start than this one did. Forty starts on one machine
lay within 0.7 MiB, 2 MiB more where glibc takes huge pages; the rest is for what was not measured."""

SHARE = 0.5
"""Of the machine or the container, that a run takes unless it is told: the microscope's own program runs too."""

_UNITS = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def parse_memory(text: str) -> int:
    """Return the bytes that a text such as ``1GiB`` or ``800 MB`` stands for.

    Raises
    ------
    InputsError
        It is no number above 0 with one of the units.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", text.strip(), re.ASCII)
    if found is None or found[2] not in _UNITS or not (n_bytes := int(float(found[1]) * _UNITS[found[2]])):
        raise InputsError(
            f"--max-memory {text}: expected a number above 0 with one of {', '.join(_UNITS)}, such as 1GiB"
        )
    return n_bytes


def format_memory(n_bytes: float) -> str:
    """Return an amount of memory for people, rounded up to whole MiB."""
    return f"{math.ceil(n_bytes / (1 << 20))} MiB"


def default_max_memory() -> int:
    """Return the ceiling of a run that names none: `SHARE` of what the container or the machine has."""
    return int(memory_limit_bytes() * SHARE)


def resident_bytes() -> int:
    """Return what this process holds in memory, with the packages that finding nuclei loads; it starts no other."""
    import psutil
    from skimage.segmentation import watershed  # noqa: F401  # else the first plane would be measured without them

    return int(psutil.Process().memory_info().rss)


def release_memory() -> None:
    """Return to the system what earlier planes left behind, which the next one would take again.

    ONNX Runtime keeps what its largest tiles took, and glibc much of what was freed, of ONNX Runtime too: neither lets
    go without the other. It takes some 10 ms, and the next plane longer to take it all anew.
    """
    release_sessions()
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)


_least_resident = sys.maxsize
"""The least that this process was found to hold."""


def _settled_bytes() -> int:
    """Return what this process holds, and no less than it will after its first plane: all are measured alike."""
    global _least_resident
    resident = resident_bytes()
    _least_resident = min(_least_resident, resident)
    return max(resident, _least_resident + SETTLING_BYTES)


class Budget:
    """What one plane may take beside what the process holds already.

    Parameters
    ----------
    plane : Plane
    max_memory : int, optional
        Ceiling in bytes for the whole process; without it `default_max_memory`.
    magnification : float
        See `nuclei_runtime.segmentation.segmenter.Segmenter.magnification`.
    """

    def __init__(self, plane: Plane, max_memory: int | None, magnification: float = 1) -> None:
        self._plane = plane
        self._network_bytes_per_px = NETWORK_BYTES_PER_PX * magnification**2
        if magnification < 1:
            pixel_bytes = math.prod(plane.shape[2:]) * np.dtype(plane.dtype).itemsize
            self._network_bytes_per_px += SCALING_BYTES_PER_PX + pixel_bytes
        self._resident = _settled_bytes()
        self._ceiling = default_max_memory() if max_memory is None else max_memory

    @property
    def spool_bytes(self) -> int:
        """How much of the maps, and of what is taken, may wait in memory; the rest does so in temporary files."""
        return _spool_bytes(self._ceiling)

    def check_whole(self) -> None:
        """Refuse a plane that a network of fixed size takes in one piece, if it does not fit.

        Raises
        ------
        ImageTooLargeError
        """
        self._make_room(self._whole())
        advice = "this model takes an image in one piece; take a model that takes any size, or "
        self._check(lambda _: self._whole(), advice)

    def check_window(self, height: int, width: int) -> None:
        """Refuse a plane of which a window of some size does not fit.

        Raises
        ------
        ImageTooLargeError
        """
        self._check(
            lambda ceiling: self._held(ceiling) + height * width * LABELLING_BYTES_PER_PX,
            f"what counts as one nucleus in it needs a window of {height} x {width} pixels; ",
        )

    def tiling(self, tiling: Tiling, window_px: int) -> Tiling:
        """Return a tiling with the largest tiles that fit, up to those of the model's card.

        Their cores are no smaller than their halos: the network then computes a pixel up to nine times, and with
        smaller ones so often that a run seems to stand still.

        Parameters
        ----------
        tiling : Tiling
            The card's.
        window_px : int
            Side of the windows in which nuclei are found.

        Raises
        ------
        ImageTooLargeError
            Not even the smallest tiles fit.
        """
        self._make_room(self._in_blocks(tiling, window_px, self._ceiling))
        step = tiling.multiple_of_px
        smallest = replace(tiling, core_px=min(tiling.core_px, max(tiling.halo_px, step)))
        whole = "this format is only read in one piece; save it as a tiled TIFF, or "
        self._check(
            lambda ceiling: self._in_blocks(smallest, window_px, ceiling), "" if self._plane.reads_blocks else whole
        )
        smaller = (replace(tiling, core_px=core) for core in range(tiling.core_px, smallest.core_px, -step))
        return next((one for one in smaller if self._fits(self._in_blocks(one, window_px, self._ceiling))), smallest)

    def fits_in_share(self, tiling: Tiling | None, window_px: int, n_shares: int, resident: int) -> bool:
        """Tell whether one of several equal shares of the ceiling is enough for all that the plane may take.

        Parameters
        ----------
        tiling : Tiling, optional
            The card's; None for a network of fixed size.
        window_px : int
            As in `tiling`.
        n_shares : int
        resident : int
            What the process held before there was any plane.
        """
        most = self._whole() if tiling is None else self._in_blocks(tiling, window_px, self._ceiling)
        return most * n_shares <= self._ceiling - resident

    def _whole(self) -> int:
        """Return what a network of fixed size takes."""
        height, width = self._plane.shape[:2]
        n_values = math.prod(self._plane.shape)
        return self._reading() + n_values * WHOLE_BYTES_PER_VALUE + height * width * LABELLING_BYTES_PER_PX

    def _in_blocks(self, tiling: Tiling, window_px: int, ceiling: int) -> int:
        """Return what a network of any size takes, with windows and tiles of some size."""
        height, width = self._plane.shape[:2]
        # The overlay is drawn when no window is needed any more; percentiles are taken when none is needed yet.
        window = min(height, window_px) * min(width, window_px) * LABELLING_BYTES_PER_PX
        held = self._held(ceiling) + max(window, min(OVERLAY_BYTES, height * width * OVERLAY_BYTES_PER_PX))
        tile_px = tile_side(height, tiling) * tile_side(width, tiling)
        return held + math.ceil(tile_px * self._network_bytes_per_px)

    def _reading(self) -> int:
        """Return what reading takes: the whole plane, where its format gives no access to regions."""
        n_values = math.prod(self._plane.shape) * self._plane.channels_together
        n_bytes = n_values * np.dtype(self._plane.dtype).itemsize
        return min(n_bytes, CACHE_BYTES) if self._plane.reads_blocks else n_bytes * DECODING_COPIES

    def _held(self, ceiling: int) -> int:
        """Return what is held all the time: pixels where they come all at once, and what waits for its turn."""
        waiting = 2 * _spool_bytes(ceiling) + LABEL_SPOOL_BYTES
        return self._reading() + min(waiting, WAITING_BYTES_PER_PX * math.prod(self._plane.shape[:2]))

    def _make_room(self, needed: int) -> None:
        """Where it is short, have released what earlier planes left: it would be counted twice."""
        if not self._fits(needed):
            release_memory()
            self._resident = _settled_bytes()

    def _fits(self, needed: int) -> bool:
        return self._resident + needed <= self._ceiling

    def _check(self, needed: Callable[[int], int], advice: str) -> None:
        """Refuse the plane if it does not fit.

        Parameters
        ----------
        needed : callable
            From a ceiling to what is needed under it: the higher it is, the more waits in memory.
        advice : str
        """
        if self._fits(needed(self._ceiling)):
            return
        # The amount is for the next process, which may hold more at its start than this one.
        resident = self._resident + START_SPREAD_BYTES
        enough = self._ceiling
        while (total := resident + needed(enough)) > enough:
            enough = total
        height, width = self._plane.shape[:2]
        raise ImageTooLargeError(
            f"{height} x {width} pixels of {np.dtype(self._plane.dtype)} need about {format_memory(enough)} of memory, "
            f"{format_memory(self._ceiling)} may be used: {advice}allow more with --max-memory"
        )


def _spool_bytes(ceiling: int) -> int:
    return min(ceiling // 32, MAX_SPOOL_BYTES)
