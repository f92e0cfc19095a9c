"""Where the processor time of nuclei-infer goes, as shares of whole runs.

    python -m benchmarks.shares IMAGES [--rounds 5] [--precision int8]

IMAGES is a folder of images, or the side in pixels of a synthetic image that is made for the purpose. Further options
go to nuclei-infer, which runs in this process with one thread. Time counts for the innermost part, so that the shares
add up; what the network does for views that are not taken counts as network. Prints a Markdown table with the medians
over the rounds, after one that does not count. Other work on the machine changes the shares less than the seconds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.huge_image import write_image
from nuclei_runtime.cli.infer import main as infer

PARTS: Mapping[str, tuple[str, ...]] = {
    "decoding": ("readers.pictures:decode_picture", "readers.tiff.segments:Segments.read"),
    "contrast": ("segmentation.plane_input:PlaneInput.__init__", "segmentation.choice:as_grey"),
    "network's input": (
        "segmentation.plane_input:PlaneInput.shown",
        "segmentation.plane_input:as_input",
        "segmentation.choice:as_input",
    ),
    "network": ("model.session:Session.run",),
    "nuclei in the maps": ("segmentation.choice:find_instances", "segmentation.block_search:find_instances"),
    "judging the views": ("segmentation.choice:look_at",),
    "score of each nucleus": (
        "segmentation.choice:nucleus_signs",
        "segmentation.block_search:nucleus_signs",
        "segmentation.choice:Shown.scores",
    ),
    "flags of the image": ("segmentation.choice:Eye.evidence", "segmentation.blocks:flags_of"),
    "measuring": ("writers.measuring:measure_nuclei",),
    "label images": ("writers.label_tiff:LabelTiffWriter.finish",),
    "overlays": ("writers.overlay_png:OverlayPngWriter.finish",),
    "rows of nuclei.csv": ("writers.nuclei_csv:NucleiCsvWriter.write_block",),
    "placing the results": ("results.store:ResultStore.place",),
}
"""Functions of each part, by module and name. In a module that imports a function, it is that module's name for it."""
REST = "all else"


class Clock:
    """Counts the processor time of parts. Time in a part within another counts for the inner one.

    Parameters
    ----------
    now : callable
        Returns the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.process_time) -> None:
        self._now = now
        self._in_inner_parts = 0.0
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, whose time counts for a part."""

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            start, earlier, self._in_inner_parts = self._now(), self._in_inner_parts, 0.0
            try:
                return function(*args, **kwargs)
            finally:
                spent = self._now() - start
                self.seconds[part] += spent - self._in_inner_parts
                self._in_inner_parts = earlier + spent

        return call


def watch(clock: Clock, replace: Callable[[Any, str, Any], None] = setattr) -> None:
    """Have a clock count the functions of `PARTS` from now on, or until what `replace` does is undone."""
    for part, names in PARTS.items():
        for name in names:
            module, path = name.split(":")
            *owners, last = path.split(".")
            owner: Any = import_module(f"nuclei_runtime.{module}")
            for one in owners:
                owner = getattr(owner, one)
            replace(owner, last, clock.timed(part, getattr(owner, last)))


def run(arguments: list[str], clock: Clock) -> dict[str, float]:
    """Run nuclei-infer once and return the processor time of each part, and of all else."""
    clock.seconds.clear()
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["nuclei-infer", *arguments, "--out", str(Path(folder) / "out"), "--threads", "1"]
        start = time.process_time()
        try:
            infer()
        except SystemExit as ended:
            if ended.code:
                raise
        total = time.process_time() - start
    return {**{part: clock.seconds[part] for part in PARTS}, REST: total - sum(clock.seconds.values())}


def main() -> None:
    """Run nuclei-infer several times and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", help="a folder, or the side of a synthetic image in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    known, options = parser.parse_known_args()
    watch(clock := Clock())
    with tempfile.TemporaryDirectory() as folder:
        images = known.images
        if images.isdecimal():
            images = str(Path(folder) / "image.tif")
            write_image(Path(images), int(known.images))
        found = [run([images, *options], clock) for _ in range(known.rounds + 1)][1:]
    totals = [sum(one.values()) for one in found]
    print(f"| part | seconds | share |\n|---|---|---|\n| together | {median(totals):.3f} | 100% |")
    for part in found[0]:
        share = median(one[part] / total for one, total in zip(found, totals, strict=True))
        print(f"| {part} | {median(one[part] for one in found):.3f} | {share:.1%} |")


if __name__ == "__main__":
    main()
