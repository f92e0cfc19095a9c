"""What a container grants, read from files like the kernel's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nuclei_runtime import resources
from nuclei_runtime.errors import InputsError
from nuclei_runtime.resources import parse_memory


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of /sys/fs/cgroup."""
    monkeypatch.setattr(resources, "_CGROUP", tmp_path)
    monkeypatch.setattr(resources, "_OWN_CGROUPS", tmp_path / "not there")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_a_cgroup_the_machine_counts(cgroup: Path) -> None:
    assert list(cgroup.iterdir()) == []
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert resources.cpu_count() == affinity


@pytest.mark.parametrize(
    ("text", "granted"),
    [("100000 100000\n", 1), ("50000 100000\n", 1), ("1000 100000\n", 1), ("100000000 100000\n", None)],
)
def test_the_quota_of_version_2_limits(cgroup: Path, text: str, granted: int | None) -> None:
    unlimited = resources.cpu_count()
    write(cgroup / "cpu.max", text)
    assert resources.cpu_count() == (granted or unlimited)


@pytest.mark.parametrize("text", ["max 100000\n", "", "nonsense\n", "100000 0\n", "-1 100000\n", "1 2 3\n"])
def test_an_invalid_quota_does_not_limit(cgroup: Path, text: str) -> None:
    unlimited = resources.cpu_count()
    write(cgroup / "cpu.max", text)
    assert resources.cpu_count() == unlimited


def test_the_quota_is_rounded_up(cgroup: Path) -> None:
    write(cgroup / "cpu.max", "150000 100000\n")
    assert resources._cpu_quota(cgroup) == 1.5
    assert resources.cpu_count() == min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)


def test_the_quota_of_version_1_limits(cgroup: Path) -> None:
    write(cgroup / "cpu" / "cpu.cfs_quota_us", "100000\n")
    write(cgroup / "cpu" / "cpu.cfs_period_us", "100000\n")
    assert resources.cpu_count() == 1
    write(cgroup / "cpu" / "cpu.cfs_quota_us", "-1\n")
    assert resources._cpu_quota(cgroup / "cpu") is None


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_the_memory_limit_is_the_smallest(cgroup: Path, name: str) -> None:
    machine = resources.memory_limit_bytes()
    write(cgroup / name, "1048576\n")
    assert resources.memory_limit_bytes() == 1 << 20
    write(cgroup / name, f"{1 << 62}\n")
    assert resources.memory_limit_bytes() == machine
    write(cgroup / name, "max\n")
    assert resources.memory_limit_bytes() == machine


@pytest.mark.parametrize(
    ("own", "limited"),
    [
        ("0::/system.slice/nuclei.service\n", "system.slice/nuclei.service"),
        ("0::/slurm/job_7/step_0/task_1\n", "slurm/job_7"),
        ("9:name=systemd:/\n5:cpuacct,cpu:/a/b\n4:memory:/a/b\n0::/\n", "{controller}/a/b"),
        ("4:cpu,memory:/docker/elsewhere\n", "{controller}"),  # inside a container, its own group is the root
    ],
)
def test_a_limit_of_any_group_around_the_process_counts(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch, own: str, limited: str
) -> None:
    """The groups of systemd services and Slurm jobs are deeply nested."""
    monkeypatch.setattr(resources, "_OWN_CGROUPS", cgroup / "own")
    write(cgroup / "own", own)
    if "{controller}" in limited:  # version 1
        write(cgroup / limited.format(controller="memory") / "memory.limit_in_bytes", "1048576\n")
        write(cgroup / limited.format(controller="cpu") / "cpu.cfs_quota_us", "100000\n")
        write(cgroup / limited.format(controller="cpu") / "cpu.cfs_period_us", "100000\n")
    else:
        write(cgroup / limited / "memory.max", "1048576\n")
        write(cgroup / limited / "cpu.max", "100000 100000\n")
        write(cgroup / "memory.max", "max\n")
    assert resources.memory_limit_bytes() == 1 << 20
    assert resources.cpu_count() == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="NOT RUN: this system has no affinity mask")
def test_the_affinity_mask_limits() -> None:
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "from nuclei_runtime.resources import cpu_count; print(cpu_count())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("1GiB", 1 << 30),
        ("800MB", 800_000_000),
        ("1.5 GiB", 3 << 29),
        ("2kB", 2000),
        ("64KiB", 1 << 16),
        ("7B", 7),
        (" 1TB ", 10**12),
    ],
)
def test_an_amount_of_memory_is_read(text: str, n_bytes: int) -> None:
    assert parse_memory(text) == n_bytes


@pytest.mark.parametrize("text", ["", "1", "GiB", "-1GiB", "0GiB", "1gib", "1 G", "1,5GiB", "1e9B", "inf GiB", "١GiB"])
def test_other_texts_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputsError, match=re.escape(f"--max-memory {text}: expected a number above 0") + ".*1GiB"):
        parse_memory(text)
