"""The contrast that does not depend on how much is in the image."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage
from scipy import ndimage
from skimage.data import immunohistochemistry

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.readers.plane import plane_of
from nuclei_runtime.segmentation.plane_input import PlaneInput, regions
from nuclei_runtime.steps import structure
from nuclei_runtime.steps.contrast import Contrast, normalise
from nuclei_runtime.steps.percentiles import percentile_limits
from nuclei_runtime.steps.preprocess import preprocess
from nuclei_runtime.steps.step import Pixels, Step
from nuclei_runtime.steps.structure import BLOCK_PX, find_contrast

LOWER, UPPER = 1.0, 99.8
STEP = Step("structure_normalisation", {"lower": LOWER, "upper": UPPER})
FIELD, _ = fluorescence_field(3, height=133, width=261, n_nuclei=30)


def contrast_of(image: NDArray, side: int = 4096) -> Contrast:
    def read() -> Iterator[tuple[NDArray, int, int]]:
        for rows, columns in regions(image.shape, side):
            yield image[rows, columns], rows.start, columns.start

    return find_contrast(Pixels(image.shape, read), lower=LOWER, upper=UPPER)


def normalised(image: NDArray) -> NDArray[np.float32]:
    return contrast_of(image)(image)


def in_colour(image: NDArray, *colour: float) -> NDArray:
    """The picture in one colour, as microscope programs export fluorescence."""
    return np.dstack([(image * share).astype(image.dtype) for share in colour])


def as_jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    file = io.BytesIO()
    PillowImage.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(PillowImage.open(file))


def mirrored(position: int, length: int) -> int:
    return min(position % (2 * length), 2 * length - 1 - position % (2 * length))


def limits_of_the_page(image: NDArray, sampled: int) -> tuple[float, float]:
    """Written down again from docs/card.md alone, pixel by pixel."""
    height, width = image.shape[:2]
    image = image.astype(float).reshape(height, width, -1)
    squares = {}
    for i in range(math.ceil(height / 4)):
        for j in range(math.ceil(width / 4)):
            rows = [mirrored(y, height) for y in range(4 * i, 4 * i + 4)]
            columns = [mirrored(x, width) for x in range(4 * j, 4 * j + 4)]
            squares[i, j] = [sorted(image[y, x, k] for y in rows for x in columns) for k in range(image.shape[2])]
    blocks: dict[tuple[int, int], list] = {}
    for i, j in squares:
        blocks.setdefault((i // 8, j // 8), []).append(squares[i, j])
    if image.shape[2] == 3 and (only := only_channel_of_the_page(list(blocks.values()))) is not None:
        return limits_of_the_page(image[..., only], sampled)
    contrasts = {}
    for place in sorted(blocks):
        found = [0.0]
        for k in range(image.shape[2]):
            medians = [square[k][7] for square in blocks[place]]
            ranges = sorted(square[k][15] - square[k][0] for square in blocks[place])
            c = max(medians) - min(medians)
            if c > 1.5 * ranges[(len(ranges) + 1) // 2 - 1]:
                found.append(c)
        contrasts[place] = max(found)
    kept = [place for place, c in contrasts.items() if c > 0 and c >= 0.002 * max(contrasts.values())]
    if not kept:
        return 0.0, 0.0
    chosen = [place for number, place in enumerate(kept) if number % math.ceil(len(kept) / sampled) == 0]
    values = np.sort([v for place in chosen for square in blocks[place] for channel in square for v in channel[1:15]])
    (t, _) = percentile_limits(np.array([contrasts[place] for place in kept]), 90.0, 90.0)
    low, high = percentile_limits(values, LOWER, UPPER)
    if high - low > 6 * t:
        low, high = percentile_limits(values[values <= low + 6 * t], LOWER, UPPER)
    return low, high


def only_channel_of_the_page(blocks: list[list]) -> int | None:
    def largest(value: Callable[[list], float]) -> float:
        return max(max(map(value, block)) - min(map(value, block)) for block in blocks)

    k = [largest(lambda square, i=i: square[i][7]) for i in range(3)]  # type: ignore[misc]
    s = k.index(max(k))
    d = [largest(lambda square, i=i: square[i][7] - square[s][7]) for i in range(3)]  # type: ignore[misc]
    empty = [i for i in range(3) if k[i] <= 0.15 * k[s]]
    rest = [i for i in range(3) if i not in empty and i != s]
    return s if k[s] > 0 and empty and all(d[i] <= 0.15 * k[s] for i in rest) else None


def with_debris(image: NDArray) -> NDArray:
    return np.where(np.add.outer((np.arange(133) - 48) ** 2, (np.arange(261) - 48) ** 2) < 90, 65_535, 30.0 * image)


PICTURES = {
    "8 bit": FIELD,
    "16 bit": FIELD * np.uint16(257),
    "big-endian": FIELD.astype(">u2"),
    "signed": FIELD.astype(np.int16) - 100,
    "8 bit signed": (FIELD // 2).astype(np.int8) - 50,
    "wide": FIELD.astype(np.int32) * 70_000,
    "bool": FIELD > 90,
    "RGB": np.dstack([FIELD, FIELD // 2, 255 - FIELD]),
    "RGB of floats": np.dstack([FIELD, FIELD[::-1], FIELD]) / np.float32(7),
    "blue": in_colour(FIELD, 0, 0, 1),
    "blue JPEG": as_jpeg(in_colour(FIELD, 0, 0, 1), 75),
    "magenta floats": in_colour(FIELD / np.float32(7), 1, 0, 1),
    "red on green": np.dstack([FIELD, FIELD[::-1], FIELD * 0]),
    "faint second colour": np.dstack([FIELD, FIELD[::-1] // 8, FIELD // 6]),
    "debris": with_debris(FIELD).astype(np.uint16),
    "debris in floats": with_debris(FIELD),
    "one pixel": FIELD[:1, :1],
    "thin": FIELD[:3],
    "noise": np.random.default_rng(1).normal(300, 40, (70, 90)).astype(np.uint16),
}


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("sampled", [5, 4096])
def test_the_page_s_definition_is_the_one_that_runs(name: str, sampled: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "MAX_SAMPLED_BLOCKS", sampled)
    image = PICTURES[name]
    counted = image.dtype.kind in "bui" and image.dtype.itemsize <= 2
    contrast = contrast_of(image)
    assert (contrast.low, contrast.high) == limits_of_the_page(image, 4096 if counted else sampled)
    assert contrast.is_exceeded == (name in ("debris", "debris in floats"))
    assert contrast.is_blank == (name in ("one pixel", "noise"))


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("side", [BLOCK_PX, 96])
def test_the_result_does_not_depend_on_the_regions(name: str, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "MAX_SAMPLED_BLOCKS", 7)
    assert contrast_of(PICTURES[name], side) == contrast_of(PICTURES[name])


def test_regions_that_cut_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="a region begins at 0, 50, expected multiples of 32"):
        contrast_of(FIELD, 50)


def test_a_plane_is_normalised_region_by_region_as_the_whole_image_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nuclei_runtime.segmentation.plane_input.REGION_PX", 64)
    monkeypatch.setattr("nuclei_runtime.steps.step.STRIP_PX", 32)
    for image in PICTURES.values():
        expected = preprocess(image, [STEP])
        network_input = PlaneInput(plane_of(image), [STEP])
        for rows, columns in regions(image.shape, 23):
            np.testing.assert_array_equal(network_input.read(rows, columns), expected[rows, columns])


def test_the_same_picture_in_other_types_is_the_same_input() -> None:
    expected = normalised(FIELD)
    assert (expected.min(), expected.max()) == (0, 1)
    pictures = (FIELD * np.uint16(257), FIELD.astype(np.int32) - 99, FIELD / 255, FIELD * 3e305, np.dstack([FIELD] * 3))
    for picture in pictures:
        found = normalised(picture).reshape(*FIELD.shape, -1)[..., 0]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def sparse(side: int, background: float, noise: float, signal: float, seed: int = 0) -> NDArray[np.float64]:
    """Six nuclei in a field."""
    image = background + noise * np.random.default_rng(seed).standard_normal((side, side))
    nuclei = np.zeros((256, 256))
    rows, columns = np.mgrid[:256, :256]
    for row, column in ((60, 60), (60, 150), (130, 90), (140, 190), (200, 50), (205, 150)):
        nuclei[(rows - row) ** 2 + (columns - column) ** 2 <= 81] = signal
    start = (side - 256) // 2
    image[start : start + 256, start : start + 256] += ndimage.gaussian_filter(nuclei, 1.2)
    return image


CAMERAS = [(np.uint16, 300, 40, 3000), (np.uint16, 0, 0, 3000), (np.uint8, 20, 3, 180), (np.float32, 0.01, 0.002, 0.3)]


@pytest.mark.parametrize(("dtype", "background", "noise", "signal"), CAMERAS)
def test_the_limits_do_not_depend_on_the_empty_field(
    dtype: type, background: float, noise: float, signal: float
) -> None:
    for side in (256, 1024, 2500):
        contrast = contrast_of(sparse(side, background, noise, signal).clip(0, 65_535).astype(dtype))
        assert contrast.low == pytest.approx(background - 2 * noise, abs=max(noise, 1e-9))
        assert contrast.high == pytest.approx(background + signal, rel=0.03)
    low, high = percentile_limits(sparse(2500, background, noise, signal).astype(dtype), LOWER, UPPER)
    assert high - low < 0.2 * signal  # what this step is for


def test_what_is_not_nuclei_does_not_set_the_contrast() -> None:
    rng = np.random.default_rng(4)
    image = np.tile(sparse(256, 300, 40, 3000), (4, 4))
    hot = image.copy()
    hot[rng.integers(0, 1024, 2600), rng.integers(0, 1024, 2600)] = 65_535
    corner, debris, padded = image.copy(), image.copy(), np.zeros((4000, 4000))
    corner[:150, :150] = 65_535
    debris[500:540, 600:640] = 65_535
    padded[100:1124, 300:1324] = image
    for changed in (image, hot, corner, debris, padded):
        contrast = contrast_of(changed.clip(0, 65_535).astype(np.uint16))
        assert contrast.high == pytest.approx(3300, rel=0.03)
        assert contrast.is_exceeded == (changed is corner or changed is debris)
    assert percentile_limits(hot, LOWER, UPPER)[1] == 65_535


@pytest.mark.parametrize("level", [0.1, 1.0, 5.0, 300.0])
def test_photon_noise_is_not_structure(level: float) -> None:
    assert contrast_of(np.random.default_rng(5).poisson(level, (1024, 1024)).astype(np.uint16)).structure == 0


@pytest.mark.parametrize("offset", [-2.0, -1.0, 0.0, 9.0])
def test_camera_noise_is_not_structure(offset: float) -> None:
    """Also where a background that was subtracted leaves only the upper part of the noise."""
    noise = 40 * (np.random.default_rng(6).standard_normal((1024, 1024)) + offset)
    assert contrast_of(noise.clip(0).astype(np.uint16)).structure == 0
    assert not normalised(noise.clip(0)).any()


def test_a_flickering_background_is_not_structure() -> None:
    image = sparse(1024, 0, 0, 200).astype(np.uint8)
    quiet = contrast_of(image)
    image[(image == 0) & (np.random.default_rng(7).random(image.shape) < 0.02)] = 1
    flickering = contrast_of(image)
    assert flickering.structure == quiet.structure < 0.03
    assert (flickering.low, flickering.high) == (quiet.low, quiet.high)


def test_a_denoised_background_is_not_structure() -> None:
    ground = ndimage.gaussian_filter(np.random.default_rng(8).standard_normal((1024, 1024)), 3)
    image = sparse(1024, 300, 0, 3000) + ground / ground.std()
    contrast = contrast_of(image)
    assert contrast.structure < 0.03
    assert contrast.high == pytest.approx(3300, rel=0.03)


def test_a_crowded_image_keeps_the_percentiles_of_all_of_it() -> None:
    image, _ = fluorescence_field(2, height=512, width=512, n_nuclei=400)
    contrast = contrast_of(image)
    low, high = percentile_limits(image, LOWER, UPPER)
    assert contrast.structure > 0.9
    assert np.abs(normalise(image, contrast.low, contrast.high) - normalise(image, low, high)).max() < 0.05


CONSTANT = np.full_like(FIELD, 40)
ONE_COLOUR = {
    "blue": (in_colour(FIELD, 0, 0, 1), 2),
    "green on grey": (np.dstack([CONSTANT, FIELD, CONSTANT]), 1),
    "inverted red on white": (np.dstack([255 - FIELD, CONSTANT * 0 + 255, CONSTANT * 0 + 255]), 0),
    "cyan": (in_colour(FIELD, 0, 1, 1), 1),
    "blue, 16 bit": (in_colour(FIELD * np.uint16(257), 0, 0, 1), 2),
    "magenta floats": (in_colour(FIELD / 255, 1, 0, 1), 0),
}


@pytest.mark.parametrize("name", ONE_COLOUR)
def test_a_picture_in_one_colour_is_exactly_that_channel(name: str) -> None:
    image, channel = ONE_COLOUR[name]
    contrast, grey = contrast_of(image), contrast_of(image[..., channel])
    assert contrast.channel == channel
    assert replace(contrast, channel=None) == grey
    np.testing.assert_array_equal(contrast(image), grey(image[..., channel]))
    np.testing.assert_array_equal(preprocess(image, [STEP]), preprocess(image[..., channel], [STEP]))


@pytest.mark.parametrize("quality", [75, 90])
@pytest.mark.parametrize("colour", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)])
def test_jpeg_noise_in_the_other_channels_is_nothing(colour: tuple[int, ...], quality: int) -> None:
    image = as_jpeg(in_colour(FIELD, *colour), quality)
    assert len({image[..., channel].tobytes() for channel in range(3)}) == 3
    channel = contrast_of(image).channel
    assert channel is not None
    assert colour[channel] == 1
    np.testing.assert_allclose(contrast_of(image).high, contrast_of(FIELD).high, rtol=0.06)


COLOURFUL = {
    "stained tissue": lambda: immunohistochemistry()[:256, :256],
    "two colours": lambda: np.dstack([FIELD, FIELD[::-1], CONSTANT]),
    "a fifth in another colour": lambda: np.dstack([FIELD, FIELD[::-1] // 5, CONSTANT]),
    "grey with a tint": lambda: in_colour(FIELD, 1, 0.9, 0.8),
    "grey": lambda: in_colour(FIELD, 1, 1, 1),
    "grey in one corner": lambda: np.where((np.arange(261) < 30)[:, None], FIELD[..., None], in_colour(FIELD, 0, 0, 1)),
    "nothing": lambda: np.zeros((40, 50, 3), np.uint8),
}


@pytest.mark.parametrize("name", COLOURFUL)
def test_other_pictures_keep_their_colours(name: str) -> None:
    image = COLOURFUL[name]()
    assert contrast_of(image).channel is None
    assert contrast_of(image)(image).shape == image.shape


def test_a_smoothed_sparse_field_is_said_to_be_doubtful() -> None:
    """Its noise looks like structure and sets the contrast: areas come out at twice their size or more."""
    image = sparse(1024, 300, 40, 3000)
    assert not contrast_of(image.astype(np.uint16)).is_exceeded
    smoothed = contrast_of(ndimage.gaussian_filter(image, 2).astype(np.uint16))
    assert smoothed.high < 600
    assert smoothed.is_exceeded


def test_an_image_without_structure_says_so() -> None:
    noise = np.random.default_rng(1).normal(300, 40, (200, 200)).astype(np.uint16)
    for image in (noise, CONSTANT):
        assert contrast_of(image).is_blank
    assert Contrast(7.0, 7.0).is_blank
