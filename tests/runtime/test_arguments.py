"""What a program may get wrong: an argument of another type, unit or range is named, with what was expected."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

import nuclei_runtime
from nuclei_runtime import (
    ArgumentError,
    Flag,
    ImageError,
    Scale,
    Segmentation,
    Segmenter,
    SegmenterOptions,
    Selection,
    View,
    compare_labels,
    complete_flags,
    describe_column,
    open_planes,
    plane_of,
    read_image,
    replay_sample,
    sample_path,
    save_labels,
    segment_plane,
)
from nuclei_runtime.checks.synthetic import fluorescence_field

IMAGE = fluorescence_field(3, height=64, width=64, n_nuclei=5)[0]
COLOURS = np.stack([IMAGE] * 3, axis=-1)
LABELS = np.zeros((64, 64), np.int32)
MASKED = np.ma.masked_equal(LABELS, 1)

NO_TEXTS: tuple[Any, ...] = (5, b"x", True, ["x"])
BEYOND_FLOATS = 10**400
NO_NUMBERS: tuple[Any, ...] = ("1", True, math.nan, math.inf, [1], np.array([1, 2]))
NO_COUNTS: tuple[Any, ...] = (*NO_NUMBERS, -1, 1.5)
NO_SIZES: tuple[Any, ...] = (*NO_NUMBERS, 0, -0.325, BEYOND_FLOATS)
NO_FLAGS: tuple[Any, ...] = ("no", "False", 0, 1.0, None)
NO_PATHS: tuple[Any, ...] = (5, b"x", True, ["x"], 1.5)
NO_SHARES: tuple[Any, ...] = (*NO_NUMBERS, -0.1, 50, BEYOND_FLOATS)
NO_BYTES: tuple[Any, ...] = ("1GiB", *NO_NUMBERS, -1, 1e12)
NO_PIXELS: tuple[Any, ...] = (0.3, "0.3", (0.3,), (0.3, 0), (-0.3, 0.3), (math.nan, 0.3), (0.3, math.inf), ("a", "b"))
NO_PIXELS += ((0.3, BEYOND_FLOATS),)
NO_IMAGES: tuple[Any, ...] = (None, "a.png", [[1]], np.ma.masked_equal(IMAGE, 0), IMAGE[:0], IMAGE.astype("U3"))
NO_LABELS: tuple[Any, ...] = (None, "a.tif", [[1]], MASKED, LABELS * 1.0, LABELS - 1, LABELS > 0, COLOURS)

OPTIONS: dict[str, tuple[Any, ...]] = {
    "model": NO_PATHS,
    "precision": (*NO_TEXTS, None, "fp16"),
    "sha256": NO_TEXTS,
    "provider": (*NO_TEXTS, None),
    "threads": (*NO_COUNTS, 0, 1025, 1 << 40),
    "tta": NO_FLAGS,
    "diameter_px": NO_SIZES,
    "stain": (*NO_TEXTS, "pas"),
    "view": ("as-is", 1, Scale()),
    "exclude_border": NO_FLAGS,
    "min_area": (50, 60.5, b"50px"),
    "max_area": (50, 60.5, b"50px"),
    "min_score": NO_SHARES,
    "tissue_mask": NO_FLAGS,
    "min_quality": NO_SHARES,
}
SELECTIONS: dict[str, tuple[Any, ...]] = {
    "axes": (*NO_TEXTS, "tyx"),
    "channel": ("", -1, 1.5, True, b"x", ["GFP"]),
    "z": (*NO_TEXTS, "mean"),
    "scene": ("", -1, 1.5, True, b"x", ["0"]),
    "level": NO_COUNTS,
    "mpp": NO_SIZES,
    "pixel_size_um": (*NO_SIZES, (0.3, 0.3)),
    "measure": ("GFP", 1, (), (0,), ("",), [None]),
}


@pytest.fixture(scope="module")
def segmenter(tiled_model: Path) -> Segmenter:
    return Segmenter(tiled_model, threads=1)


def opened(source: Any, selection: Any) -> None:
    with open_planes(source, selection):
        pass


def found(labels: Any = LABELS, scores: Any = None) -> Segmentation:
    return Segmentation(labels.copy() if isinstance(labels, np.ndarray) else labels, scores=scores)


def blocks(segmenter: Segmenter, **arguments: Any) -> list[Any]:
    return list(segment_plane(**{"plane": plane_of(IMAGE), "network": segmenter.network, **arguments}))


def calls(segmenter: Segmenter, folder: Path) -> Iterator[tuple[str, Callable[[Any], Any], tuple[Any, ...]]]:
    """Yield functions of the public API, each with one argument open, its name, and values that it must refuse."""
    (maps,) = segmenter.predict([IMAGE])
    several = (None, 5, "ab", IMAGE, COLOURS)
    yield "options", Segmenter.from_options, (None, {}, "model.onnx")
    yield (
        "shape",
        lambda value: segmenter.warm_up(value, np.uint8),
        (None, 5, "64", (64, "64"), (64, -1), (1.5, 2)),
    )
    yield "shape", lambda value: segmenter.warm_up(value, np.uint8), ((9, 1 << 70),)
    yield "dtype", lambda value: segmenter.warm_up((8, 8), value), ("grey", 8, object(), ",")
    yield "found", segmenter.segment, NO_IMAGES
    yield "images", segmenter.segment_batch, several
    yield "images", lambda value: list(segmenter.predict(value)), several
    yield "found", lambda value: segmenter.segment_batch([IMAGE, value]), NO_IMAGES
    yield "cancel", lambda value: segmenter.segment(IMAGE, cancel=value), (True, "x", Event, lambda: False)
    yield "view", lambda value: list(segmenter.predict([IMAGE], view=value)), ("as-is", 1, Scale())
    yield "view", lambda value: segmenter.find_instances(maps, view=value), ("as-is", 1, Scale())
    yield "found", segmenter.find_instances, (None, "x", IMAGE, maps[..., 0], maps > 0, 255 * maps + 1, maps - 2)
    yield "found", segmenter.find_instances, (np.full_like(maps, np.nan), np.ma.masked_equal(maps, 0), maps.tolist())
    for sized in (
        lambda value: segmenter.segment(IMAGE, pixel_size_um=value),
        lambda value: segmenter.find_instances(maps, pixel_size_um=value),
        lambda value: found().table(IMAGE, value),
        lambda value: save_labels(folder / "a.tif", LABELS, value),
    ):
        yield "pixel_size_um", sized, NO_PIXELS
    yield "found", found, NO_LABELS
    yield "scores", lambda value: found(scores=value), (0.5, "x", [0.5], np.zeros(2))
    yield "found", lambda value: found().table(value), NO_IMAGES
    yield "channels", lambda value: found().table(IMAGE, channels=value), ([IMAGE], IMAGE, "GFP", {1: IMAGE})
    yield "found", lambda value: found().table(IMAGE, channels={"GFP": value}), NO_IMAGES
    yield "found", lambda value: found().table(IMAGE, cells=value), (*NO_LABELS[1:], LABELS + 1)
    yield "found", lambda value: compare_labels(value, LABELS), NO_LABELS
    yield "found", lambda value: compare_labels(LABELS, value), (*NO_LABELS, LABELS[:9])
    yield "found", lambda value: save_labels(folder / "a.tif", value), NO_LABELS
    yield "path", lambda value: save_labels(value, LABELS), (None, *NO_PATHS, "")
    yield "found", read_image, (None, 5, ["a.png"], IMAGE)
    yield "found", lambda value: opened(value, Selection()), (None, 5, ["a.png"], IMAGE)
    yield "selection", lambda value: opened(b"", value), (None, {}, "each")
    yield "found", plane_of, NO_IMAGES
    yield "plane", lambda value: blocks(segmenter, plane=value), (None, IMAGE, "a.png")
    yield "network", lambda value: blocks(segmenter, network=value), (None, segmenter, "model.onnx")
    yield "max_memory", lambda value: blocks(segmenter, max_memory=value), (*NO_BYTES, 0)
    yield "share", lambda value: blocks(segmenter, share=value), NO_BYTES
    yield "keep", lambda value: blocks(segmenter, keep=value), NO_PATHS
    yield "cancel", lambda value: blocks(segmenter, cancel=value), (True, "x", Event)
    yield "report", lambda value: blocks(segmenter, report=value), (None, "x")
    yield "name", describe_column, (None, *NO_TEXTS)
    yield "flags", lambda value: complete_flags(value, 0), (None, "blank", ("blank",), Flag.BLANK)
    yield "n_found", lambda value: complete_flags((), value), (None, *NO_COUNTS)
    yield "model", sample_path, (None, *NO_PATHS, "")
    yield "segmenter", lambda value: replay_sample(value, "a.npz"), (None, segmenter.network, "model.onnx")
    yield "path", lambda value: replay_sample(segmenter, value), (None, *NO_PATHS)
    yield "scale", lambda value: View(scale=value), (None, 2, "1/2")
    yield "stain", lambda value: View(stain=value), (None, *NO_TEXTS, "pas")
    yield "enlarged", lambda value: Scale(enlarged=value), (None, *NO_COUNTS, 0, 33)
    yield "reduced", lambda value: Scale(reduced=value), (None, *NO_COUNTS, 0, 33)
    yield "enlarged", lambda value: Scale(value, value), (2,)


def check(name: str, call: Callable[[Any], Any], value: Any) -> None:
    """Check that a value is refused by an error that names the argument, or what was found, and what is expected."""
    with pytest.raises((ArgumentError, ImageError)) as caught:
        call(value)
    message = str(caught.value)
    expectation = r"\bmust\b|\bexpected\b|; (fill|replace|split|give|grow)|which has no pixels"
    assert name in message, (value, message)
    assert re.search(expectation, message), (value, message)


def test_a_wrong_argument_is_named_with_what_was_expected(segmenter: Segmenter, tmp_path: Path) -> None:
    for name, call, values in calls(segmenter, tmp_path):
        for value in values:
            check(name, call, value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", OPTIONS)
def test_a_wrong_option_of_a_segmenter_is_named(name: str, tiled_model: Path) -> None:
    given = {} if name in ("model", "precision") else {"model": tiled_model}
    for value in OPTIONS[name]:
        check(name, lambda value: Segmenter(**given, **{name: value}), value)


@pytest.mark.parametrize("name", SELECTIONS)
def test_a_wrong_field_of_a_selection_is_named(name: str) -> None:
    for value in SELECTIONS[name]:
        check(name, lambda value: Selection(**{name: value}), value)


def test_every_public_function_and_option_is_tried(segmenter: Segmenter, tmp_path: Path) -> None:
    assert OPTIONS.keys() == SegmenterOptions.__dataclass_fields__.keys()
    assert SELECTIONS.keys() == Selection.__dataclass_fields__.keys()
    made_by_us = {"Block", "Column", "Contrast", "Evidence", "LabelChanges", "ModelCard", "Plane", "Replay"}
    public = {name for name in nuclei_runtime.__all__ if callable(getattr(nuclei_runtime, name))}
    public = {name for name in public - made_by_us if not name.endswith("Error")} - {"Flag", "SegmenterOptions"}
    source = Path(__file__).read_text(encoding="utf-8")
    assert {name for name in public if not re.search(rf"yield .*\b{name}\b|\b{name}\(\*?", source)} == set()
    assert len(list(calls(segmenter, tmp_path))) > 40


@pytest.mark.parametrize("value", [np.array([0.5, 0.5]), [0.5, 0.5], (np.float32(0.5), 1)])
def test_numbers_of_numpy_are_numbers(segmenter: Segmenter, value: Any) -> None:
    assert segmenter.segment(IMAGE, pixel_size_um=value).labels.shape == IMAGE.shape
    assert Scale(reduced=np.int64(2)).factor == 0.5  # type: ignore[arg-type]
    assert blocks(segmenter, max_memory=np.int64(1 << 40), cancel=Event())
