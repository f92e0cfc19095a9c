"""Reads a JSON document and collects all its problems, each with its location, instead of stopping at the first."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NoReturn
from unicodedata import category

_SHOWN_CHARACTERS = 60

MAX_DEPTH = 16
"""Levels of nested objects and lists, where any JSON is allowed."""


def parse_json(text: str, problems: list[str]) -> object:
    """Parse JSON; text that is not JSON, or that names a field twice, becomes a problem."""

    def note_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        times = Counter(name for name, _ in pairs)
        problems.extend(f"$: {shown(name)} appears twice in one object" for name, n in times.items() if n > 1)
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=note_duplicates)
    except (ValueError, RecursionError) as error:
        problems.append(f"$: not JSON: {error}")
        return None


class Fields:
    """The fields of one JSON object, taken one by one and checked against what is expected.

    A field with a problem is returned as a value of the right type, so that the remaining fields can be checked.

    Parameters
    ----------
    value : object
        The value found where an object is expected.
    location : str
        ``$`` is the whole document; ``input.name`` and ``preprocessing[1].id`` are locations inside it.
    problems : list of str
        Problems are appended to it.
    """

    def __init__(self, value: object, location: str, problems: list[str]) -> None:
        self.location, self.problems = location, problems
        self.fields: dict[str, Any] = {}
        self.taken: set[str] = set()
        if isinstance(value, dict):
            self.fields = value
        else:
            problems.append(f"{location}: expected an object, found {shown(value)}")

    def at(self, key: str) -> str:
        """Return the location of a field."""
        return key if self.location == "$" else f"{self.location}.{key}"

    def take(self, key: str, valid: Callable[[Any], bool], expected: str, default: Any) -> Any:
        """Return a field if it is valid, otherwise the default."""
        self.taken.add(key)
        if key not in self.fields:
            self.problems.append(f"{self.at(key)}: missing, expected {expected}")
            return default
        value = self.fields[key]
        if not valid(value):
            self.problems.append(f"{self.at(key)}: expected {expected}, found {shown(value)}")
            return default
        return value

    def text(self, key: str) -> str:
        """Return a non-empty string."""
        return str(self.take(key, lambda v: _is_text(v) and v != "", "a string", ""))

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of strings."""
        return tuple(self.take(key, lambda v: isinstance(v, list) and all(map(_is_text, v)), "a list of strings", []))

    def texts_by_name(self, key: str) -> dict[str, str]:
        """Return an object whose values are strings."""

        def valid(value: object) -> bool:
            return isinstance(value, dict) and all(_is_text(text) for item in value.items() for text in item)

        return dict(self.take(key, valid, "an object of strings", {}))

    def count(self, key: str, high: int) -> int:
        """Return a whole number from 1 to a bound, inclusive."""
        expected = f"a whole number from 1 to {high}"
        return int(self.take(key, lambda v: is_int(v) and 0 < v <= high, expected, 1))

    def number(self, key: str, low: float, high: float) -> float:
        """Return a number in a range, inclusive at both ends."""
        expected = f"a number from {low:g} to {high:g}"
        return float(self.take(key, lambda v: _is_number(v) and low <= v <= high, expected, low))

    def matrix(self, key: str, size: int, bound: float) -> tuple[tuple[float, ...], ...]:
        """Return a square matrix of numbers, none of which is further from 0 than a bound: a list of its rows."""

        def valid(value: object) -> bool:
            return isinstance(value, list) and len(value) == size and all(map(is_row, value))

        def is_row(row: object) -> bool:
            return isinstance(row, list) and len(row) == size and all(_is_number(v) and abs(v) <= bound for v in row)

        expected = f"{size} lists of {size} numbers from {-bound:g} to {bound:g}"
        rows = self.take(key, valid, expected, [[0.0] * size] * size)
        return tuple(tuple(map(float, row)) for row in rows)

    def object(self, key: str) -> Fields:
        """Return the fields of an object inside this one."""
        value = self.take(key, lambda v: isinstance(v, dict), "an object", None)
        # Do not also report each field of an object that is missing itself.
        return Fields({} if value is None else value, self.at(key), self.problems if value is not None else [])

    def objects(self, key: str, most: int) -> list[Fields]:
        """Return the fields of each object in a list."""
        items = self.take(key, lambda v: isinstance(v, list) and len(v) <= most, f"a list of at most {most}", [])
        return [Fields(item, f"{self.at(key)}[{i}]", self.problems) for i, item in enumerate(items)]

    def open_object(self, key: str, max_bytes: int) -> Mapping[str, Any]:
        """Return an object that holds any JSON, read-only; an empty one if the field is missing.

        Parameters
        ----------
        key : str
        max_bytes : int
            Most bytes that its canonical JSON may take in UTF-8.
        """
        if key not in self.fields:
            return ReadOnlyObject()
        expected = f"an object of at most {max_bytes} bytes of JSON, {MAX_DEPTH} levels deep, with strings as elsewhere"

        def valid(value: object) -> bool:
            return isinstance(value, dict) and _is_writable(value) and len(canonical_json(value).encode()) <= max_bytes

        return ReadOnlyObject(_frozen(self.take(key, valid, expected, {})))

    def close(self) -> None:
        """Report the fields that were never taken."""
        for key in sorted(set(self.fields) - self.taken):
            # Anyone may have chosen the name: it may be a megabyte long or contain unprintable characters.
            name = key if key.isascii() and key.isidentifier() and len(key) <= _SHOWN_CHARACTERS else shown(key)
            self.problems.append(f"{self.at(name)}: unknown field")


def canonical_json(value: object) -> str:
    """Return the canonical spelling of a JSON value: sorted keys, no spaces, Unicode unescaped.

    Raises
    ------
    ValueError
        A number is NaN or infinite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class ReadOnlyObject(dict[str, Any]):
    """A JSON object that cannot be changed. It can be copied, pickled and written like any dict."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a read-only object does not support item assignment or deletion")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[ReadOnlyObject], tuple[dict[str, Any]]]:
        return ReadOnlyObject, (dict(self),)


def _frozen(value: Any) -> Any:
    """Return a read-only copy of a JSON value: objects become `ReadOnlyObject`, lists become tuples."""
    if isinstance(value, dict):
        return ReadOnlyObject((name, _frozen(item)) for name, item in value.items())
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _is_writable(value: object, depth: int = 1) -> bool:
    """Whether a parsed JSON value can be written to a file and shown in a terminal: finite and printable."""
    if isinstance(value, dict | list):
        items = [item for pair in value.items() for item in pair] if isinstance(value, dict) else value
        return depth <= MAX_DEPTH and all(_is_writable(item, depth + 1) for item in items)
    return _is_text(value) if isinstance(value, str) else not isinstance(value, float) or math.isfinite(value)


def is_int(value: object) -> bool:
    """Whether this is a whole number; unlike in Python, a boolean is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    """Whether this is a string that can be written to a file and shown in a terminal.

    JSON can contain lone surrogates, which are half characters, and control characters, which can control a terminal.
    """
    return isinstance(value, str) and all(
        category(character) not in ("Cc", "Cs") or character in "\n\t" for character in value
    )


def shown(value: object) -> str:
    """Return a short, printable spelling of any value."""
    if isinstance(value, dict | list):
        return "a list" if isinstance(value, list) else "an object"
    spelt = ascii(value) if isinstance(value, str) else json.dumps(value)
    return spelt if len(spelt) <= _SHOWN_CHARACTERS else f"{spelt[:_SHOWN_CHARACTERS]}..."


def flat(value: Any, location: str = "", *, whole_lists: bool = False) -> dict[str, Any]:
    """Return the values of a JSON document by their locations, such as ``model.sha256``.

    Parameters
    ----------
    value : object
    location : str
        Of the value.
    whole_lists : bool
        Whether a list is one value, or each of its elements is.
    """
    if isinstance(value, dict):
        parts = [(f"{location}.{key}" if location else str(key), child) for key, child in value.items()]
    elif isinstance(value, list) and not whole_lists:
        parts = [(f"{location}[{index}]", child) for index, child in enumerate(value)]
    else:
        return {location: value}
    return {key: leaf for name, child in parts for key, leaf in flat(child, name, whole_lists=whole_lists).items()}
