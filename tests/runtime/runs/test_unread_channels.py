"""Which errors of a channel that is only measured let an image be done without it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageError, ImageReadError, ImageTooLargeError
from nuclei_runtime.faults import reading_error
from nuclei_runtime.readers.plane import MeasuredChannel, Plane, plane_of
from nuclei_runtime.runs.unread_channels import UnreadChannelError, naming_channels, without

WHOLE = slice(0, 4), slice(0, 5)


def plane_with(error: Exception) -> Plane:
    def read(_rows: slice, _columns: slice) -> Image:
        try:
            raise error
        except MemoryError as trouble:
            raise reading_error(trouble) from trouble

    image = np.zeros((4, 5), np.uint8)
    measured = (MeasuredChannel("GFP", read), MeasuredChannel("RFP", lambda _rows, _columns: image))
    return replace(plane_of(image), measured=measured, notes=("known before",))


def test_the_plane_goes_on_without_the_channel_and_says_so() -> None:
    plane = naming_channels(plane_with(ImageReadError("b.tif: is missing")))
    with pytest.raises(UnreadChannelError) as caught:
        plane.measured[0].read(*WHOLE)
    rest = without(plane, caught.value)
    assert [one.name for one in rest.measured] == ["RFP"]
    assert rest.measured[0].read(*WHOLE).shape == (4, 5)
    assert rest.notes == ("known before", "channel GFP was not measured: b.tif: is missing")


@pytest.mark.parametrize("error", [MemoryError(), ImageTooLargeError("not enough memory")])
def test_there_may_be_enough_memory_next_time(error: Exception) -> None:
    with pytest.raises(ImageError, match="not enough memory") as caught:
        naming_channels(plane_with(error)).measured[0].read(*WHOLE)
    assert not isinstance(caught.value, UnreadChannelError)
