"""Segment images larger than memory with nuclei-infer and measure its memory.

    python benchmarks/huge_image.py [--model MODEL.onnx] [--max-memory 1GiB] [--folder DIR] [SIDE ...]

Makes tiled TIFFs of SIDE x SIDE pixels (uint8, deflate; without SIDE 5000, 10000 and 20000) from synthetic fields,
rotated and mirrored at random, segments each in a process of its own, and prints a Markdown table. A nucleus on the
seam of two fields counts if more than four fifths of it are in one of them. The model must take images of any size.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import tifffile
from numpy.typing import NDArray
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field

SIDES = (5000, 10_000, 20_000)
FIELD_PX = 512
N_FIELDS = 6
NUCLEI_A_FIELD = 110
SAMPLING_S = 0.02


@dataclass(frozen=True)
class Measured:
    """Time, memory and results of one run of the command."""

    seconds: float
    peak_bytes: int
    n_found: int
    overlay: tuple[int, int]
    overlay_scale: str


def write_image(path: Path, side: int) -> int:
    """Write a tiled TIFF; return how many nuclei were placed in it."""
    fields = [
        fluorescence_field(seed, height=FIELD_PX, width=FIELD_PX, n_nuclei=NUCLEI_A_FIELD) for seed in range(N_FIELDS)
    ]
    rng = np.random.default_rng(side)
    n_fields = -(-side // FIELD_PX)
    drawn = rng.integers(0, [N_FIELDS, 4, 2], (n_fields * n_fields, 3))
    placed = 0

    def tiles() -> Iterator[NDArray[np.uint8]]:
        nonlocal placed
        for position, (field, turns, mirrored) in enumerate(drawn):
            row, column = (FIELD_PX * n for n in divmod(position, n_fields))
            image, labels = (
                np.rot90(part[:, ::-1] if mirrored else part, turns)[: side - row, : side - column]
                for part in fields[field]
            )
            areas = np.bincount(labels.ravel(), minlength=fields[field][1].max() + 1)
            whole = np.bincount(fields[field][1].ravel())
            placed += int((areas[1:] > 0.8 * whole[1:]).sum())
            tile = np.zeros((FIELD_PX, FIELD_PX), np.uint8)
            tile[: image.shape[0], : image.shape[1]] = image
            yield tile

    tifffile.imwrite(
        path, tiles(), shape=(side, side), dtype=np.uint8, tile=(FIELD_PX, FIELD_PX), compression="zlib", maxworkers=1
    )
    return placed


def tree_bytes(process: psutil.Process) -> int:
    """Return the resident memory of a process and its children; 0 if it has ended."""
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total


def measure(image: Path, out: Path, model: str | None, max_memory: str, options: Sequence[str] = ()) -> Measured:
    """Run nuclei-infer, with further options, and sample its resident memory."""
    command = [sys.executable, "-c", "from nuclei_runtime.cli.infer import main; main()", str(image)]
    command += ["--out", str(out), "--max-memory", max_memory, *(["--model", model] if model else []), *options]
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        process = psutil.Process(child.pid)
        while child.poll() is None:
            peak = max(peak, tree_bytes(process))
            time.sleep(SAMPLING_S)
    if child.returncode:
        raise SystemExit(f"nuclei-infer ended with {child.returncode}")
    seconds = time.perf_counter() - start
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(next((out / "overlays").glob("*.png"))) as overlay:
        size, scale = (overlay.height, overlay.width), str(overlay.info.get("scale", "1:1"))
    n_found = sum(1 for _ in (out / "nuclei.csv").open(encoding="utf-8")) - 1
    return Measured(seconds, peak, n_found, size, scale)


def main() -> None:
    """Write the images, segment them and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sides", metavar="SIDE", nargs="*", type=int, default=list(SIDES))
    parser.add_argument("--model")
    parser.add_argument("--max-memory", default="1GiB")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    print("| pixels | seconds | seconds per megapixel | peak resident | found | placed | overlay |")
    print("|---|---|---|---|---|---|---|")
    for side in options.sides:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            image = Path(folder) / "image.tif"
            placed = write_image(image, side)
            done = measure(image, Path(folder) / "out", options.model, options.max_memory)
        print(
            f"| {side} x {side} | {done.seconds:.1f} | {1e6 * done.seconds / side**2:.3f} "
            f"| {done.peak_bytes / 2**20:.0f} MiB | {done.n_found} | {placed} "
            f"| {done.overlay[0]} x {done.overlay[1]}, {done.overlay_scale} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
