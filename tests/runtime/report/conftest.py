"""A results folder with everything that a report shows, and a browser to look at it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.report.build import write_report
from nuclei_runtime.results.conditions import read_conditions
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.segmentation.options import SegmenterOptions

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")

TAG = "<img src=x onerror=document.title='broken'>"
HOSTILE = f"</script><script>document.title='broken'</script>{TAG}.png" if os.name == "posix" else "field & more.png"
"""A name that begins and ends tags; its first part is a folder."""


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The results of two plates' images under two conditions, of one with a hostile name, and of one that failed."""
    folder = tmp_path_factory.mktemp("report")
    images = folder / "images"
    for plate in ("plate 1", "plate 2"):
        (images / plate).mkdir(parents=True)
        for seed, well in enumerate(("A01", "A02", "B01", "B02")):
            field, _ = fluorescence_field(seed, height=96, width=128, n_nuclei=8)
            tifffile.imwrite(images / plate / f"{well}.tif", field)
    (images / HOSTILE).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(fluorescence_field(9, height=96, width=128, n_nuclei=8)[0]).save(images / HOSTILE)
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(images / "empty.png")
    (images / "broken.png").write_bytes(b"not a picture")
    table = folder / "plate.csv"
    table.write_text(f"well,condition\nA01,control\nA02,control\nB01,drug {TAG}\nB02,drug {TAG}\n", encoding="utf-8")
    config = RunConfig(
        (str(images),), folder / "results", SegmenterOptions(tiny_model), conditions=read_conditions(table)
    )
    with FolderRun(config) as run:
        list(run.outcomes())
    write_report(folder / "results")
    return folder / "results"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium without a window. While it is there, no test can run an event loop of its own."""
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"NOT RUN: no browser; the report was not opened in any of {', '.join(BROWSERS)}")
    sync_api = pytest.importorskip("playwright.sync_api", reason="NOT RUN: playwright is not installed")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=flags)
        yield launched
        launched.close()
