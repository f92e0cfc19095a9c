"""A raster that is kept on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nuclei_runtime.errors import RuntimeEnvironmentError
from nuclei_runtime.segmentation.scratch_raster import CHUNK_PX, ScratchRaster


@pytest.mark.parametrize("memory_bytes", [1, 4 << 20, 1 << 30])
@pytest.mark.parametrize("channels", [None, 3])
def test_windows_come_back_as_they_were_written(memory_bytes: int, channels: int | None) -> None:
    """Compared with an array in memory, across the edges of chunks, for whole windows and for some pixels of them."""
    rng = np.random.default_rng(1)
    size = (2 * CHUNK_PX + 37, CHUNK_PX + 90)
    depth = () if channels is None else (channels,)
    expected = np.zeros((*size, *depth), np.float32)
    with ScratchRaster(np.float32, channels, memory_bytes=memory_bytes) as raster:
        for number in range(30):
            rows, columns = (slice(*sorted(rng.integers(0, length + 1, 2).tolist())) for length in size)
            values = rng.random((rows.stop - rows.start, columns.stop - columns.start, *depth), dtype=np.float32)
            where = rng.random(values.shape[:2]) > 0.7 if number % 2 else None
            raster.write(rows, columns, values, where)
            if where is None:
                expected[rows, columns] = values
            else:
                expected[rows, columns][where] = values[where]
        np.testing.assert_array_equal(raster.read(slice(0, size[0]), slice(0, size[1])), expected)
        part = slice(200, 300), slice(250, 260)
        np.testing.assert_array_equal(raster.read(*part), expected[part])


def test_the_place_of_dropped_rows_is_used_again() -> None:
    """However long an image is, only a band of it is kept."""
    with ScratchRaster(np.uint8, memory_bytes=1) as raster:
        ones = np.ones((CHUNK_PX, 2 * CHUNK_PX), np.uint8)
        for row in range(0, 50 * CHUNK_PX, CHUNK_PX):
            raster.write(slice(row, row + CHUNK_PX), slice(0, 2 * CHUNK_PX), ones)
            raster.drop_rows(row - CHUNK_PX)
        assert raster._file is not None
        assert raster._file.seek(0, 2) <= 4 * 2 * CHUNK_PX**2
        last = slice(49 * CHUNK_PX, 50 * CHUNK_PX)
        assert raster.read(last, slice(0, 2 * CHUNK_PX)).all()
        assert not raster.read(slice(0, CHUNK_PX), slice(0, CHUNK_PX)).any()


def test_nothing_can_be_seen_of_it_in_the_folder_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the system supports files without a name, a killed process leaves nothing behind either."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with ScratchRaster(np.uint8, memory_bytes=1) as raster:
        raster.write(slice(0, 300), slice(0, 300), np.ones((300, 300), np.uint8))
        assert raster._file is not None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="NOT RUN: this system has no file that is always full")
def test_a_full_disk_is_reported_as_that_of_the_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        Path("/dev/full").open("r+b", buffering=0) as full,
        ScratchRaster(np.uint8, memory_bytes=1) as raster,
    ):
        monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: full)
        with pytest.raises(RuntimeEnvironmentError, match=r"folder for temporary files: No space left .* set TMPDIR"):
            raster.write(slice(0, 300), slice(0, 300), np.ones((300, 300), np.uint8))


def test_no_folder_for_temporary_files_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with (
        ScratchRaster(np.uint8, memory_bytes=1) as raster,
        pytest.raises(RuntimeEnvironmentError, match="temporary files: No"),
    ):
        raster.write(slice(0, 300), slice(0, 300), np.ones((300, 300), np.uint8))
