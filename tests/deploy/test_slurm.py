"""SLURM: the scripts are checked by shellcheck, and run by an `sbatch` that runs each job at once, on this machine."""

from __future__ import annotations

import csv
import re
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.deploy.conftest import Run, need_tool, write_executable

SBATCH = """#!/bin/bash
echo "$*" >> "$SBATCH_LOG"
while [[ $1 == --* ]]; do shift; done
script=$1
shift
tasks=$(sed -n 's/^#SBATCH --array=1-//p' "$script")
tasks=${tasks:+2}
if [[ -z $tasks ]]; then
    bash "$script" "$@" >&2 || true
fi
for (( task = 1; task <= ${tasks:-0}; task++ )); do
    SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_COUNT=$tasks bash "$script" "$@" >&2 || true
done
echo "4711;cluster"
"""
"""Takes two tasks of an array, whatever the script says."""


@pytest.mark.parametrize("name", ["array.sh", "join.sh", "submit.sh"])
def test_shellcheck_finds_nothing(name: str, deploy: Path, run: Run) -> None:
    done = run(need_tool("shellcheck"), deploy / "slurm" / name)
    assert done.returncode == 0, done.stdout


def test_an_array_segments_all_images_and_the_tables_are_joined(
    deploy: Path, images: Path, tmp_path: Path, tiled_model: Path, run: Run
) -> None:
    (images / "broken.png").write_bytes(b"not an image")
    fake = write_executable(tmp_path / "bin" / "sbatch", SBATCH)
    submit = ("bash", deploy / "slurm" / "submit.sh", images, tmp_path / "results", "--model", tiled_model)
    done = run(*submit, path=fake.parent, SBATCH_LOG=str(tmp_path / "log"))
    assert done.returncode == 0, done.stderr
    array, join = (tmp_path / "log").read_text().splitlines()
    assert array.startswith(f"--parsable {deploy}/slurm/array.sh {images} ")
    assert join.startswith(f"--dependency=afterany:4711 {deploy}/slurm/join.sh {images} ")
    with (tmp_path / "results/images.csv").open(newline="") as file:
        status = {row["image"]: row["status"] for row in csv.DictReader(file)}
    assert status == {"0.png": "ok", "1.png": "ok", "2.png": "ok", "broken.png": "failed"}
    assert sorted(path.name for path in (tmp_path / "results/labels").iterdir()) == ["0.tif", "1.tif", "2.tif"]
    assert "3 of 4 images (3 done before), " in done.stderr  # the last job looks only at the broken one again


BACKGROUND_SBATCH = """#!/bin/bash
cp "$1" "$SBATCH_LOG"
setsid bash "$SBATCH_LOG" > "$SBATCH_LOG.out" 2>&1 &
echo $! > "$SBATCH_LOG.pid"
echo "Submitted batch job 4711"
"""
SCANCEL = """#!/bin/bash
[[ $1 == 4711 ]] && kill -- -"$(cat "$SBATCH_LOG.pid")"
"""


def test_workers_are_jobs_and_end_with_the_run(
    deploy: Path, images: Path, tmp_path: Path, tiled_model: Path, run: Run
) -> None:
    pytest.importorskip(
        "dask_jobqueue", reason='NOT RUN: dask-jobqueue is not installed; pip install -e ".[test-deploy]"'
    )
    write_executable(tmp_path / "bin" / "sbatch", BACKGROUND_SBATCH)
    write_executable(tmp_path / "bin" / "scancel", SCANCEL)
    text = (deploy / "slurm/with_dask.py").read_text()
    assert text.count("=4,") == 2  # cores and processes
    (tmp_path / "one_worker.py").write_text(text.replace("=4,", "=1,"))
    log = tmp_path / "job"
    done = run(
        *(sys.executable, tmp_path / "one_worker.py", images, tmp_path / "results", "--model", tiled_model),
        path=tmp_path / "bin",
        cwd=tmp_path,
        SBATCH_LOG=str(log),
        DASK_JOBQUEUE__SLURM__INTERFACE="lo",
    )
    assert done.returncode == 0, done.stderr + log.with_suffix(".out").read_text()
    assert "3 of 3 images" in done.stdout
    script = log.read_text()
    assert "dask_worker tls://127.0.0.1:" in script
    assert not list(tmp_path.glob("*.pem"))
    assert re.findall(r"^#SBATCH (-J .*|--mem=.*|-t .*)$", script, re.MULTILINE) == [
        "-J nuclei-worker",
        "--mem=8G",
        "-t 04:00:00",
    ]
    deadline = time.monotonic() + 30
    while (found := psutil.pid_exists(int(log.with_suffix(".pid").read_text()))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not found
