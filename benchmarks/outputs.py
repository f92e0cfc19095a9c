"""Measure what each output of nuclei-infer costs, beside a run that writes label images only.

    python -m benchmarks.outputs IMAGES [--rounds 3] [--compare LIST] [--precision int8] [--max-memory 1GiB]

IMAGES is a folder of images, or the side in pixels of a synthetic image that is made for the purpose. LIST, which may
be given several times, is a value of --save; without it, each output is compared, and all together. Further options go
to nuclei-infer. Each command runs in a process of its own, in turns, so that other work on the machine affects all
alike. Prints a Markdown table with the processor time and the largest resident memory, as the system reports them for
the process (Linux and macOS), the median over the rounds; and the size of the results.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.huge_image import write_image
from nuclei_runtime.runs.saving import SAVED

ONLY, ALL = "labels", ",".join(SAVED)
EACH = (*(f"{ONLY},{word}" for word in SAVED if word != ONLY), ALL)
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Cost:
    """What one run cost."""

    cpu_seconds: float
    peak_bytes: int
    result_bytes: int


def measure(images: str, saved: str, options: Sequence[str]) -> Cost:
    """Run nuclei-infer once."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [sys.executable, "-c", "from nuclei_runtime.cli.infer import main; main()", images]
        child = subprocess.Popen([*command, "--out", str(out), "--save", saved, *options], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"nuclei-infer --save {saved} ended with {child.returncode}")
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * RSS_UNIT, size)


def main() -> None:
    """Measure every command in turns and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", help="a folder, or the side of a synthetic image in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compare", action="append", metavar="LIST")
    known, options = parser.parse_known_args()
    commands = (ONLY, *(known.compare or EACH))
    with tempfile.TemporaryDirectory() as folder:
        images = known.images
        if images.isdecimal():
            images = str(Path(folder) / "image.tif")
            write_image(Path(images), int(known.images))
        costs: dict[str, list[Cost]] = {command: [] for command in commands}
        for _ in range(known.rounds):
            for command in commands:
                costs[command].append(measure(images, command, options))
    least = median(cost.cpu_seconds for cost in costs[ONLY])
    print("| --save | processor time | relative to labels only | peak memory | results |")
    print("|---|---|---|---|---|")
    for command, found in costs.items():
        cpu = median(cost.cpu_seconds for cost in found)
        peak = median(cost.peak_bytes for cost in found)
        print(
            f"| `{command}` | {cpu:.1f} s | {cpu / least:.2f} | {peak / 2**20:.0f} MiB "
            f"| {found[-1].result_bytes / 2**20:.1f} MiB |"
        )


if __name__ == "__main__":
    main()
