"""Image in, labelled nuclei out, with a real ONNX session."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from nuclei_runtime import Segmentation, Segmenter
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import ImageError, ImageShapeError, ImageValueError, ModelNotFoundError
from nuclei_runtime.model.bundled import BUNDLED_MODEL
from nuclei_runtime.model.session import CPU_PROVIDER


@pytest.fixture(scope="module")
def segmenter(tiny_model: Path) -> Segmenter:
    return Segmenter(tiny_model, threads=1)


@pytest.fixture(scope="module", params=["tiny", "tiled", "bundled"])
def model(request: pytest.FixtureRequest, tiny_model: Path, tiled_model: Path) -> Path:
    """Models for what must be true of any network: one that takes any size, and one built like the real one."""
    return {"tiny": tiny_model, "tiled": tiled_model, "bundled": BUNDLED_MODEL}[request.param]


@pytest.fixture(scope="module", params=["tiny", "tiled"])
def either(request: pytest.FixtureRequest, tiny_model: Path, tiled_model: Path) -> Segmenter:
    """A network of fixed size, and one that takes any."""
    return Segmenter({"tiny": tiny_model, "tiled": tiled_model}[request.param], threads=1)


FIELD, TRUTH = fluorescence_field(11, height=128, width=128, n_nuclei=9)
OPAQUE = np.full_like(FIELD, 255)

SAME_PICTURE = {
    "rgb": np.dstack([FIELD] * 3),
    "rgba": np.dstack([FIELD, FIELD, FIELD, OPAQUE]),
    "rgba with another alpha": np.dstack([FIELD, FIELD, FIELD, FIELD]),
    "one channel": FIELD[..., np.newaxis],
    "16 bit": FIELD.astype(np.uint16) * 257,
    "12 bit in 16": FIELD.astype(np.uint16) * 16,
    "16 bit rgb": np.dstack([FIELD.astype(np.uint16) * 257] * 3),
    "float": FIELD / 256,
    "float32 of 255": FIELD.astype(np.float32),
    "negative": FIELD.astype(np.int32) - 1000,
    "big-endian": FIELD.astype(">u2"),
    "turned in memory": np.asfortranarray(FIELD),
}


def test_the_same_picture_gives_the_same_nuclei(model: Path) -> None:
    segmenter = Segmenter(model)
    expected = segmenter.segment(FIELD).labels
    assert expected.max() >= 4
    for kind, image in SAME_PICTURE.items():
        assert np.array_equal(segmenter.segment(image).labels, expected), kind


SECTION = np.dstack([235 - FIELD // 2, 215 - FIELD // 3 * 2, 230 - FIELD // 4])
SAME_SECTION = {
    "8 bits in 16": SECTION.astype(np.uint16),
    "8 bits in 64": SECTION.astype(np.int64),
    "12 bits in 16": SECTION.astype(np.uint16) * 16,
    "16 bits": SECTION.astype(np.uint16) * 257,
    "0 to 1": SECTION / 255,
    "0 to 255": SECTION.astype(np.float32),
    "beyond float32": SECTION * 1e300,
}


@pytest.mark.parametrize("options", [{}, {"stain": "he"}, {"stain": "hdab"}], ids=str)
def test_the_same_colours_give_the_same_nuclei(options: dict[str, str]) -> None:
    """Whatever range their type has: where 8 bits in 16 counted as almost black, there were no nuclei."""
    segmenter = Segmenter(threads=1, **options)
    expected = segmenter.segment(SECTION)
    assert expected.count >= 4
    for kind, image in SAME_SECTION.items():
        result = segmenter.segment(image)
        assert (result.view, result.flags) == (expected.view, expected.flags), kind
        assert np.array_equal(result.labels, expected.labels), kind


def test_the_nuclei_lie_where_they_are(either: Segmenter) -> None:
    found = either.segment(FIELD).labels > 0
    overlap = (found & (TRUTH > 0)).sum() / (found | (TRUTH > 0)).sum()
    assert overlap > 0.6


def test_a_boolean_image_gives_its_pieces(segmenter: Segmenter) -> None:
    mask = np.zeros((128, 128), bool)
    mask[10:30, 20:50] = mask[60:100, 60:80] = True
    labels = segmenter.segment(mask).labels
    assert labels.max() == 2
    assert np.array_equal(labels > 0, mask)


SHAPES = [(1, 1), (1, 2), (1, 500), (500, 1), (2, 3), (31, 17), (128, 128), (129, 127), (700, 300), (40, 900)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [(), (3,), (4,)])
def test_any_size_gives_labels_of_that_size(
    either: Segmenter, shape: tuple[int, int], channels: tuple[int, ...]
) -> None:
    image = np.random.default_rng(shape[1]).integers(0, 256, shape + channels, dtype=np.uint8)
    labels = either.segment(image).labels
    assert labels.shape == shape
    assert labels.dtype == np.int32
    assert labels.min() >= 0
    (maps,) = either.predict([image])
    assert maps.shape == (*shape, len(either.card.output.maps))
    assert maps.dtype == np.float32
    assert 0 <= maps.min() <= maps.max() <= 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_labels_are_numbered_without_a_gap_and_each_is_one_piece(either: Segmenter, seed: int) -> None:
    image, _ = fluorescence_field(seed, height=200, width=300, n_nuclei=30)
    result = either.segment(image)
    assert result.count > 5
    assert np.unique(result.labels).tolist() == list(range(result.count + 1))
    for label in range(1, result.count + 1):
        piece = result.labels == label
        assert ndimage.label(piece)[1] == 1
        assert piece.sum() >= either.card.postprocessing.kwargs["min_area_px"]


@pytest.mark.parametrize("value", [0, 255])
def test_an_image_without_nuclei_gives_none(either: Segmenter, value: int) -> None:
    result = either.segment(np.full((50, 60), value, np.uint8))
    assert result.count == 0
    assert not result.labels.any()
    assert result.labels.shape == (50, 60)


def test_a_batch_equals_one_at_a_time(model: Path) -> None:
    images = [fluorescence_field(seed, height=60 + 9 * seed, width=150 - 7 * seed)[0] for seed in range(7)]
    images[2] = np.dstack([images[2]] * 3)
    images[4] = images[4] / 3
    segmenter = Segmenter(model)
    alone = [segmenter.segment(image).labels for image in images]
    assert sum(labels.max() for labels in alone) > 10
    for one, other in zip(alone, segmenter.segment_batch(images), strict=True):
        assert np.array_equal(one, other.labels)


def test_no_images_give_no_results(either: Segmenter) -> None:
    assert either.segment_batch([]) == []
    assert list(either.predict(iter([]))) == []


def test_images_are_taken_from_an_iterator_no_sooner_than_needed(either: Segmenter) -> None:
    taken = 0

    def images() -> Iterator[np.ndarray]:
        nonlocal taken
        for _ in range(6):
            taken += 1
            yield FIELD

    next(either.predict(images()))
    assert taken == 1


def test_a_result_cannot_be_changed(either: Segmenter) -> None:
    result = either.segment(FIELD)
    with pytest.raises(ValueError, match="read-only"):
        result.labels[0, 0] = 5
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.labels = np.zeros((2, 2), np.int32)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        result.count = 3  # type: ignore[misc]


def test_results_can_be_compared_and_kept_in_sets(segmenter: Segmenter) -> None:
    first, second = segmenter.segment_batch([FIELD, FIELD])
    assert first == first
    assert first != second
    assert len({first, second, first}) == 2
    assert isinstance(first, Segmentation)


def test_the_image_is_left_as_it_was(either: Segmenter) -> None:
    image = FIELD.copy()
    either.segment(image)
    assert np.array_equal(image, FIELD)
    assert image.flags.writeable


@pytest.mark.parametrize("shape", [(9,), (9, 9, 2), (9, 9, 5), (2, 9, 9, 3), (0, 9), (9, 0, 3)])
def test_a_wrong_shape_is_refused(either: Segmenter, shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageShapeError, match="found an array of shape"):
        either.segment(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    "frame",
    [None, [[0, 1], [2, 3]], "a.png", np.ma.masked_equal(FIELD, 0), np.asmatrix(FIELD)],
    ids=lambda frame: type(frame).__name__,
)
def test_anything_but_a_plain_array_is_refused(either: Segmenter, frame: Any) -> None:
    """A dropped frame is None, and the masked values of a masked array would be counted."""
    with pytest.raises(ImageShapeError, match=f"found {type(frame).__name__}, expected a NumPy array"):
        either.segment(frame)
    with pytest.raises(ImageShapeError, match="expected a NumPy array"):
        either.segment_batch([FIELD, frame])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(either: Segmenter, value: float) -> None:
    image = np.zeros((9, 9))
    image[4, 4] = value
    with pytest.raises(ImageValueError, match="1 of 81 values are NaN or infinite"):
        either.segment_batch([FIELD, image])


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (np.full((8, 9, 3), np.nan, np.float32), "maps with NaN or infinite values"),
        (np.full((8, 9, 3), 200, np.uint8), "maps of type uint8, expected floats"),
        (np.zeros((3, 8, 9), np.float32), r"shape \(3, 8, 9\), expected maps of shape \(H, W, 3\)"),
        (np.zeros((8, 9), np.float32), r"shape \(8, 9\), expected maps"),
        (np.zeros((0, 9, 3), np.float32), r"shape \(0, 9, 3\), expected maps"),
        (None, "found NoneType, expected maps"),
    ],
)
def test_what_are_no_maps_is_refused(tiled_model: Path, maps: Any, message: str) -> None:
    segmenter = Segmenter(tiled_model, threads=1)
    with pytest.raises(ImageError, match=message):
        segmenter.find_instances(maps)


@pytest.mark.skipif(sys.platform != "linux", reason="NOT RUN: the ceiling is Linux's")
def test_too_little_memory_for_an_image_is_an_error_of_the_image() -> None:
    """In a process that may have little more than it has. A loop that skips frames with an `ImageError` goes on."""
    code = (
        "import resource, numpy as np, psutil\n"
        "from nuclei_runtime import ImageTooLargeError, Segmentation, Segmenter, plane_of, segment_plane\n"
        "segmenter = Segmenter(threads=1)\n"
        "small, large = np.zeros((64, 64), np.uint8), np.broadcast_to(np.uint8(9), (7000, 7000))\n"
        "count = segmenter.segment(small).count\n"
        "labels = np.zeros((5000, 5000), np.int32)\n"
        "labels[1:-1, 1:-1] = 1\n"
        "most = psutil.Process().memory_info().vms + (90 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
        "uses = (\n"
        "    lambda: segmenter.segment(large),\n"
        "    lambda: segmenter.segment(np.broadcast_to(np.float32(9), (7000, 7000))),\n"
        "    lambda: segmenter.warm_up(large.shape, np.float64),\n"
        "    lambda: next(segmenter.predict([large])),\n"
        "    lambda: segmenter.find_instances(np.broadcast_to(np.float32(1), (9000, 9000, 3))),\n"
        "    lambda: Segmentation(labels).table(labels),\n"
        "    lambda: list(segment_plane(plane_of(large), segmenter.network, max_memory=1 << 40)),\n"
        ")\n"
        "for use in uses:\n"
        "    try: use()\n"
        "    except ImageTooLargeError as error: print(ascii(str(error)))\n"
        "print(segmenter.segment(small).count == count)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    *errors, works = done.stdout.splitlines()
    assert (len(errors), works) == (7, "True"), done.stdout + done.stderr
    assert all(error[1:].startswith("there is not enough memory for ") for error in errors), errors


def test_several_threads_share_one_segmenter(model: Path) -> None:
    segmenter = Segmenter(model, threads=2)
    images = [fluorescence_field(seed, height=90 + seed, width=120)[0] for seed in range(6)]
    expected = [result.labels for result in segmenter.segment_batch(images)]
    results: dict[tuple[int, int], np.ndarray] = {}

    def work(thread: int) -> None:
        order = range(6) if thread % 2 else range(5, -1, -1)
        for index in order:
            results[thread, index] = segmenter.segment(images[index]).labels

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 24
    assert all(np.array_equal(labels, expected[index]) for (_, index), labels in results.items())


def test_a_segmenter_says_what_it_is(tiny_model: Path) -> None:
    segmenter = Segmenter(tiny_model, threads=2)
    assert segmenter.card.name == "tiny"
    assert (segmenter.provider, segmenter.threads) == (CPU_PROVIDER, 2)


def test_a_missing_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        Segmenter(tmp_path / "absent.onnx")


def test_without_a_path_the_bundled_model_is_used() -> None:
    segmenter = Segmenter()
    assert segmenter.card.provenance["seed"] == "42"
    assert segmenter.segment(fluorescence_field(4, height=256, width=256)[0]).count > 5
