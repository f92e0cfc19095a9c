"""The steps that training and the instrument share."""

from __future__ import annotations

import inspect
from decimal import Decimal

import numpy as np
import pytest
from skimage import transform

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import ImageShapeError, ImageValueError
from nuclei_runtime.readers.plane import plane_of
from nuclei_runtime.segmentation.plane_input import PlaneInput, regions
from nuclei_runtime.steps.instances import METHODS
from nuclei_runtime.steps.percentiles import ValueSample, fit_percentile_normalisation, percentile_limits
from nuclei_runtime.steps.preprocess import STEPS, preprocess
from nuclei_runtime.steps.resize import resize
from nuclei_runtime.steps.step import Pixels, Step

LOWER, UPPER = 1.0, 99.8
FIELD, _ = fluorescence_field(3, height=60, width=90)
BASELINE = (
    Step("percentile_normalisation", {"lower": LOWER, "upper": UPPER}),
    Step("resize", {"height": 32, "width": 48}),
)


def normalised(image: np.ndarray) -> np.ndarray:
    return fit_percentile_normalisation(Pixels.of(image), lower=LOWER, upper=UPPER)(image)


def smallest_value_with(percent: float, image: np.ndarray) -> float:
    """The definition: the smallest v such that at least p % of the values are <= v, the decimal p taken exactly."""
    values = sorted(image.ravel().tolist())
    for index, value in enumerate(values):
        if Decimal(index + 1) * 100 >= Decimal(str(percent)) * len(values):
            return float(value)
    raise AssertionError(percent)


@pytest.mark.parametrize("percent", [0.0, 0.1, 1.0, 1.1, 7.0, 28.0, 50.0, 56.0, 99.8, 99.9, 100.0])
def test_a_percentile_is_the_nearest_rank_one(percent: float) -> None:
    rng = np.random.default_rng(int(10 * percent))
    for size in (1, 2, 3, 10, 99, 100, 101, 500, 1000, 2500):
        for values in (
            rng.integers(0, 256, size).astype(np.uint8),
            rng.integers(0, 65_536, size).astype(np.uint16),
            rng.integers(-99, 99, size).astype(np.int16),
            rng.normal(size=size),
            rng.random(size) > 0.5,
        ):
            expected = smallest_value_with(percent, values)
            assert percentile_limits(values, percent, percent) == (expected, expected), (size, values.dtype)


SAME_PICTURE = {
    "16 bit": FIELD.astype(np.uint16) * 257,
    "12 bit in 16": FIELD.astype(np.uint16) * 16,
    "32 bit": FIELD.astype(np.uint32) * 16_843_009,
    "64 bit": FIELD.astype(np.uint64) * 2**40,
    "signed 16 bit": (FIELD.astype(np.int32) * 256 - 32_768).astype(np.int16),
    "signed 64 bit": -(2**50) + FIELD.astype(np.int64) * 2**40,
    "float in 0..1": FIELD / 256,
    "float32 around 0": (FIELD / np.float32(128)) - 1,
    "float16": FIELD.astype(np.float16),
    "huge float": FIELD * 1e300,
    "tiny float": FIELD * 2.0**-900,
    "big-endian": (FIELD.astype(np.uint16) * 257).astype(">u2"),
    "not contiguous": np.repeat(FIELD, 2, axis=1)[:, ::2],
}


@pytest.mark.parametrize("kind", SAME_PICTURE)
def test_the_same_picture_gives_the_same_input_whatever_its_type(kind: str) -> None:
    image = SAME_PICTURE[kind]
    expected = normalised(FIELD)
    assert expected.min() == 0
    assert expected.max() == 1
    if kind == "huge float":  # multiplied by a number that is not a power of 2: the last bit may differ
        np.testing.assert_allclose(normalised(image), expected, rtol=1e-6)
    else:
        assert np.array_equal(normalised(image), expected)


def test_grey_grey_as_rgb_and_grey_as_rgba_give_the_same_input() -> None:
    expected = preprocess(FIELD, BASELINE)
    opaque = np.full_like(FIELD, 255)
    assert np.array_equal(preprocess(FIELD[..., np.newaxis], BASELINE), expected)
    assert np.array_equal(preprocess(np.dstack([FIELD] * 3), BASELINE), expected)
    assert np.array_equal(preprocess(np.dstack([FIELD, FIELD, FIELD, opaque]), BASELINE), expected)
    assert expected.shape == (32, 48, 3)
    assert expected.dtype == np.float32


def test_the_colours_keep_their_relation() -> None:
    image = np.dstack([FIELD, FIELD // 2, FIELD // 4])
    red, green, blue = np.moveaxis(normalised(image), -1, 0)
    assert red.mean() > 1.5 * green.mean() > 2 * blue.mean() > 0


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.uint16, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("value", [0, 1, 100])
def test_an_image_without_contrast_becomes_all_zero(dtype: type, value: int) -> None:
    assert not normalised(np.full((9, 7), value, dtype)).any()
    assert not preprocess(np.full((9, 7, 3), value, dtype), BASELINE).any()


@pytest.mark.filterwarnings("error")
def test_the_whole_range_of_a_type_does_not_overflow() -> None:
    largest = np.finfo(np.float64).max
    assert normalised(np.array([[-largest, 0.0, largest]])).tolist() == [[0.0, 0.5, 1.0]]
    assert normalised(np.array([[-largest] * 9 + [0.0, 1.0] * 300])).max() == 1
    for dtype in (np.int64, np.uint64, np.int32, np.uint32):
        limits = np.iinfo(dtype)
        assert normalised(np.array([[limits.min, limits.max]], dtype)).tolist() == [[0.0, 1.0]]
    assert normalised(np.array([[False, True]])).tolist() == [[0.0, 1.0]]
    assert np.isfinite(normalised(np.array([[0.0, 5e-324]]))).all()


def test_neighbouring_large_integers_stay_apart() -> None:
    """In float32 they would be one number."""
    image = np.array([[2**31, 2**31 + 1, 2**31 + 2]], np.uint32)
    assert normalised(image).tolist() == [[0.0, 0.5, 1.0]]


def test_values_outside_the_limits_are_clipped() -> None:
    image = np.arange(10_000, dtype=np.float64).reshape(100, 100)
    image[0, 0], image[-1, -1] = -1e9, 1e9
    result = normalised(image)
    assert (result.min(), result.max()) == (0.0, 1.0)
    assert result[50, 50] == pytest.approx((5050 - 99) / (9979 - 99), abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (31, 64), (128, 128), (400, 200), (50, 60, 3)])
def test_resize_is_scikit_images(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(5).random(shape, dtype=np.float32)
    result = resize(image, height=64, width=96)
    expected = transform.resize(image, (64, 96), order=1, mode="reflect", anti_aliasing=True)
    assert np.array_equal(result, expected)
    assert result.shape == (64, 96, *shape[2:])
    assert result.dtype == np.float32
    assert image.min() <= result.min() <= result.max() <= image.max()


def test_the_input_is_left_as_it_was() -> None:
    image = np.dstack([FIELD, FIELD, FIELD])
    image.flags.writeable = False
    before = image.copy()
    preprocess(image, BASELINE)
    assert np.array_equal(image, before)


def test_an_invalid_image_is_refused_before_any_step() -> None:
    with pytest.raises(ImageShapeError):
        preprocess(np.zeros((4, 4, 5)), ())
    with pytest.raises(ImageValueError):
        preprocess(np.array([[0.0, np.nan]]), ())


@pytest.mark.parametrize("name", [*STEPS, *METHODS])
def test_a_step_s_arguments_are_those_of_its_function(name: str) -> None:
    function = STEPS[name].fit or STEPS[name].apply if name in STEPS else METHODS[name].find
    parameters = inspect.signature(function).parameters.values()
    arguments = (STEPS.get(name) or METHODS[name]).arguments
    assert set(arguments) == {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint64])
def test_the_percentiles_of_wide_values_are_those_of_every_sth_row_and_column(
    dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nuclei_runtime.steps.percentiles.MAX_SAMPLED_PX", 1000)
    image = np.random.default_rng(2).integers(0, 10**6, (101, 130, 3)).astype(dtype)
    sampled = image[::4, ::4]  # 26 x 33 are at most 1000, 34 x 44 are not
    for percent in (0.0, 1.0, 50.0, 99.8, 100.0):
        expected = smallest_value_with(percent, sampled)
        assert percentile_limits(image, percent, percent) == (expected, expected)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.uint16, np.int16, np.int32, np.float32, ">u2"])
@pytest.mark.parametrize("side", [1, 7, 64, 1000])
def test_regions_give_the_percentiles_of_the_whole(dtype: type, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nuclei_runtime.steps.percentiles.MAX_SAMPLED_PX", 500)
    image = np.random.default_rng(3).integers(-99, 99, (50, 40)).astype(dtype)
    sample = ValueSample(image.shape, image.dtype)
    for rows, columns in regions(image.shape, side):
        sample.add(image[rows, columns], rows.start, columns.start)
    assert sample.limits(LOWER, UPPER) == percentile_limits(image, LOWER, UPPER)


def test_a_plane_is_normalised_region_by_region_as_the_whole_image_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nuclei_runtime.segmentation.plane_input.REGION_PX", 17)
    twice = (BASELINE[0], Step("percentile_normalisation", {"lower": 10.0, "upper": 90.0}))
    for image in (FIELD, np.dstack([FIELD, FIELD // 2, FIELD, FIELD]), FIELD / 3):
        for steps in ((), BASELINE[:1], twice):
            expected = preprocess(image, steps)
            network_input = PlaneInput(plane_of(image), steps)
            for rows, columns in regions(image.shape, 23):
                np.testing.assert_array_equal(network_input.read(rows, columns), expected[rows, columns])
