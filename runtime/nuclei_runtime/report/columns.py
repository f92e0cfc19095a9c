"""The measurements of all nuclei, packed column by column, so that a browser unpacks only those that it shows."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.errors import InputsError

MAX_NUCLEI = 3_000_000
"""Beyond this, a browser takes more memory and time than people have patience for."""
MAX_VALUES = 12_000_000
"""Twelve columns of a million nuclei: about 30 MB of the report. Columns beyond it are left out."""
MAX_EXACT_VALUES = 2_000_000
"""Up to here, values keep the 24 binary digits of a 32-bit float (seven decimal ones); beyond, `_ROUNDED_BITS`."""

_MANTISSA_BITS, _ROUNDED_BITS = 23, 10
"""Ten binary digits after the first: a relative error of at most 0.05 %."""

_WHERE = ("image", "condition", "scene", "well", "field", "time", "z")
"""Columns that tell of the image, which the report has once an image."""
_LAST = ("area_px", "perimeter_px", "major_axis_px", "minor_axis_px", "centroid_", "bbox_", "equivalent_diameter_")
"""Left out first, from the end: what follows from other columns or from the outline."""


def chosen_columns(columns: Sequence[str], n_nuclei: int) -> tuple[list[str], list[str]]:
    """Return the columns of numbers that a report of so many nuclei holds, in their order, and those left out.

    Raises
    ------
    InputsError
        There are more than `MAX_NUCLEI` nuclei.
    """
    if n_nuclei > MAX_NUCLEI:
        raise InputsError(
            f"a report of {n_nuclei:,} nuclei would be too large for a browser, which takes {MAX_NUCLEI:,}; "
            "nuclei.csv, images.csv and summary.csv hold everything"
        )
    numbers = [column for column in columns if column not in _WHERE]
    n_kept = max(MAX_VALUES // max(n_nuclei, 1), 1)
    has_um = any(column.endswith("_um2") for column in columns)

    def rank(column: str) -> tuple[bool, int]:
        last = next((place for place, start in enumerate(_LAST) if column.startswith(start)), -1)
        in_px = column.endswith("_px") and not has_um and last < _LAST.index("centroid_")
        return column != "label", -1 if in_px else last

    kept = set(sorted(numbers, key=rank)[:n_kept])
    return [column for column in numbers if column in kept], [column for column in numbers if column not in kept]


def dropped_bits(n_values: int) -> int:
    """Return how many binary digits of each of so many values are rounded away; see `MAX_EXACT_VALUES`."""
    return 0 if n_values <= MAX_EXACT_VALUES else _MANTISSA_BITS - _ROUNDED_BITS


class PackedColumn:
    """Packs a column of 32-bit floats, a part at a time.

    All first bytes, all second bytes and so on are compressed apart: the signs and exponents of a column hardly differ,
    and take almost no room.

    Parameters
    ----------
    n_dropped_bits : int
        How many of the last binary digits to round away; see `dropped_bits`.
    """

    def __init__(self, n_dropped_bits: int) -> None:
        self._dropped = n_dropped_bits
        self._compressors = [zlib.compressobj(9) for _ in range(4)]
        self._parts: list[list[bytes]] = [[] for _ in range(4)]

    def add(self, values: NDArray[np.float32]) -> None:
        """Append values; NaN is none."""
        bits = values.view(np.uint32)
        if self._dropped:
            half = np.where(np.isfinite(values), np.uint32(1 << (self._dropped - 1)), np.uint32(0))
            bits = (bits + half) & np.uint32(-(1 << self._dropped) % (1 << 32))
        planes = bits.astype("<u4").view(np.uint8).reshape(-1, 4).T
        for plane, compressor, parts in zip(planes, self._compressors, self._parts, strict=True):
            parts.append(compressor.compress(plane.tobytes()))

    def finish(self) -> list[bytes]:
        """Return the four zlib streams, the lowest bytes first."""
        return [
            b"".join([*parts, compressor.flush()])
            for compressor, parts in zip(self._compressors, self._parts, strict=True)
        ]
