"""Opens a file of outlines; its name says of which kind it is."""

from __future__ import annotations

import os
from pathlib import Path

from nuclei_runtime.errors import ImageReadError
from nuclei_runtime.faults import reading_error
from nuclei_runtime.readers.outlines.drawing import Outlines
from nuclei_runtime.readers.outlines.geojson import read_geojson
from nuclei_runtime.readers.outlines.imagej_rois import holds_rois, read_rois

_READERS = {".geojson": read_geojson, ".roi": read_rois, ".zip": read_rois}
"""By suffix, in lower case."""


def is_outline_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one that `read_outlines` reads, by its suffix; a zip must hold ROIs only."""
    suffix = Path(path).suffix.lower()
    return suffix in _READERS and (suffix != ".zip" or holds_rois(Path(path)))


def read_outlines(path: str | os.PathLike[str], content: bytes | None = None) -> Outlines:
    """Read the outlines of nuclei that were drawn or corrected in QuPath, Fiji or another program.

    Parameters
    ----------
    path : path
        A ``.geojson`` file as QuPath exports it, or a ``.roi`` or a ``.zip`` of them as ImageJ's ROI Manager saves it.
    content : bytes, optional
        Of the file, if it has been read already, for example from an archive.

    Returns
    -------
    Outlines
        `Outlines.labels` draws the label image. For outlines that this project wrote, it is the one that they were
        traced from.

    Raises
    ------
    ImageReadError
        The file is missing or damaged, or not of one of these kinds; or it holds ROIs, and the package roifile, which
        they need, is not installed.
    RuntimeEnvironmentError
        The machine is at fault.
    """
    reader = _READERS.get(Path(path).suffix.lower())
    if reader is None:
        raise ImageReadError(f"{Path(path).name}: expected outlines as {', '.join(_READERS)}")
    try:
        return reader(Path(path).name, Path(path).read_bytes() if content is None else content)
    except Exception as error:
        raise reading_error(error) from error
