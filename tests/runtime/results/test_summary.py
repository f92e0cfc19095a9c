"""The summary, compared with NumPy on the same tables."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from nuclei_runtime.errors import InputsError
from nuclei_runtime.results.conditions import Conditions
from nuclei_runtime.results.experiment import read_experiment, write_conditions
from nuclei_runtime.results.read_tables import read_rows
from nuclei_runtime.results.summary import write_summary

Areas = dict[tuple[str, str], np.ndarray]

IMAGES = """image,status,z,n_nuclei,height,width,pixel_height_um,pixel_width_um
1/A01.tif,ok,,40,100,200,0.5,0.5
1/B02.tif,ok,0,30,100,100,0.5,0.5
1/B02.tif,ok,1,10,100,100,0.5,0.5
1/C03.tif,failed,,,,,,
2/x.tif,ok,,20,100,100,,
"""


@pytest.fixture
def areas(tmp_path: Path) -> Areas:
    """The areas of the nuclei of each plane, of which the tables in `tmp_path` are made."""
    rng = np.random.default_rng(0)
    (tmp_path / "images.csv").write_text(IMAGES, encoding="utf-8", newline="")
    planes = {("1/A01.tif", ""): 40, ("1/B02.tif", "0"): 30, ("1/B02.tif", "1"): 10, ("2/x.tif", ""): 20}
    made = {key: rng.integers(50, 500, n) for key, n in planes.items()}
    with (tmp_path / "nuclei.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "z", "label", "touches_border", "area_px", "area_um2", "intensity_mean:DAPI"])
        for (image, z), values in made.items():
            for label, area in enumerate(values, 1):
                rows.writerow([image, z, label, "true", area, "" if image == "2/x.tif" else area / 4, area * 3])
    return made


def summarised(folder: Path, conditions: Conditions | None = None) -> dict[tuple[str, str], dict[str, str]]:
    write_summary(folder, read_experiment(folder, conditions), folder / "summary.csv")
    return {(row["by"], row["group"]): row for row in read_rows(folder / "summary.csv")}


def test_groups_have_counts_densities_and_exact_quartiles(tmp_path: Path, areas: Areas) -> None:
    found = summarised(tmp_path)
    assert list(found) == [("folder", "1"), ("folder", "2"), ("well", "A01"), ("well", "B02"), ("well", "C03")]
    row = found["folder", "1"]
    values = np.concatenate([areas[key] for key in areas if key[0] != "2/x.tif"])
    assert (row["n_images"], row["n_failed"], row["n_nuclei"]) == ("2", "1", "80")
    assert float(row["nuclei_per_megapixel"]) == 80 / 0.04
    assert float(row["nuclei_per_mm2"]) == 80 / 0.01
    for name, percent in (("q25", 25), ("median", 50), ("q75", 75)):
        exact = np.percentile(values, percent)
        assert float(row[f"area_px_{name}"]) == pytest.approx(exact, rel=1e-7)
        assert float(row[f"area_um2_{name}"]) == pytest.approx(exact / 4, rel=1e-7)
        assert float(row[f"intensity_mean:DAPI_{name}"]) == pytest.approx(exact * 3, rel=1e-7)
    assert float(found["well", "B02"]["area_px_median"]) == np.median(
        np.concatenate([areas["1/B02.tif", z] for z in "01"])
    )


def test_what_is_not_known_of_all_nuclei_is_empty(tmp_path: Path, areas: Areas) -> None:  # noqa: ARG001
    found = summarised(tmp_path)
    assert found["folder", "2"]["area_um2_median"] == found["folder", "2"]["nuclei_per_mm2"] == ""
    assert found["well", "C03"]["n_failed"] == "1"
    assert found["well", "C03"]["area_px_median"] == found["well", "C03"]["nuclei_per_megapixel"] == ""


def test_nuclei_without_a_ring_are_left_out_of_its_quartiles_and_those_that_were_not_measured_are_not(
    tmp_path: Path,
) -> None:
    images = "image,status,n_nuclei,height,width\n" + "".join(f"{name}/x.tif,ok,4,9,9\n" for name in "abc")
    (tmp_path / "images.csv").write_text(images, encoding="utf-8", newline="")
    rings = {
        "a": ["1", "", "2", "6"],
        "b": ["1", "", "2", ""],
        "c": [""] * 4,
    }  # of one nucleus of b not the cell either
    rows = [
        f"{name}/x.tif,{label},{'' if (name, label) == ('b', 4) else 5},{ring}\n"
        for name, of_image in rings.items()
        for label, ring in enumerate(of_image, 1)
    ]
    header = "image,label,cell_intensity_mean:GFP,ring_intensity_mean:GFP\n"
    (tmp_path / "nuclei.csv").write_text(header + "".join(rows), encoding="utf-8", newline="")
    found = [
        [row[f"ring_intensity_mean:GFP_{name}"] for name in ("q25", "median", "q75")]
        for row in summarised(tmp_path).values()
    ]
    assert found == [["1.5", "2", "4"], ["", "", ""], ["", "", ""]]


def test_conditions_are_groups_and_a_column_of_both_tables(tmp_path: Path, areas: Areas) -> None:
    conditions = Conditions("table.csv", "image", {"A01.tif": "=drug", "x.tif": "=drug", "B02.tif": "control"}, {})
    experiment = read_experiment(tmp_path, conditions)
    write_conditions(tmp_path, experiment)
    assert experiment.notes == ("1 image without a condition in table.csv: 1/C03.tif",)
    found = summarised(tmp_path)  # from the column
    assert [group for by, group in found if by == "condition"] == ["'=drug", "control"]
    values = np.concatenate([areas["1/A01.tif", ""], areas["2/x.tif", ""]])
    assert float(found["condition", "'=drug"]["area_px_median"]) == np.median(values)
    nuclei = read_rows(tmp_path / "nuclei.csv")
    assert list(nuclei[0])[:3] == ["image", "condition", "z"]
    assert [row["condition"] for row in nuclei] == ["'=drug"] * 40 + ["control"] * 40 + ["'=drug"] * 20
    assert [row["condition"] for row in read_rows(tmp_path / "images.csv")] == [
        "'=drug",
        "control",
        "control",
        "",
        "'=drug",
    ]


def test_a_damaged_table_is_refused(tmp_path: Path, areas: Areas) -> None:  # noqa: ARG001
    with (tmp_path / "nuclei.csv").open("a", encoding="utf-8") as file:
        file.write("2/x.tif,,21\r\n")
    with pytest.raises(InputsError, match=r"row 101 has 3 cells, and the header has 7"):
        summarised(tmp_path)
    (tmp_path / "nuclei.csv").unlink()
    with pytest.raises(InputsError, match=r"there is no nuclei\.csv in it"):
        summarised(tmp_path)
