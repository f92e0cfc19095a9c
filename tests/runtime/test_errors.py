"""The tree of errors: each is the builtin that it is, and the drawing in the docstring is the tree."""

from __future__ import annotations

import builtins
import inspect
import re

import pytest

from nuclei_runtime import errors
from nuclei_runtime.errors import CardError, MissingExtraError, NucleiError

CLASSES = {name: item for name, item in vars(errors).items() if inspect.isclass(item)}


def drawn_tree() -> dict[str, tuple[str, str | None]]:
    """Read class -> (parent, builtin) out of the module's drawing."""
    tree: dict[str, tuple[str, str | None]] = {}
    ancestors = ["NucleiError"]
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r" {4}([ │]*)[├└]── (\w+)(?: \((\w+)\))?", line)
        if match:
            depth = len(match[1]) // 4 + 1
            tree[match[2]] = (ancestors[depth - 1], match[3])
            ancestors[depth:] = [match[2]]
    return tree


def test_the_drawing_names_every_class() -> None:
    assert {"NucleiError", *drawn_tree()} == set(CLASSES)


@pytest.mark.parametrize(("name", "parent", "builtin"), [(n, p, b) for n, (p, b) in drawn_tree().items()])
def test_a_class_has_the_bases_that_are_drawn(name: str, parent: str, builtin: str | None) -> None:
    drawn = [CLASSES[parent], *([getattr(builtins, builtin)] if builtin else [])]
    # A builtin that the parent already is need not be named again.
    assert set(CLASSES[name].__bases__) | {*CLASSES[parent].__mro__} >= set(drawn)
    assert issubclass(CLASSES[name], tuple(drawn))
    assert CLASSES[name].__bases__[0] is CLASSES[parent]


def test_every_class_says_what_it_means() -> None:
    assert [name for name, item in CLASSES.items() if not item.__doc__] == []


def test_a_card_error_lists_its_problems() -> None:
    error = CardError("model.onnx", ("name: missing, expected a text", "tolerance: expected a number"))
    assert error.problems == ("name: missing, expected a text", "tolerance: expected a number")
    assert str(error).splitlines() == [
        "model.onnx: the model card has 2 problem(s):",
        "  - name: missing, expected a text",
        "  - tolerance: expected a number",
    ]


def test_a_missing_extra_names_the_line_that_installs_it() -> None:
    with pytest.raises(ImportError, match=r'pip install "nuclei-edge\[cpu\]"') as caught:
        raise MissingExtraError("onnxruntime", "cpu")
    assert isinstance(caught.value, NucleiError)
