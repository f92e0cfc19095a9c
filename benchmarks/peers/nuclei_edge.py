"""This project under the peers' conditions: images decoded from memory, segmented and measured, nothing written.

``--mode folder``: one worker per core, each with its own image and one thread, as in a run over a folder.
``--mode single``: one image after the other, with all cores in the network, as in an instrument.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.peers.harness import Pass, serve
from nuclei_runtime import Segmenter
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.resources import cpu_count
from nuclei_runtime.steps.nuclei_table import measure_nuclei
from nuclei_runtime.writers.nuclei_csv import table_rows


def counter(segmenter: Segmenter) -> Callable[[bytes], int]:
    """Return a function that decodes, segments and measures one image file."""

    def count(content: bytes) -> int:
        with open_planes(content, Selection()) as (plane,):
            image = plane.read(slice(0, plane.shape[0]), slice(0, plane.shape[1]))
        found = segmenter.segment(image)
        return len(table_rows({"image": "image"}, measure_nuclei(image, found.labels)))

    return count


def load(arguments: Namespace) -> Pass:
    """Load the model for a mode."""
    if arguments.mode == "single":
        count = counter(Segmenter(arguments.model))
        return lambda contents: [count(content) for content in contents]
    count, pool = counter(Segmenter(arguments.model, threads=1)), ThreadPoolExecutor(cpu_count())

    def make_pass(contents: Sequence[bytes]) -> list[int]:
        return list(pool.map(count, contents))

    return make_pass


if __name__ == "__main__":
    serve(load, "--model", "--mode")
