"""The rules of the code base, each checked by its tool and tested on code that breaks it."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "nuclei_train": ROOT / "train",
    "nuclei_export": ROOT / "export",
    "nuclei_runtime": ROOT / "runtime",
    "nuclei_napari": ROOT / "integrations",
}
MODULES = sorted(path for name, folder in PACKAGES.items() for path in (folder / name).rglob("*.py"))
MAX_MODULE_LINES = 300


def run(*command: str, cwd: Path = ROOT, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "PYTHONUTF8": "1", "NO_COLOR": "1", **variables},
    )


def lint_imports(cwd: Path, *folders: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    return run("-c", code, cwd=cwd, PYTHONPATH=os.pathsep.join(map(str, folders)))


def test_the_import_rules_hold() -> None:
    done = lint_imports(ROOT, *PACKAGES.values())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Contracts: 8 kept, 0 broken." in done.stdout


def test_the_import_rules_find_what_breaks_them(tmp_path: Path) -> None:
    for name, folder in PACKAGES.items():
        shutil.copytree(folder / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "models"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for module, line in {
        "nuclei_runtime/steps/instances.py": "import pandas",
        "nuclei_train/networks/unet.py": "import nuclei_export.convert",
        "nuclei_export/lint.py": "import nuclei_runtime.cli.infer",
        "nuclei_runtime/readers/axes.py": "import nuclei_runtime.segmentation.blocks",
        "nuclei_runtime/writers/nuclei_csv.py": "import nuclei_runtime.writers.label_tiff",
        "nuclei_train/data/split.py": "import nuclei_train.recipes.native",
        "nuclei_napari/errors.py": "import nuclei_runtime.errors",
        "nuclei_runtime/readers/ome_zarr.py": "import nuclei_runtime.readers.tiff.segments",
    }.items():
        with (tmp_path / module).open("a") as file:
            file.write(f"\n\ndef _later():\n    {line}\n")
    done = lint_imports(tmp_path, tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Contracts: 0 kept, 8 broken." in done.stdout
    for finding in (
        "nuclei_runtime is not allowed to import pandas",
        "nuclei_train is not allowed to import nuclei_export",
        "nuclei_export.lint is not allowed to import nuclei_runtime.cli.infer",
        "nuclei_runtime.readers is not allowed to import nuclei_runtime.segmentation",
        "nuclei_runtime.writers.nuclei_csv -> nuclei_runtime.writers.label_tiff",
        "nuclei_train.data is not allowed to import nuclei_train.recipes",
        "nuclei_napari.errors -> nuclei_runtime.errors",
        "nuclei_runtime.readers.ome_zarr -> nuclei_runtime.readers.tiff.segments",
    ):
        assert finding in done.stdout


def test_the_types_are_right() -> None:
    done = run("-m", "mypy")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_linter_finds_nothing() -> None:
    done = run("-m", "ruff", "check", "--no-cache", "--output-format=concise", ".")
    assert done.returncode == 0, done.stdout


def test_the_code_is_formatted() -> None:
    done = run("-m", "ruff", "format", "--no-cache", "--check", ".")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        *((f'"""Doc."""\n\nimport {name}\n\nprint({name})\n', "TID251") for name in ("fcntl", "resource", "pwd")),
        *((f'"""Doc."""\n\nimport {name}\n\nprint({name})\n', "TID251") for name in ("pickle", "socket", "shelve")),
        ('"""Doc."""\n\nfrom urllib.request import urlopen\n\nprint(urlopen)\n', "TID251"),
        ('"""Doc."""\n\nfrom http import client\n\nprint(client)\n', "TID251"),
        ('"""Doc."""\n\nprint(eval("1"))\n', "S307"),
        ('"""Doc."""\n\nexec("1")\n', "S102"),
        ("import sys\n\nprint(sys.path)\n", "D100"),
        ('"""Doc."""\n\n\ndef segment() -> None:\n    print(1)\n', "D103"),
        ('"""Doc."""\n\n\nclass Segmenter:\n    x = 1\n', "D101"),
    ],
)
def test_the_linter_finds_what_breaks_its_rules(code: str, rule: str) -> None:
    """No POSIX-only or network imports, no code from data, and docstrings for everything public."""
    name = "runtime/nuclei_runtime/new.py"
    done = run(
        "-m", "ruff", "check", "--no-cache", "--output-format=concise", "--stdin-filename", name, "-", stdin=code
    )
    assert done.returncode == 1
    assert f" {rule} " in done.stdout


def test_arrays_are_read_without_pickle() -> None:
    """NumPy's and Keras's files can contain pickles: neither is allowed anywhere."""
    lines = [line for path in MODULES for line in path.read_text(encoding="utf-8").splitlines()]
    loads = [line for line in lines if re.search(r"\b(np|numpy)\.load\(", line)]
    assert loads
    assert [line for line in loads if "allow_pickle=False" not in line] == []
    assert [line for line in lines if "allow_pickle=True" in line or "safe_mode=False" in line] == []


def texts_for_users(source: str, *, is_command: bool) -> list[str]:
    """Return the texts of a module that users may see: all but docstrings, except those that are a command's help."""
    tree = ast.parse(source)
    helps = {node.body[0] for node in ast.walk(tree) if is_command and isinstance(node, ast.FunctionDef)}
    documented = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and node not in helps}
    texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [node.value for node in texts if node not in documented]


def test_messages_say_what_to_do_instead_of_naming_files_that_only_the_repository_has() -> None:
    in_repository = re.compile(r"\b(docs|benchmarks|tests|deploy)/\w")
    source = "def f():\n    'see docs/a.md'\n    raise E(f'{f}: see docs/b.md')\nX = 1\n'docs/c.md'\n"
    found = {
        is_command: [text for text in texts_for_users(source, is_command=is_command) if in_repository.search(text)]
        for is_command in (False, True)
    }
    assert found == {False: [": see docs/b.md"], True: ["see docs/a.md", ": see docs/b.md"]}
    assert {
        str(path.relative_to(ROOT)): text
        for path in MODULES
        for text in texts_for_users(path.read_text(encoding="utf-8"), is_command="cli" in (path.parent.name, path.stem))
        if in_repository.search(text)
    } == {}


def test_a_module_fits_on_a_few_screens_and_is_named_for_what_it_holds() -> None:
    assert len(MODULES) > 30
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_MODULE_LINES} == {}
    assert {"utils.py", "util.py", "helpers.py", "common.py", "misc.py", "tools.py"} & set(lengths) == set()


def test_a_stage_is_one_typed_package() -> None:
    for name, folder in PACKAGES.items():
        assert [path.name for path in folder.iterdir() if (path / "__init__.py").is_file()] == [name]
        assert (folder / name / "py.typed").is_file()


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports for type checking count: to understand one module of a circle, one has to read them all."""
    for package in PACKAGES:
        graph = grimp.build_graph(package, cache_dir=None)
        arrows = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
        try:
            TopologicalSorter(arrows).prepare()
        except CycleError as error:
            pytest.fail(f"{package}: {' -> '.join(error.args[1])}")


def test_tests_lie_where_the_code_lies() -> None:
    """tests/runtime/readers contains the tests of nuclei_runtime.readers."""
    for name, folder in PACKAGES.items():
        rooms = {path.parent.relative_to(folder / name) for path in MODULES if path.is_relative_to(folder / name)}
        tests = ROOT / "tests" / folder.name
        assert {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")} - rooms == set()


def test_the_build_knows_every_package_and_every_command_has_its_function() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {ROOT / path for path in packages} == {folder / name for name, folder in PACKAGES.items()}
    for target in project["project"]["scripts"].values():
        module, _, function = target.partition(":")
        path = PACKAGES[module.partition(".")[0]] / f"{module.replace('.', '/')}.py"
        assert "cli" in path.relative_to(ROOT).with_suffix("").parts
        assert f"def {function}() -> N" in path.read_text(encoding="utf-8")
