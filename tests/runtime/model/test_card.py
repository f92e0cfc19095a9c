"""The model card: a written card is read back unchanged, and all problems of a card are named at once.

Each file in ``cards/`` is a case: a JSON merge patch (RFC 7396, null removes) on ``valid.json``, or on the card that
``base`` names, and the problems that the parser must find.
"""

from __future__ import annotations

import copy
import json
import operator
import pickle
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pytest

from nuclei_runtime.errors import CardError, ModelError
from nuclei_runtime.model.bundled import BUNDLED_MODELS
from nuclei_runtime.model.card import (
    MAX_CARD_BYTES,
    MAX_EXTENSIONS_BYTES,
    METADATA_KEY,
    Evaluation,
    InputSpec,
    ModelCard,
    OutputSpec,
    parse_card,
)
from nuclei_runtime.model.session import CPU_PROVIDER, import_onnxruntime
from nuclei_runtime.steps.score import ScoreModel, ScoreWeights
from nuclei_runtime.steps.step import Step
from nuclei_runtime.steps.tiling import Tiling
from nuclei_runtime.steps.view_choice import Signs, ViewChoice

CARDS = Path(__file__).with_name("cards")
VALID = (CARDS / "valid.json").read_text(encoding="utf-8")
TILED = (CARDS / "valid_tiled.json").read_text(encoding="utf-8")
CASES = sorted(path for path in CARDS.glob("*.json") if not path.name.startswith("valid"))

both_cards = pytest.mark.parametrize("text", [VALID, TILED], ids=["fixed size", "any size"])


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
    assert read.input == InputSpec("image", 128, 128, 3, tiling=None)
    assert read.output == OutputSpec("foreground", ("foreground",))
    assert read.preprocessing == (
        Step("percentile_normalisation", {"lower": 1.0, "upper": 99.8}),
        Step("resize", {"height": 128, "width": 128}),
    )
    assert read.postprocessing == Step("connected_components", {"threshold": 0.5, "min_area_px": 16})
    assert read.evaluation == (Evaluation("field val", "ab12", "AP@0.5", 0.61),)
    assert read.provenance == {"seed": "42", "opset": "18"}
    assert read.limitations == ("Touching nuclei become one.",)


def test_a_card_of_a_network_that_takes_any_size_is_read() -> None:
    read = parse_card(TILED, "valid_tiled.json")
    assert read.input == InputSpec("image", None, None, 3, Tiling(core_px=512, halo_px=96, multiple_of_px=16))
    assert read.output == OutputSpec("maps", ("foreground", "distance", "border"))
    assert read.preprocessing == (Step("percentile_normalisation", {"lower": 1.0, "upper": 99.8}),)
    assert read.postprocessing.id == "marker_watershed"
    assert read.postprocessing.kwargs == {
        "threshold": 0.5,
        "marker_distance": 0.4,
        "marker_border": 0.6,
        "min_marker_area_px": 3,
        "min_peak_distance": 0.65,
        "min_area_px": 16,
    }


def test_a_card_may_say_how_a_view_is_chosen_and_an_image_flagged() -> None:
    text = (CARDS / "valid_views.json").read_text(encoding="utf-8")
    read = parse_card(text, "valid_views.json")
    assert read.views == ViewChoice(-0.7, Signs(0.8, 0.9, 0.2, -0.6, 0.5), trigger=0.85, doubt=0.6, margin=0.02)
    assert read.flags is not None
    assert (read.flags.max_novelty, read.flags.familiar.means.detail_2) == (5.0, -5.5)
    assert parse_card(read.to_json(), "again") == read
    without = parse_card(TILED, "without")
    assert (without.views, without.score, without.flags) == (None, None, None)
    assert '"views"' not in without.to_json()
    assert '"flags"' not in without.to_json()
    assert '"score"' not in without.to_json()
    assert read.score == ScoreModel(-4.5, ScoreWeights(0.9, 0.6, -1.2, 1.5))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"views": None}, "views: expected an object, found null"),
        ({"views": {"margin": 2}}, "views.margin: expected a number from 0 to 1, found 2"),
        ({"views": {"stain": "he"}}, "views.stain: unknown field"),
        ({"flags": {"max_novelty": "5"}}, "flags.max_novelty: expected a number from 0 to 1e+06, found '5'"),
        (
            {"flags": {"familiar": {}}},
            "flags.familiar.whitening: missing, expected 12 lists of 12 numbers from -1e+06 to 1e+06",
        ),
        ({"views": {"weights": {}}}, "views.weights.peak: missing, expected a number from -1000 to 1000"),
        (
            {"postprocessing": {"id": "connected_components", "kwargs": {"threshold": 0.5, "min_area_px": 16}}},
            "views: need a tiling, and a postprocessing that uses the map distance",
        ),
        ({"score": {"intercept": "1"}}, "score.intercept: expected a number from -1000 to 1000, found '1'"),
        ({"score": {"weights": {"peak": 1}}}, "score.weights.inside: missing, expected a number from -1000 to 1000"),
    ],
)
def test_a_choice_of_views_or_a_score_that_is_wrong_is_refused(changes: dict[str, Any], problem: str) -> None:
    document = json.loads((CARDS / "valid_views.json").read_text(encoding="utf-8"))
    for name, value in changes.items():
        known = document[name] if name in ("views", "score", "flags") and value else {}
        document[name] = {**known, **value} if isinstance(value, dict) else value
    with pytest.raises(CardError) as caught:
        parse_card(json.dumps(document), "wrong")
    assert problem in caught.value.problems


def test_a_method_may_be_given_more_maps_than_it_needs() -> None:
    document = json.loads(VALID)
    document["output"]["maps"] = ["foreground", "distance"]
    assert parse_card(json.dumps(document), "more").output.maps == ("foreground", "distance")


def test_an_image_may_go_into_the_network_as_it_is() -> None:
    """Only a fixed size needs a step that produces it."""
    document = json.loads(TILED)
    document["preprocessing"] = []
    assert parse_card(json.dumps(document), "bare").preprocessing == ()


@both_cards
def test_what_is_written_is_read_back(text: str) -> None:
    read = parse_card(text, "first")
    assert parse_card(read.to_json(), "again") == read


@both_cards
def test_the_json_is_canonical(text: str) -> None:
    """The same card gives the same bytes, however its JSON was formatted."""
    written = parse_card(text, "first").to_json()
    assert written == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    shuffled = json.dumps(dict(reversed(json.loads(text).items())), indent=3)
    assert parse_card(shuffled, "shuffled").to_json() == written
    assert written.encode().startswith(
        b'{"description":"Nuclei, \xce\xb2 version","evaluation":[{"dataset":"field val"'
    )


def test_a_card_with_a_number_that_json_lacks_is_not_written() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        replace(card(), tolerance=float("nan")).to_json()


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_every_problem_is_named_with_its_location(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    base = json.loads((CARDS / case.get("base", "valid.json")).read_text(encoding="utf-8"))
    assert problems_of(json.dumps(merged(base, case["patch"]))) == case["problems"]


EXTENSIONS = {"acme.stain": {"names": ["H", "E"], "od": [[0.65, 0.7], [0.07, None]], "is_fixed": True}, "β": 1}


@both_cards
def test_what_an_older_runtime_may_ignore_is_kept_and_written_again(text: str) -> None:
    read = parse_card(json.dumps({**json.loads(text), "extensions": EXTENSIONS}), "extended")
    assert read.extensions["acme.stain"]["od"] == ((0.65, 0.7), (0.07, None))
    assert json.loads(read.to_json())["extensions"] == EXTENSIONS
    assert parse_card(read.to_json(), "again") == read
    assert parse_card(read.to_json(), "again").to_json() == read.to_json()
    assert replace(read, extensions={}).to_json() == parse_card(text, "plain").to_json()
    assert '"extensions"' not in parse_card(text, "plain").to_json()


@pytest.mark.parametrize("precision", BUNDLED_MODELS)
def test_the_cards_of_the_bundled_models_are_written_as_they_are_stored(precision: str) -> None:
    session = import_onnxruntime().InferenceSession(BUNDLED_MODELS[precision], providers=[CPU_PROVIDER])
    stored = session.get_modelmeta().custom_metadata_map[METADATA_KEY]
    assert parse_card(stored, precision).to_json() == stored


def test_extensions_cannot_be_changed() -> None:
    read = parse_card(json.dumps({**json.loads(VALID), "extensions": EXTENSIONS}), "extended")
    for mapping in (card().extensions, read.extensions, read.extensions["acme.stain"]):
        with pytest.raises(TypeError, match="item assignment"):
            mapping["new"] = 1  # type: ignore[index]
    extensions = cast(dict[str, Any], read.extensions)
    changes = (
        lambda: extensions.pop("β"),
        lambda: extensions.update(new=1),
        lambda: extensions.setdefault("new", 1),
        extensions.popitem,
        extensions.clear,
        lambda: operator.ior(extensions, {"new": 1}),
        lambda: operator.delitem(extensions, "β"),
    )
    for change in changes:
        with pytest.raises(TypeError, match="read-only"):
            change()
    assert json.loads(read.to_json())["extensions"] == EXTENSIONS


@both_cards
def test_the_arguments_of_a_step_cannot_be_changed(text: str) -> None:
    """A card is frozen: a program that looks at it cannot change what the next image gives."""
    card = parse_card(text, "model.onnx")
    for step in (*card.preprocessing, card.postprocessing):
        with pytest.raises(TypeError, match="read-only"):
            step.kwargs["threshold"] = 0.1


def test_a_card_with_extensions_can_be_copied_pickled_and_taken_apart() -> None:
    read = parse_card(json.dumps({**json.loads(VALID), "extensions": EXTENSIONS}), "extended")
    for again in (copy.deepcopy(read), pickle.loads(pickle.dumps(read)), pickle.loads(pickle.dumps(card()))):
        assert again in (read, card())
        with pytest.raises(TypeError, match="item assignment"):
            again.extensions["new"] = 1
    assert json.loads(json.dumps(asdict(read)))["extensions"] == EXTENSIONS


@pytest.mark.parametrize(
    "extensions",
    [
        "[]", "null", '"text"', "3",
        '{"a": NaN}', '{"a": [1, {"b": -Infinity}]}', '{"a": 1e999}',
        '{"a": "\\ud800"}', '{"\\u001b[2J": 1}', '{"a": ["\\u0007"]}',
        '{"a": ' * 17 + "1" + "}" * 17,
        '{"a": "' + "x" * MAX_EXTENSIONS_BYTES + '"}',
    ],
    ids=lambda text: text[:24],
)  # fmt: skip
def test_extensions_that_cannot_be_kept_are_refused(extensions: str) -> None:
    (problem,) = problems_of(f'{VALID.rstrip()[:-1]}, "extensions": {extensions}}}')
    assert problem.startswith(f"extensions: expected an object of at most {MAX_EXTENSIONS_BYTES} bytes of JSON, ")
    assert len(problem) < 250


@both_cards
def test_every_field_is_needed(text: str) -> None:
    """One by one, at every depth: the field that is removed is the one reported as missing."""

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

    cases = removed(json.loads(text), "")
    assert len(cases) > 30
    for location, document in cases:
        problem, *others = problems_of(json.dumps(document))
        if text != TILED or location != "input.tiling":  # without it, the size is reported as missing as well
            assert others == []
        assert problem.startswith((f"{location}: missing, expected", f"{location}: found null"))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400])
def test_invalid_or_huge_numbers_are_refused(number: str) -> None:
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
def test_text_that_is_not_a_card_is_refused(text: str, problem: str) -> None:
    assert problems_of(text)[0].startswith(problem)


def test_nesting_inside_a_field_is_refused() -> None:
    nested = VALID.replace('"BSD-3-Clause"', "[" * 500 + "]" * 500)
    assert problems_of(nested) == ["license: expected a string, found a list"]


def test_a_field_that_is_there_twice_is_refused() -> None:
    twice = VALID.replace('"height": 128,', '"height": 64, "height": 128,', 1)
    assert problems_of(twice) == ["$: 'height' appears twice in one object"]


def test_a_card_error_is_a_model_error() -> None:
    with pytest.raises(ModelError):
        parse_card("{}", "some.onnx")
