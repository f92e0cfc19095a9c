"""Folders as people have them: which image each annotation belongs to, the split, and what belongs to nothing."""

from __future__ import annotations

import hashlib
import json
import sys
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
import roifile
import tifffile
from PIL import Image

from nuclei_runtime.errors import ImageError
from nuclei_runtime.results.layout import result_stem
from nuclei_train.data.finding import describe_unpaired, open_data, training_set
from nuclei_train.data.opening import open_with_splits
from nuclei_train.data.samples import Dataset
from nuclei_train.data.split import split_samples
from nuclei_train.errors import DatasetError

LABELS = np.zeros((40, 50), np.uint16)
LABELS[4:10, 5:12] = 1
LABELS[20:30, 25:33] = 2

IMAGE = (LABELS > 0).astype(np.uint16) * 150 + 50


def label_image(path: Path) -> None:
    if path.suffix == ".png":
        Image.fromarray(LABELS.astype(np.uint8)).save(path)
    else:
        tifffile.imwrite(path, LABELS)


def corners(label: int) -> list[list[int]]:
    rows, columns = np.nonzero(label == LABELS)
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    return [[int(x), int(y)] for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))]


def geojson(path: Path) -> None:
    features = [
        {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [corners(label)]}}
        for label in (1, 2)
    ]
    path.write_text(json.dumps(features))


def roi_zip(path: Path) -> None:
    for label in (1, 2):
        roifile.ImagejRoi.frompoints(corners(label), name=str(label)).tofile(path)


def pickle(path: Path) -> None:
    np.save(path, {"masks": LABELS}, allow_pickle=True)


def write(folder: Path, *names: str) -> Path:
    """Write images and annotations; the name says which."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".geojson":
            geojson(path)
        elif path.suffix == ".npy":
            pickle(path)
        elif path.suffix == ".zip":
            roi_zip(path)
        elif any(word in name.lower() for word in ("mask", "label")):
            label_image(path)
        else:
            tifffile.imwrite(path, IMAGE) if path.suffix == ".tif" else Image.fromarray(IMAGE.astype(np.uint8)).save(
                path
            )
    return folder


def coco(path: Path, *images: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [{"id": n, "file_name": image, "height": 40, "width": 50} for n, image in enumerate(images)]
    shapes = [[float(x) for corner in corners(label) for x in corner] for label in (1, 2)]
    annotations = [
        {"id": 10 * n + k, "image_id": n, "category_id": 1, "segmentation": [shape]}
        for n in range(len(images))
        for k, shape in enumerate(shapes)
    ]
    path.write_text(json.dumps({"images": entries, "annotations": annotations}))


def opened(data: Path) -> Dataset:
    (dataset,) = open_data(data)
    return dataset


ALIKE = {
    "masks": ["images/{}.tif", "masks/{}.tif"],
    "labels": ["images/{}.tif", "labels/{}.tif"],
    "beside a folder of masks": ["{}.tif", "masks/{}.tif"],
    "other suffix": ["images/{}.tif", "masks/{}.png"],
    "ome": ["images/{}.tif", "masks/{}.ome.tif"],
    "ome image": ["images/{}.ome.tif", "masks/{}.tif"],
    "masks with a mark": ["images/{}.tif", "masks/{}_mask.tif"],
    "ZeroCostDL4Mic": ["Training - Images/{}.tif", "Training - Masks/{}.tif"],
    "Cellpose": ["{}.tif", "{}_masks.tif"],
    "Cellpose in images": ["images/{}.tif", "images/{}_masks.tif"],
    "Cellpose, from its command": ["{}.tif", "{}_cp_masks.png", "{}_flows.tif", "{}_seg.npy"],
    "Cellpose, as in its data": ["{}_img.png", "{}_masks.png"],
    "QuPath": ["{}.tif", "{}.geojson"],
    "QuPath with the image's suffix": ["images/{}.tif", "annotations/{}.tif.geojson"],
    "ImageJ": ["{}.tif", "{}_rois.zip"],
    "ImageJ, named alike": ["{}.tif", "{}.zip"],
    "ImageJ in a folder": ["images/{}.tif", "rois/{}.zip"],
    "Kaggle": ["{0}/images/{0}.png", "{0}/masks/all.png"],
    "with a level": ["level/images/{}.tif", "level/masks/{}.tif"],
}


@pytest.mark.parametrize("names", ALIKE.values(), ids=ALIKE)
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_every_layout_gives_each_image_its_nuclei(tmp_path: Path, names: list[str], form: str) -> None:
    data = write(tmp_path / "data", *(name.format(one) for one in ("a", "b.2") for name in names))
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
            for file in data.rglob("*.*"):
                archive.write(file, file.relative_to(data))
        data = tmp_path / "data.zip"
    dataset = opened(data)
    assert dataset.unpaired == dataset.notes == ()
    assert describe_unpaired(dataset) is None
    assert len(dataset.samples) == 2
    expected = LABELS > 0 if names == ALIKE["Kaggle"] else LABELS
    for sample in dataset.samples:
        np.testing.assert_array_equal(sample.read_labels(), expected)
        np.testing.assert_array_equal(sample.read_image() > 100, LABELS > 0)


def test_names_may_be_typed_on_a_mac(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Größe") for form in ("NFC", "NFD"))
    assert composed != decomposed
    dataset = opened(write(tmp_path, f"images/{composed}.tif", f"masks/{decomposed}.tif", f"images/{decomposed}2.tif"))
    assert [(sample.image_id, sample.has_truth) for sample in dataset.samples] == [
        (composed, True),
        (f"{composed}2", False),
    ]


@pytest.mark.parametrize("names", ALIKE.values(), ids=ALIKE)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_table_finds_the_images_of_every_layout_however_accents_are_written(
    tmp_path: Path, names: list[str], form: str
) -> None:
    image_ids = ["ü", "b", "c"]
    data = write(
        tmp_path / "data", *(name.format(unicodedata.normalize(form, one)) for one in image_ids for name in names)
    )
    suffix = "_img" if names == ALIKE["Cellpose, as in its data"] else ".ome" if "{}.ome.tif" in names[0] else ""
    rows = [f"{image_id}{suffix},{side}," for image_id, side in zip(image_ids, ("train", "train", "val"), strict=True)]
    (tmp_path / "splits.csv").write_text("\n".join(["image_id,split,modality", *rows]), encoding="utf-8")
    said: list[str] = []
    (dataset,), table = open_with_splits(data, said.append)
    split = split_samples(dataset, table, 42, 0.1)
    assert [sample.image_id for sample in split.train] == [f"b{suffix}", f"ü{suffix}"]
    assert said == []


@pytest.mark.parametrize(("on_disk", "listed"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_coco_file_lists_images_however_accents_are_written(tmp_path: Path, on_disk: str, listed: str) -> None:
    write(tmp_path, f"images/{unicodedata.normalize(on_disk, 'ü')}.png")
    coco(tmp_path / "all.json", f"{unicodedata.normalize(listed, 'ü')}.png")
    (sample,) = opened(tmp_path).samples
    assert sample.image_id == unicodedata.normalize("NFC", "ü")
    np.testing.assert_array_equal(sample.read_labels() > 0, LABELS > 0)


def test_results_are_paired_however_accents_are_written(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "größe/ü") for form in ("NFC", "NFD"))
    write(tmp_path, f"{decomposed}.tif")
    results(tmp_path / "my_results", composed)
    (sample,) = opened(tmp_path).samples
    assert (sample.image_id, sample.has_truth) == (composed.replace("/", "_"), True)


def test_what_the_table_and_the_data_do_not_have_in_common_is_said(tmp_path: Path) -> None:
    data = write(tmp_path, *(f"{folder}/{one}.tif" for one in ("a", "b", "new") for folder in ("images", "masks")))
    table = tmp_path / "splits.csv"
    table.write_text("image_id,split,modality\na,train,\nb,val,\nB2,train,\ntest_1,test,\n")
    said: list[str] = []
    open_with_splits(data, said.append)
    assert said == [
        f"{table}: 1 of 3 images in train or val are not in the data (B2)",
        f"{table}: 1 of 3 annotated images are not listed, and in no split (new)",
    ]


def test_half_of_the_masks_misnamed_is_said_with_their_names(tmp_path: Path) -> None:
    names = [name.format(n) for n in "ab" for name in ("images/{}.tif", "masks/{}.tif")]
    dataset = opened(write(tmp_path, *names, "images/c.tif", "masks/c_final.tif"))
    assert dataset.unpaired == ("masks/c_final.tif",)
    assert describe_unpaired(dataset) == (
        f"{tmp_path}: images without an annotation: 1 of 3 (images/c.tif); annotations without an image: 1 "
        "(masks/c_final.tif)"
    )


@pytest.mark.parametrize("place", ["", "train/"])
def test_images_in_subfolders_that_no_layout_has_are_named(tmp_path: Path, place: str) -> None:
    names = [f"{place}{kind}/{name}.png" for kind in ("images", "masks") for name in ("a", "day2/b", "day2/c")]
    dataset = opened(write(tmp_path / "data", *names))
    assert [sample.image_id for sample in dataset.samples] == ["a"]
    (note,) = dataset.notes
    assert note.startswith(
        "data: 4 image files not used, because no layout has a place for them: "
        f"{place}images/day2/b.png, {place}images/day2/c.png, {place}masks/day2/b.png, ..."
    )


def test_masks_that_all_fit_no_image_are_named_instead_of_none(tmp_path: Path) -> None:
    data = write(tmp_path, "images/a.tif", "masks/x.tif")
    with pytest.raises(DatasetError, match=r"none of the annotations has the name of an image: masks/x\.tif; images: "):
        training_set(open_data(data))


def test_two_annotations_of_one_image_are_not_chosen_between(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"labels/a\.tif and masks/a\.tif have the same identifier"):
        open_data(write(tmp_path, "images/a.tif", "masks/a.tif", "labels/a.tif"))


def test_a_pickle_of_cellpose_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (sample,) = opened(write(tmp_path, "a.tif", "a_seg.npy")).samples
    with pytest.raises(DatasetError, match=r"a_seg\.npy: .* is a pickle, .* save the masks as PNG or TIFF .*'masks'"):
        sample.read_labels()


def test_a_folder_of_pictures_with_some_json_is_no_data_set(tmp_path: Path) -> None:
    write(tmp_path, "a.tif", "b.tif")
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(DatasetError, match="found no image in a known layout"):
        open_data(tmp_path)


def test_a_damaged_roi_zip_beside_its_image_is_an_annotation_and_no_data(tmp_path: Path) -> None:
    data = write(tmp_path, "a.tif", "a_rois.zip", "b.tif", "b.zip")
    (data / "a_rois.zip").write_bytes((data / "a_rois.zip").read_bytes()[:50])
    a, b = opened(data).samples
    with pytest.raises(ImageError, match=r"^a_rois\.zip: "):
        a.read_labels()
    np.testing.assert_array_equal(b.read_labels(), LABELS)


@pytest.mark.parametrize(
    "names",
    [
        ["train/images/{}1.tif", "train/masks/{}1.tif", "val/images/{}2.tif", "val/masks/{}2.tif"],
        ["images/train/{}1.tif", "masks/train/{}1.tif", "images/valid/{}2.tif", "masks/valid/{}2.tif"],
        ["training/{}1.tif", "training/{}1_masks.tif", "validation/{}2.tif", "validation/{}2_masks.tif"],
    ],
)
def test_folders_give_the_split(tmp_path: Path, names: list[str]) -> None:
    said: list[str] = []
    datasets, table = open_with_splits(write(tmp_path, *(name.format("a") for name in names)), said.append)
    assert table is not None
    split = split_samples(training_set(datasets), table, 1, 0.1)
    assert [[sample.image_id for sample in side] for side in (split.train, split.val)] == [["a1"], ["a2"]]
    assert said == [f"{tmp_path}: the split is that of the folders: 1 train, 1 val"]


def test_without_a_folder_val_part_of_train_validates_and_test_is_not_touched(tmp_path: Path) -> None:
    names = [f"{kind}/{n}.tif" for n in range(8) for kind in ("Training - Images", "Training - Masks")]
    data = write(tmp_path, *names, "Test - Images/9.tif", "Test - Masks/9.tif")
    datasets, table = open_with_splits(data, lambda _: None)
    assert table is not None
    split = split_samples(training_set(datasets), table, 1, 0.25)
    assert split.source == "random"
    assert (len(split.train), len(split.val)) == (6, 2)
    assert table.split["9"] == "test"
    assert "9" not in {sample.image_id for sample in (*split.train, *split.val)}


def beside(*stems: str) -> list[str]:
    return [name for stem in stems for name in (f"{stem}.png", f"{stem}_masks.tif")]


@pytest.mark.parametrize(
    ("stems", "fitted", "said"),
    [
        (["a", "b", "test/c"], "train: a b", "2 train, 1 test"),
        (["a", "b", "val/c", "test/d"], "train: a b; val: c", "2 train, 1 val, 1 test"),
        (["a", "train/b", "val/c"], "train: b; val: c", "1 train, 1 val; 1 annotated image in none of them"),
    ],
)
def test_images_of_test_are_not_trained_on_even_without_a_folder_train(
    tmp_path: Path, stems: list[str], fitted: str, said: str
) -> None:
    sentences: list[str] = []
    datasets, table = open_with_splits(write(tmp_path, *beside(*stems)), sentences.append)
    split = split_samples(training_set(datasets), table, 1, 0.5)
    if split.source == "random":
        found = {"train": sorted(sample.image_id for sample in (*split.train, *split.val))}
    else:
        found = {"train": [one.image_id for one in split.train], "val": [one.image_id for one in split.val]}
    assert "; ".join(f"{side}: {' '.join(ids)}" for side, ids in found.items()) == fitted
    assert sentences == [f"{tmp_path}: the split is that of the folders: {said}"]


@pytest.mark.parametrize(
    ("stems", "expected"),
    [
        (["test/a", "test/b"], r"0 images to fit and 0 to validate; .*add images with masks \(the 2 in test are not"),
        (["val/a", "test/b"], "0 images to fit and 1 to validate; .*put images with masks into train and into val"),
    ],
)
def test_without_an_image_outside_val_and_test_nothing_is_trained(
    tmp_path: Path, stems: list[str], expected: str
) -> None:
    datasets, table = open_with_splits(write(tmp_path, *beside(*stems)), lambda _: None)
    with pytest.raises(DatasetError, match=expected):
        split_samples(training_set(datasets), table, 1, 0.5)


def test_names_that_two_splits_share_begin_with_the_split(tmp_path: Path) -> None:
    names = [f"{side}/{kind}/1.tif" for side in ("train", "val") for kind in ("images", "masks")]
    assert [sample.image_id for sample in opened(write(tmp_path, *names)).samples] == ["train_1", "val_1"]


def test_a_table_goes_before_the_folders(tmp_path: Path) -> None:
    names = [f"{side}/{kind}/{side}1.tif" for side in ("train", "val") for kind in ("images", "masks")]
    write(tmp_path, *names)
    (tmp_path / "splits.csv").write_text("image_id,split,modality\nval1,train,\ntrain1,val,\n")
    said: list[str] = []
    _, table = open_with_splits(tmp_path, said.append)
    assert table is not None
    assert table.split == {"val1": "train", "train1": "val"}
    assert said == [f"{tmp_path / 'splits.csv'}: gives the split; the folders train, val and test are not used for it"]


@pytest.mark.parametrize(
    ("place", "images"),
    [
        ("annotations/instances_default.json", ["images/a.png", "images/b.png"]),
        ("_annotations.coco.json", ["a.png", "b.png"]),
        ("annotations.json", ["images/a.png", "images/b.png"]),
    ],
)
def test_coco_files_name_their_images(tmp_path: Path, place: str, images: list[str]) -> None:
    write(tmp_path, *images)
    coco(tmp_path / place, "a.png", "b.png")
    dataset = opened(tmp_path)
    assert [sample.image_id for sample in dataset.samples] == ["a", "b"]
    for sample in dataset.samples:
        np.testing.assert_array_equal(np.unique(sample.read_labels()), [0, 1, 2])
        np.testing.assert_array_equal(sample.read_labels() > 0, LABELS > 0)


def test_coco_files_of_two_splits_may_share_names_and_what_they_miss_is_named(tmp_path: Path) -> None:
    write(tmp_path, "train2017/1.png", "val2017/1.png", "val2017/2.png")
    coco(tmp_path / "annotations/instances_train2017.json", "1.png", "gone.png")
    coco(tmp_path / "annotations/instances_val2017.json", "1.png")
    dataset = opened(tmp_path)
    found = [(sample.image_id, sample.split, sample.has_truth) for sample in dataset.samples]
    assert found == [("train_1", "train", True), ("val_1", "val", True), ("val_2", "val", False)]
    assert dataset.unpaired == ("annotations/instances_train2017.json: gone.png",)


def test_a_coco_file_without_its_images_or_cut_off_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "images/a.png")
    coco(tmp_path / "all.json", "x.png")
    with pytest.raises(DatasetError, match=r"all\.json: lists 1 images, of which none is in the data; .* x\.png"):
        open_data(tmp_path)
    (tmp_path / "all.json").write_text((tmp_path / "all.json").read_text()[:120])
    with pytest.raises(DatasetError, match=r"all\.json: cannot be read as JSON"):
        open_data(tmp_path)


def results(folder: Path, *stems: str, written: bool = False) -> None:
    """Write a results folder whose labels were corrected, or not."""
    for stem in stems:
        write(folder, f"labels/{stem}.tif", f"overlays/{stem}.png")
        record = folder / "records" / f"{stem.replace('/', '_')}.json"
        record.parent.mkdir(exist_ok=True)
        digest = hashlib.sha256((folder / f"labels/{stem}.tif").read_bytes()).hexdigest() if written else "0"
        record.write_text(json.dumps({"results": {f"labels/{stem}.tif": digest}}))
    (folder / "provenance.json").write_text("{}")


@pytest.mark.parametrize("images", ["", "my_images/", "images/"])
def test_corrected_results_are_the_truth_of_the_images_beside_them(tmp_path: Path, images: str) -> None:
    write(tmp_path, f"{images}a.tif", f"{images}sub/b.tif", f"{images}c.tif")
    results(tmp_path / "my_results", "a", written=True)
    results(tmp_path / "my_results", "sub/b", "gone")
    dataset = opened(tmp_path)
    assert [(sample.image_id, sample.has_truth) for sample in dataset.samples] == [
        ("a", True),
        ("c", False),
        ("sub_b", True),
    ]
    np.testing.assert_array_equal(dataset.samples[2].read_labels(), LABELS)
    assert dataset.unpaired == ("my_results/labels/gone.tif",)
    (note,) = dataset.notes
    assert "2 label images of a results folder are taken as the truth; 1 of them are as nuclei-infer wrote them" in note


@pytest.mark.skipif(sys.platform == "win32", reason="NOT RUN: Windows cannot store this name")
def test_a_corrected_result_finds_an_image_with_a_backslash_in_its_name(tmp_path: Path) -> None:
    write(tmp_path, "sub\\b.tif", "sub_b.tif")
    results(tmp_path / "my_results", result_stem("sub\\b"))
    truth = {sample.image_name: sample.has_truth for sample in opened(tmp_path).samples}
    assert truth == {"sub\\b.tif": True, "sub_b.tif": False}


def test_the_result_of_a_frame_is_not_taken_for_another_image(tmp_path: Path) -> None:
    write(tmp_path, "a.tif", "a_t003.tif")
    results(tmp_path / "my_results", "a_t003", "a_t003.tif")
    for record, image in (("a_t003", "a.tif"), ("a_t003.tif", "a_t003.tif")):
        path = tmp_path / "my_results/records" / f"{record}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"image": image}))
    dataset = opened(tmp_path)
    assert {sample.image_name: sample.mask_names for sample in dataset.samples} == {
        "a.tif": (),
        "a_t003.tif": ("my_results/labels/a_t003.tif.tif",),
    }
    assert dataset.unpaired == ("my_results/labels/a_t003.tif",)


@pytest.mark.parametrize("given", ["my", "my/sub"], ids=["the folder", "a subfolder"])
def test_results_of_images_with_one_name_go_to_the_image_that_was_segmented(tmp_path: Path, given: str) -> None:
    """The label image of `my/sub/a.tif` is `labels/sub/a.tif`, or `labels/a.tif` if the run was of `my/sub`."""
    write(tmp_path, "my/a.tif", "my/sub/a.tif")
    tifffile.imwrite(tmp_path / "my/sub/a.tif", IMAGE + 1)
    expected = {}
    for image in (tmp_path / given).rglob("*.tif"):
        stem = image.relative_to(tmp_path / given).with_suffix("").as_posix()
        results(tmp_path / "results", stem, written=True)
        record = tmp_path / "results/records" / f"{stem.replace('/', '_')}.json"
        source = {"sha256": hashlib.sha256(image.read_bytes()).hexdigest()}
        record.write_text(json.dumps(json.loads(record.read_text()) | {"image": f"{stem}.tif", "source": source}))
        expected[image.relative_to(tmp_path).as_posix()] = (f"results/labels/{stem}.tif",)
    dataset = opened(tmp_path)
    assert {sample.image_name: sample.mask_names for sample in dataset.samples if sample.has_truth} == expected
    assert len(expected) == (2 if given == "my" else 1)


def test_results_never_replace_masks(tmp_path: Path) -> None:
    """Whoever segments an annotated folder has predictions beside the truth."""
    write(tmp_path, "images/a.tif", "masks/a.tif")
    results(tmp_path / "results", "a")
    (sample,) = opened(tmp_path).samples
    assert sample.mask_names == ("masks/a.tif",)


def corrected_results(folder: Path, *, changed: list[str]) -> Path:
    """Write an image and its results in all forms, some of which were changed after the run."""
    results = folder / "my_results"
    data = write(folder, "a.tif", "my_results/labels/a.tif", "my_results/geojson/a.geojson", "my_results/roi/a.zip")
    written = [path.relative_to(results).as_posix() for path in sorted(results.rglob("a.*"))]
    digests = {one: hashlib.sha256((results / one).read_bytes()).hexdigest() for one in written}
    (results / "records").mkdir()
    (results / "records/a.json").write_text(json.dumps({"results": digests | dict.fromkeys(changed, "0")}))
    (results / "provenance.json").write_text("{}")
    return data


@pytest.mark.parametrize("place", ["labels/a.tif", "geojson/a.geojson", "roi/a.zip"])
def test_what_was_corrected_in_the_results_is_the_truth(tmp_path: Path, place: str) -> None:
    dataset = opened(corrected_results(tmp_path, changed=[place]))
    (sample,) = dataset.samples
    assert sample.mask_names == (f"my_results/{place}",)
    np.testing.assert_array_equal(sample.read_labels() > 0, LABELS > 0)
    assert dataset.unpaired == ()
    (note,) = dataset.notes
    assert "0 of them are as nuclei-infer wrote them" in note
    assert "remove" not in note
    assert ("for 1, outlines were corrected" in note) == (place != "labels/a.tif")


def test_results_that_nobody_corrected_are_their_label_images(tmp_path: Path) -> None:
    dataset = opened(corrected_results(tmp_path, changed=[]))
    assert dataset.samples[0].mask_names == ("my_results/labels/a.tif",)
    assert "1 of them are as nuclei-infer wrote them" in dataset.notes[0]


def test_an_image_that_was_corrected_in_two_places_is_refused(tmp_path: Path) -> None:
    data = corrected_results(tmp_path, changed=["labels/a.tif", "roi/a.zip"])
    with pytest.raises(DatasetError, match=r"labels/a\.tif and my_results/roi/a\.zip were both changed since the run"):
        open_data(data)


def test_a_results_folder_alone_is_refused_with_what_to_name(tmp_path: Path) -> None:
    results(tmp_path, "a")
    with pytest.raises(DatasetError, match="is a results folder, without the images; expected the folder"):
        open_data(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "text", "cut off"])
@pytest.mark.parametrize("names", [["a.tif", "a_masks.tif"], ["a.tif", "a.geojson"], ["a.tif", "a.zip"]])
def test_a_damaged_annotation_is_named_when_it_is_read(tmp_path: Path, names: list[str], damage: str) -> None:
    data = write(tmp_path, *names)
    file = data / names[1]
    file.write_bytes({"empty": b"", "text": b"hello", "cut off": file.read_bytes()[:70]}[damage])
    (sample,) = opened(data).samples
    with pytest.raises((ImageError, DatasetError), match=names[1]):
        sample.read_labels()


def test_the_digest_is_of_the_image_and_its_annotation(tmp_path: Path) -> None:
    (before,) = opened(write(tmp_path, "a.tif", "a.geojson")).samples
    digest = before.digest()
    (tmp_path / "a.geojson").write_text((tmp_path / "a.geojson").read_text() + " ")
    (after,) = opened(tmp_path).samples
    assert after.digest() != digest
    assert after.read_file("a.geojson").endswith(b" ")
