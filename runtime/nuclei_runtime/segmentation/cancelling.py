"""A flag that ends a segmentation early. It is checked whenever pixels are read, and before each tile."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from nuclei_runtime.arguments import check_argument
from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import SegmentationCancelledError
from nuclei_runtime.readers.plane import Plane, Read


class CancelFlag(Protocol):
    """Tells a call to end early; a `threading.Event`, for example."""

    def is_set(self) -> bool:
        """Return whether the call should end."""


def cancellable(plane: Plane, cancel: CancelFlag | None) -> Plane:
    """Return a plane whose `check` and whose reads raise `SegmentationCancelledError` once the flag is set.

    Raises
    ------
    ArgumentError
        This is no flag.
    """
    if cancel is None:
        return plane
    is_flag = callable(getattr(cancel, "is_set", None)) and not isinstance(cancel, type)
    check_argument(is_flag, "cancel", "an object with an is_set method, such as a threading.Event", cancel)

    def check() -> None:
        plane.check()  # it may have a flag already
        if cancel.is_set():
            raise SegmentationCancelledError("the segmentation was cancelled before it was complete")

    def unless_set(read: Read) -> Read:
        def checked(rows: slice, columns: slice) -> Image:
            check()
            return read(rows, columns)

        return checked

    return replace(plane.reading(unless_set), check=check)
