"""SLURM: the scripts are checked by shellcheck, and run by an `sbatch` that runs each job at once, on this machine."""

from __future__ import annotations

import csv
from pathlib import Path

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
