"""What is shipped: the wheel, installed into a fresh environment without TensorFlow and used as the README says."""

from __future__ import annotations

import csv
import os
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

import numpy as np
import pytest
import tifffile

ROOT = Path(__file__).parents[1]
FRAMEWORKS = ("tensorflow", "keras", "tf2onnx", "onnx", "pandas", "matplotlib", "torch", "jax")


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a user would, without the variables of this process's Python."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "COVERAGE"))}
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        stdin=subprocess.DEVNULL,
        env={**variables, "PYTHONUTF8": "1", "NO_COLOR": "1", "COLUMNS": "120"},
    )


def succeed(*command: str | Path, cwd: Path) -> str:
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Environment:
    """A fresh environment with the wheel, and an empty folder in which its commands run."""

    scripts: Path
    work: Path

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        suffix = ".exe" if os.name == "nt" else ""
        return run(self.scripts / f"{command}{suffix}", *arguments, cwd=self.work)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that is deleted after the tests: an environment takes 400 MB."""
    with tempfile.TemporaryDirectory(prefix="nuclei-edge-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    succeed(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder / "dist", ROOT, cwd=folder)
    (path,) = (folder / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(folder: Path, wheel: Path) -> Environment:
    """The README's first command, with the wheel instead of the clone, in an empty folder."""
    target, work = folder / "environment", folder / "empty"
    work.mkdir()
    venv.create(target, with_pip=True)
    made = Environment(target / ("Scripts" if os.name == "nt" else "bin"), work)
    (first, *_) = re.findall(r"```\w*\n(.*?)\n```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    for command in first.split(" && "):
        words = [word.replace(".[cpu]", f"{wheel}[cpu]") for word in shlex.split(command)]
        done = made.run(*words)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return made


def members(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_packages_the_model_and_the_licence(wheel: Path) -> None:
    names = members(wheel)
    tops = {name.partition("/")[0] for name in names}
    info = next(top for top in tops if top.endswith(".dist-info"))
    assert tops == {"nuclei_runtime", "nuclei_train", "nuclei_export", "nuclei_napari", info}
    assert f"{info}/licenses/LICENSE" in names
    for package in ("nuclei_runtime", "nuclei_train", "nuclei_export", "nuclei_napari"):
        assert f"{package}/py.typed" in names
    assert {"nuclei_runtime/models/nuclei.onnx", "nuclei_runtime/models/nuclei.sample.npz"} <= names
    assert "nuclei_train/models/model_for_nuclei.h5" in names  # what --start bundled begins with
    others = {name for name in names if not name.endswith((".py", "py.typed")) and not name.startswith(info)}
    others.remove("nuclei_napari/napari.yaml")
    assert {Path(name).parent.as_posix() for name in others} == {
        "nuclei_runtime/models",
        "nuclei_runtime/report/page",
        "nuclei_train/models",
    }


def test_every_module_of_the_source_is_in_the_wheel(wheel: Path) -> None:
    source = {
        path.relative_to(ROOT / stage).as_posix()
        for stage in ("train", "export", "runtime", "integrations")
        for path in (ROOT / stage).glob("nuclei_*/**/*.py")  # not the scripts for Fiji and QuPath
    }
    assert {name for name in members(wheel) if name.endswith(".py")} == source


def test_the_wheel_declares_every_command(wheel: Path) -> None:
    """The wheel's entry points are those of pyproject.toml, and each names a function in the wheel."""
    declared = ConfigParser(delimiters="=")
    declared.optionxform = str  # type: ignore[assignment, method-assign]
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        declared.read_string(archive.read(name).decode())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    expected = {"console_scripts": project["scripts"], **project.get("entry-points", {})}
    assert {group: dict(declared[group]) for group in declared.sections()} == expected
    for target in (target for group in expected.values() for target in group.values()):
        module = target.partition(":")[0].replace(".", "/")
        assert {f"{module}.py", f"{module}/__init__.py"} & members(wheel), target


def test_only_extras_need_a_framework(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    needed = {
        re.match(r"[\w.-]+", line)[0].lower() for line in metadata.get_all("Requires-Dist") if "extra ==" not in line
    }  # type: ignore[index,union-attr]
    assert needed == {
        "numpy",
        "scipy",
        "scikit-image",
        "pillow",
        "tifffile",
        "pypng",
        "psutil",
        "typer",
        "rich",
    }
    formats = {"codecs", "zarr", "czi", "nd2", "lif", "dv", "olympus", "slides", "all-formats"}
    uses = {"cpu", "gpu", "formats", "watch", "dask", "stores", "s3", "napari", "data", "train", "search", "export"}
    extras = {*uses, "bioimageio", "docs", "test", "test-napari", "test-deploy", "dev", *formats}
    assert set(metadata.get_all("Provides-Extra")) == extras  # type: ignore[arg-type]
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.11"


def test_the_source_archive_builds_the_same_wheel(folder: Path, wheel: Path) -> None:
    out = folder / "from_source"
    succeed(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=folder)
    (rebuilt,) = out.glob("*.whl")
    (archive,) = out.glob("*.tar.gz")
    assert rebuilt.name == wheel.name
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(rebuilt) as other:
        assert {i.filename: i.CRC for i in one.infolist()} == {i.filename: i.CRC for i in other.infolist()}
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "tests/conftest.py"} <= names


def test_no_framework_is_installed(environment: Environment) -> None:
    code = f"from importlib.util import find_spec; print([p for p in {FRAMEWORKS} if find_spec(p)])"
    assert environment.run("python", "-c", code).stdout == "[]\n"


def test_every_module_of_the_runtime_can_be_imported(environment: Environment) -> None:
    code = (
        "import nuclei_runtime, pkgutil, importlib\n"
        "names = [m.name for m in pkgutil.walk_packages(nuclei_runtime.__path__, 'nuclei_runtime.')]\n"
        "names = [name for name in names if '._pyinstaller.' not in name]\n"  # PyInstaller itself imports its hook
        "names = [name for name in names if not name.startswith('nuclei_runtime.runs.cluster')]\n"  # the extra dask
        "for name in names: importlib.import_module(name)\n"
        "print(len(names), nuclei_runtime.__file__)"
    )
    done = environment.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    count, _, path = done.stdout.strip().partition(" ")
    assert int(count) > 15
    assert not Path(path).is_relative_to(ROOT)


def test_the_readmes_first_command_gives_results_for_every_image(environment: Environment) -> None:
    images = sorted(path.name for path in (environment.work / "demo" / "images").iterdir())
    assert len(images) >= 5
    results = environment.work / "results"
    with (results / "images.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert sorted(rows) == images
    total = 0
    for name, row in rows.items():
        assert row["status"] == "ok"
        labels = tifffile.imread(results / row["labels"])
        assert labels.max() == int(row["n_nuclei"])
        assert labels.shape == (int(row["height"]), int(row["width"]))
        assert (results / "overlays" / row["labels"].removeprefix("labels/")).with_suffix(".png").is_file(), name
        total += int(row["n_nuclei"])
    assert total > 50
    with (results / "nuclei.csv").open(encoding="utf-8", newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == total


def test_the_bundled_model_finds_the_nuclei_of_the_demo(environment: Environment) -> None:
    """Compares the foreground only: synthetic fields do not measure how good the model is."""
    truths = sorted((environment.work / "demo" / "truth").iterdir())
    assert truths
    for path in truths:
        truth = tifffile.imread(path) > 0
        found = tifffile.imread(environment.work / "results" / "labels" / path.name) > 0
        assert np.logical_and(truth, found).sum() / np.logical_or(truth, found).sum() > 0.5, path.name


def test_results_are_not_overwritten_unless_asked(environment: Environment) -> None:
    again = environment.run("nuclei-infer", "demo/images", "--out", "results")
    assert again.returncode == 2
    assert "--overwrite" in again.stderr
    assert environment.run("nuclei-infer", "demo/images", "--out", "results", "--overwrite").returncode == 0


def test_the_doctor_finds_nothing_wrong(environment: Environment) -> None:
    done = environment.run("nuclei-doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("OK")
    assert "CPUExecutionProvider" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("nuclei-train", "demo", "run"), "train"),
        (("nuclei-export", "run", "model.onnx"), "export"),
        (("nuclei-export", "--bioimageio", "package"), "bioimageio"),
        (("nuclei-explore", "demo", "explored"), "data"),
        (("nuclei-evaluate", "demo", "--out", "evaluated"), "data"),
    ],
)
def test_a_command_of_another_extra_names_it_and_does_nothing(
    environment: Environment, command: tuple[str, ...], extra: str
) -> None:
    before = sorted(environment.work.iterdir())
    done = environment.run(*command)
    assert done.returncode == 3, done.stdout + done.stderr
    assert done.stdout == ""
    assert re.fullmatch(
        rf'error: \w+ is not installed; install it with: pip install "nuclei-edge\[{extra}\]"\n', done.stderr
    )
    assert sorted(environment.work.iterdir()) == before


@pytest.mark.parametrize("name", ["demo", "infer", "doctor", "bench", "pack", "train", "export", "explore", "evaluate"])
def test_every_command_has_a_help_text(environment: Environment, name: str) -> None:
    done = environment.run(f"nuclei-{name}", "--help")
    assert done.returncode == 0, done.stderr
    assert f"nuclei-{name}" in done.stdout
    assert done.stderr == ""
