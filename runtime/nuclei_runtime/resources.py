"""What this process may use: processors and memory, as the container or the machine grants them.

ONNX Runtime by itself counts the host's cores, also inside a container that was given two.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def cpu_count() -> int:
    """Return how many processors this process may keep busy, at least 1.

    The least of the machine's processors, the affinity mask and the cgroup's quota (version 2 `cpu.max`,
    version 1 `cpu.cfs_quota_us`; Linux kernel documentation, "Control Group v2", section CPU).
    """
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = min(count, len(os.sched_getaffinity(0)))
    quota = _cgroup_cpu_quota(_CGROUP)
    return max(1, min(count, math.ceil(quota)) if quota else count)


def memory_limit_bytes() -> int:
    """Return how much memory this process may use, in bytes: the machine's, or less where a container grants less."""
    import psutil

    limits = [int(psutil.virtual_memory().total)]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(_CGROUP / name)
        if text.isdigit():
            limits.append(int(text))
    return min(limits)


def _cgroup_cpu_quota(root: Path) -> float | None:
    fields = _read(root / "cpu.max").split()
    if len(fields) != 2:
        fields = [_read(root / "cpu" / "cpu.cfs_quota_us"), _read(root / "cpu" / "cpu.cfs_period_us")]
    quota, period = fields
    if not (quota.isdigit() and period.isdigit()) or int(period) == 0:  # "max" or -1: no limit
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
