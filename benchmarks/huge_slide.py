"""Segment a made whole slide with nuclei-infer and measure its time and memory.

    python -m benchmarks.huge_slide CROP [--at ROW COLUMN] [--height 80000] [--width 100000] [--tissue 0.1]
        [--max-memory 1GiB] [--folder DIR] [--keep]

Makes an SVS with levels 1, 4 and 16, compressed with JPEG, as scanners write it: glass, and islands of tissue, which
are a square of 512 pixels of the image CROP repeated. Segments it in a process of its own and prints a Markdown table.
Further options go to nuclei-infer. Needs the extra `slides`. How long the tissue takes is what counts: with the default
share of tissue, most of such a slide is glass, which is skipped.
"""

from __future__ import annotations

import argparse
import csv
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from benchmarks.huge_image import measure
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Selection

TILE_PX = 512
CELL_PX = 4 * TILE_PX
"""Islands consist of squares of this side, so that all tiles of the first two levels are tissue or glass."""
LEVELS = (1, 4, 16)
GLASS = (243, 243, 243)
QUALITY = 85


@dataclass(frozen=True, eq=False)
class MadeSlide:
    """A slide to write: a square of tissue, and where it is repeated.

    Attributes
    ----------
    crop : (TILE_PX, TILE_PX, 3) ndarray of uint8
    tissue : (rows, columns) ndarray of bool
        Which squares of `CELL_PX` are tissue.
    height, width : int
    """

    crop: NDArray[np.uint8]
    tissue: NDArray[np.bool_]
    height: int
    width: int

    def write(self, path: Path) -> None:
        """Write the slide."""
        with tifffile.TiffWriter(path, bigtiff=True) as writer:
            for number, factor in enumerate(LEVELS):
                height, width = self.height // factor, self.width // factor
                title = f"Aperio Image Library v12\r\n{width}x{height} JPEG/RGB Q={QUALITY}|AppMag = 20|MPP = 0.4990"
                layout: dict[str, Any] = {"photometric": "ycbcr", "compression": "jpeg", "subsampling": (1, 1)}
                writer.write(
                    self._tiles(factor),
                    shape=(height, width, 3),
                    dtype=np.uint8,
                    tile=(TILE_PX, TILE_PX),
                    description=title,
                    metadata=None,
                    **layout,
                )
                if number == 0:  # the second page of an SVS is its thumbnail
                    writer.write(np.full((64, 80, 3), GLASS, np.uint8), metadata=None, description="thumbnail")

    def _tiles(self, factor: int) -> Iterator[bytes]:
        cells = max(TILE_PX * factor // CELL_PX, 1)
        for row in range(-(-self.height // factor // TILE_PX)):
            for column in range(-(-self.width // factor // TILE_PX)):
                at = [i * TILE_PX * factor // CELL_PX for i in (row, column)]
                part = self.tissue[at[0] : at[0] + cells, at[1] : at[1] + cells]
                part = np.pad(part, [(0, cells - length) for length in part.shape])
                yield self._encoded(factor, part.tobytes(), cells)

    @cache  # noqa: B019  # the slide lives as long as the program
    def _encoded(self, factor: int, tissue: bytes, cells: int) -> bytes:
        import imagecodecs

        small = self.crop.reshape(TILE_PX // factor, factor, TILE_PX // factor, factor, 3).mean(axis=(1, 3)).round()
        repeated = np.tile(small.astype(np.uint8), (factor, factor, 1))
        is_tissue = np.frombuffer(tissue, bool).reshape(cells, cells)
        side = TILE_PX // cells
        tile = np.where(
            is_tissue.repeat(side, axis=0).repeat(side, axis=1)[..., np.newaxis], repeated, np.array(GLASS, np.uint8)
        )
        return bytes(
            imagecodecs.jpeg8_encode(
                np.ascontiguousarray(tile), QUALITY, colorspace="RGB", outcolorspace="YCBCR", subsampling="444"
            )
        )


def islands(height: int, width: int, share: float) -> NDArray[np.bool_]:
    """Return three ellipses, which together cover about this share of the slide."""
    shape = math.ceil(height / CELL_PX), math.ceil(width / CELL_PX)
    rows, columns = ((np.arange(n) + 0.5) / n for n in shape)
    radius = math.sqrt(share / 3 / math.pi)
    centres = ((0.3, 0.25), (0.62, 0.5), (0.4, 0.78))
    found: NDArray[np.bool_] = np.zeros(shape, bool)
    for y, x in centres:
        found |= np.hypot(rows[:, np.newaxis] - y, columns - x) < radius
    return found


def main() -> None:
    """Write the slide, segment it and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("crop", type=Path)
    parser.add_argument("--at", nargs=2, type=int, default=(0, 0), metavar=("ROW", "COLUMN"))
    parser.add_argument("--height", type=int, default=80_000)
    parser.add_argument("--width", type=int, default=100_000)
    parser.add_argument("--tissue", type=float, default=0.1)
    parser.add_argument("--max-memory", default="1GiB")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--keep", action="store_true", help="write the slide to --folder and do no more")
    options, further = parser.parse_known_args()
    row, column = options.at
    with open_planes(options.crop, Selection()) as (plane, *_):
        crop = plane.read(slice(row, row + TILE_PX), slice(column, column + TILE_PX))[..., :3].astype(np.uint8)
    tissue = islands(options.height, options.width, options.tissue)
    slide = MadeSlide(crop, tissue, options.height, options.width)
    if options.keep:
        slide.write(options.folder / "slide.svs")
        return
    print("| pixels | tissue | skipped | seconds | seconds per gigapixel of tissue | peak resident | found |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        image = Path(folder) / "slide.svs"
        slide.write(image)
        done = measure(image, Path(folder) / "out", None, options.max_memory, further)
        with (Path(folder) / "out/images.csv").open(encoding="utf-8", newline="") as table:
            (outcome,) = csv.DictReader(table)
    gigapixels = tissue.sum() * CELL_PX**2 / 1e9
    print(
        f"| {options.height} x {options.width} | {gigapixels:.2f} GP | {float(outcome['glass_share']):.0%} "
        f"| {done.seconds:.0f} | {done.seconds / gigapixels:.0f} | {done.peak_bytes / 2**20:.0f} MiB "
        f"| {done.n_found} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
