"""Environments of their own for what is compared: made once in a folder, and made anew when their packages change."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

ENVIRONMENTS = {
    # The very ONNX Runtime that this project is measured with: what differs is the network and what surrounds it.
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
"""What is installed in each; the first of two of them is this project, as it lies here."""


class EnvironmentFailedError(RuntimeError):
    """pip could not install what an environment needs."""


def python_of(name: str, folder: Path) -> Path:
    """Return the interpreter of an environment, which is made if it is not there.

    Raises
    ------
    EnvironmentFailedError
        With the last line of what pip said.
    """
    requirements = ENVIRONMENTS[name]
    home = (folder / name).resolve()
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = home / "requirements.txt"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != "\n".join(requirements):
        _run(sys.executable, "-m", "venv", "--clear", str(home))
        _run(str(python), "-m", "pip", "install", "--quiet", *requirements)
        stamp.write_text("\n".join(requirements), encoding="utf-8")
    elif requirements[0].startswith(str(ROOT)):  # its version stays while its code changes
        _run(str(python), "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", str(ROOT))
    return python


def clean_variables() -> dict[str, str]:
    """Return this process's variables without those that lead another interpreter to this one's packages."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}


def installed_mb(name: str, folder: Path) -> int:
    """Return what an environment's packages take on the disk, as ``du -sm lib`` counts it."""
    done = subprocess.run(["du", "-sm", str(folder / name / "lib")], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


def _run(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=clean_variables()
    )
    if done.returncode:
        raise EnvironmentFailedError((done.stderr or done.stdout).strip().splitlines()[-1])
