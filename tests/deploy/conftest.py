"""The recipes under deploy/, run by the tools that they are for, or by what comes closest and can be installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field

DEPLOY = Path(__file__).parents[2] / "deploy"
SCRIPTS = Path(sysconfig.get_path("scripts"))

if sys.platform == "win32":
    collect_ignore_glob = ["test_*.py"]  # clusters and containers run Linux

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def deploy() -> Path:
    """The folder with the recipes."""
    return DEPLOY


@pytest.fixture
def run() -> Run:
    """Run a command with the scripts of this environment first in the PATH."""

    def run_command(
        *command: str | Path, cwd: Path | None = None, path: Path = SCRIPTS, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*map(str, command)],
            cwd=cwd,
            env={**os.environ, "PATH": os.pathsep.join([str(path), str(SCRIPTS), os.environ["PATH"]]), **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    return run_command


def need_tool(name: str) -> str:
    """Return a program's name, or skip the test if it is not there."""
    if shutil.which(name, path=os.pathsep.join([str(SCRIPTS), os.environ["PATH"]])) is None:
        pytest.skip(f'NOT RUN: {name} is not installed; pip install -e ".[test-deploy]" brings it')
    return name


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with three small images."""
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(3):
        Image.fromarray(fluorescence_field(seed, height=64, width=64, n_nuclei=4)[0]).save(folder / f"{seed}.png")
    return folder


def write_executable(path: Path, text: str) -> Path:
    """Write a script."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path
