"""nuclei-report, and the options of nuclei-infer that belong to it, as installed commands."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.results.read_tables import read_rows

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed, name in enumerate(("a.png", "b.png")):
        Image.fromarray(fluorescence_field(seed, height=96, width=96, n_nuclei=6)[0]).save(folder / name)
    (tmp_path / "table.csv").write_text("image;patient\na.png;P1\nb.png;P2\nc.png;P3\n", encoding="utf-8")
    return folder


def test_a_run_writes_conditions_a_summary_and_a_report(
    images: Path, tiny_model: Path, run_here: Run, run_script: Run
) -> None:
    out, table = images.parent / "out", images.parent / "table.csv"
    options = ("--out", out, "--model", tiny_model, "--conditions", table, "--report")
    done = run_here("nuclei-infer", images, *options)
    assert done.returncode == 0, done.stderr
    assert f"1 row of {table} without an image: c.png" in done.stderr
    assert done.stdout.endswith("nuclei.csv, images.csv, summary.csv, report.html\n")
    rows = [(row["by"], row["group"], row["n_images"]) for row in read_rows(out / "summary.csv")]
    assert rows == [("condition", "P1", "1"), ("condition", "P2", "1"), ("folder", ".", "2")]

    verified = run_here("nuclei-infer", images, *options, "--verify")  # the same options, --report too
    assert verified.stdout.startswith("6 of 6 are unchanged")
    again = run_here("nuclei-infer", images, "--out", out, "--model", tiny_model, "--conditions", table, "--resume")
    assert again.returncode == 0
    assert (out / "report.html").exists()  # nothing has changed

    Image.fromarray(np.zeros((64, 64), np.uint8)).save(images / "c.png")
    again = run_here("nuclei-infer", images, "--out", out, "--model", tiny_model, "--resume")
    assert not (out / "report.html").exists()  # it would show other tables
    assert "without" not in again.stderr  # the table that the first run was given names it
    assert [row["condition"] for row in read_rows(out / "images.csv")] == ["P1", "P2", "P3"]
    verified = run_here("nuclei-infer", images, "--out", out, "--model", tiny_model, "--verify")
    assert verified.returncode == 0, verified.stdout

    table.write_text("image,patient\na.png,control\nb.png,control\nc.png,control\n", encoding="utf-8")
    made = run_script("nuclei-report", out, "--conditions", table)
    assert (made.returncode, made.stdout) == (0, f"report in {out / 'report.html'}\n")
    assert '"condition":"control"' in (out / "report.html").read_text(encoding="utf-8")
    assert [row["condition"] for row in read_rows(out / "images.csv")] == ["P1", "P2", "P3"]


@pytest.mark.parametrize("others", [("--watch",), ("--shard", "1/2")])
def test_a_report_is_of_a_whole_run(
    others: tuple[str, ...], images: Path, run_main: Callable[..., tuple[int, str, str]]
) -> None:
    from nuclei_runtime.cli.infer import main

    code, _, error = run_main(main, images, "--out", images.parent / "out", "--report", *others)
    assert code == 2
    assert "nuclei-report" in error


def test_what_is_no_results_folder_is_refused(tmp_path: Path, run_main: Callable[..., tuple[int, str, str]]) -> None:
    from nuclei_runtime.cli.report import main

    assert run_main(main, tmp_path) == (2, "", f"error: {tmp_path}: holds no results of nuclei-infer\n")
    code, _, error = run_main(main, tmp_path, "--conditions", tmp_path / "missing.csv")
    assert (code, "missing.csv" in error) == (2, True)


def test_a_report_of_the_users_stops_the_run_before_it_begins(
    images: Path, run_main: Callable[..., tuple[int, str, str]], tiny_model: Path
) -> None:
    from nuclei_runtime.cli.infer import main

    out = images.parent / "out"
    out.mkdir()
    (out / "report.html").write_text("mine", encoding="utf-8")
    code, _, error = run_main(main, images, "--out", out, "--model", tiny_model, "--report")
    assert (code, "not a report of nuclei-edge" in error) == (2, True)
    assert [path.name for path in out.iterdir()] == ["report.html"]
