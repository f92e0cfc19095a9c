"""Nuclei that the options leave out: in blocks as in one piece, in Python as in a run."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nuclei_runtime import ImageValueError, Segmenter, plane_of, segment_plane
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.cli.infer import main as infer_main
from nuclei_runtime.segmentation.block_search import Grid

FIELD, _ = fluorescence_field(5, height=230, width=290, n_nuclei=50)


def areas(labels: np.ndarray) -> list[int]:
    return np.bincount(labels.ravel())[1:].tolist()


def test_blocks_leave_out_what_the_whole_plane_leaves_out(tiled_model: Path) -> None:
    everything = Segmenter(tiled_model, threads=1).segment(FIELD)
    some = Segmenter(tiled_model, threads=1, exclude_border=True, min_area="60px", max_area="40um2")
    whole = some.segment(FIELD, pixel_size_um=(0.5, 0.5))
    table = everything.table(FIELD)
    is_kept = ~table["touches_border"] & (table["area_px"] >= 60) & (table["area_px"] <= 160)
    assert 5 < is_kept.sum() < everything.count - 5
    assert (whole.count, whole.n_left_out) == (is_kept.sum(), (~is_kept).sum())
    np.testing.assert_array_equal(whole.labels > 0, np.isin(everything.labels, table["label"][is_kept]))
    assert not whole.table(FIELD)["touches_border"].any()

    labels, n_left_out = np.zeros_like(everything.labels), 0
    plane = replace(plane_of(FIELD), pixel_size_um=(0.5, 0.5))
    for block in segment_plane(plane, some.network, grid=Grid(core_px=96, margin_px=48, max_margin_px=256)):
        labels[block.rows, block.columns] += block.labels
        n_left_out += block.n_left_out
    assert n_left_out == whole.n_left_out
    np.testing.assert_array_equal(labels > 0, whole.labels > 0)
    assert sorted(areas(labels)) == sorted(areas(whole.labels))
    assert min(areas(labels)) > 0

    (maps,) = some.predict([FIELD])
    again = some.find_instances(maps, pixel_size_um=(0.5, 0.5))
    np.testing.assert_array_equal(again.labels, whole.labels)
    with pytest.raises(ImageValueError, match="--max-area 40um2 needs the pixel size"):
        some.segment(FIELD)


@pytest.mark.parametrize(
    "option", [{"min_area": "60"}, {"max_area": "a lot"}, {"min_area": "9px", "max_area": "8px"}], ids=str
)
def test_a_wrong_area_is_refused_before_the_model_is_loaded(option: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="area"):
        Segmenter(Path("no model"), **option)  # type: ignore[arg-type]


def test_a_run_says_how_many_it_left_out_and_its_method_says_why(
    tmp_path: Path, tiled_model: Path, run_main: Callable[..., tuple[int, str, str]]
) -> None:
    Image.fromarray(FIELD).save(tmp_path / "a.png")
    arguments = (tmp_path / "a.png", "--out", tmp_path / "out", "--model", tiled_model)
    code, stdout, _ = run_main(infer_main, *arguments)
    assert code == 0

    def row() -> dict[str, str]:
        with (tmp_path / "out/images.csv").open(encoding="utf-8", newline="") as file:
            return next(csv.DictReader(file))

    before = row()
    n, n_touching = int(before["n_nuclei"]), int(before["n_touching_border"])
    assert f"touch the edge of their image and may be cut: {n_touching} of {n}; --exclude" in stdout
    assert (before["n_left_out"], n_touching > 0) == ("0", True)

    code, stdout, stderr = run_main(infer_main, *arguments, "--exclude-border", "--resume")
    assert (code, "segmented again: a.png: its results were made with" in stderr) == (0, True)
    assert f"left out: {n_touching} nucle" in stdout
    assert (row()["n_nuclei"], row()["n_touching_border"]) == (str(n - n_touching), "0")
    assert row()["n_left_out"] == str(n_touching)
    method = json.loads((tmp_path / "out/provenance.json").read_text(encoding="utf-8"))["method"]
    assert method["left_out"] == {"exclude_border": True, "min_area": None, "max_area": None, "min_score": None}

    code, _, stderr = run_main(infer_main, *arguments, "--min-area", "30um2", "--resume")
    assert (code, "give it with --pixel-size" in stderr) == (1, True)
    assert run_main(infer_main, *arguments, "--min-area", "30", "--resume")[0] == 2
