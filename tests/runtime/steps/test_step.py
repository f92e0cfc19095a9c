"""Adding a step takes one module and one row. They define its function, its arguments and how these scale."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nuclei_runtime import Segmenter
from nuclei_runtime.errors import CardError
from nuclei_runtime.model.card import METADATA_KEY, ModelCard, parse_card
from nuclei_runtime.readers.plane import plane_of
from nuclei_runtime.segmentation.blocks import segment_plane
from nuclei_runtime.steps.instances import METHODS
from nuclei_runtime.steps.preprocess import STEPS
from nuclei_runtime.steps.scale import Scale
from nuclei_runtime.steps.step import Step

TOY = '''
"""A toy step that raises values to a power after scaling them to their maximum, and a toy method of bright squares."""

import numpy as np

from nuclei_runtime.steps.step import MAPS, InstanceMethod, PreprocessingStep, area, number


def fit_gamma(pixels, *, power, least):
    highest = max(float(values.max()) for values, _, _ in pixels.regions())
    return lambda values: np.maximum(values / highest, least).astype(np.float32) ** np.float32(power)


GAMMA = PreprocessingStep(
    {"power": number(0.1, 10), "least": number(0, 1)},
    fit=fit_gamma,
    check=lambda kwargs: "least must be 0 where power is 1" if kwargs["power"] == 1 and kwargs["least"] else None,
)


def bright_rows(maps, window=None, *, threshold, max_area_px):
    from scipy import ndimage

    labels, n = ndimage.label(maps[..., 0] > threshold)
    labels[(np.bincount(labels.ravel()) > max_area_px)[labels]] = 0
    numbers = np.unique(labels)
    return np.searchsorted(numbers, labels).astype(np.int32)


BRIGHT = InstanceMethod(bright_rows, MAPS[:1], {"threshold": number(0, 1), "max_area_px": area()})
'''
PREPROCESSING = Step("gamma", {"power": 2.0, "least": 0.0})
POSTPROCESSING = Step("bright_pieces", {"threshold": 0.2, "max_area_px": 50})


@pytest.fixture(autouse=True)
def _toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Add one module and a row for each of its two steps."""
    (tmp_path / "toy_steps.py").write_text(TOY, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    import toy_steps  # type: ignore[import-not-found]

    monkeypatch.setitem(STEPS, "gamma", toy_steps.GAMMA)
    monkeypatch.setitem(METHODS, "bright_pieces", toy_steps.BRIGHT)
    yield
    del sys.modules["toy_steps"]


@pytest.fixture
def card(identity_model: Path) -> ModelCard:
    card = Segmenter(identity_model).card
    return replace(card, preprocessing=(PREPROCESSING,), postprocessing=POSTPROCESSING)


@pytest.fixture
def model(identity_model: Path, card: ModelCard, tmp_path: Path) -> Path:
    """A model whose maps are the image's colours, with a card that uses both steps."""
    import onnx

    content = onnx.load(identity_model)
    onnx.helper.set_model_props(content, {METADATA_KEY: card.to_json()})
    onnx.save(content, tmp_path / "toy.onnx")
    return tmp_path / "toy.onnx"


def squares() -> np.ndarray:
    image = np.zeros((300, 320), np.uint16)
    image[10:15, 10:15] = 1000  # 25 px, as bright as can be
    image[40:45, 200:205] = 500  # a quarter after the step
    image[80:85, 30:35] = 400  # too dark after it
    image[100:120, 100:120] = 1000  # too large
    return image


def test_a_step_is_one_module_and_one_row(model: Path) -> None:
    segmenter = Segmenter(model)
    image = squares()
    for labels in (
        segmenter.segment(image).labels,
        next(iter(segment_plane(plane_of(image), segmenter.network))).labels,
    ):
        assert [tuple(np.argwhere(labels == number).min(axis=0)) for number in range(1, labels.max() + 1)] == [
            (10, 10),
            (40, 200),
        ]


def test_a_scale_scales_the_areas_of_a_method_and_nothing_else(model: Path) -> None:
    assert Scale(reduced=3).method(POSTPROCESSING).kwargs == {"threshold": 0.2, "max_area_px": 450}
    known = Segmenter(model).card.training_nucleus_diameter_px
    scaled = Segmenter(model, diameter_px=3 * known)
    assert scaled.network.postprocessing.kwargs == {"threshold": 0.2, "max_area_px": 200}


def problems_of(card: ModelCard) -> tuple[str, ...]:
    with pytest.raises(CardError) as caught:
        parse_card(card.to_json(), "toy.onnx")
    return caught.value.problems


def test_a_card_s_arguments_are_checked_by_the_row(card: ModelCard) -> None:
    assert parse_card(card.to_json(), "toy.onnx") == card
    wrong = replace(
        card,
        preprocessing=(Step("gamma", {"power": 0, "colour": 1}),),
        postprocessing=Step("bright_pieces", {"threshold": "high", "max_area_px": 2_000_000}),
    )
    assert problems_of(wrong) == (
        "preprocessing[0].kwargs.power: expected a number from 0.1 to 10, found 0",
        "preprocessing[0].kwargs.least: missing, expected a number from 0 to 1",
        "preprocessing[0].kwargs.colour: unknown field",
        "postprocessing.kwargs.threshold: expected a number from 0 to 1, found 'high'",
        "postprocessing.kwargs.max_area_px: expected a whole number from 1 to 1000000, found 2000000",
    )
    together = replace(card, preprocessing=(Step("gamma", {"power": 1, "least": 0.5}),))
    assert problems_of(together) == ("preprocessing[0].kwargs: least must be 0 where power is 1",)


def test_a_step_that_needs_the_whole_image_is_refused_for_a_network_of_any_size(
    card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STEPS, "gamma", replace(STEPS["gamma"], fit=None))
    assert problems_of(card) == ("preprocessing: gamma cannot be used with a network that takes any size",)


def test_without_its_row_it_is_not_a_step(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(METHODS, "bright_pieces")
    (problem,) = problems_of(card)
    assert problem.startswith("postprocessing.id: expected one of connected_components, marker_watershed, found ")
