"""Overlays for a talk: what the words of --overlay draw."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from nuclei_runtime.errors import InputsError
from nuclei_runtime.readers.plane import plane_of
from nuclei_runtime.segmentation.blocks import Block
from nuclei_runtime.writers import overlay_marks, overlay_png
from nuclei_runtime.writers.outputs import OVERLAYS, OutputOptions
from nuclei_runtime.writers.overlay_style import OverlayStyle, parse_overlay_style
from nuclei_runtime.writers.plane_files import write_plane_files

Draw = Callable[..., NDArray[np.uint8]]


def disks(*radii: int) -> NDArray[np.int32]:
    """Round nuclei in a row, 100 pixels apart."""
    rows, columns = np.indices((120, 100 * len(radii)))
    labels = np.zeros(rows.shape, np.int32)
    for number, radius in enumerate(radii, 1):
        labels[np.hypot(rows - 50, columns - 100 * number + 50) < radius] = number
    return labels


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    def draw(words: str, labels: NDArray[np.int32], image: NDArray | None = None, **of_plane: object) -> NDArray:
        image = np.full(labels.shape, 100, np.uint8) if image is None else image
        options = OutputOptions(("overlays",), parse_overlay_style(words))
        files = {output: tmp_path / "overlay.png" for output in options.outputs if output.folder == OVERLAYS.folder}
        block = Block(slice(0, labels.shape[0]), slice(0, labels.shape[1]), image, labels)
        write_plane_files("a.tif", replace(plane_of(image), **of_plane), [block], files)  # type: ignore[arg-type]
        return np.asarray(Image.open(tmp_path / "overlay.png"))

    return draw


def test_words_and_styles_are_the_same() -> None:
    words = "natural,width=3,colour=area_um2,range=-0.5:200,numbers,scale-bar"
    style = OverlayStyle(True, 3, "area_um2", (-0.5, 200.0), True, True)
    assert parse_overlay_style(words) == style
    assert str(style) == words
    assert parse_overlay_style("scale-bar,stretched") == OverlayStyle(scale_bar=True)
    assert parse_overlay_style(str(OverlayStyle())) == OverlayStyle()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "found '', expected one or more of: stretched or natural, width=PIXELS"),
        ("bright", "found 'bright'"),
        ("width=0", "found 'width=0'"),
        ("width=21", r"\(1 to 20\)"),
        (
            "colour=size",
            r"in nuclei\.csv; these are time, .*area_um2, .*, solidity, intensity_mean, ",
        ),
        ("colour=image", "not a column of measurements"),
        ("colour=area_px,range=5:5", "found 'range=5:5'"),
        ("range=1:2", r"add colour=COLUMN"),
        ("natural,stretched", "second word for the same thing"),
    ],
)
def test_other_words_are_refused(words: str, message: str) -> None:
    with pytest.raises(InputsError, match=message):
        parse_overlay_style(words)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_natural_shows_the_image_as_it_is(draw: Draw, dtype: type) -> None:
    image = np.zeros((20, 30), dtype)
    image[:, 10:20], image[5, 5] = 60, 200
    picture = draw("natural", np.zeros(image.shape, np.int32), image)
    top = 255 if dtype == np.uint8 else 200  # deeper images are shown from 0 to their largest value
    np.testing.assert_array_equal(picture[..., 0], np.round(image / top * 255))
    assert draw("stretched", np.zeros(image.shape, np.int32), image)[0, 15, 0] == 255


@pytest.mark.parametrize(("value", "shown"), [(0, 0), (255, 255)])
def test_an_image_without_contrast_is_shown_as_it_is(draw: Draw, value: int, shown: int) -> None:
    image, none = np.full((20, 30), value, np.uint8), np.zeros((20, 30), np.int32)
    assert (draw("stretched", none, image) == shown).all()
    assert (overlay_png.draw_overlay(image, none) == shown).all()


@pytest.mark.parametrize("width", [1, 2, 5])
def test_lines_are_as_wide_as_asked_for_and_inside_the_nuclei(
    draw: Draw, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    labels = disks(30)
    labels[labels == 1] = np.where(np.indices(labels.shape)[1][labels == 1] < 45, 1, 2)  # two that touch
    monkeypatch.setattr(overlay_png, "_REGION_PX", 16)  # drawn in strips
    lines = (draw(f"width={width}", labels) == overlay_png.OUTLINE_RGB).all(axis=-1)
    assert not lines[labels == 0].any()
    row = lines[50]
    assert row[21 : 21 + width].all()
    assert not row[21 + width : 45 - width].any()
    assert row[45 - width : 45 + width].all()
    column = lines[:, 60]
    first = int(np.flatnonzero(column)[0])
    assert column[first : first + width].all()
    assert not column[first + width + 2 : 45].any()


def test_colours_say_how_large_a_value_is(draw: Draw) -> None:
    labels = disks(10, 20, 30)
    picture = draw("colour=equivalent_diameter_px,range=20:60", labels)

    def colour(number: int) -> NDArray[np.uint8]:
        found = np.unique(picture[(labels == number) & (picture != 100).any(axis=-1) & picture.any(axis=-1)], axis=0)
        assert len(found) == 1
        return found[0]

    first, middle, last = np.array(overlay_marks.COLOURS_RGB)
    assert np.abs(colour(1).astype(int) - first).max() < 10
    assert np.abs(colour(2).astype(int) - middle).max() < 10
    assert np.abs(colour(3).astype(int) - last).max() < 10
    key = picture[70:, :200]
    for stop in (first, middle, last):
        assert (np.abs(key.astype(int) - stop).max(axis=-1) < 12).any(), "the key shows it"


@pytest.mark.parametrize("shape", [(400, 2000), (2000, 400)])
def test_the_key_and_the_scale_bar_leave_a_long_picture_visible(draw: Draw, shape: tuple[int, int]) -> None:
    labels = np.zeros(shape, np.int32)
    labels[40:60, 40:60] = 1
    picture = draw("natural,colour=area_px,scale-bar", labels, np.full(shape, 100, np.uint8), pixel_size_um=(0.5, 0.5))
    is_marked = (picture != 100).any(axis=-1)
    is_marked[30:70, 30:70] = False
    assert 0 < is_marked.any(axis=1).sum() < 0.25 * min(shape)  # its rows


def test_the_key_has_plain_numbers(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    stated: list[str] = []
    monkeypatch.setattr(overlay_marks.ImageDraw.ImageDraw, "text", lambda *given, **_: stated.append(given[2]))
    draw("colour=area_px,range=0.12345:2354.6", disks(10))
    assert stated == ["area_px", "0.123", "2355"]


def test_without_its_column_an_image_has_one_colour_and_says_why(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    stated: list[str] = []
    written = overlay_marks.ImageDraw.ImageDraw.text

    def text(*given: Any, **options: Any) -> None:
        stated.append(given[2])
        written(*given, **options)

    monkeypatch.setattr(overlay_marks.ImageDraw.ImageDraw, "text", text)
    labels = np.pad(disks(10, 20), ((0, 100), (0, 0)))
    differs = (draw("colour=area_um2", labels) != draw("stretched", labels)).any(axis=-1)
    assert stated == ["area_um2: not measured"]
    assert differs[-40:].any()
    assert not differs[:-40].any()


def test_numbers_stand_in_their_nuclei(draw: Draw) -> None:
    labels = disks(30, 30, 30)
    picture = draw("numbers", labels)
    white = (picture == 255).all(axis=-1)
    for number in (1, 2, 3):
        inside = white & (labels == number)
        assert inside.sum() > 20
        assert np.abs(np.argwhere(inside).mean(axis=0) - np.argwhere(labels == number).mean(axis=0)).max() < 3
    assert not white[labels == 0].any()


@pytest.mark.parametrize(
    ("um", "length_um"),
    [((9.0, 0.5), 50), ((1.0, 0.325), 20), ((1.0, 12.0), 1000), ((1.0, math.nextafter(1 / 1.2, 0)), 50)],
)
def test_a_scale_bar_has_the_length_that_it_states(
    draw: Draw, monkeypatch: pytest.MonkeyPatch, um: tuple[float, float], length_um: float
) -> None:
    stated = []
    plain = overlay_marks.ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        overlay_marks.ImageDraw.ImageDraw,
        "text",
        lambda self, place, text, *rest, **more: (stated.append(text), plain(self, place, text, *rest, **more)),
    )
    labels = np.zeros((300, 600), np.int32)
    picture = draw("natural,scale-bar", labels, pixel_size_um=um)
    assert stated == ["1 mm" if length_um == 1000 else f"{length_um} um"]
    bars = (picture == 255).all(axis=-1).sum(axis=1)
    assert abs(bars[-30:].max() - length_um / um[1]) <= 1
    assert not (draw("natural,scale-bar", labels) == 255).any(), "none without a pixel size"
