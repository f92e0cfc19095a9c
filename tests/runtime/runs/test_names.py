"""Names that some other system cannot store: each image has its rows, keeps its results and can be measured again."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.results.layout import result_path, token_of
from nuclei_runtime.results.records import record_of
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.image_file import FileOutcome
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.runs.verify import verify
from nuclei_runtime.segmentation.options import SegmenterOptions
from nuclei_runtime.writers.outputs import LABELS, OutputOptions
from tests.contents import read_table

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="NOT RUN: Windows cannot store these names")

SERIES = "stack\\of\\two.ome.tif"
NAMES = [
    "sub\\b.png",
    "sub_b.png",
    "c:\\d.png",
    "up\\..\\e.png",
    "folder\\of. /f.png",
    'star*colon:question?"less<more>|.png',
    "line\nbreak\x07.png",
    "dots...png",
    "CON .png",
    "\\" * 130 + "é" * 60 + ".png",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> RunConfig:
    """A finished run over images with such names."""
    folder = tmp_path_factory.mktemp("names")
    for seed, name in enumerate(NAMES):
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(fluorescence_field(seed, height=48, width=56, n_nuclei=3)[0]).save(path)
    frames = np.stack([fluorescence_field(seed, height=48, width=56, n_nuclei=3)[0] for seed in (20, 21)])
    tifffile.imwrite(folder / "in" / SERIES, frames, metadata={"axes": "TYX"})
    outputs = OutputOptions(("labels", "overlays", "geojson"))
    config = RunConfig((str(folder / "in"),), folder / "r", SegmenterOptions(tiny_model), outputs=outputs)
    do(config)
    return config


def do(config: RunConfig) -> dict[str, FileOutcome]:
    with FolderRun(config) as run:
        return {outcome.planes[0].image: outcome for outcome in run.outcomes()}


def test_every_image_has_its_rows_and_is_kept_on_resuming(run: RunConfig) -> None:
    names = sorted([*NAMES, SERIES, SERIES])
    assert sorted(row["image"].lstrip("'") for row in read_table(run.out / "images.csv")) == names
    assert {row["image"].lstrip("'") for row in read_table(run.out / "nuclei.csv")} == set(names)
    outcomes = do(replace(run, mode="resume"))
    assert all(outcome.is_kept and outcome.is_ok for outcome in outcomes.values())
    assert not [verified for verified in verify(replace(run, mode="resume")) if verified.differences]


def test_no_result_has_a_backslash_and_no_two_images_share_one(run: RunConfig) -> None:
    records = [record_of(run.out, name) for name in (*NAMES, SERIES)]
    results = [result for record in records if record is not None for result in record.results]
    written = {
        path.relative_to(run.out).as_posix()
        for folder in ("labels", "original_labels", "overlays", "geojson", "tables")
        for path in (run.out / folder).rglob("*")
        if path.is_file()
    }
    assert len(results) == len(set(results)) == len(written)
    assert set(results) == written
    assert not any("\\" in path for path in written)
    mark = token_of("sub\\b")[:8]
    assert {"labels/sub_b.tif", f"labels/sub_b~{mark}.tif"} < written


def test_labels_of_such_names_find_their_images(run: RunConfig, tmp_path: Path) -> None:
    short = [name for name in (*NAMES, SERIES) if len(name) < 100]
    measured = replace(run, out=tmp_path / "m", labels=run.out, options=SegmenterOptions())
    assert {name for name, outcome in do(measured).items() if outcome.planes[0].n_unchanged} == {*NAMES, SERIES}
    shutil.copytree(run.out / "labels", tmp_path / "labels")
    measured = replace(run, out=tmp_path / "n", labels=tmp_path / "labels", options=SegmenterOptions())
    outcomes = do(measured)
    assert {name for name, outcome in outcomes.items() if outcome.is_ok} >= set(short)
    found = tifffile.imread(tmp_path / "n" / result_path(LABELS, "sub\\b"))
    np.testing.assert_array_equal(found, tifffile.imread(run.out / result_path(LABELS, "sub\\b")))
