"""Create an environment for each candidate, once, and again when its packages change."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

ENVIRONMENTS = {
    # The same ONNX Runtime as for this project, so that only the network and the code around it differ.
    "stardist": ("stardist==0.9.2", "tensorflow-cpu==2.21.0", "onnxruntime==1.32.0", "pillow==13.0.0", "psutil==7.2.2"),
    "otsu_watershed": ("scikit-image==0.26.0", "scipy==1.17.1", "numpy==2.4.6", "pillow==13.0.0"),
    "nuclei_edge": (f"{ROOT}[cpu]", "onnxruntime==1.32.0"),
    "openvino": (str(ROOT), "onnxruntime-openvino==1.24.1", "pytest==9.2.0", "pytest-benchmark==5.3.1"),
    "libraries": (
        f"{ROOT}[cpu]",
        "onnxruntime==1.32.0",
        "connected-components-3d==4.1.1",
        "edt==3.1.2",
        "fastremap==1.21.0",
        "opencv-python-headless==5.0.0.93",
        "pytest==9.2.0",
        "pytest-benchmark==5.3.1",
    ),
}
"""The packages of each. In two of them, the first is this project as it is here."""


class EnvironmentFailedError(RuntimeError):
    """pip could not install the packages of an environment."""


def python_of(name: str, folder: Path) -> Path:
    """Return the interpreter of an environment, creating the environment if necessary.

    Raises
    ------
    EnvironmentFailedError
        The message is the last line of pip's output.
    """
    requirements = ENVIRONMENTS[name]
    home = (folder / name).resolve()
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = home / "requirements.txt"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != "\n".join(requirements):
        _run(sys.executable, "-m", "venv", "--clear", str(home))
        _run(str(python), "-m", "pip", "install", "--quiet", *requirements)
        stamp.write_text("\n".join(requirements), encoding="utf-8")
    elif requirements[0].startswith(str(ROOT)):  # its version does not change with its code
        _run(str(python), "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", str(ROOT))
    return python


def clean_variables() -> dict[str, str]:
    """Return this process's environment variables without those that would lead another interpreter to its packages."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}


def installed_mb(name: str, folder: Path) -> int:
    """Return the disk space of an environment's packages, as ``du -sm lib`` counts it."""
    done = subprocess.run(["du", "-sm", str(folder / name / "lib")], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


def _run(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=clean_variables()
    )
    if done.returncode:
        raise EnvironmentFailedError((done.stderr or done.stdout).strip().splitlines()[-1])
