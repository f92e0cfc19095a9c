"""The processors and memory that the container or the machine grants this process.

On its own, ONNX Runtime counts the cores of the host, even inside a container that was granted two.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from nuclei_runtime.errors import InputsError

_CGROUP = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")

_UNITS = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def cpu_count() -> int:
    """Return how many processors this process may keep busy, at least 1.

    This is the smallest of the processor count, the affinity mask and the quotas of the cgroup and its ancestors
    (version 2 `cpu.max`, version 1 `cpu.cfs_quota_us`; Linux kernel documentation, "Control Group v2", section CPU).
    """
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = min(count, len(os.sched_getaffinity(0)))
    return max(1, min([count, *(math.ceil(quota) for quota in map(_cpu_quota, _cgroups("cpu")) if quota is not None)]))


def memory_limit_bytes() -> int:
    """Return how much memory this process may use, in bytes: that of the machine, or less where a cgroup grants less.

    Containers, systemd services and Slurm jobs are cgroups; the limits of the cgroup and of its ancestors apply.
    """
    import psutil

    limits = [int(psutil.virtual_memory().total)]
    for folder in _cgroups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(folder / name)
            if text.isdigit():
                limits.append(int(text))
    return min(limits)


def _cgroups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's cgroup and of its ancestors, first for version 2, then for version 1.

    Some do not exist where a container hides the groups above its own (cgroups(7), "/proc/PID/cgroup").
    """
    own = {"": "/", controller: "/"}  # by controller of version 1; the root where the file names none
    for line in _read(_OWN_CGROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        own |= {name: path for name in controllers.split(",") if name in own}
    for name, path in own.items():
        group = PurePosixPath(path)
        for folder in (group, *group.parents):
            yield _CGROUP / name / folder.relative_to("/")


def _cpu_quota(folder: Path) -> float | None:
    fields = _read(folder / "cpu.max").split()
    if len(fields) != 2:
        fields = [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
    quota, period = fields
    if not (quota.isdigit() and period.isdigit()) or int(period) == 0:  # "max" or -1: no limit
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def parse_memory(text: str) -> int:
    """Return the number of bytes in a text such as ``1GiB`` or ``800 MB``.

    Raises
    ------
    InputsError
        The text is not a number above 0 with a unit.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", text.strip(), re.ASCII)
    if found is None or found[2] not in _UNITS or not (n_bytes := int(float(found[1]) * _UNITS[found[2]])):
        raise InputsError(
            f"--max-memory {text}: expected a number above 0 with a unit ({', '.join(_UNITS)}), such as 1GiB"
        )
    return n_bytes


def format_memory(n_bytes: float) -> str:
    """Return an amount of memory as text, rounded up to whole MiB."""
    return f"{math.ceil(n_bytes / (1 << 20))} MiB"
