"""Workers can be replaced: what a worker needs can be pickled, and processes give the same results as threads."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import RuntimeEnvironmentError
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.runs.workers import Worker
from nuclei_runtime.segmentation.options import SegmenterOptions
from tests.contents import everything

PROCESSES = """
import os, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from nuclei_runtime.runs.image_file import process_file
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.runs.workers import Worker
from nuclei_runtime.segmentation.options import SegmenterOptions


def start(job):
    global worker
    worker = Worker.load(job)


def work(file, store):
    return os.getpid(), process_file(file, worker, store)


if __name__ == "__main__":
    images, out, model, mode = sys.argv[1:]
    with FolderRun(RunConfig((images,), Path(out), SegmenterOptions(Path(model), threads=2), mode=mode)) as run:
        with ProcessPoolExecutor(
            2, mp_context=get_context("spawn"), initializer=start, initargs=(run.worker.job,)
        ) as pool:
            futures = [pool.submit(work, file, run.store) for file in run.files]
            for future in futures:
                pid, outcome = future.result()
                print(pid == os.getpid(), outcome.planes[0].image, outcome.planes[0].status, outcome.is_kept)
"""


@pytest.fixture
def config(tmp_path: Path, tiled_model: Path) -> RunConfig:
    for seed, name in enumerate(["a.png", "b.png", "plate 1/c.png", "plate 1/d.png", "plate 2/e.png"]):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(fluorescence_field(seed, height=96, width=120, n_nuclei=8)[0]).save(path)
    (tmp_path / "in/broken.png").write_bytes(b"")
    return RunConfig((str(tmp_path / "in"),), tmp_path / "threads", SegmenterOptions(tiled_model, threads=2))


def in_processes(tmp_path: Path, config: RunConfig, out: Path, mode: str) -> list[str]:
    script = tmp_path / "processes.py"
    script.write_text(PROCESSES)
    command = [sys.executable, script, config.sources[0], out, str(config.options.model), mode]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_processes_give_the_results_that_threads_give(tmp_path: Path, config: RunConfig) -> None:
    with FolderRun(config) as run:
        expected = [(outcome.planes[0].image, outcome.planes[0].status) for outcome in run.outcomes()]
    out = tmp_path / "processes"
    printed = in_processes(tmp_path, config, out, "new")
    assert printed == [f"False {name} {status} False" for name, status in expected]
    assert everything(out) == everything(config.out)
    # One process may empty and remove a folder that another is about to write to.
    for name in ("plate 1/c.png", "plate 1/d.png", "plate 2/e.png"):
        Image.fromarray(fluorescence_field(50, height=96, width=120, n_nuclei=8)[0]).save(tmp_path / "in" / name)
    printed = in_processes(tmp_path, config, out, "resume")
    assert [line for line in printed if line.endswith("True")] == ["False a.png ok True", "False b.png ok True"]
    with FolderRun(replace(config, mode="resume")) as run:
        list(run.outcomes())
    assert everything(out) == everything(config.out)


def test_a_worker_that_would_give_other_results_is_refused(tiny_model: Path, config: RunConfig) -> None:
    with FolderRun(config) as run:
        job = run.worker.job
    assert Worker.load(job).segmenter.model_sha256 == run.worker.segmenter.model_sha256
    with pytest.raises(RuntimeEnvironmentError, match="the same model file and the same version"):
        Worker.load(replace(job, options=replace(job.options, model=tiny_model)))
