"""Shared by all peers: read images from the zip, make a pass over them on request, and report its time.

A peer is a process of its own, in an environment of its own. It loads, says so, and makes a pass whenever a line
comes in, so that the passes of several peers can take turns. It needs NumPy and Pillow, and nothing of this project.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Predict = Callable[[NDArray[np.uint8]], NDArray[np.integer]]
"""(H, W) grey image -> (H, W) label image."""

Pass = Callable[[Sequence[bytes]], list[int]]
"""Contents of image files -> number of nuclei in each."""


def grey_of(image: Image.Image) -> NDArray[np.uint8]:
    """Convert an image to grey, (H, W)."""
    return np.asarray(image.convert("L"))


def one_by_one(predict: Predict) -> Pass:
    """Return the pass of a peer that takes decoded grey images, one at a time."""

    def count(content: bytes) -> int:
        grey = grey_of(Image.open(io.BytesIO(content)))
        labels = predict(grey)
        assert labels.shape == grey.shape
        return int(labels.max())

    return lambda contents: [count(content) for content in contents]


def read_images(archive: Path, ids: Path) -> list[bytes]:
    """Return the PNGs of `stage1_train.zip` whose identifiers a text file lists, undecoded."""
    with zipfile.ZipFile(archive) as opened:
        return [opened.read(f"{name}/images/{name}.png") for name in ids.read_text(encoding="utf-8").split()]


def cpu_seconds() -> float:
    """Return the processor time of this process with all its threads, and of its finished children."""
    return sum(os.times()[:4])


def serve(load: Callable[[argparse.Namespace], Pass], *options: str) -> None:
    """Load; answer each line on standard input with a pass; end when the input ends.

    Parameters
    ----------
    load : callable
        From the parsed arguments to a pass.
    options : str
        Names of the arguments that it needs, such as ``--model``.
    """
    # Libraries may print anywhere; only answers may reach standard output.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(**values: float) -> None:
        print(json.dumps(values), file=answers, flush=True)

    parser = argparse.ArgumentParser()
    for name in ("--zip", "--ids", *options):
        parser.add_argument(name, required=True)
    arguments = parser.parse_args()
    make_pass = load(arguments)
    contents = read_images(Path(arguments.zip), Path(arguments.ids))
    make_pass(contents[:1])
    megapixels = sum(image.width * image.height for image in map(Image.open, map(io.BytesIO, contents))) / 1e6
    answer(images=len(contents), megapixels=megapixels)
    for _ in sys.stdin:
        start, cpu_start = time.perf_counter(), cpu_seconds()
        counts = make_pass(contents)
        seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu_start
        answer(seconds=seconds, cpu_seconds=cpu, nuclei=sum(counts))
