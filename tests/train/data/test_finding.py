"""The forms that DATA may have, and what a sample reads."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import ImageReadError, ImageShapeError, ImageValueError
from nuclei_train.data.annotations.formats import LABEL_IMAGE
from nuclei_train.data.annotations.mask_images import number_labels
from nuclei_train.data.finding import open_data, open_folder, training_set
from nuclei_train.data.samples import Dataset, Sample
from nuclei_train.errors import ArchiveError, DatasetError
from tests.contents import png_bytes

MakeZip = Callable[..., Path]


def unpack(path: Path, target: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        archive.extractall(target)
    return target


def write_sample(folder: Path, masks: dict[str, np.ndarray], image_id: str = "a") -> Sample:
    """Write an image of 20 x 30 px with these masks and open it."""
    (folder / image_id / "images").mkdir(parents=True)
    (folder / image_id / "images" / f"{image_id}.png").write_bytes(png_bytes(np.zeros((20, 30), np.uint8)))
    for name, mask in masks.items():
        (folder / image_id / "masks").mkdir(exist_ok=True)
        (folder / image_id / "masks" / name).write_bytes(png_bytes(mask))
    return open_data(folder)[0].samples[0]


def square(row: int, column: int, size: int = 5, value: int = 255) -> np.ndarray:
    mask = np.zeros((20, 30), np.uint8)
    mask[row : row + size, column : column + size] = value
    return mask


@pytest.fixture
def forms(tmp_path: Path, make_dsb_zip: MakeZip) -> Iterator[dict[str, Path]]:
    """One dataset in every form that DATA may take."""
    folder = tmp_path / "zips"
    folder.mkdir()
    flat = make_dsb_zip(folder / "stage1_train.zip", [0, 1])
    with_level = make_dsb_zip(tmp_path / "download.zip", [0, 1], level="stage1_train/")
    return {
        "folder of zips": folder,
        "zip": flat,
        "zip with a level": with_level,
        "unpacked": unpack(flat, tmp_path / "flat" / "stage1_train"),
        "unpacked with a level": unpack(with_level, tmp_path / "level"),
    }


def test_every_form_of_data_gives_the_same_samples(forms: dict[str, Path]) -> None:
    truth = fluorescence_field(1, height=96, width=128, n_nuclei=8)[1]
    digests = set()
    for form, data in forms.items():
        (dataset,) = open_data(data)
        assert dataset.name == "stage1_train", form
        assert [sample.image_id for sample in dataset.samples] == ["field_000", "field_001"], form
        sample = dataset.samples[1]
        assert sample.read_image().shape == (96, 128, 4)
        np.testing.assert_array_equal(sample.read_labels(), truth)
        digests.add(tuple(sample.digest() for sample in dataset.samples))
    assert len(digests) == 1  # the digest depends on the content, not on its place


def test_a_relative_path_names_the_dataset(forms: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(forms["unpacked"])
    assert open_data(Path())[0].name == "stage1_train"


def test_the_folder_of_one_image_is_read(forms: dict[str, Path]) -> None:
    (dataset,) = open_data(forms["unpacked"] / "field_001")
    assert [sample.image_id for sample in dataset.samples] == ["field_001"]
    assert dataset.has_truth


def test_label_images_are_read(tmp_path: Path, make_label_zip: MakeZip) -> None:
    path = make_label_zip(tmp_path / "stardist_test.zip", [3])
    for data in (path, unpack(path, tmp_path / "unpacked" / "stardist_test")):
        (dataset,) = open_data(data)
        assert dataset.name == "stardist_test"
        (sample,) = dataset.samples
        assert sample.form is LABEL_IMAGE
        truth = fluorescence_field(3, height=96, width=128, n_nuclei=8)[1]
        np.testing.assert_array_equal(sample.read_labels(), truth)


def test_unpacked_data_next_to_their_zips_are_not_read_twice(forms: dict[str, Path]) -> None:
    folder = forms["folder of zips"]
    unpack(folder / "stage1_train.zip", folder / "stage1_train")
    assert [dataset.path for dataset in open_data(folder)] == [folder / "stage1_train.zip"]


def test_clutter_is_left_out(forms: dict[str, Path]) -> None:
    folder = forms["unpacked"]
    for name in ("__MACOSX/x/images/x.png", "y/images/._y.png", ".hidden/images/z.png", "w/images/w.txt"):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"clutter")
    assert [sample.image_id for sample in open_data(folder)[0].samples] == ["field_000", "field_001"]


def test_other_zips_in_the_folder_do_no_harm(forms: dict[str, Path]) -> None:
    with zipfile.ZipFile(forms["folder of zips"] / "stage1_train_labels.csv.zip", "w") as archive:
        archive.writestr("stage1_train_labels.csv", "ImageId,EncodedPixels\n")
    assert [dataset.name for dataset in open_data(forms["folder of zips"])] == ["stage1_train"]


@pytest.mark.parametrize("what", ["nothing", "text", "empty folder", "empty zip", "zips in a zip"])
def test_what_is_not_understood_is_refused(tmp_path: Path, make_dsb_zip: MakeZip, what: str) -> None:
    data = tmp_path / "data"
    if what == "text":
        data = tmp_path / "data.txt"
        data.write_text("hello")
    elif what == "empty folder":
        data.mkdir()
    elif what != "nothing":
        data = tmp_path / "data.zip"
        with zipfile.ZipFile(data, "w") as archive:
            if what == "zips in a zip":
                archive.write(make_dsb_zip(tmp_path / "inner.zip", [0]), "stage1_train.zip")
    with pytest.raises(DatasetError, match="does not exist; give" if what == "nothing" else "expected") as raised:
        open_data(data)
    assert str(data) in str(raised.value)


def test_a_damaged_entry_is_named_when_it_is_read(tmp_path: Path, make_dsb_zip: MakeZip) -> None:
    path = make_dsb_zip(tmp_path / "stage1_train.zip", [0])
    content = bytearray(path.read_bytes())
    name = b"field_000/images/field_000.png"
    content[content.index(name) + len(name) + 40] ^= 0xFF
    path.write_bytes(content)
    (sample,) = open_data(path)[0].samples
    with pytest.raises(ArchiveError, match=r"'field_000/images/field_000\.png' is damaged"):
        sample.read_image()


def test_two_files_for_one_image_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"")
    (tmp_path / "masks" / "a.png").write_bytes(b"")
    assert len(open_folder(tmp_path)[0].samples) == 1
    (tmp_path / "masks" / "a.tif").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"masks/a\.png and masks/a\.tif have the same identifier"):
        open_data(tmp_path)
    (tmp_path / "masks" / "a.tif").rename(tmp_path / "images" / "a.tif")
    with pytest.raises(DatasetError, match=r"images/a\.png and images/a\.tif have the same identifier"):
        open_data(tmp_path)


def test_labels_follow_the_order_of_the_masks_and_the_first_keeps_shared_pixels(tmp_path: Path) -> None:
    masks = {"c.png": square(10, 10), "a.png": square(0, 0), "b.png": square(3, 3), "aa.png": square(0, 0, value=0)}
    labels = write_sample(tmp_path, masks).read_labels()
    assert labels.dtype == np.int32
    assert labels.max() == 3  # the empty mask gets no number
    assert labels[0, 0] == 1
    assert labels[4, 4] == 1
    assert labels[5, 5] == 2
    assert labels[12, 12] == 3
    assert np.bincount(labels.ravel())[1:].tolist() == [25, 21, 25]


def test_an_empty_first_mask_gets_no_number(tmp_path: Path) -> None:
    labels = write_sample(tmp_path, {"a.png": square(0, 0, value=0), "b.png": square(0, 0)}).read_labels()
    assert np.unique(labels).tolist() == [0, 1]


def test_masks_in_rgba_or_of_any_value_are_masks(tmp_path: Path) -> None:
    grey = square(0, 0, value=1)
    rgba = np.dstack([grey * 255] * 3 + [np.full_like(grey, 255)])
    assert np.array_equal(write_sample(tmp_path / "x", {"m.png": rgba}).read_labels(), grey)
    assert np.array_equal(write_sample(tmp_path / "y", {"m.png": grey}).read_labels(), grey)


def test_bad_masks_are_refused_by_name(tmp_path: Path) -> None:
    small = write_sample(tmp_path / "x", {"a.png": square(0, 0), "b.png": np.zeros((20, 20), np.uint8)})
    with pytest.raises(DatasetError, match=r"mask b\.png is \(20, 20\), but the first is \(20, 30\)"):
        small.read_labels()
    coloured = write_sample(tmp_path / "y", {"m.png": np.dstack([square(0, 0), square(9, 9), square(0, 9)])})
    with pytest.raises(ImageShapeError, match=r"mask m\.png: is in colour"):
        coloured.read_labels()
    broken = write_sample(tmp_path / "z", {"m.png": square(0, 0)})
    (tmp_path / "z" / "a" / "masks" / "m.png").write_bytes(b"no png")
    with pytest.raises(ImageReadError, match=r"mask m\.png"):
        broken.read_labels()
    (tmp_path / "z" / "a" / "masks" / "m.png").unlink()
    with pytest.raises(DatasetError, match=r"m\.png: cannot be read"):
        broken.read_labels()
    with pytest.raises(DatasetError, match="has no masks"):
        write_sample(tmp_path / "w", {}).read_labels()


def test_label_numbers_become_consecutive() -> None:
    stored = np.array([[0, 7, 7], [900, 0, -1], [3, 3, 0]], np.int16)
    assert number_labels(stored).tolist() == [[0, 2, 2], [3, 0, 0], [1, 1, 0]]
    assert number_labels(np.full((2, 2), 5.0)).tolist() == [[1, 1], [1, 1]]
    assert number_labels(np.zeros((2, 2), np.uint8)).tolist() == [[0, 0], [0, 0]]


def test_the_training_set_is_found_or_asked_for(tmp_path: Path, make_dsb_zip: MakeZip) -> None:
    def named(*names: str) -> list[Dataset]:
        folder = tmp_path / "-".join(names)
        folder.mkdir()
        for name in names:
            make_dsb_zip(folder / f"{name}.zip", [0], with_masks=name != "stage1_test")
        return open_data(folder)

    assert training_set(named("other", "stage1_train")).name == "stage1_train"
    assert training_set(named("other", "stage1_test")).name == "other"
    with pytest.raises(DatasetError, match=r"found a .*, b "):
        training_set(named("a", "b"))
    with pytest.raises(DatasetError, match="found none"):
        training_set(named("stage1_test"))


def test_two_training_sets_are_not_chosen_between(forms: dict[str, Path], tmp_path: Path) -> None:
    twice = tmp_path / "twice"
    for place in ("one", "two"):
        shutil.copytree(forms["unpacked"], twice / place / "stage1_train")
    with pytest.raises(DatasetError, match="expected one dataset stage1_train"):
        training_set(open_data(twice))


@pytest.mark.real_data
def test_the_real_data_are_all_found(real_data: Path) -> None:
    datasets = {dataset.name: dataset for dataset in open_data(real_data)}
    counts = {name: len(dataset.samples) for name, dataset in datasets.items()}
    assert counts == {"stage1_train": 664, "stage1_test": 65, "stardist_test": 50}
    assert sum(len(sample.mask_names) for sample in datasets["stage1_train"].samples) == 28_986
    assert sum(int(sample.read_labels().max()) for sample in datasets["stardist_test"].samples) == 2_460
    assert not datasets["stage1_test"].has_truth
    assert training_set(list(datasets.values())).name == "stage1_train"


@pytest.mark.parametrize("writer", ["ImageJ=1.54f\n", "another program"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_mask_in_which_0_is_shown_white_counts_as_it_is_stored(tmp_path: Path, dtype: type, writer: str) -> None:
    """ImageJ writes masks like this if its look-up table is inverted: nuclei are still 255, or their numbers."""
    stored = (square(2, 3) // 255 + square(10, 20) // 255 * 2).astype(dtype)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", np.zeros((20, 30), np.uint8))
    options = {"photometric": "miniswhite", "description": writer, "metadata": None}
    tifffile.imwrite(tmp_path / "masks" / "a.tif", stored, **options)
    (sample,) = open_data(tmp_path)[0].samples
    np.testing.assert_array_equal(sample.read_labels(), stored)


def test_a_mask_as_jpeg_is_refused(tmp_path: Path) -> None:
    sample = write_sample(tmp_path, {"one.png": square(2, 3)})
    buffer = io.BytesIO()
    Image.fromarray(square(2, 3)).save(buffer, format="JPEG")
    (tmp_path / "a" / "masks" / "one.png").write_bytes(buffer.getvalue())
    with pytest.raises(ImageValueError, match=r"mask one\.png: is a JPEG, .* save the original as PNG or TIFF"):
        sample.read_labels()


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    elsewhere, data = tmp_path / "elsewhere", tmp_path / "data"
    write_sample(elsewhere, {"one.png": square(2, 3)}, "a")
    write_sample(data, {"one.png": square(2, 3)}, "b")
    (data / "a").symlink_to(elsewhere / "a")
    (data / "b" / "round").symlink_to(data)
    (data / "up").symlink_to(tmp_path)
    (dataset,) = open_data(data)
    assert [sample.image_id for sample in dataset.samples] == ["a", "b"]
    assert all(sample.read_labels().max() == 1 for sample in dataset.samples)
