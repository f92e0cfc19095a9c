"""Bounds on what the header of a file may claim and on what a reader may hold in memory."""

from __future__ import annotations

from nuclei_runtime.errors import ImageReadError

CACHE_BYTES = 1 << 27
"""For decoded strips, tiles or chunks: holds a band of 1024 rows of 65,536 pixels of 16 bits, so that windows that move
along a row and then down decode little twice."""

MAX_SEGMENT_BYTES = 1 << 25
"""Largest compressed strip, tile or chunk that still gives access to regions; an image of larger ones is read whole."""

DECODING_COPIES = 3
"""How many times the pixels are in memory while a format without access to regions is read: the file, the decoded
data and the array. All channels that are interleaved in the file count, because a codec's predictor needs them all."""

_MAX_EXPANSION = 2000
"""No lossless codec expands the data of a real image more: the limit of deflate is 1032 (technical details of zlib)."""

_MAX_UNDOUBTED_BYTES = 1 << 26


def check_claim(form: str, n_bytes: int, file_bytes: int) -> None:
    """Refuse a file that claims more pixels than its bytes can hold, before memory is allocated for them.

    Raises
    ------
    ImageReadError
    """
    if n_bytes > max(_MAX_EXPANSION * file_bytes, _MAX_UNDOUBTED_BYTES):
        raise ImageReadError(f"the {form} claims {n_bytes} bytes of pixels, which its {file_bytes} bytes cannot hold")
