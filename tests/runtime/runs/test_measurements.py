"""Measurements of a whole run equal scikit-image's on the whole image, however little memory there is."""

from __future__ import annotations

import csv
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from skimage.measure import regionprops_table
from skimage.segmentation import expand_labels

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import InputsError
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.results.read_tables import read_rows
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.runs.verify import verify
from nuclei_runtime.segmentation import blocks
from nuclei_runtime.segmentation.block_search import Grid
from nuclei_runtime.segmentation.options import SegmenterOptions
from nuclei_runtime.steps.cells import Expansion
from nuclei_runtime.writers.outputs import OutputOptions

INTENSITIES = {"mean": "intensity_mean", "min": "intensity_min", "max": "intensity_max", "sd": "intensity_std"}


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "nuclei.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def config_of(source: Path, out: Path, model: Path | None, **options: Any) -> RunConfig:
    return RunConfig((str(source),), out, SegmenterOptions(model, threads=1), **options)


def run(source: Path, out: Path, model: Path | None, **options: Any) -> list[str | None]:
    with FolderRun(config_of(source, out, model, **options)) as folder_run:
        return [plane.reason for outcome in folder_run.outcomes() for plane in outcome.planes]


def check(out: Path, labels: str, channels: dict[str, np.ndarray]) -> None:
    """Compare the intensities of all channels with those that scikit-image finds under the labels."""
    rows, regions = rows_of(out), tifffile.imread(out / labels)
    assert len(rows) == regions.max() > 3
    for name, image in channels.items():
        expected = regionprops_table(regions, image, properties=INTENSITIES.values())
        expected["intensity_sum"] = np.bincount(regions.ravel(), image.ravel().astype(np.float64))[1:]
        for statistic, theirs in (INTENSITIES | {"sum": "intensity_sum"}).items():
            found = [float(row[f"intensity_{statistic}:{name}"]) for row in rows]
            np.testing.assert_allclose(found, expected[theirs], rtol=1e-7, atol=1e-6, err_msg=f"{statistic} of {name}")


def test_all_channels_are_measured_in_blocks_as_in_one_piece(
    tmp_path: Path, tiled_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    field, _ = fluorescence_field(5, height=230, width=290, n_nuclei=50)
    rng = np.random.default_rng(0)
    stack = np.stack([field.astype(np.uint16) * 9, *rng.integers(0, 65535, (2, *field.shape))]).astype(np.uint16)
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP, far", "RFP"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, tile=(64, 64), metadata=metadata, photometric="minisblack")
    selection = Selection(channel="DAPI", measure=("all",))
    assert run(tmp_path / "a.ome.tif", tmp_path / "whole", tiled_model, selection=selection) == [None]
    small = Grid(core_px=96, margin_px=48, max_margin_px=256)
    monkeypatch.setattr(blocks.segment_plane, "__kwdefaults__", {**blocks.segment_plane.__kwdefaults__, "grid": small})
    assert run(tmp_path / "a.ome.tif", tmp_path / "blocks", tiled_model, selection=selection) == [None]
    for out in (tmp_path / "whole", tmp_path / "blocks"):
        check(out, "labels/a.ome.tif", dict(zip(("DAPI", "GFP, far", "RFP"), stack, strict=True)))
        assert all(row["intensity_sd"] == row["intensity_sd:DAPI"] for row in rows_of(out))
    whole, in_blocks = (
        [{name: value for name, value in row.items() if name != "label"} for row in rows_of(tmp_path / name)]
        for name in ("whole", "blocks")
    )
    assert whole != in_blocks  # the nuclei are numbered block by block
    key = itemgetter("centroid_row_px", "centroid_column_px")
    assert sorted(whole, key=key) == sorted(in_blocks, key=key)


def test_nuclei_grow_into_cells_in_blocks_as_in_one_piece(
    tmp_path: Path, tiled_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    field, _ = fluorescence_field(5, height=230, width=290, n_nuclei=50)
    gfp = np.random.default_rng(0).integers(0, 65535, field.shape).astype(np.uint16)
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(
        path, np.stack([field * np.uint16(9), gfp]), tile=(64, 64), metadata=metadata, photometric="minisblack"
    )
    options = {
        "selection": Selection(channel="DAPI", measure=("GFP",), pixel_size_um=0.5),
        "outputs": OutputOptions(expansion=Expansion(3, "um")),
    }
    assert run(path, tmp_path / "whole", tiled_model, **options) == [None]
    labels = tifffile.imread(tmp_path / "whole/labels/a.ome.tif")
    cells = tifffile.imread(tmp_path / "whole/cells/a.ome.tif")
    np.testing.assert_array_equal(cells, expand_labels(labels, 6))
    for row in rows_of(tmp_path / "whole"):
        is_cell, is_nucleus = cells == int(row["label"]), labels == int(row["label"])
        assert float(row["cell_area_um2"]) == np.count_nonzero(is_cell) / 4
        for region, pixels in {"": is_nucleus, "cell_": is_cell, "ring_": is_cell & ~is_nucleus}.items():
            assert float(row[f"{region}intensity_sum:GFP"]) == gfp[pixels].sum()
            assert float(row[f"{region}intensity_sd:GFP"]) == pytest.approx(gfp[pixels].std())
            assert float(row[f"{region}intensity_mean"]) == pytest.approx(9 * field[pixels].mean())

    small = Grid(core_px=96, margin_px=48, max_margin_px=256)
    monkeypatch.setattr(blocks.segment_plane, "__kwdefaults__", {**blocks.segment_plane.__kwdefaults__, "grid": small})
    assert run(path, tmp_path / "blocks", tiled_model, **options) == [None]
    key = itemgetter("centroid_row_px", "centroid_column_px")
    whole, in_blocks = (sorted(rows_of(tmp_path / name), key=key) for name in ("whole", "blocks"))
    assert [{**row, "label": ""} for row in whole] == [{**row, "label": ""} for row in in_blocks]
    assert whole != in_blocks  # the nuclei are numbered block by block
    assert [one.differences for one in verify(config_of(path, tmp_path / "blocks", tiled_model, **options))] == [()] * 5

    kept = SegmenterOptions(tiled_model, threads=1, exclude_border=True)
    with FolderRun(replace(config_of(path, tmp_path / "kept", None, **options), options=kept)) as folder_run:
        assert all(outcome.is_ok for outcome in folder_run.outcomes())
    kept_cells = tifffile.imread(tmp_path / "kept/cells/a.ome.tif")
    assert 0 < kept_cells.max() < cells.max()
    np.testing.assert_array_equal(kept_cells > 0, np.isin(cells, np.unique(cells[kept_cells > 0])))


def test_micrometres_without_a_pixel_size_fail_the_image_with_what_to_do(tmp_path: Path, tiled_model: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", fluorescence_field(3, height=96, width=96, n_nuclei=8)[0])
    outputs = OutputOptions(expansion=Expansion(3, "um"))
    (reason,) = run(tmp_path / "a.tif", tmp_path / "out", tiled_model, outputs=outputs)
    assert "--expand 3um needs the pixel size" in str(reason)
    assert "give it with --pixel-size" in str(reason)
    (row,) = read_rows(tmp_path / "out/images.csv")
    assert row["reason"] == reason  # no option begins it, which a spreadsheet would take for a formula
    assert not (tmp_path / "out/cells").exists()


def test_files_with_other_channels_share_a_table_and_one_without_them_fails_alone(
    tmp_path: Path, tiled_model: Path
) -> None:
    field, _ = fluorescence_field(3, height=96, width=96, n_nuclei=8)
    (tmp_path / "in").mkdir()
    for name, channels in {"a": ["DAPI", "GFP"], "b": ["DAPI", "RFP"], "c": ["BF", "GFP"]}.items():
        metadata = {"axes": "CYX", "Channel": {"Name": channels}}
        tifffile.imwrite(
            tmp_path / f"in/{name}.ome.tif", np.stack([field, field]), metadata=metadata, photometric="minisblack"
        )
    selection = Selection(channel="DAPI", measure=("1",))
    reasons = run(tmp_path / "in", tmp_path / "out", tiled_model, selection=selection)
    assert reasons[:2] == [None, None]
    assert "the file has no channel DAPI" in str(reasons[2])
    rows = rows_of(tmp_path / "out")
    for row in rows:
        has, lacks = ("GFP", "RFP") if row["image"] == "a.ome.tif" else ("RFP", "GFP")
        assert row[f"intensity_mean:{has}"] == row["intensity_mean"]
        assert row[f"intensity_mean:{lacks}"] == ""
    assert {row["image"] for row in rows} == {"a.ome.tif", "b.ome.tif"}


def write_channels(path: Path, *names: str) -> None:
    field, _ = fluorescence_field(3, height=96, width=96, n_nuclei=8)
    metadata = {"axes": "CYX", "Channel": {"Name": list(names)}}
    tifffile.imwrite(path, np.stack([field] * len(names)), metadata=metadata, photometric="minisblack")


def test_images_that_lack_a_measured_channel_keep_their_nuclei(tmp_path: Path, tiled_model: Path) -> None:
    (tmp_path / "in").mkdir()
    write_channels(tmp_path / "in/a.ome.tif", "DAPI", "RFP")
    write_channels(tmp_path / "in/b.ome.tif", "DAPI", "GFP", "RFP")
    tifffile.imwrite(tmp_path / "in/c.tif", fluorescence_field(3, height=96, width=96, n_nuclei=8)[0])
    options = {"selection": Selection(channel=0, measure=("RFP", "GFP"))}
    assert run(tmp_path / "in", tmp_path / "out", tiled_model, **options) == [None] * 3
    notes = {row["image"]: row["note"] for row in read_rows(tmp_path / "out/images.csv")}
    assert notes["a.ome.tif"].startswith("channel GFP was not measured: the file has no channel GFP (shape ")
    assert notes["a.ome.tif"].endswith("; its channels: 0 DAPI, 1 RFP")
    assert notes["b.ome.tif"] == ""
    assert [part.partition(" was ")[0] for part in notes["c.tif"].split("; channel ")] == ["channel RFP", "GFP"]
    rows = rows_of(tmp_path / "out")
    assert {row["image"] for row in rows} == set(notes)
    for row in rows:
        has_gfp, has_rfp = row["image"] == "b.ome.tif", row["image"] != "c.tif"
        assert row["intensity_mean:GFP"] == (row["intensity_mean"] if has_gfp else "")
        assert row["intensity_mean:RFP"] == (row["intensity_mean"] if has_rfp else "")
    assert not any(
        one.differences for one in verify(config_of(tmp_path / "in", tmp_path / "out", tiled_model, **options))
    )


def test_a_channel_that_no_image_has_is_refused_before_anything_is_segmented(tmp_path: Path, tiled_model: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/0.tif").write_bytes(b"II*")
    write_channels(tmp_path / "in/a.ome.tif", "DAPI", "RFP")
    write_channels(tmp_path / "in/b.ome.tif", "DAPI", "GFP")
    for asked, expected in {
        (
            "GPF",
        ): r"--measure GPF: no image that can be opened has this channel; a\.ome\.tif: the file has no channel GPF "
        r"\(shape .*\); its channels: 0 DAPI, 1 RFP$",
        ("GFP", "2", "RFP", "CY5"): "--measure 2,CY5: no image that can be opened has one of these channels; a.ome.tif",
    }.items():
        with pytest.raises(InputsError, match=expected):
            run(tmp_path / "in", tmp_path / "out", tiled_model, selection=Selection(channel=0, measure=asked))
        assert not (tmp_path / "out").exists()


def test_a_channel_that_cannot_be_read_has_no_measurements_at_all_however_small_the_blocks(
    tmp_path: Path, tiled_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    field, _ = fluorescence_field(5, height=230, width=290, n_nuclei=50)
    stack = np.stack([field, field]).astype(np.float32)
    stack[1, -1, -1] = np.nan
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, tile=(64, 64), metadata=metadata, photometric="minisblack")
    small = Grid(core_px=96, margin_px=48, max_margin_px=256)
    monkeypatch.setattr(blocks.segment_plane, "__kwdefaults__", {**blocks.segment_plane.__kwdefaults__, "grid": small})
    selection = Selection(channel="DAPI", measure=("GFP",))
    outputs = OutputOptions(expansion=Expansion(3, "px"))
    assert run(tmp_path / "a.ome.tif", tmp_path / "out", tiled_model, selection=selection, outputs=outputs) == [None]
    (image,) = read_rows(tmp_path / "out/images.csv")
    assert image["note"].startswith("channel GFP was not measured: 1 of ")
    assert len(rows_of(tmp_path / "out")) == int(image["n_nuclei"]) > 3
    assert not any("GFP" in column for column in rows_of(tmp_path / "out")[0])


def test_a_pixel_size_is_for_the_files_of_a_folder_that_state_none(tmp_path: Path, tiled_model: Path) -> None:
    field, _ = fluorescence_field(3, height=96, width=96, n_nuclei=8)
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in/plain.tif", field)
    stated = {"PhysicalSizeX": 0.65, "PhysicalSizeY": 0.65}
    tifffile.imwrite(tmp_path / "in/stated.ome.tif", field, metadata=stated)
    assert run(tmp_path / "in", tmp_path / "out", tiled_model, selection=Selection(pixel_size_um=0.325)) == [None] * 2
    plain, other = read_rows(tmp_path / "out/images.csv")
    assert (plain["pixel_height_um"], plain["pixel_width_um"], plain["note"]) == ("0.325", "0.325", "")
    assert (other["pixel_height_um"], other["pixel_width_um"]) == ("0.65", "0.65")
    assert "--pixel-size 0.325 was not used" in other["note"]
    sizes = {"plain.tif": 0.325, "stated.ome.tif": 0.65}
    rows = rows_of(tmp_path / "out")
    assert {row["image"] for row in rows} == set(sizes)
    for row in rows:
        assert float(row["area_um2"]) == pytest.approx(float(row["area_px"]) * sizes[row["image"]] ** 2)


@pytest.mark.vendor_files
@pytest.mark.parametrize("name", ["nd2/example-multichannel.nd2", "czi/DAPI_GFP.czi", "lsm/032113-18.lsm"])
def test_files_of_microscopes_are_measured_as_their_makers_libraries_read_them(
    tmp_path: Path, vendor_files: Path, name: str
) -> None:
    path = vendor_files / name
    if path.suffix == ".nd2":
        nd2 = pytest.importorskip("nd2")
        images = dict(zip(("Mono", "DAPI", "FITC BP", "TRITC BP"), nd2.imread(path), strict=True))
    elif path.suffix == ".czi":
        czi = pytest.importorskip("pylibCZIrw.czi")
        with czi.open_czi(str(path)) as document:
            images = {name: document.read(plane={"C": n})[..., 0] for n, name in enumerate(("DAPI", "GFP"))}
    else:
        images = dict(zip(("Ch1-T1", "Ch2-T2", "T PMT-T2"), tifffile.imread(path).squeeze(), strict=True))
    channel = "DAPI" if "DAPI" in images else 0
    assert run(path, tmp_path, None, selection=Selection(channel=channel, measure=("all",))) == [None]
    check(tmp_path, f"labels/{path.stem}.tif", images)
