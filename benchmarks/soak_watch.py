"""Run nuclei-infer --watch next to a microscope that writes slowly, renames, deletes, damages and changes files.

    python benchmarks/soak_watch.py [MODEL.onnx] [--images 5000] [--settle 1]

Halfway through, the watch is stopped with SIGTERM and restarted. At the end, every readable image must be accounted
for, and the folder must equal that of an undisturbed run on the same images. Memory and open files are read from /proc,
on Linux. Exit code 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import random
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.results.layout import RECORDS_FOLDER

INFER = str(Path(sysconfig.get_path("scripts")) / "nuclei-infer")
PATIENCE_S = 600
SPARE_DESCRIPTORS = 8
"""How much the number may vary between two moments because of files in use. There are more faults than that."""

KINDS = ("plain", "plain", "plain", "slow", "renamed", "broken", "deleted", "changed", "late")
"""What happens to an image. Late: its second half arrives after attempts to read the first."""


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files in a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def resources(pid: int) -> tuple[float, int]:
    """Return a process's resident memory in MB and its number of open files; zeros if there is no /proc."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0.0, 0
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024, len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - the names alone


def png(seed: int) -> bytes:
    """Return an image as the content of a PNG file."""
    buffer = io.BytesIO()
    field = fluorescence_field(seed % 97, height=96 + seed % 32, width=128, n_nuclei=8)[0]
    Image.fromarray(field).save(buffer, format="PNG")
    return buffer.getvalue()


class Microscope:
    """Write images into a folder, each in its own way.

    Parameters
    ----------
    folder : Path
    settle_s : float
    """

    def __init__(self, folder: Path, settle_s: float) -> None:
        self.folder = folder
        self.expected: dict[str, str] = {}
        self._settle_s = settle_s
        self._later: list[tuple[float, Path, bytes]] = []

    def write(self, number: int, kind: str) -> None:
        """Write one image."""
        path = self.folder / f"plate {number // 500}" / f"{number:05d} {kind}.png"
        path.parent.mkdir(exist_ok=True)
        content = png(number)
        self.expected[path.relative_to(self.folder).as_posix()] = "failed" if kind == "broken" else "ok"
        half = len(content) // 2
        match kind:
            case "slow":
                with path.open("wb") as file:
                    for start in range(0, len(content), half // 2):
                        file.write(content[start : start + half // 2])
                        file.flush()
                        time.sleep(0.01)
            case "renamed":
                path.with_suffix(".part").write_bytes(content)
                path.with_suffix(".part").rename(path)
            case "broken":
                path.write_bytes(content[:half])
            case "deleted":
                path.write_bytes(content[:half])
                path.unlink()
                del self.expected[path.relative_to(self.folder).as_posix()]
            case "changed":
                path.write_bytes(png(number + 1))
                self._later.append((time.monotonic() + 2 * self._settle_s, path, content))
            case "late":
                path.write_bytes(content[:half])
                self._later.append((time.monotonic() + 3 * self._settle_s, path, content))
            case _:
                path.write_bytes(content)
        self.write_later(all_of_it=False)

    def write_later(self, *, all_of_it: bool) -> None:
        """Write postponed content that is due; with `all_of_it`, wait for all of it."""
        while self._later and (all_of_it or self._later[0][0] <= time.monotonic()):
            due, path, content = self._later.pop(0)
            time.sleep(max(0.0, due - time.monotonic()))
            path.write_bytes(content)


def n_records(out: Path) -> int:
    """Count the finished images."""
    return len(list((out / RECORDS_FOLDER).iterdir())) if (out / RECORDS_FOLDER).is_dir() else 0


def wait_for_records(out: Path, n: int) -> None:
    """Wait for a number of records."""
    deadline = time.monotonic() + PATIENCE_S
    while n_records(out) < n and time.monotonic() < deadline:
        time.sleep(0.1)


def stop(process: subprocess.Popen[bytes], problems: list[str]) -> None:
    """Stop the watch as a service manager does."""
    process.send_signal(signal.SIGTERM)
    if process.wait(PATIENCE_S) != 0:
        problems.append(f"SIGTERM ended the watch with exit code {process.returncode}")


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?", help="default: the bundled model")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--settle", type=float, default=1.0)
    arguments = parser.parse_args()
    chance = random.Random(0)
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        images, out, calm = Path(folder, "images"), Path(folder, "out"), Path(folder, "calm")
        images.mkdir()
        model = [] if arguments.model is None else ["--model", arguments.model]
        command = [INFER, str(images), "--out", str(out), *model, "--watch", "--settle", str(arguments.settle)]
        microscope = Microscope(images, arguments.settle)
        kinds = [KINDS[n % len(KINDS)] for n in range(arguments.images)]
        chance.shuffle(kinds)
        halves = (range(arguments.images // 2), range(arguments.images // 2, arguments.images))
        for half in halves:
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                before, n_before = (0.0, 0), n_records(out)
                for number in half:
                    microscope.write(number, kinds[number])
                    if number == half.start + len(half) // 10:
                        wait_for_records(out, n_before + 1)
                        before = resources(process.pid)
                microscope.write_later(all_of_it=True)
                if half is halves[1]:
                    wait_for_records(out, len(microscope.expected))
                    time.sleep(4 * arguments.settle)  # for the last changes
                after = resources(process.pid)
                stop(process, problems)
            print(f"memory {before[0]:.0f} MB, then {after[0]:.0f} MB; descriptors {before[1]}, then {after[1]}")
            if after[1] > before[1] + SPARE_DESCRIPTORS:
                problems.append("descriptors were leaked")
        with (out / "images.csv").open(encoding="utf-8", newline="") as file:
            found = {row["image"]: row["status"] for row in csv.DictReader(file)}
        unlike = sorted(n for n in found | microscope.expected if found.get(n) != microscope.expected.get(n))
        problems += [f"{n}: expected {microscope.expected.get(n)}, found {found.get(n)}" for n in unlike]
        subprocess.run([INFER, str(images), "--out", str(calm), *model], check=False, capture_output=True)
        left, expected = contents(out), contents(calm)
        problems += [
            f"{n} is not what an undisturbed run writes" for n in expected | left if left.get(n) != expected.get(n)
        ]
    n_failed = list(microscope.expected.values()).count("failed")
    print(f"{len(found)} images accounted for, {n_failed} of them broken; {len(problems)} problem(s)")
    print("\n".join(problems))
    if problems:
        sys.exit(1)


if __name__ == "__main__":
    main()
