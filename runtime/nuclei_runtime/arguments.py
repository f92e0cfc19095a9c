"""Checks of what a program passes to the public functions: a value of another type, unit or range is named at once.

A settings file gives "4" for 4, "no" for False and "1GiB" for bytes. Python would fail somewhere inside, or compute on.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from nuclei_runtime.errors import ArgumentError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Valid = Mapping[str, tuple[Callable[[Any], bool], str]]
"""For each field of a dataclass whether a value is valid, and what is expected."""

_SHOWN_CHARACTERS = 80

_MOST_VALUES = sys.maxsize // 8
"""In an array of the largest type that is an image's."""


def check_argument(is_valid: bool, name: str, expected: str, found: object) -> None:
    """Raise an error unless an argument is valid.

    Parameters
    ----------
    is_valid : bool
    name : str
        Of the argument.
    expected : str
        What it must be.
    found : object

    Raises
    ------
    ArgumentError
    """
    if not is_valid:
        raise ArgumentError(f"{name} must be {expected}, found {_shown(found)}")


def check_fields(given: DataclassInstance, valid: Valid) -> None:
    """Raise an error unless all fields of a dataclass are valid. One whose default is None may be None as well.

    Raises
    ------
    ArgumentError
    """
    for field in fields(given):
        is_valid, expected = valid[field.name]
        found = getattr(given, field.name)
        check_argument(is_valid(found) or (found is None and field.default is None), field.name, expected, found)


def is_whole(value: object, least: int = 0, most: float = math.inf) -> bool:
    """Whether this is a whole number in a range. True and False are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and least <= int(value) <= most


def is_number(value: object, low: float = -math.inf, high: float = math.inf) -> bool:
    """Whether this is a finite number in a range. True and False are none."""
    if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value) and low <= float(value) <= high
    except OverflowError:  # a whole number beyond all floats
        return False


def is_flag(value: object) -> bool:
    """Whether this is True or False."""
    return isinstance(value, bool | np.bool_)


def is_text(value: object) -> bool:
    """Whether this is a text."""
    return isinstance(value, str)


def is_one_of(words: Collection[str], value: object) -> bool:
    """Whether this is one of some words."""
    return isinstance(value, str) and value in words


def is_path(value: object) -> bool:
    """Whether this is a path as text or `pathlib` has it."""
    return isinstance(value, str | os.PathLike)


def is_shape(value: object) -> bool:
    """Whether this may be the shape of an array that NumPy can address, whether there is memory for it or not."""
    return (
        isinstance(value, tuple | list | np.ndarray)
        and all(map(is_whole, value))
        and math.prod(map(int, value)) <= _MOST_VALUES
    )


def is_dtype(value: Any) -> bool:
    """Whether this is a type of the values of an array, or its name."""
    try:
        np.dtype(value)
    except (TypeError, ValueError, SyntaxError):  # NumPy parses texts
        return False
    return True


def _shown(found: object) -> str:
    if isinstance(found, np.ndarray):
        return f"an array of shape {found.shape}"
    spelt = repr(found)
    return spelt if len(spelt) <= _SHOWN_CHARACTERS else f"a value of type {type(found).__name__}"
