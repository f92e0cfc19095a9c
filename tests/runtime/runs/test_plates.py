"""A plate as the input of a run: each field is an image, with its well and its field in every table."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Timer
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import InputsError
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.readers.plates.field import PlateChoice
from nuclei_runtime.results.shard import Shard
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.image_file import FileOutcome
from nuclei_runtime.runs.inputs import find_images
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.runs.sources import digest_source
from nuclei_runtime.runs.verify import verify
from nuclei_runtime.runs.watch import watch
from nuclei_runtime.segmentation.options import SegmenterOptions
from tests.contents import read_table

PLANES = [
    (row, column, field, 0, channel, 1)
    for row, column, field in ((1, 1, 1), (1, 1, 2), (2, 3, 1))
    for channel in (1, 2)
]
NAMES = ["P_A01_f01", "P_A01_f02", "P_B03_f01"]


@pytest.fixture
def config(plates: Any, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """A plate of nuclei in two wells, beside an image that belongs to none."""
    images = {where: fluorescence_field(sum(where), height=64, width=80, n_nuclei=5)[0] for where in PLANES}
    monkeypatch.setattr(plates, "pixels", lambda *where: images[where].astype(np.uint16))
    plates.harmony(tmp_path / "in/P", PLANES)
    Image.fromarray(images[PLANES[0]]).save(tmp_path / "in/other.png")
    selection = Selection(channel=0)
    return RunConfig((str(tmp_path / "in"),), tmp_path / "out", SegmenterOptions(tiny_model), selection=selection)


def do(config: RunConfig) -> list[FileOutcome]:
    with FolderRun(config) as run:
        return list(run.outcomes())


def names(outcomes: list[FileOutcome]) -> list[str]:
    return [outcome.planes[0].image for outcome in outcomes]


def test_each_field_is_an_image_with_its_well_and_field(config: RunConfig) -> None:
    assert names(do(config)) == [*NAMES, "other.png"]
    found = {row["image"]: row for row in read_table(config.out / "images.csv")}
    assert {name: (row["well"], row["field"]) for name, row in found.items()} == {
        "P_A01_f01": ("A01", "1"),
        "P_A01_f02": ("A01", "2"),
        "P_B03_f01": ("B03", "1"),
        "other.png": ("", ""),
    }
    assert all(row["status"] == "ok" for row in found.values())
    assert found["P_B03_f01"]["labels"] == "labels/P_B03_f01.tif"
    assert found["P_B03_f01"]["pixel_width_um"] == "0.65"
    nuclei = read_table(config.out / "nuclei.csv")
    assert {(row["image"], row["well"], row["field"]) for row in nuclei if row["well"]} == {
        ("P_A01_f01", "A01", "1"),
        ("P_A01_f02", "A01", "2"),
        ("P_B03_f01", "B03", "1"),
    }
    assert sorted(path.name for path in (config.out / "overlays").iterdir()) == [
        *(f"{n}.png" for n in NAMES),
        "other.png",
    ]
    assert all(not verified.differences for verified in verify(config))


def test_wells_and_fields_are_chosen_and_added_later(config: RunConfig) -> None:
    chosen = replace(config, plate_choice=PlateChoice(("a*",), ("2",)))
    assert names(do(chosen)) == ["P_A01_f02", "other.png"]
    later = do(replace(config, mode="resume"))
    assert {outcome.planes[0].image: outcome.is_kept for outcome in later} == {
        "P_A01_f01": False,
        "P_A01_f02": True,
        "P_B03_f01": False,
        "other.png": True,
    }
    with pytest.raises(InputsError, match="no well H12; found A01, B03"):
        do(replace(config, mode="resume", plate_choice=PlateChoice(("H12",))))


def test_only_the_field_that_changed_is_segmented_again(config: RunConfig) -> None:
    do(config)
    folder = Path(config.sources[0]) / "P/Images"
    tifffile.imwrite(folder / "r01c01f02p01-ch2sk1fk1fl1.tiff", np.zeros((64, 80), np.uint16))
    again = do(replace(config, mode="resume"))
    assert [outcome.planes[0].image for outcome in again if not outcome.is_kept] == ["P_A01_f02"]
    index = folder / "Index.idx.xml"
    index.write_text(index.read_text(encoding="utf-8").replace("6.5E-07", "6.6E-07"), encoding="utf-8")
    assert not any(outcome.is_kept for outcome in do(replace(config, mode="resume"))[:3])


def test_shards_share_a_plate(config: RunConfig) -> None:
    found = [name for index in (1, 2, 3) for name in names(do(replace(config, shard=Shard(index, 3))))]
    assert sorted(found) == [*NAMES, "other.png"]
    assert len(read_table(config.out / "images.csv")) == 4


def test_a_field_that_fails_leaves_the_others(config: RunConfig) -> None:
    for path in (Path(config.sources[0]) / "P/Images").glob("r01c01f01*"):
        path.unlink()
    do(config)
    found = {row["image"]: row for row in read_table(config.out / "images.csv")}
    failed = found["P_A01_f01"]
    assert (failed["status"], failed["well"], failed["field"]) == ("failed", "A01", "1")
    assert "none of the 2 files" in failed["reason"]
    assert [found[name]["status"] for name in NAMES[1:]] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("missing", "Images/r01c01f02p01-ch2sk1fk1fl1"),
        ("empty", "Images/r01c01f02p01-ch2sk1fk1fl1"),
        ("of another size", "it has 8 x 8 pixels, the segmented channel 64 x 80"),
    ],
)
def test_a_channel_that_cannot_be_read_costs_a_field_its_measurements_but_not_its_nuclei(
    config: RunConfig, damage: str, reason: str
) -> None:
    measuring = replace(config, selection=Selection(channel=0, measure=("all",)))
    path = Path(config.sources[0]) / "P/Images/r01c01f02p01-ch2sk1fk1fl1.tiff"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        tifffile.imwrite(path, np.zeros((8, 8), np.uint16))
    do(measuring)
    found = {row["image"]: row for row in read_table(config.out / "images.csv")}
    assert {row["status"] for row in found.values()} == {"ok"}
    assert found["P_A01_f02"]["note"].startswith(f"channel Alexa 488 was not measured: {reason}")
    assert {found[name]["note"] for name in found if name != "P_A01_f02"} == {""}
    of_field = [row for row in read_table(config.out / "nuclei.csv") if row["image"] == "P_A01_f02"]
    assert len(of_field) == int(found["P_A01_f02"]["n_nuclei"]) > 0
    assert all(row["intensity_mean:DAPI"] and not row["intensity_mean:Alexa 488"] for row in of_field)
    assert all(not verified.differences for verified in verify(measuring))

    path.write_bytes(content)
    again = do(replace(measuring, mode="resume"))
    assert [outcome.planes[0].image for outcome in again if not outcome.is_kept] == ["P_A01_f02"]
    assert {row["note"] for row in read_table(config.out / "images.csv")} == {""}
    assert all(row["intensity_mean:Alexa 488"] for row in read_table(config.out / "nuclei.csv") if row["well"])


def test_a_plate_whose_index_is_damaged_fails_as_one_image(config: RunConfig) -> None:
    (Path(config.sources[0]) / "P/Images/Index.idx.xml").write_text("<EvaluationInputData>", encoding="utf-8")
    assert names(do(config)) == ["P", "other.png"]
    found = {row["image"]: row for row in read_table(config.out / "images.csv")}
    assert "Index.idx.xml is damaged" in found["P"]["reason"]


def test_what_was_not_chosen_is_asked_for_before_anything_is_segmented(config: RunConfig) -> None:
    plate = replace(config, sources=(f"{config.sources[0]}/P",), selection=Selection())
    with pytest.raises(
        InputsError, match=r"P: each field holds a stack of 2 channels .* --channel: 0 DAPI, 1 Alexa 488"
    ):
        do(plate)
    assert not config.out.exists()


@pytest.mark.parametrize("index", ["P.HTD", "Images/Index.idx.xml", "MeasurementData.mlf"])
def test_the_index_stands_for_its_plate(plates: Any, tmp_path: Path, index: str) -> None:
    folder = tmp_path / "P"
    if index == "P.HTD":
        plates.imagexpress(folder, wells=["A01"], sites=1)
    elif index == "MeasurementData.mlf":
        plates.cellvoyager(folder, [(1, 1, 1, 1, 1, 1)])
    else:
        plates.harmony(folder, [(1, 1, 1, 0, 1, 1)])
    (file,) = find_images([folder / index], out=tmp_path / "out").files
    assert file.name == f"{(folder / index).parent.name}_A01_f01"


def test_names_of_fields_never_clash(plates: Any, tmp_path: Path) -> None:
    plates.harmony(tmp_path / "in/my.plate", [(1, 1, 1, 0, 1, 1), (1, 1, 2, 0, 1, 1)])
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "in/my.plate_A01_f01.png")
    files = find_images([tmp_path / "in"], out=tmp_path / "out").files
    assert {file.name: file.stem for file in files} == {
        "my.plate_A01_f01": "my.plate_A01_f01",
        "my.plate_A01_f02": "my.plate_A01_f02",
        "my.plate_A01_f01.png": "my.plate_A01_f01.png",
    }
    shutil.copy(tmp_path / "in/my.plate_A01_f01.png", tmp_path / "in/my.plate_A01_f01")
    with pytest.raises(InputsError, match=r"two images are called my.plate_A01_f01"):
        find_images([tmp_path / "in"], out=tmp_path / "out")


def test_the_digest_of_a_field_notices_a_file_that_arrives(plates: Any, tmp_path: Path) -> None:
    folder = plates.imagexpress(tmp_path / "P", wells=["A01"], sites=1)
    plates.plane(folder / "P_A01_w1.TIF", 1)
    (file,) = find_images([folder], out=tmp_path / "out").files
    before = digest_source(file)
    plates.plane(folder / "P_A01_w2.TIF", 2)
    (file,) = find_images([folder], out=tmp_path / "out").files
    assert digest_source(file) != before


def test_a_watch_segments_the_fields_as_they_arrive(plates: Any, config: RunConfig, tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    folder = plates.imagexpress(tmp_path / "watched/Q", wells=["A01"], waves=["DAPI"])
    (folder / "Q_A01_s1.TIF").write_bytes(next(Path(config.sources[0]).glob("P/Images/*ch1*")).read_bytes())
    stop, seen = Event(), []
    Timer(60, stop.set).start()
    watching = replace(config, sources=(str(tmp_path / "watched"),), selection=Selection())
    found: Iterator[FileOutcome | str] = watch(watching, stop, settle_s=0.2)
    for outcome in found:
        assert isinstance(outcome, FileOutcome)
        seen += [(plane.image, plane.status) for plane in outcome.planes]
        if seen == [("Q_A01_f01", "ok")]:
            (folder / "Q_A01_s2.TIF").write_bytes((folder / "Q_A01_s1.TIF").read_bytes())
        if ("Q_A01_f02", "ok") in seen:
            stop.set()
    assert ("Q_A01_f02", "ok") in seen
