"""docs/card.md names every field of the card with its range, and no other fields."""

from __future__ import annotations

import heapq
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from nuclei_runtime.errors import CardError
from nuclei_runtime.json_fields import Fields
from nuclei_runtime.model import card, onnx_contents
from nuclei_runtime.model.card import METADATA_KEY, SCHEMA_VERSION, parse_card
from nuclei_runtime.model.model_file import MAX_MODEL_BYTES
from nuclei_runtime.steps.instances import METHODS
from nuclei_runtime.steps.preprocess import STEPS
from nuclei_runtime.steps.step import MAPS

PAGE = (Path(__file__).parents[3] / "docs" / "card.md").read_text(encoding="utf-8")
CARDS = [
    json.loads((Path(__file__).with_name("cards") / name).read_text(encoding="utf-8"))
    for name in ("valid.json", "valid_tiled.json", "valid_views.json")
]


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table whose first column has this title."""
    table = re.search(rf"^\| {title} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def fields_of(document: Any, location: str = "") -> set[str]:
    """Return every field except the arguments of a step and those of provenance."""
    if isinstance(document, list):
        return {name for item in document for name in fields_of(item, f"{location}[]")}
    found = set()
    for key, value in document.items() if isinstance(document, dict) else ():
        here = f"{location}.{key}".lstrip(".")
        found |= {here} | (fields_of(value, here) if key not in ("kwargs", "provenance") else set())
    return found


def test_every_field_is_on_the_page_and_no_other() -> None:
    on_page = {name for field, *_ in rows("field") for name in names(field)}
    on_page |= {name for *_, meaning in rows("field") for name in names(meaning) if name.startswith("preprocessing[]")}
    named_by_contents = {"input", "output", "postprocessing", "views.weights", "score.weights"}
    named_by_contents |= {"flags.familiar", "flags.familiar.means"}
    assert on_page == set.union(*map(fields_of, CARDS)) - named_by_contents | {"extensions"}


def test_every_step_is_on_the_page_with_its_arguments() -> None:
    on_page: dict[str, list[str]] = {}
    step = ""
    for first, arguments, _ in rows("step"):
        step = names(first)[0] if first else step
        on_page.setdefault(step, []).extend(names(arguments))
    assert on_page == {step: list(spec.arguments) for step, spec in {**STEPS, **METHODS}.items()}
    for step in on_page:
        assert f"**`{step}`" in PAGE or f". `{step}`.**" in PAGE, f"nowhere does the page say what {step} computes"


def replaced(document: Any, path: list[str], value: Any) -> Any:
    key = path[0]
    if key.endswith("[]"):
        items = document[key[:-2]]
        return {**document, key[:-2]: [replaced(items[0], path[1:], value), *items[1:]]}
    return {**document, key: value if len(path) == 1 else replaced(document[key], path[1:], value)}


RANGED = [
    (name, float(low), float(high), "whole" in kind)
    for field, kind, _ in rows("field")
    if (found := re.search(r"number (-?[\de]+) to (-?[\de]+)", kind))
    for low, high in [found.groups()]
    for name in names(field)
]


@pytest.mark.parametrize(("name", "low", "high", "whole"), RANGED, ids=[name for name, *_ in RANGED])
def test_a_range_on_the_page_is_the_parsers(name: str, low: float, high: float, whole: bool) -> None:
    document = CARDS[2 if name.startswith(("views", "score", "flags")) else "tiling" in name]
    step = 1 if whole else (high - low) / 1e6

    def problems(value: float) -> list[str]:
        changed = replaced(document, name.split("."), int(value) if whole else value)
        try:
            parse_card(json.dumps(changed), "page")
        except CardError as error:
            return [problem for problem in error.problems if problem.startswith(name.replace("[]", "[0]") + ":")]
        return []

    assert [problems(low), problems(high)] == [[], []]
    assert len(problems(low - step)) == len(problems(high + step)) == 1


def test_the_ranges_of_the_steps_are_the_parsers() -> None:
    step = ""
    for first, arguments, kind in rows("step"):
        step = names(first)[0] if first else step
        (bounds,) = re.findall(r"numbers? (\d+) to (\d+)", kind)
        low, high = map(int, bounds)
        for argument in names(arguments):
            for value in (low - 1, low, high, high + 1):
                problems: list[str] = []
                {**STEPS, **METHODS}[step].arguments[argument].take(Fields({argument: value}, "$", problems), argument)
                assert (problems == []) is (low <= value <= high), (step, argument, value)


def test_the_watershed_on_the_page_is_the_one_that_runs() -> None:
    """Implemented again from the page alone."""
    random = np.random.default_rng(11)
    maps = ndimage.gaussian_filter(random.random((60, 70, 3)), (2, 2, 0)).astype(np.float32)
    maps = (maps - maps.min()) / (maps.max() - maps.min())
    parameters = {"threshold": 0.5, "marker_distance": 0.55, "marker_border": 0.6}
    foreground = maps[..., 0] > parameters["threshold"]
    deep = foreground & (maps[..., 1] > parameters["marker_distance"]) & (maps[..., 2] < parameters["marker_border"])
    labels = np.zeros(foreground.shape, int)
    for piece in pieces(deep):
        if len(piece) >= 4:
            labels[tuple(zip(*piece, strict=True))] = labels.max() + 1
    n_markers = labels.max()
    for piece in pieces(foreground):
        if not labels[tuple(zip(*piece, strict=True))].any():
            labels[tuple(zip(*piece, strict=True))] = labels.max() + 1
    assert labels.max() > n_markers > 5
    markers = np.argwhere(labels)
    queue = [(-maps[row, column, 1], 0, row, column) for row, column in markers]
    assert len({value for value, *_ in queue}) == len(queue), "no two are equal, so that the order is laid down"
    heapq.heapify(queue)
    while queue:
        *_, row, column = heapq.heappop(queue)
        for place in neighbours(row, column, foreground.shape):
            if foreground[place] and not labels[place]:
                labels[place] = labels[row, column]
                heapq.heappush(queue, (-maps[(*place, 1)], len(markers) + int((labels > 0).sum()), *place))
    areas = np.bincount(labels.ravel())
    labels[areas[labels] < 9] = 0
    n_large = len(np.unique(labels))
    for label in np.unique(labels):
        if not (maps[labels == label, 1] > 0.6).any():
            labels[labels == label] = 0
    assert len(np.unique(labels)) < n_large
    found = METHODS["marker_watershed"].find(
        maps, **parameters, min_marker_area_px=4, min_peak_distance=0.6, min_area_px=9
    )
    assert found.max() > 5
    both = {*zip(labels.ravel().tolist(), found.ravel().tolist(), strict=True)}
    assert len(both) == len({a for a, _ in both}) == len({b for _, b in both}), "the same nuclei but for their numbers"


def neighbours(row: int, column: int, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    places = [(row - 1, column), (row, column - 1), (row, column + 1), (row + 1, column)]
    return [(r, c) for r, c in places if 0 <= r < shape[0] and 0 <= c < shape[1]]


def pieces(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """Return the 4-connected pieces, each as a list of its pixels."""
    left = {(int(row), int(column)) for row, column in np.argwhere(mask)}
    found = []
    while left:
        piece = [left.pop()]
        for row, column in piece:
            for place in neighbours(row, column, mask.shape):
                if place in left:
                    left.remove(place)
                    piece.append(place)
        found.append(piece)
    return found


def test_the_limits_and_names_on_the_page_are_the_codes() -> None:
    assert f"`{METADATA_KEY}`" in PAGE
    assert ["`schema_version`", str(SCHEMA_VERSION), "of this page"] in rows("field")
    assert f"more than {MAX_MODEL_BYTES >> 20} MiB" in PAGE
    assert f"at most {card.MAX_CARD_BYTES >> 20} MiB" in PAGE
    assert f"list of at most {card.MAX_STEPS} steps" in PAGE
    assert f"list of at most {card.MAX_SCORES} objects" in PAGE
    assert ", ".join(f"`{name}`" for name in MAPS) in PAGE
    assert onnx_contents.STANDARD_DOMAINS == ("", "ai.onnx")
