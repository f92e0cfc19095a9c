"""The Snakemake workflow, as a module in a workflow of a user, run by Snakemake itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from tests.deploy.conftest import Run

pytest.importorskip("snakemake", reason='NOT RUN: Snakemake is not installed; pip install -e ".[test-deploy]"')

SNAKEFILE = """
module nuclei:
    snakefile: {snakefile!r}
    config: {config!r}

use rule * from nuclei as nuclei_*

rule count:
    default_target: True
    input: "results/nuclei.csv"
    output: "count.txt"
    shell: "wc -l < {{input}} > {{output}}"
"""


def test_a_workflow_runs_once_and_again_only_for_what_changed(
    deploy: Path, images: Path, tmp_path: Path, tiled_model: Path, run: Run
) -> None:
    snakefile = deploy / "snakemake/workflow/Snakefile"
    config: dict[str, object] = {"images": "images", "results": "results", "shards": 2, "threads": 1}
    config["options"] = ["--model", str(tiled_model)]
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(snakefile=str(snakefile), config=config))

    def snakemake() -> subprocess.CompletedProcess[str]:
        return run(sys.executable, "-m", "snakemake", "--cores", "2", cwd=tmp_path)

    done = snakemake()
    assert done.returncode == 0, done.stderr
    labels = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "results/labels").iterdir()}
    assert set(labels) == {"0.tif", "1.tif", "2.tif"}
    count = int((tmp_path / "count.txt").read_text())
    assert count > 3

    done = snakemake()
    assert "Nothing to be done" in done.stderr

    Image.fromarray(fluorescence_field(9, height=64, width=64, n_nuclei=4)[0]).save(images / "1.png")
    done = snakemake()
    assert done.returncode == 0, done.stderr
    again = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "results/labels").iterdir()}
    assert [name for name in sorted(labels) if again[name] != labels[name]] == ["1.tif"]
