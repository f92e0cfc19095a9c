"""How fast a folder of images is segmented: each measurement is a run of its own, in a process of its own."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

import psutil
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.segmentation.options import SegmenterOptions

N_FIELDS = 4
"""How many different images there are; larger folders repeat them."""

SAMPLING_S = 0.01


@dataclass(frozen=True)
class FolderTime:
    """What a run over a folder took.

    Attributes
    ----------
    seconds : float
        From the first image to the joined tables, without starting Python and loading the model.
    peak_bytes : int
        Largest resident memory of the process.
    """

    seconds: float
    peak_bytes: int


@contextmanager
def folder_of_fields(n_images: int, side_px: int) -> Iterator[Path]:
    """Make a temporary folder with a subfolder ``images`` of square PNG files, which have `side_px` pixels a side."""
    fields = [fluorescence_field(seed, height=side_px, width=side_px)[0] for seed in range(min(n_images, N_FIELDS))]
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        images = Path(folder) / "images"
        images.mkdir()
        for index in range(n_images):
            Image.fromarray(fields[index % N_FIELDS]).save(images / f"{index:05}.png")
        yield Path(folder)


def time_folder(folder: Path, n_images: int, options: SegmenterOptions) -> FolderTime:
    """Segment the first images of a folder as nuclei-infer does, in a new process.

    Parameters
    ----------
    folder : Path
        See `folder_of_fields`. It also gets the results.
    n_images : int
    options : SegmenterOptions

    Raises
    ------
    NucleiError
        See `nuclei_runtime.runs.run.FolderRun`.
    concurrent.futures.process.BrokenProcessPool
        The process was ended, for lack of memory for example.
    """
    # Forking a process whose ONNX Runtime has threads may hang it.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_time_here, folder, n_images, options).result()


def _time_here(folder: Path, n_images: int, options: SegmenterOptions) -> FolderTime:
    sources = tuple(str(folder / "images" / f"{index:05}.png") for index in range(n_images))
    config = RunConfig(sources, folder / "results", options, mode="overwrite")
    for _ in range(2):  # the first run imports modules and loads what it needs
        seconds, peak_bytes = _time_run(config)
    return FolderTime(seconds, peak_bytes)


def _time_run(config: RunConfig) -> tuple[float, int]:
    run = FolderRun(config)
    start = time.perf_counter()
    with _peak_memory() as peak, run:
        for _ in run.outcomes():
            pass
    return time.perf_counter() - start, max(peak)


@contextmanager
def _peak_memory() -> Iterator[list[int]]:
    """Measure the resident memory again and again; the list that this yields grows meanwhile."""
    process, ended = psutil.Process(), Event()
    found = [process.memory_info().rss]

    def sample() -> None:
        while not ended.wait(SAMPLING_S):
            found.append(process.memory_info().rss)

    sampler = Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield found
    finally:
        ended.set()
        sampler.join()
