"""What a run tells as it goes: a line an image, and the sums."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from nuclei_runtime.cli.command import printable

if TYPE_CHECKING:
    from nuclei_runtime.runs.image_file import FileOutcome


class Tally:
    """Tells the outcome of each file, and counts.

    Parameters
    ----------
    as_json : bool
        Print one JSON object a plane on standard output.

    Attributes
    ----------
    n_files, n_failed, n_kept, n_nuclei : int
        Files told of; those with a plane that failed; those found whole; nuclei in all.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.n_files = self.n_failed = self.n_kept = self.n_nuclei = 0
        self._as_json = as_json

    def tell(self, outcome: FileOutcome) -> None:
        """Tell what became of a file."""
        self.n_files += 1
        self.n_failed += not outcome.is_ok
        self.n_kept += outcome.is_kept
        if outcome.redone is not None:
            complain(f"done again: {outcome.planes[0].image}: {outcome.redone}")
        for plane in outcome.planes:
            self.n_nuclei += plane.n_nuclei or 0
            if self._as_json:
                print(json.dumps(asdict(plane)), flush=True)
            if plane.status == "failed":
                indices = "".join(
                    f", {axis} {i}" for axis, i in (("time", plane.time), ("z", plane.z)) if i is not None
                )
                complain(f"failed: {plane.image}{indices}: {plane.reason}")

    def summary(self, n_files: int, n_skipped: int) -> str:
        """Return the sums of a run that had so many image files, beside so many others."""
        kept = f" ({self.n_kept} were done before)" if self.n_kept else ""
        return (
            f"{self.n_files - self.n_failed} of {n_files} images{kept}, {self.n_nuclei} nuclei, "
            f"{self.n_failed} failed; files skipped that are no images: {n_skipped}"
        )


def complain(sentence: str) -> None:
    """Print a line on stderr."""
    print(printable(sentence), file=sys.stderr, flush=True)
