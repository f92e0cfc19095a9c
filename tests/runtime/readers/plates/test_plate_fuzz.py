"""Indexes of plates that are cut, flipped or contradict themselves: refused with a sentence, or read right."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nuclei_runtime.errors import ImageError
from nuclei_runtime.readers.formats import format_of_folder
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.runs.inputs import find_images

SECONDS_A_FILE = 20
"""Generous, because the machine may be busy: an endless loop takes longer."""
MOST_MEMORY_BYTES = 200 << 20

FUZZED = settings(
    max_examples=60,
    deadline=timedelta(seconds=SECONDS_A_FILE),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PLANES = list(product([1, 2], [1], [1], [1], [1, 2], [1, 2]))
WORDS = [
    b"",
    b"0",
    b"-1",
    b"999999999",
    b"1e9",
    b"\xff\xfe",
    b"&amp;",
    b"&x;",
    b"<",
    b"]]>",
    b"<!DOCTYPE a>",
    b"<Image>",
]


@st.composite
def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A way to damage a file: cut it, flip bits, replace or repeat a piece."""
    kind = draw(st.sampled_from(["cut", "flip", "word", "repeat"]))
    at, length = draw(st.floats(0, 1)), draw(st.integers(1, 200))
    word, bits = draw(st.sampled_from(WORDS)), draw(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 7)), max_size=5))

    def damaged(whole: bytes) -> bytes:
        data, start = bytearray(whole), int(at * len(whole))
        if kind == "cut":
            del data[start:]
        elif kind == "flip":
            for where, bit in bits:
                data[int(where * (len(data) - 1))] ^= 1 << bit
        elif kind == "word":
            data[start : start + length] = word
        else:
            data[start:start] = data[start : start + length] * 3
        return bytes(data)

    return damaged


@pytest.mark.parametrize(
    "target", ["Images/Index.idx.xml", "MeasurementData.mlf", "MeasurementDetail.mrf", "S.mes", "P.HTD"]
)
@FUZZED
@given(change=damage())
def test_a_damaged_index(plates: Any, tmp_path_factory: Any, target: str, change: Callable[[bytes], bytes]) -> None:
    folder = written(plates, tmp_path_factory, target)
    path = folder / target
    whole = path.read_bytes()
    refusal = None
    tracemalloc.start()
    try:
        path.write_bytes(change(whole))
        form = format_of_folder(folder)
        if form is None:  # what marks the folder is gone
            return
        fields = form.fields(folder)
        assert fields is not None
        for field in fields[:3]:
            with open_planes(field, Selection(channel=0, z="max")) as planes:
                image = planes[0].read(slice(0, planes[0].shape[0]), slice(0, planes[0].shape[1]))
                stored = [plates.pixels(*where) for where in PLANES]
                assert any(np.array_equal(image, np.maximum(one, other)) for one in stored for other in stored)
    except ImageError as error:
        refusal = str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        path.write_bytes(whole)
    assert peak < MOST_MEMORY_BYTES
    assert refusal is None or 10 < len(refusal) < 600


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["A/1", "B/1", "../0", "A/x/1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["plate", "well", "wells", "images", "path", "acquisition", "ome"]), inner)
    ),
    max_leaves=12,
)


@FUZZED
@given(plate=JSON, well=JSON)
def test_any_metadata_of_an_ome_zarr_plate(tmp_path: Path, plate: Any, well: Any) -> None:
    """Whatever the metadata are, the search for images does not fail; opening each field says what is wrong."""
    folder = tmp_path / "p.zarr"
    (folder / "A/1").mkdir(parents=True, exist_ok=True)
    (folder / ".zattrs").write_text(json.dumps({"plate": plate}), encoding="utf-8")
    (folder / "A/1/.zattrs").write_text(json.dumps({"well": well}), encoding="utf-8")
    other = tmp_path / "other.png"
    other.write_bytes(b"no picture")
    # Alone, a plate without fields would be refused: there is nothing to segment.
    found = find_images([folder, other], out=tmp_path / "out")
    assert other in [file.path for file in found.files]
    for file in found.files:
        with pytest.raises(ImageError), open_planes(file.source, Selection()):
            pass


_WRITTEN: dict[str, Path] = {}


def written(plates: Any, tmp_path_factory: Any, target: str) -> Path:
    """Return the folder of a plate that is written once for all examples."""
    if target not in _WRITTEN:
        folder = _WRITTEN[target] = tmp_path_factory.mktemp("fuzz") / "P"
        if target.endswith(".xml"):
            plates.harmony(folder, PLANES)
        elif target == "P.HTD":
            plates.imagexpress(folder, wells=["A01", "B01"], sites=1, steps=2)
            for row, *_, channel, depth in PLANES:
                name = f"ZStep_{depth}/P_{'AB'[row - 1]}01_w{channel}.TIF"
                plates.plane(folder / name, row, 1, 1, 1, channel, depth)
        else:
            plates.cellvoyager(folder, PLANES, names=("DNA", "RNA"))
    return _WRITTEN[target]
