"""Cards that chance made: only a `CardError` may come out of the parser, and what it takes it must write again.

What chance found is kept at the end, made by code. A long hunt, with other chances each time:
``NUCLEI_FUZZ_EXAMPLES=100000 pytest tests/runtime/test_card_fuzz.py``.
"""

from __future__ import annotations

import copy
import json
import os
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuclei_runtime.errors import CardError
from nuclei_runtime.model.card import MAX_PROBLEMS, ModelCard, parse_card
from nuclei_runtime.steps.instances import METHODS
from nuclei_runtime.steps.preprocess import STEPS

CARDS = [
    json.loads((Path(__file__).with_name("cards") / name).read_text("utf-8"))
    for name in ("valid.json", "valid_tiled.json")
]
HUNT = os.environ.get("NUCLEI_FUZZ_EXAMPLES")
fuzz = settings(max_examples=int(HUNT or 150), derandomize=HUNT is None, database=None, deadline=None)

TEXTS = st.text(st.characters(exclude_categories=()), max_size=40)  # lone surrogates and control characters too
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 2**31, 10**12, 10**400, 1e308, 5e-324, -0.0])
WORDS = st.sampled_from(
    [*STEPS, *METHODS, "foreground", "distance", "border", "extensions", *CARDS[0], *CARDS[1]["input"]["tiling"]]
)
LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS | WORDS
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS | WORDS, inner, max_size=5),
    max_leaves=12,
)


def places(document: Any) -> list[tuple[Any, Any]]:
    """Return every container with each of its keys."""
    items = list(document.items() if isinstance(document, dict) else enumerate(document))
    inner = [place for _, value in items if isinstance(value, dict | list) for place in places(value)]
    return [*((document, key) for key, _ in items), *inner]


def near(value: Any) -> st.SearchStrategy[Any]:
    """Values of the same type that differ little, so that many a changed card is one that is taken."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return LEAVES
    if isinstance(value, str):
        return st.text(string.printable, max_size=4).map(lambda text: value + text)
    return st.integers(value - 2, value + 2) if isinstance(value, int) else st.floats(0.9 * value, 1.1 * value)


@st.composite
def changed_cards(draw: st.DrawFn) -> str:
    """A valid card in which something was put in the place of something else, added, removed or doubled."""
    document = copy.deepcopy(draw(st.sampled_from(CARDS)))
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(places(document)))
        how = draw(st.sampled_from(["replace", "near", "add", "remove", "double"]))
        if how == "replace":
            container[key] = draw(VALUES)
        elif how == "near":
            container[key] = draw(near(container[key]))
        elif how == "remove":
            del container[key]
        elif isinstance(container, dict):
            container[draw(TEXTS | WORDS)] = copy.deepcopy(container[key]) if how == "double" else draw(VALUES)
        else:
            container.append(copy.deepcopy(container[key]) if how == "double" else draw(VALUES))
    return json.dumps(document, ensure_ascii=draw(st.booleans()))


@st.composite
def misspelt_cards(draw: st.DrawFn) -> str:
    """The text of a valid card, in which some characters were replaced, removed or put in."""
    text = json.dumps(draw(st.sampled_from(CARDS)))
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(text))), draw(st.integers(0, 6))
        put = draw(st.text('{}[]":,\\u0123456789eE+-. ' + string.ascii_letters, max_size=6) | TEXTS)
        text = text[:at] + put + text[at + length :]
    return text


def read(text: str) -> ModelCard | None:
    """Read a card; check its error, or that it is written and read back alike."""
    try:
        card = parse_card(text, "some.onnx")
    except CardError as error:
        problems = error.problems
    else:
        written = card.to_json()
        assert parse_card(written, "again") == card
        assert parse_card(written, "again").to_json() == written
        return card
    assert 0 < len(problems) <= MAX_PROBLEMS + 1
    for problem in problems:
        assert problem.isprintable()
        assert len(problem) < 400
    return None


@fuzz
@given(VALUES | TEXTS)
def test_any_json_is_refused_with_its_problems(value: Any) -> None:
    assert read(json.dumps(value)) is None


@fuzz
@given(TEXTS)
def test_any_text_is_refused_with_its_problems(text: str) -> None:
    assert read(text) is None


@fuzz
@given(changed_cards())
def test_a_changed_card_is_refused_with_its_problems_or_written_again(text: str) -> None:
    read(text)


@fuzz
@given(misspelt_cards())
def test_a_misspelt_card_is_refused_with_its_problems_or_written_again(text: str) -> None:
    read(text)


def test_chance_also_makes_cards_that_are_taken() -> None:
    """Else the tests above would only ever see refusals."""
    taken = []

    @fuzz
    @given(changed_cards())
    def look(text: str) -> None:
        taken.append(read(text) is not None)

    look()
    assert 0 < sum(taken) < len(taken)


def test_a_version_nested_as_deep_as_json_allows_is_refused() -> None:
    """It was spelt out in the message, bracket by bracket."""
    depth = 1
    while True:
        try:
            json.loads("[" * depth + "]" * depth)
        except RecursionError:
            break
        depth = depth * 5 // 4 + 1
    for n in (10, depth * 4 // 5, depth * 9 // 10, depth):
        assert read('{"schema_version": ' + "[" * n + "]" * n + "}") is None


def test_a_field_whose_name_no_terminal_can_print_is_named_escaped() -> None:
    """It stood in the message as it was: half a character cannot be written to a log, and an escape steers."""
    card = json.dumps(CARDS[0])
    with pytest.raises(CardError) as caught:
        parse_card(card[:-1] + ', "\\ud800\\u001b[2J": 1}', "some.onnx")
    assert caught.value.problems == (r"'\ud800\x1b[2J': unknown field",)


def test_a_hundred_thousand_problems_are_counted_and_not_spelt_out() -> None:
    """All were listed; and to find which of them were doubled took the square of their number."""
    names = ", ".join(f'"{index}": 1' for index in range(40_000))
    for text in (f'{{"schema_version": 1, {names}, {names}}}', json.dumps(CARDS[0])[:-1] + f", {names}}}"):
        assert len(text) < 1 << 20
        with pytest.raises(CardError) as caught:
            parse_card(text, "some.onnx")
        assert len(caught.value.problems) == MAX_PROBLEMS + 1
        assert caught.value.problems[-1] == f"$: and {40_000 - MAX_PROBLEMS} more problems"


def test_a_value_of_a_megabyte_is_shown_by_its_beginning() -> None:
    long = "x" * 900_000
    for patch in ({"schema_version": long}, {long: 1}, {"license": [long]}, {"output": {"name": "a", "maps": [long]}}):
        assert read(json.dumps({**CARDS[0], **patch})) is None
