"""Describe the machine that a benchmark ran on."""

from __future__ import annotations

import json
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nuclei_runtime.resources import cpu_count, memory_limit_bytes

VECTOR_FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimd", "asimddp", "i8mm")
"""The processor flags that decide how fast float32 and int8 numbers are multiplied."""

_PACKAGES = ("numpy", "scipy", "scikit-image", "pillow", "onnxruntime", "onnxruntime-openvino", "tensorflow", "keras")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def describe_hardware() -> dict[str, Any]:
    """Return the processor, the memory and the software, but nothing that identifies the machine or its user."""
    processor = _processor()
    return {
        "processor": processor["model"],
        "flags": [flag for flag in VECTOR_FLAGS if flag in processor["flags"]],
        "cores": cpu_count(),
        "memory_gib": round(memory_limit_bytes() / 2**30, 1),
        "governor": _GOVERNOR.read_text().strip() if _GOVERNOR.is_file() else "not shown by this system",
        "hypervisor": "hypervisor" in processor["flags"],
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _processor() -> dict[str, Any]:
    if platform.system() == "Linux":
        done = subprocess.run(["lscpu", "--json"], capture_output=True, text=True, check=True)
        fields = {row["field"].rstrip(":"): row["data"] for row in _flatten(json.loads(done.stdout)["lscpu"])}
        family = f"family {fields.get('CPU family', '?')}, model {fields.get('Model', '?')}"
        return {"model": f"{fields['Model name']} ({family})", "flags": fields.get("Flags", "").split()}
    return {"model": platform.processor(), "flags": []}


def _flatten(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Flatten the entries that some versions of lscpu nest."""
    return [one for row in rows for one in (row, *_flatten(row.get("children", [])))]


def _gpu() -> str | None:
    try:
        command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
