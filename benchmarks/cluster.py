"""Measure a run on a Dask cluster of this machine beside the plain one, and what a long run takes of the cluster.

    python -m benchmarks.cluster [--images 64] [--side 512] [--tasks 20000]

Segments the same synthetic images with one and two threads, and with one and two worker processes of one thread each,
in turns, and prints a Markdown table of medians. Then hands a cluster of two many tasks that do nothing, and prints the
resident memory of this process, which contains the scheduler, and of the workers. Exit code 1 if results differ. With
``--images 1 --side 6000 --tasks 0``, it measures how one large image is shared out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import psutil
from distributed import Client, LocalCluster
from numpy.typing import NDArray
from PIL import Image

from benchmarks.hardware import describe_hardware
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.runs import cluster_crew
from nuclei_runtime.runs.cluster import open_cluster
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.image_file import FileOutcome
from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.runs.workers import report_nothing
from nuclei_runtime.segmentation.options import SegmenterOptions

RUNS = {
    "`--threads 1`": (1, None),
    "`--threads 2`": (2, None),
    "`--threads 1 --dask local:1`": (1, "local:1"),
    "`--threads 1 --dask local:2`": (1, "local:2"),
}
FIELD_PX = 512
LOOKS = 5
"""How often the memory is looked at."""


def made_up(seed: int, side: int) -> NDArray[np.uint8]:
    """Return a synthetic image. A large one repeats a field, because placing many nuclei takes long."""
    field_px = min(side, FIELD_PX)
    field = fluorescence_field(seed, height=field_px, width=field_px, n_nuclei=field_px * field_px // 2500)[0]
    repeats = -(-side // field_px)
    return np.tile(field, (repeats, repeats))[:side, :side]


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files but the provenance, which names the threads."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "provenance.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@dataclass(frozen=True)
class Times:
    """Seconds until the first image can begin; those that the images and the tables take, and of the processors."""

    start: float
    work: float
    processor: float


def processor_seconds() -> float:
    """Return the processor time of this process and of those that it has started."""
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def timed_run(images: Path, out: Path, threads: int, where: str | None) -> Times:
    """Segment the images."""
    config = RunConfig((str(images),), out, SegmenterOptions(threads=threads))
    start = time.perf_counter()
    with ExitStack() as opened:
        cluster = None if where is None else opened.enter_context(open_cluster(where, lambda _: None))
        run = FolderRun(config, cluster=cluster)
        ready, processor = time.perf_counter(), processor_seconds()
        with run:
            failed = [outcome for outcome in run.outcomes() if not outcome.is_ok]
        assert not failed
        return Times(ready - start, time.perf_counter() - ready, processor_seconds() - processor)


def finish_at_once(file: ImageFile, run: str) -> FileOutcome:  # noqa: ARG001
    """Do nothing, in place of `process_in_worker`."""
    return FileOutcome(())


def resident_mib() -> float:
    """Return the resident memory of the process that calls this."""
    return psutil.Process().memory_info().rss / (1 << 20)


def memory_rows(images: Path, out: Path, n_tasks: int) -> Iterator[tuple[int, int, float, float]]:
    """Yield, now and then, how many tasks are done, how many the scheduler knows, and the memory of it and of a worker.

    Workers are those with the most.
    """
    files = [ImageFile(Path(str(index)), str(index), str(index)) for index in range(n_tasks)]
    with (
        patch.object(cluster_crew, "process_in_worker", finish_at_once),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50) as local,
        Client(local, set_as_default=False) as client,
        open_cluster(local.scheduler_address, lambda _: None) as cluster,
        FolderRun(RunConfig((str(images),), out)) as run,
    ):
        crew = cluster.crew("memory", run.worker.job, run.store, run.files, report_nothing)
        for done, _ in enumerate(crew.outcomes(files), 1):
            if done in (100, n_tasks) or done % (n_tasks // LOOKS) == 0:
                n_known = len(local.scheduler.tasks)
                yield done, n_known, resident_mib(), max(client.run(resident_mib).values())


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=20_000)
    arguments = parser.parse_args()
    for name, value in describe_hardware().items():
        print(f"{name}: {value}")
    print(f"load average before: {os.getloadavg()[0]:.1f}\n")
    side, results = arguments.side, {}
    times: dict[str, list[Times]] = {name: [] for name in RUNS}
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images")
        images.mkdir()
        for seed in range(arguments.images):
            Image.fromarray(made_up(seed % 16, side)).save(images / f"{seed:04d}.png")
        for index in range(arguments.rounds):
            for name, (threads, where) in RUNS.items():
                out = Path(folder, f"{index} {name}")
                times[name].append(timed_run(images, out, threads, where))
                results[index, name] = contents(out)
        print("| `nuclei-infer` with | until the first image | images and tables | images/s | processor time |")
        print("|---|---|---|---|---|")
        for name, found in times.items():
            start, work, processor = (
                statistics.median(getattr(one, what) for one in found) for what in ("start", "work", "processor")
            )
            rate = arguments.images / work
            print(f"| {name} | {start:.1f} s | {work:.1f} s | {rate:.2f} | {processor:.1f} s |", flush=True)
        if any(one != results[0, "`--threads 1`"] for one in results.values()):
            sys.exit("the results differ")
        if arguments.tasks:
            before = time.process_time()
            print("\n| tasks done | known to the scheduler | this process, MiB | a worker, MiB |\n|---|---|---|---|")
            for done, n_known, here, there in memory_rows(images, Path(folder, "memory"), arguments.tasks):
                print(f"| {done:,} | {n_known} | {here:.0f} | {there:.0f} |", flush=True)
            per_task_ms = 1e3 * (time.process_time() - before) / arguments.tasks
            print(f"\nprocessor time of client and scheduler, per task: {per_task_ms:.1f} ms")
    print(f"load average after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
