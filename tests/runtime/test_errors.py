"""The tree of errors: each has the right builtin as base, and the drawing in the docstring matches the classes."""

from __future__ import annotations

import builtins
import inspect
import pickle
import re
from pathlib import Path
from types import ModuleType

import pytest

import nuclei_export.errors
import nuclei_runtime.errors
import nuclei_train.errors
from nuclei_runtime.errors import CardError, MissingExtraError, NucleiError

MODULES = (nuclei_runtime.errors, nuclei_train.errors, nuclei_export.errors)


def classes_of(module: ModuleType) -> dict[str, type[NucleiError]]:
    return {name: item for name, item in vars(module).items() if inspect.isclass(item)}


def drawn_tree(module: ModuleType) -> dict[str, tuple[str, str | None]]:
    """Read class -> (parent, builtin) from the drawing in a module's docstring."""
    tree: dict[str, tuple[str, str | None]] = {}
    ancestors = ["NucleiError"]
    for line in (module.__doc__ or "").splitlines():
        match = re.match(r" {4}([ │]*)[├└]── (\w+)(?: \((\w+)\))?", line)
        if match:
            depth = len(match[1]) // 4 + 1
            tree[match[2]] = (ancestors[depth - 1], match[3])
            ancestors[depth:] = [match[2]]
    return tree


DRAWN = [(module, name, *bases) for module in MODULES for name, bases in drawn_tree(module).items()]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_the_drawing_names_every_class(module: ModuleType) -> None:
    assert {"NucleiError", *drawn_tree(module)} == set(classes_of(module))


@pytest.mark.parametrize(("module", "name", "parent", "builtin"), DRAWN, ids=[name for _, name, _, _ in DRAWN])
def test_a_class_has_the_bases_that_are_drawn(module: ModuleType, name: str, parent: str, builtin: str | None) -> None:
    classes = classes_of(module)
    drawn = [classes[parent], *([getattr(builtins, builtin)] if builtin else [])]
    # A builtin that the parent already is need not be named again.
    assert set(classes[name].__bases__) | {*classes[parent].__mro__} >= set(drawn)
    assert issubclass(classes[name], tuple(drawn))
    assert classes[name].__bases__[0] is classes[parent]


def test_every_class_says_what_it_means() -> None:
    assert [name for module in MODULES for name, item in classes_of(module).items() if not item.__doc__] == []


def test_the_model_and_the_machine_exit_with_3_and_all_else_with_2() -> None:
    codes = {name: item.exit_code for module in MODULES for name, item in classes_of(module).items()}
    of_elsewhere = (nuclei_runtime.errors.ModelError, nuclei_runtime.errors.RuntimeEnvironmentError)
    expected = {
        name: 3 if issubclass(item, (*of_elsewhere, nuclei_export.errors.ParityError)) else 2
        for module in MODULES
        for name, item in classes_of(module).items()
    }
    assert codes == expected
    assert set(codes.values()) == {2, 3}


def test_the_runtime_names_no_framework_of_training() -> None:
    """It is installed without them on a machine at a microscope."""
    package = Path(nuclei_runtime.errors.__file__).parent
    words = re.compile(r"tensorflow|keras|pandas|matplotlib|tf2onnx|pytorch|\btorch\b|\bjax\b", re.IGNORECASE)
    texts = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    assert len(texts) > 50
    found = {f"{path.relative_to(package)}: {word}" for path, text in texts.items() for word in words.findall(text)}
    assert found == set()


def test_a_card_error_lists_its_problems() -> None:
    error = CardError("model.onnx", ("name: missing, expected a string", "tolerance: expected a number"))
    assert error.problems == ("name: missing, expected a string", "tolerance: expected a number")
    assert str(error).splitlines() == [
        "model.onnx: the model card has 2 problems:",
        "  - name: missing, expected a string",
        "  - tolerance: expected a number",
    ]


def test_a_missing_extra_names_the_line_that_installs_it() -> None:
    with pytest.raises(ImportError, match=r'pip install "nuclei-edge\[cpu\]"') as caught:
        raise MissingExtraError("onnxruntime", "cpu")
    assert isinstance(caught.value, NucleiError)


@pytest.mark.parametrize(
    "item", [item for module in MODULES for item in classes_of(module).values()], ids=lambda item: item.__name__
)
def test_an_error_survives_the_way_out_of_a_worker_process(item: type[NucleiError]) -> None:
    """A pool of processes that cannot unpickle an error waits forever for its result."""
    arguments = {CardError: ("model.onnx", ("name: missing",)), MissingExtraError: ("onnxruntime", "cpu")}
    error = item(*arguments.get(item, ("what was found",)))
    tblib = pytest.importorskip("tblib.pickling_support")  # with which Dask pickles errors
    make, made_of, *_ = tblib.pickle_exception(error)
    for arrived in (pickle.loads(pickle.dumps(error)), make(*made_of)):
        assert (type(arrived), str(arrived), vars(arrived)) == (item, str(error), vars(error))
