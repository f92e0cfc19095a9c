"""Many images in a row: order, memory, and that one image's failure is its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from nuclei_runtime.folder import segment_files
from nuclei_runtime.inputs import find_images
from nuclei_runtime.results import ResultWriter
from nuclei_runtime.segmenter import Segmentation, Segmenter
from nuclei_runtime.synthetic import fluorescence_field
from nuclei_runtime.tables import Outcome


def save_fields(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        Image.fromarray(fluorescence_field(seed, height=96, width=100 + seed, n_nuclei=8)[0]).save(folder / name)


def run(folder: Path, segmenter: Segmenter) -> Iterator[Outcome]:
    inputs = find_images([folder], out=folder / "out")
    with ResultWriter(folder / "out", inputs.files) as writer:
        yield from segment_files(inputs.files, segmenter, writer)


@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_outcomes_come_in_order_and_do_not_depend_on_the_batch(
    tmp_path: Path, tiny_model: Path, batch_size: int
) -> None:
    save_fields(tmp_path, "a.png", "b.png", "d.png", "e.png")
    (tmp_path / "c.png").write_bytes(b"not an image")
    outcomes = list(run(tmp_path, Segmenter(tiny_model, batch_size=batch_size)))
    assert [outcome.image for outcome in outcomes] == ["a.png", "b.png", "c.png", "d.png", "e.png"]
    assert [outcome.status for outcome in outcomes] == ["ok", "ok", "failed", "ok", "ok"]
    for seed, outcome in enumerate(outcome for outcome in outcomes if outcome.status == "ok"):
        alone = Segmenter(tiny_model).segment(fluorescence_field(seed, height=96, width=100 + seed, n_nuclei=8)[0])
        written = tifffile.imread(tmp_path / "out" / str(outcome.labels))
        np.testing.assert_array_equal(written, alone.labels)
        assert outcome.n_nuclei == alone.count > 0


def test_an_image_is_read_when_its_batch_comes(tmp_path: Path, tiny_model: Path) -> None:
    save_fields(tmp_path, "a.png", "b.png", "c.png", "d.png", "e.png")
    outcomes = run(tmp_path, Segmenter(tiny_model, batch_size=2))
    assert next(outcomes).status == "ok"
    for name in ("b.png", "c.png"):  # b is in memory by now, c is not
        (tmp_path / name).unlink()
    assert [(outcome.image, outcome.status) for outcome in outcomes] == [
        ("b.png", "ok"),
        ("c.png", "failed"),
        ("d.png", "ok"),
        ("e.png", "ok"),
    ]


class ShortOfMemory(Segmenter):
    """A real segmenter on a machine whose memory does not hold images 101 px wide."""

    def segment_batch(self, images: Sequence[np.ndarray]) -> list[Segmentation]:
        if any(image.shape[1] == 101 for image in images):
            raise MemoryError
        return super().segment_batch(images)


def test_an_image_for_which_memory_is_short_fails_alone(tmp_path: Path, tiny_model: Path) -> None:
    save_fields(tmp_path, "a.png", "b.png", "c.png")
    outcomes = list(run(tmp_path, ShortOfMemory(tiny_model)))
    assert [outcome.status for outcome in outcomes] == ["ok", "failed", "ok"]
    assert "memory" in str(outcomes[1].reason)


def test_a_name_that_is_no_text_fails_alone(tmp_path: Path, tiny_model: Path) -> None:
    save_fields(tmp_path, "a.png")
    try:
        (tmp_path / os.fsdecode(b"b\xff.png")).write_bytes((tmp_path / "a.png").read_bytes())
    except (OSError, UnicodeError) as error:
        pytest.skip(f"NOT RUN: this file system takes only names that are text: {error}")
    outcomes = list(run(tmp_path, Segmenter(tiny_model)))
    assert [outcome.status for outcome in outcomes] == ["ok", "failed"]
    assert "name" in str(outcomes[1].reason)
    assert b"b\\udcff.png" in (tmp_path / "out/images.csv").read_bytes()


def test_each_nucleus_is_one_piece_and_the_numbers_have_no_gaps(tmp_path: Path, tiny_model: Path) -> None:
    save_fields(tmp_path, "a.png", "b.png", "c.png")
    for outcome in run(tmp_path, Segmenter(tiny_model)):
        labels = tifffile.imread(tmp_path / "out" / str(outcome.labels))
        assert np.unique(labels).tolist() == list(range(int(outcome.n_nuclei or 0) + 1))
        for number in range(1, labels.max() + 1):
            assert ndimage.label(labels == number)[1] == 1


def test_a_segmenter_may_be_shared_by_threads(tiny_model: Path) -> None:
    segmenter = Segmenter(tiny_model, threads=1)
    images = [fluorescence_field(seed, height=64 + seed, width=80, n_nuclei=6)[0] for seed in range(16)]
    expected = [segmenter.segment(image).labels for image in images]
    assert any(labels.any() for labels in expected)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda image: segmenter.segment(image).labels, images * 4))
    for labels, wanted in zip(found, expected * 4, strict=True):
        np.testing.assert_array_equal(labels, wanted)
