"""Blocks that are kept: read back as they were, whole entries only, and never found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nuclei_runtime import Segmenter
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.readers.plane import Plane, plane_of
from nuclei_runtime.segmentation.blocks import Block, segment_plane
from nuclei_runtime.segmentation.kept_blocks import Found, KeptBlocks
from nuclei_runtime.steps.score import NO_SIGNS
from nuclei_runtime.steps.view import AS_IT_IS

FOUND: list[Found] = [
    Found(slice(0, 3), slice(10, 14), np.arange(12, dtype=np.int32).reshape(3, 4), np.arange(33).reshape(11, 3) / 7),
    Found(slice(5, 6), slice(0, 70_000), np.full((1, 70_000), 1 << 20, np.int32), NO_SIGNS),
    Found(slice(7, 9), slice(1, 2), np.zeros((2, 1), np.int32), NO_SIGNS),
]


def write(path: Path, found: list[Found]) -> bytes:
    with KeptBlocks(path) as kept:
        for one in found:
            kept.add(one)
    return path.read_bytes()


def taken(path: Path) -> list[Found]:
    found = []
    with KeptBlocks(path) as kept:
        while (one := kept.take()) is not None:
            found.append(one)
        assert kept.count == len(found)
    return found


def assert_same(found: list[Found], expected: list[Found]) -> None:
    assert [(one.rows, one.columns) for one in found] == [(one.rows, one.columns) for one in expected]
    for one, wanted in zip(found, expected, strict=True):
        assert one.labels.dtype == np.int32
        np.testing.assert_array_equal(one.labels, wanted.labels)
        one.labels[...] = 0  # the caller's own
        np.testing.assert_array_equal(one.signs, wanted.signs)


def test_blocks_come_back_as_they_were(tmp_path: Path) -> None:
    write(tmp_path / "kept", FOUND)
    assert_same(taken(tmp_path / "kept"), FOUND)


def test_an_entry_that_is_not_whole_does_not_count_and_is_written_over(tmp_path: Path) -> None:
    first, both = (len(write(tmp_path / f"{n}", FOUND[:n])) for n in (1, 2))
    whole = write(tmp_path / "kept", FOUND[:2])
    for length in range(both):
        (tmp_path / "kept").write_bytes(whole[:length])
        assert_same(taken(tmp_path / "kept"), FOUND[: 1 if length >= first else 0])
        assert (tmp_path / "kept").stat().st_size == (first if length >= first else 0)
    with KeptBlocks(tmp_path / "kept") as kept:
        assert kept.take() is not None
        assert kept.take() is None
        kept.add(FOUND[1])
    assert (tmp_path / "kept").read_bytes() == whole


def test_nothing_after_a_damaged_entry_counts(tmp_path: Path) -> None:
    whole = bytearray(write(tmp_path / "kept", FOUND))
    first = len(write(tmp_path / "1", FOUND[:1]))
    for at in (first, first + 8, first + 33, first + 41, first + 60):
        damaged = whole.copy()
        damaged[at] ^= 0xFF
        (tmp_path / "kept").write_bytes(damaged)
        assert_same(taken(tmp_path / "kept"), FOUND[:1])


def test_without_a_path_nothing_is_kept() -> None:
    with KeptBlocks(None) as kept:
        kept.add(FOUND[0])
        assert kept.take() is None


@pytest.fixture
def large() -> Plane:
    field, _ = fluorescence_field(3, height=300, width=400, n_nuclei=12)
    return plane_of(np.tile(field, (1, 11)))


def test_a_plane_is_continued_after_its_last_block(tmp_path: Path, large: Plane, tiled_model: Path) -> None:
    network = Segmenter(tiled_model, threads=1).network
    expected = list(segment_plane(large, network))
    assert len(expected) == 5
    told: list[tuple[int, int]] = []

    def blocks(n: int) -> list[Block]:
        found = segment_plane(large, network, keep=tmp_path / "kept", report=lambda *what: told.append(what))
        return [next(found) for _ in range(n)]

    blocks(2)
    size = (tmp_path / "kept").stat().st_size
    again = blocks(5)
    assert (tmp_path / "kept").stat().st_size > size
    assert told == [(0, 5), (1, 5), (2, 5), (3, 5), (4, 5)]
    for block, wanted in zip(again, expected, strict=True):
        assert (block.rows, block.columns) == (wanted.rows, wanted.columns)
        np.testing.assert_array_equal(block.labels, wanted.labels)
        np.testing.assert_array_equal(block.image, wanted.image)


def test_a_block_without_nuclei_has_no_scores_rather_than_none(tmp_path: Path) -> None:
    """The columns of a table are those of its first block."""
    field, _ = fluorescence_field(3, height=1000, width=48, n_nuclei=20)
    plane = plane_of(np.concatenate([np.full((1100, 48), np.median(field), field.dtype), field]))
    network = Segmenter(threads=1, view=AS_IT_IS).network

    def scores() -> list[list[float] | None]:
        return [None if one.scores is None else one.scores.tolist() for one in segment_plane(plane, network, keep=kept)]

    kept = tmp_path / "kept"
    fresh, resumed = scores(), scores()
    assert fresh == resumed
    assert fresh[0] == []
    assert sum(len(block or ()) for block in fresh) > 5


def test_small_planes_are_not_worth_it(tmp_path: Path, tiled_model: Path) -> None:
    small = plane_of(np.zeros((90, 4096), np.uint8))
    list(segment_plane(small, Segmenter(tiled_model, threads=1).network, keep=tmp_path / "kept"))
    assert not (tmp_path / "kept").exists()
