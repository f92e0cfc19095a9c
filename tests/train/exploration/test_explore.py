"""nuclei-explore as installed: tables, figures, summary, and where it writes."""

from __future__ import annotations

import csv
import io
import subprocess
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_train.cli.explore import main as explore_main
from nuclei_train.data.split_table import read_split_table
from nuclei_train.errors import DatasetError
from nuclei_train.exploration.explore import explore
from nuclei_train.exploration.figures import draw_histograms
from nuclei_train.exploration.summary import format_summary
from tests.contents import png_bytes

MakeZip = Callable[..., Path]


def run_cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command within this process, which saves importing pandas and Matplotlib again."""
    out, err = io.StringIO(), io.StringIO()
    command = ["nuclei-explore", *map(str, arguments)]
    with patch("sys.argv", command), redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as exit_:
        explore_main()
    assert isinstance(exit_.value.code, int)
    return subprocess.CompletedProcess(command, exit_.value.code, out.getvalue(), err.getvalue())


def run(data: Path, out: Path) -> list[str]:
    """Explore within this process and return the messages."""
    sentences: list[str] = []
    explore(data, out, sentences.append, lambda _done, _total: None)
    return sentences


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def data(tmp_path: Path, make_dsb_zip: MakeZip, make_label_zip: MakeZip) -> Path:
    """A folder with all three zips and the table of splits."""
    folder = tmp_path / "dsb2018"
    folder.mkdir()
    make_dsb_zip(folder / "stage1_train.zip", [0, 1, 2])
    make_dsb_zip(folder / "stage1_test.zip", [7], with_masks=False, size=(64, 80))
    make_label_zip(folder / "stardist_test.zip", [0])
    table = "image_id,modality,split\nfield_000,fluorescence,train\nfield_001,histology_pink_HE,val\nfield_002,,\n"
    (folder / "splits.csv").write_text(table, encoding="utf-8")
    return folder


def test_a_folder_of_zips_is_unpacked_tabulated_and_drawn(
    data: Path, tmp_path: Path, run_script: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    out = tmp_path / "out"
    done = run_script("nuclei-explore", data, out)
    assert done.returncode == 0, done.stderr
    table = rows(out / "image_properties.csv")
    assert [(row["dataset"], row["image_id"]) for row in table] == [
        ("stage1_test", "field_007"),
        ("stage1_train", "field_000"),
        ("stage1_train", "field_001"),
        ("stage1_train", "field_002"),
        ("stardist_test", "field_000"),
    ]
    image, labels = fluorescence_field(0, height=96, width=128, n_nuclei=8)
    areas = np.bincount(labels.ravel())[1:]
    row = table[1]
    assert row["path"] == "data/stage1_train/field_000/images/field_000.png"
    assert (out / row["path"]).is_file()
    assert (row["height"], row["width"], row["channels"], row["dtype"]) == ("96", "128", "4", "uint8")
    assert (row["modality"], row["modality_guess"], row["split"]) == ("fluorescence", "fluorescence", "train")
    assert int(row["n_nuclei"]) == labels.max()
    assert float(row["mean_intensity"]) == pytest.approx(image.mean(), rel=1e-4)
    assert float(row["mean_area_px"]) == pytest.approx(areas.mean(), rel=1e-4)
    assert float(row["median_area_px"]) == pytest.approx(np.median(areas), rel=1e-4)
    assert float(row["foreground_fraction"]) == pytest.approx((labels > 0).mean(), rel=1e-4)
    assert table[4]["n_nuclei"] == row["n_nuclei"]  # the same field as a label image
    assert table[4]["channels"] == "1"
    no_truth = table[0]
    assert [no_truth[c] for c in ("modality", "n_nuclei", "mean_area_px", "foreground_fraction", "split")] == [""] * 5

    assert Counter((row["kind"], row["dataset"]) for row in rows(out / "oddities.csv")) == {
        ("constant alpha channel", "stage1_train"): 3,
        ("constant alpha channel", "stage1_test"): 1,
    }
    for name in ("sample.png", "histograms.png"):
        with Image.open(out / name) as picture:
            assert min(picture.size) > 300
            assert len(np.unique(np.asarray(picture))) > 50
    for expected in (
        "stage1_test: 1 image, no truth",
        f"stage1_train: 3 images, {sum(int(r['n_nuclei']) for r in table[1:4])} nuclei",
        "96 x 128: 4 images",
        "the guess agrees with the split table for 2 of 3 images",
        "constant alpha channel: 4 images: field_007, field_000, field_001, ...",
    ):
        assert expected in done.stdout
    assert str(out / "oddities.csv") in done.stdout
    assert "stage1_train.zip: unpacked into" in done.stderr


@pytest.mark.parametrize(
    ("counts", "label", "text"),
    [
        ([7, 10, 20], "nuclei (log scale)", "median 10"),
        ([0, 0, 10], "nuclei (log scale; 2 at 0 not shown)", "median 0"),
        ([0, 0], "nuclei (log scale; 2 at 0 not shown)", "no nuclei"),
        ([], "nuclei (log scale)", "no truth"),
    ],
)
def test_images_without_nuclei_count_in_the_median_and_are_mentioned(
    counts: list[int], label: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A logarithmic scale has no place for them: the figure would show a median without them, unlike the summary."""
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_args, **_options: drawn.append(self))
    images = pd.DataFrame({"height": 9, "width": 9, "mean_intensity": 1.0, "modality_guess": "x"}, range(len(counts)))
    images["n_nuclei"] = pd.array(counts, "Int64")
    draw_histograms(tmp_path / "histograms.png", images, np.zeros(0, np.int64))
    axes = drawn[0].axes[1]
    assert axes.get_xlabel() == label
    legend = axes.get_legend()
    shown = [one.get_text() for one in (axes.texts if legend is None else legend.get_texts())]
    assert shown == [text]


def test_a_second_run_unpacks_nothing_and_writes_the_same(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert all("unpacked into" in sentence for sentence in run(data, out))
    first = {
        name: (out / name).read_bytes()
        for name in ("image_properties.csv", "oddities.csv", "sample.png", "histograms.png")
    }
    assert ["already unpacked completely into" in sentence for sentence in run(data, out)] == [True] * 3
    assert first == {name: (out / name).read_bytes() for name in first}


def test_what_was_unpacked_is_data_with_its_table(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "out")
    assert run(tmp_path / "out" / "data", tmp_path / "again") == []
    first, second = rows(tmp_path / "out" / "image_properties.csv"), rows(tmp_path / "again" / "image_properties.csv")
    for row in first:
        row["path"] = str((tmp_path / "out" / row["path"]).resolve())
    assert first == second
    assert not (tmp_path / "again" / "data").exists()  # folders are used where they are
    assert run(tmp_path / "out" / "data", tmp_path / "out") == []  # its tables may be replaced
    assert rows(tmp_path / "out" / "image_properties.csv") == first


@pytest.mark.parametrize("form", ["zip", "unpacked", "unpacked with a level"])
def test_other_forms_of_data(tmp_path: Path, make_dsb_zip: MakeZip, form: str) -> None:
    (tmp_path / "in").mkdir()
    level = "stage1_train/" if form == "unpacked with a level" else ""
    data = make_dsb_zip(tmp_path / "in" / "stage1_train.zip", [3, 4], level=level)
    if form != "zip":
        with zipfile.ZipFile(data) as archive:
            archive.extractall(tmp_path / "stage1_train")
        data = tmp_path / "stage1_train"
    run(data, tmp_path / "out")
    table = rows(tmp_path / "out" / "image_properties.csv")
    assert [(row["dataset"], row["image_id"]) for row in table] == [("stage1_train", f"field_00{n}") for n in (3, 4)]
    assert all((tmp_path / "out" / row["path"]).is_file() for row in table)
    assert [row["split"] + row["modality"] for row in table] == ["", ""]


def test_bad_samples_are_listed_and_the_others_explored(tmp_path: Path, make_dsb_zip: MakeZip) -> None:
    with zipfile.ZipFile(make_dsb_zip(tmp_path / "in.zip", [0, 1])) as archive:
        archive.extractall(tmp_path / "in")
    for image_id, image in {"bad_image": b"no image", "no_masks": png_bytes(np.zeros((8, 9), np.uint8))}.items():
        (tmp_path / "in" / image_id / "images").mkdir(parents=True)
        (tmp_path / "in" / image_id / "images" / f"{image_id}.png").write_bytes(image)
    next((tmp_path / "in" / "field_001" / "masks").iterdir()).write_bytes(b"")
    (tmp_path / "in" / "field_001" / "masks" / "zero.png").write_bytes(png_bytes(np.zeros((96, 128), np.uint8)))
    done = run_cli(tmp_path / "in", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    found = {(row["image_id"], row["kind"]) for row in rows(tmp_path / "out" / "oddities.csv")}
    assert found == {
        ("bad_image", "unreadable file"),
        ("bad_image", "image without masks"),
        ("no_masks", "image without masks"),
        ("field_000", "constant alpha channel"),
        ("field_001", "constant alpha channel"),
        ("field_001", "unreadable file"),
        ("field_001", "empty mask"),
    }
    table = {row["image_id"]: row for row in rows(tmp_path / "out" / "image_properties.csv")}
    assert table["bad_image"]["height"] == table["bad_image"]["modality_guess"] == ""
    assert table["no_masks"]["n_nuclei"] == ""
    assert int(table["field_000"]["n_nuclei"]) > 0
    assert "unreadable file: 2 images: bad_image, field_001\n    the first: image bad_image.png: " in done.stdout


@pytest.mark.parametrize(
    "content", [b"no image", png_bytes(np.zeros((8, 9), np.uint8))], ids=["unreadable", "no truth"]
)
def test_data_without_anything_to_draw_do_not_crash(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in" / "a" / "images").mkdir(parents=True)
    (tmp_path / "in" / "a" / "images" / "a.png").write_bytes(content)
    done = run_cli(tmp_path / "in", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "in: 1 image, no truth" in done.stdout
    assert (tmp_path / "out" / "sample.png").is_file()
    assert (tmp_path / "out" / "histograms.png").is_file()


def test_the_tables_are_never_taken_for_the_split_table(data: Path) -> None:
    """Not even in the data folder or the one above it, where the split table is searched for."""
    before = (data / "splits.csv").read_bytes()
    for out in (data, data.parent):
        assert all("unpacked" in sentence for sentence in run(data, out))
        assert len(rows(out / "image_properties.csv")) == 5
        assert (data / "splits.csv").read_bytes() == before
    table = read_split_table(data)
    assert table is not None
    assert table.content == before


@pytest.mark.parametrize("inside", ["", "stage1_train.zip"])
def test_zips_are_not_unpacked_among_the_data(data: Path, inside: str) -> None:
    moved = data.rename(data.with_name("data"))
    before = sorted(moved.iterdir())
    with pytest.raises(DatasetError, match=r"would be unpacked into .*, among the data; choose another folder"):
        run(moved / inside, moved.parent)
    assert sorted(moved.iterdir()) == before
    assert not (moved.parent / "oddities.csv").exists()


def test_a_split_table_of_the_former_name_is_used_and_mentioned(data: Path, tmp_path: Path) -> None:
    (data / "splits.csv").rename(data / "images.csv")
    first, *_ = run(data, tmp_path / "out")
    assert first == f"{data / 'images.csv'}: used as the split table, whose name is now splits.csv"
    assert (tmp_path / "out/data/splits.csv").read_bytes() == (data / "images.csv").read_bytes()
    assert [row["split"] for row in rows(tmp_path / "out" / "image_properties.csv")] == [
        "",
        "train",
        "val",
        "",
        "train",
    ]


def test_out_inside_a_folder_of_zips_is_not_read_back(data: Path) -> None:
    for _ in range(2):
        run(data, data / "explored")
        assert len(rows(data / "explored" / "image_properties.csv")) == 5


@pytest.fixture
def unpacked(data: Path, tmp_path: Path) -> Path:
    """The same data in folders."""
    for path in data.glob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "unpacked" / path.stem)
    return tmp_path / "unpacked"


def test_out_inside_unpacked_data_is_not_read_back(unpacked: Path) -> None:
    for _ in range(2):
        run(unpacked, unpacked / "explored")
        assert len(rows(unpacked / "explored" / "image_properties.csv")) == 5


@pytest.mark.parametrize("inside", ["images", "stage1_train", "stage1_train/field_000/masks"])
def test_out_may_not_be_a_folder_of_unpacked_data(unpacked: Path, inside: str) -> None:
    before = sorted(unpacked.rglob("*"))
    with pytest.raises(DatasetError, match="would be read as data"):
        run(unpacked, unpacked / inside)
    assert sorted(unpacked.rglob("*")) == before


def test_a_half_unpacked_folder_is_not_taken_for_data(data: Path, tmp_path: Path) -> None:
    half = tmp_path / "out" / "data" / "stage1_train"
    with zipfile.ZipFile(data / "stage1_train.zip") as archive:
        archive.extractall(half, archive.namelist()[:5])
    with pytest.raises(DatasetError, match=r"not what .* unpacks to"):
        run(data, tmp_path / "out")
    assert not (tmp_path / "out" / "image_properties.csv").exists()


def test_a_truncated_zip_is_an_error_that_names_the_entry(data: Path, tmp_path: Path) -> None:
    path = data / "stage1_train.zip"
    content = path.read_bytes()
    name = b"field_002/images/field_002.png"
    path.write_bytes(content[: content.index(name) + len(name) + 100])
    done = run_cli(data, tmp_path / "out")
    assert done.returncode == 2
    assert "stage1_train.zip: truncated" in done.stderr
    assert name.decode() in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_is_not_data_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for data in (tmp_path / "empty", tmp_path / "nothing"):
        done = run_cli(data, tmp_path / "out")
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {data}: ")
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_an_out_that_cannot_be_made_is_a_sentence(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        done = run_cli(data, out)
        assert done.returncode == 2
        assert "'out'" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_summary_separates_the_thousands_of_every_number() -> None:
    image = {"dataset": "a", "n_nuclei": 1200, "height": 9, "width": 9, "channels": 1, "dtype": "uint8"}
    images = pd.DataFrame([image | {"modality": None, "modality_guess": "fluorescence"}])
    summary = format_summary(
        images, pd.DataFrame(columns=["kind", "dataset", "image_id", "detail"]), np.array([8224, 8225])
    )
    assert "per image: 1,200 to 1,200, median 1,200" in summary
    assert "area: 8,224 to 8,225 px, median 8,224.5 px" in summary


def test_what_belongs_to_nothing_and_what_was_misread_is_listed(tmp_path: Path) -> None:
    _, labels = fluorescence_field(0, height=96, width=128, n_nuclei=8)
    for kind, name, array in (
        ("images", "a", labels > 0),
        ("masks", "a", 255 - labels),
        ("images", "b", labels > 0),
        ("masks", "c", labels),
    ):
        (tmp_path / "in" / kind).mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / kind / f"{name}.png").write_bytes(png_bytes(array.astype(np.uint8)))
    done = run_cli(tmp_path / "in", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "annotation without image: 1 file: masks/c.png\n" in done.stdout
    assert "image without masks: 1 image: b\n" in done.stdout
    assert "nucleus that covers most of the image: 1 image: a\n" in done.stdout
    assert (
        "images without an annotation: 1 of 2 (images/b.png); annotations without an image: 1 (masks/c.png)"
        in done.stderr
    )


def test_nuclei_at_another_magnification_are_listed_once(tmp_path: Path) -> None:
    large = np.zeros((200, 200), np.uint8)
    large[10:100, 10:90], large[110:199, 10:99] = 1, 2
    for kind in ("images", "masks"):
        (tmp_path / "in" / kind).mkdir(parents=True)
        for name in "ab":
            (tmp_path / "in" / kind / f"{name}.png").write_bytes(png_bytes(large))
    done = run_cli(tmp_path / "in", tmp_path / "out")
    assert done.stdout.count("nuclei much larger than the model knows: median 7,560 px, 24 times that of") == 1
