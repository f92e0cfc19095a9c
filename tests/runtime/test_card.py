"""The model card: what is written is read back, and what is wrong is all named at once.

Each file in ``cards/`` is a case: a JSON merge patch (RFC 7396, null removes) on ``valid.json`` and the problems
that the parser must find.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nuclei_runtime.card import MAX_CARD_BYTES, Evaluation, ModelCard, parse_card
from nuclei_runtime.errors import CardError, ModelError
from nuclei_runtime.preprocess import Step

CARDS = Path(__file__).with_name("cards")
VALID = (CARDS / "valid.json").read_text(encoding="utf-8")
CASES = sorted(path for path in CARDS.glob("*.json") if path.name != "valid.json")


def merged(document: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def problems_of(text: str) -> list[str]:
    with pytest.raises(CardError) as caught:
        parse_card(text, "some.onnx")
    assert str(caught.value).startswith("some.onnx: the model card has ")
    for problem in caught.value.problems:
        assert problem in str(caught.value)
    return list(caught.value.problems)


def card() -> ModelCard:
    return parse_card(VALID, "valid.json")


def test_a_card_is_read() -> None:
    read = card()
    assert (read.name, read.version, read.description) == ("nuclei-unet", "1.0.0", "Nuclei, β version")
    assert (read.input.name, read.input.height, read.input.width, read.input.channels) == ("image", 128, 128, 3)
    assert read.preprocessing == (
        Step("percentile_normalisation", {"lower": 1.0, "upper": 99.8}),
        Step("resize", {"height": 128, "width": 128}),
    )
    assert read.postprocessing == Step("connected_components", {"threshold": 0.5, "min_area_px": 16})
    assert read.evaluation == (Evaluation("field val", "ab12", "AP@0.5", 0.61),)
    assert read.provenance == {"seed": "42", "opset": "18"}
    assert read.limitations == ("Touching nuclei become one.",)


def test_what_is_written_is_read_back() -> None:
    assert parse_card(card().to_json(), "again") == card()


def test_the_json_is_canonical() -> None:
    """The same card gives the same bytes, however its JSON was laid out."""
    text = card().to_json()
    assert text == json.dumps(json.loads(VALID), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    shuffled = json.dumps(dict(reversed(json.loads(VALID).items())), indent=3)
    assert parse_card(shuffled, "shuffled").to_json() == text
    assert text.encode().startswith(b'{"description":"Nuclei, \xce\xb2 version","evaluation":[{"dataset":"field val"')


def test_a_card_with_a_number_that_json_lacks_is_not_written() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        replace(card(), tolerance=float("nan")).to_json()


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_problem_is_named_with_its_location(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    assert problems_of(json.dumps(merged(json.loads(VALID), case["patch"]))) == case["problems"]


def test_every_field_is_needed() -> None:
    """One by one, at every depth: what is removed is what is missed."""

    def removed(document: Any, location: str) -> list[tuple[str, Any]]:
        found = []
        items = document.items() if isinstance(document, dict) else enumerate(document)
        for key, value in items:
            here = f"{location}[{key}]" if isinstance(key, int) else f"{location}.{key}".lstrip(".")
            if isinstance(document, dict):
                found.append((here, {k: v for k, v in document.items() if k != key}))
            if isinstance(value, dict | list) and key not in ("provenance", "limitations"):
                for deeper, changed in removed(value, here):
                    copy = document.copy()
                    copy[key] = changed
                    found.append((deeper, copy))
        return found

    cases = removed(json.loads(VALID), "")
    assert len(cases) > 30
    for location, document in cases:
        (problem,) = problems_of(json.dumps(document))
        assert problem.startswith((f"{location}: missing, expected", f"{location}: found None"))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400])
def test_numbers_that_are_none_or_huge_are_refused(number: str) -> None:
    (problem,) = problems_of(VALID.replace("1e-05", number))
    assert problem.startswith("tolerance: expected a number from 0 to 1, found ")
    assert len(problem) < 130


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "$: not JSON: "),
        ("nuclei", "$: not JSON: "),
        (VALID[:-30], "$: not JSON: "),
        ("[" * 100_000, "$: not JSON: "),
        ('{"a":' * 100_000, "$: not JSON: "),
        ('{"tolerance": 1' + "0" * 10_000 + "}", "$: not JSON: "),
        ("null", "$: expected an object, found null"),
        ("[]", "$: expected an object, found a list"),
        ("3", "$: expected an object, found 3"),
        (VALID + " " * MAX_CARD_BYTES, f"$: larger than {MAX_CARD_BYTES} bytes"),
    ],
    ids=["nothing", "a word", "cut", "deep list", "deep object", "long number", "null", "list", "number", "huge"],
)
def test_what_is_no_card_at_all_is_refused(text: str, problem: str) -> None:
    assert problems_of(text)[0].startswith(problem)


def test_nesting_inside_a_field_is_refused() -> None:
    nested = VALID.replace('"BSD-3-Clause"', "[" * 500 + "]" * 500)
    assert problems_of(nested) == ["license: expected a text, found a list"]


def test_a_field_that_is_there_twice_is_refused() -> None:
    twice = VALID.replace('"height": 128,', '"height": 64, "height": 128,', 1)
    assert problems_of(twice) == ["$: 'height' is there twice in one object"]


def test_a_card_error_is_a_model_error() -> None:
    with pytest.raises(ModelError):
        parse_card("{}", "some.onnx")
