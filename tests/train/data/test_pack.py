"""The file that nuclei-pack makes: its contents, its equivalence to the data, and the detection of damage."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_train.cli.explore import main as explore_main
from nuclei_train.cli.pack import main as pack_main
from nuclei_train.data.finding import open_data, training_set
from nuclei_train.data.opening import open_for_training
from nuclei_train.data.pack import pack
from nuclei_train.data.packed import PACK_FILE
from nuclei_train.data.samples import combined_digest
from nuclei_train.data.split import Split, split_samples
from nuclei_train.data.split_table import read_split_table
from nuclei_train.data.truth import read_with_truth
from nuclei_train.errors import ArchiveError, DatasetError
from nuclei_train.fitting.run_description import describe_run
from nuclei_train.recipes.native import Native
from nuclei_train.recipes.recipe import Sources

MakeZip = Callable[..., Path]
RunMain = Callable[..., tuple[int, str, str]]

SPLITS = ("train", "train", "val", "test", "train", "stardist", "val", "")
LIMIT_BYTES = 60 * 2**20


def nothing(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def data(training_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the first 8 images of the training zip, in the splits `SPLITS`, and the zip of the test images."""
    folder = tmp_path_factory.mktemp("to pack")
    with (
        zipfile.ZipFile(training_data / "stage1_train.zip") as source,
        zipfile.ZipFile(folder / "stage1_train.zip", "w") as target,
    ):
        for name in source.namelist():
            if int(name.partition("/")[0].removeprefix("field_")) < len(SPLITS):
                target.writestr(name, source.read(name))
    (folder / "stage1_test.zip").write_bytes((training_data / "stage1_test.zip").read_bytes())
    rows = [f"field_{n:03d},{'purple' if n % 2 else 'grey'},{split}" for n, split in enumerate(SPLITS)]
    (folder / "splits.csv").write_text("\n".join(["image_id,modality,split", *rows]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def packed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pack") / "small.zip"
    pack([data], file, nothing, nothing)
    return file


def test_it_can_be_explored(packed: Path, run_main: RunMain, tmp_path: Path) -> None:
    code, printed, err = run_main(explore_main, packed, tmp_path / "out")
    assert code == 0, err
    assert "stage1_train: 5 images" in printed
    assert (tmp_path / "out/data/splits.csv").read_bytes().startswith(b"image_id,modality,split")


def split_of(data: Path) -> Split:
    return split_samples(training_set(open_data(data)), read_split_table(data), 42, 0.1)


def test_it_holds_what_is_fitted_and_validated_and_no_other_image(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        names = archive.namelist()
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    kept = [f"field_{n:03d}" for n in (0, 1, 2, 4, 6)]
    assert names == [
        "splits.csv",
        *(f"stage1_train/{one}" for i in kept for one in (f"images/{i}.png", f"masks/{i}.tif")),
        PACK_FILE,
    ]


def test_it_stands_for_the_data(data: Path, packed: Path) -> None:
    """Images, truths, table and everything else that defines a run are equal."""
    of_data, of_pack = split_of(data), split_of(packed)
    for one, other in zip((*of_data.train, *of_data.val), (*of_pack.train, *of_pack.val), strict=True):
        assert one.image_id == other.image_id
        assert one.digest() == other.digest()
        for array, again in zip(read_with_truth(one), read_with_truth(other), strict=True):
            assert array.dtype == again.dtype
            np.testing.assert_array_equal(array, again)
    table, again_table = read_split_table(data), read_split_table(packed)
    assert table is not None
    assert again_table is not None
    assert (table.digest, table.modality, table.split) == (
        again_table.digest,
        again_table.modality,
        again_table.split,
    )
    descriptions = [
        describe_run(Native(), training_set(open_data(one)), Sources(split, {}, ()), None)
        for one, split in ((data, of_data), (packed, of_pack))
    ]
    assert descriptions[0] == descriptions[1]
    assert descriptions[0]["data"]["images"] == len(SPLITS)
    material, again_material = (
        Native().load(Sources(split, table.modality, ()), nothing) for split in (of_data, of_pack)
    )
    for one_batch, other_batch in zip(material.batches(0)[3], again_material.batches(0)[3], strict=True):
        np.testing.assert_array_equal(one_batch, other_batch)


def test_without_a_table_all_that_has_truth_is_packed_and_split_alike(data: Path, tmp_path: Path) -> None:
    plain, file = tmp_path / "plain", tmp_path / "plain.zip"
    plain.mkdir()
    (plain / "stage1_train.zip").write_bytes((data / "stage1_train.zip").read_bytes())
    assert pack([plain], file, nothing, nothing).n_images == len(SPLITS)
    assert read_split_table(file) is None
    of_data, of_pack = split_of(plain), split_of(file)
    assert of_data.digest == of_pack.digest
    assert of_pack.source == "random"


def test_label_images_are_packed_too_and_a_pack_packed_again_is_the_same(
    make_label_zip: Callable[..., Path], tmp_path: Path
) -> None:
    source = make_label_zip(tmp_path / "labels.zip", range(3))
    first, second = (tmp_path / name for name in ("first.zip", "second.zip"))
    pack([source], first, nothing, nothing)
    pack([first], second, nothing, nothing)
    assert first.read_bytes() == second.read_bytes()
    for one, other in zip(training_set(open_data(source)).samples, training_set(open_data(first)).samples, strict=True):
        np.testing.assert_array_equal(one.read_labels(), other.read_labels())


def test_the_command_says_what_it_made(data: Path, packed: Path, run_main: RunMain, tmp_path: Path) -> None:
    file = tmp_path / "again.zip"
    code, out, _ = run_main(pack_main, data, file)
    assert code == 0
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    assert out == (
        f"{file}: 5 images, {file.stat().st_size / 2**20:.1f} MiB, SHA-256 {digest}\n"
        "left out: 3 images in neither train nor val of splits.csv\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["again.zip"]
    code, _, err = run_main(pack_main, data, file)
    assert code == 2
    assert "already exists; choose another file, or delete it" in err


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pack.tar", "a packed file is a zip; name it pack.tar.zip"),
        ("nowhere/pack.zip", "its folder does not exist"),
        ("data/pack.zip", "would be taken for part of the data"),
    ],
)
def test_a_file_that_cannot_be_made_is_a_sentence(data: Path, tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "stage1_train.zip").write_bytes((data / "stage1_train.zip").read_bytes())
    with pytest.raises(DatasetError, match=expected):
        pack([tmp_path / "data"], tmp_path / name, nothing, nothing)
    assert [path.name for path in tmp_path.rglob("*pack*")] == []


def test_an_image_that_cannot_be_used_is_named_and_leaves_nothing(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    with zipfile.ZipFile(data / "stage1_train.zip") as source, zipfile.ZipFile(folder / "x.zip", "w") as target:
        for name in source.namelist():
            target.writestr(name, b"none" if name == "field_004/images/field_004.png" else source.read(name))
    with pytest.raises(DatasetError, match=r"^field_004: "):
        pack([folder], tmp_path / "pack.zip", nothing, nothing)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def rewrite(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Write a pack's files, changed, into a new, undamaged zip."""
    with zipfile.ZipFile(source) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target


def rename_table(files: dict[str, bytes]) -> None:
    manifest = json.loads(files[PACK_FILE])
    manifest["files"]["images.csv"] = manifest["files"].pop("splits.csv")
    files |= {"images.csv": files.pop("splits.csv"), PACK_FILE: json.dumps(manifest).encode()}


def test_a_pack_of_an_earlier_version_is_the_same_data(packed: Path, run_main: RunMain, tmp_path: Path) -> None:
    """Its table has the former name, and the command says so."""
    older = rewrite(packed, tmp_path / "older.zip", rename_table)
    assert read_split_table(older) == replace(read_split_table(packed), path=older / "images.csv")
    assert split_of(older).source == split_of(packed).source == "splits.csv"
    code, _, err = run_main(pack_main, older, tmp_path / "again.zip")
    assert code == 0
    assert err == f"{older / 'images.csv'}: used as the split table, whose name is now splits.csv\n"
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


IMAGE = "stage1_train/images/field_000.png"


def exchange(files: dict[str, bytes]) -> None:
    files[IMAGE] = files["stage1_train/images/field_001.png"]


def lose(files: dict[str, bytes]) -> None:
    del files[IMAGE]


def edit(**fields: object) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        files[PACK_FILE] = json.dumps({**json.loads(files[PACK_FILE]), **fields}).encode()

    return change


def spoil(content: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda files: files.update({PACK_FILE: content})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (exchange, f"{IMAGE}' is not what was packed"),
        (lose, f"{IMAGE}' is missing"),
        (edit(version=2), "version: expected 1, found 2"),
        (edit(samples=[{"image_id": "a"}]), r"samples\[0\].image: missing"),
        (edit(images_left_out=-1), "images_left_out: expected a whole number"),
        (edit(files=[]), "files: expected an object of strings"),
        (edit(more=1), "more: unknown field"),
        (spoil(b"{"), "not JSON"),
        (spoil(b"\xff"), "not UTF-8"),
    ],
    ids=["exchanged", "missing", "version", "sample", "number", "files", "unknown", "json", "utf-8"],
)
def test_a_pack_that_is_not_what_was_packed_is_a_sentence(
    packed: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], None], expected: str
) -> None:
    file = rewrite(packed, tmp_path / "changed.zip", change)
    with pytest.raises(ArchiveError, match=expected):
        Native().load(Sources(split_of(file), {}, ()), nothing)


def test_a_pack_that_claims_more_than_its_size_is_refused(packed: Path, tmp_path: Path) -> None:
    file = tmp_path / "bomb.zip"
    file.write_bytes(packed.read_bytes())
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(10_000_000))
    with pytest.raises(ArchiveError, match="claims to contain more than its own size"):
        open_data(file)


def test_random_damage_is_a_sentence_or_harmless(packed: Path, tmp_path: Path) -> None:
    whole, chance, raised = packed.read_bytes(), random.Random(42), 0
    (dataset,) = open_data(packed)
    truth = [sample.read_labels() for sample in dataset.samples]
    for round_ in range(60):
        content = bytearray(whole)
        for _ in range(4):
            content[chance.randrange(len(content))] ^= 1 + chance.randrange(255)
        file = tmp_path / f"{round_}.zip"
        file.write_bytes(content)
        try:
            read_split_table(file)
            (damaged,) = open_data(file)
            for labels, sample in zip(truth, damaged.samples, strict=True):
                sample.read_image()
                np.testing.assert_array_equal(sample.read_labels(), labels)
        except DatasetError:
            raised += 1
    assert raised > 30


@pytest.mark.real_data
def test_the_real_data_fit_into_60_mib_and_make_the_same_run(real_data: Path, tmp_path: Path) -> None:
    file = tmp_path / "dsb2018.zip"
    result = pack([real_data], file, nothing, nothing)
    assert result.size_bytes == file.stat().st_size < LIMIT_BYTES
    assert result.n_images == 551
    descriptions = [
        describe_run(Native(), training_set(open_data(one)), Sources(split_of(one), {}, ()), None)
        for one in (real_data, file)
    ]
    assert descriptions[0] == descriptions[1]


def test_several_data_sets_become_one(data: Path, make_dsb_zip: MakeZip, run_main: RunMain, tmp_path: Path) -> None:
    """Each keeps its split; the images of one without a split table are all fitted."""
    other = make_dsb_zip(tmp_path / "other.zip", range(3), size=(40, 40))
    file = tmp_path / "joint.zip"
    code, printed, err = run_main(pack_main, data, other, file)
    assert code == 0, err
    assert "8 images" in printed
    dataset, table = training_set(open_data(file)), read_split_table(file)
    assert table is not None
    assert dataset.name == "joint"
    alone = split_of(data)
    split = split_samples(dataset, table, 42, 0.1)
    assert [one.image_id for one in split.val] == [f"stage1_train_{one.image_id}" for one in alone.val]
    assert [one.image_id for one in split.train] == [
        *(f"other_{one.image_id}" for one in open_data(other)[0].samples),
        *(f"stage1_train_{one.image_id}" for one in alone.train),
    ]
    assert {table.modality[one.image_id] for one in split.train} == {"other", "grey", "purple"}
    for one, before in zip(split.val, alone.val, strict=True):
        for array, again in zip(read_with_truth(one), read_with_truth(before), strict=True):
            np.testing.assert_array_equal(array, again)


def test_what_a_joined_file_leaves_out_is_said_by_reason(data: Path, run_main: RunMain, tmp_path: Path) -> None:
    other = half_paired(tmp_path / "other")
    for kind in ("images", "masks"):
        (other / "test" / kind).mkdir(parents=True)
        shutil.copy(other / kind / "a.tif", other / "test" / kind / "z.tif")
    (other / "masks/d.tif").unlink()
    code, printed, err = run_main(pack_main, data, other, tmp_path / "joint.zip")
    assert code == 0, err
    assert [line for line in printed.splitlines() if line.startswith("left out")] == [
        "left out: 1 image without masks",
        "left out: 3 images in neither train nor val of splits.csv",
        "left out: 1 image in neither train nor val of the folders",
    ]
    assert "other_z" not in {one.image_id for one in open_data(tmp_path / "joint.zip")[0].samples}


def test_data_sets_that_cannot_be_joined_are_named(make_dsb_zip: MakeZip, run_main: RunMain, tmp_path: Path) -> None:
    one, other = (make_dsb_zip(tmp_path / name, range(2), size=(40, 40)) for name in ("one.zip", "other.zip"))
    for data, complaint in (
        ((one, other), "none of the data sets one, other has a splits.csv"),
        ((one, one), "two data sets are named one"),
    ):
        code, _, err = run_main(pack_main, *data, tmp_path / "joint.zip")
        assert code != 0
        assert complaint in " ".join(err.split())
        assert not (tmp_path / "joint.zip").exists()


def test_a_pack_of_folders_without_val_draws_the_same_images(tmp_path: Path) -> None:
    image, labels = fluorescence_field(1, height=32, width=32, n_nuclei=2)
    for n in range(8):
        side = "test" if n == 7 else "train"
        for kind, array in (("images", image), ("labels", labels.astype(np.uint16))):
            (tmp_path / "data" / side / kind).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(tmp_path / "data" / side / kind / f"{n}.tif", array)
    pack([tmp_path / "data"], tmp_path / "data.zip", lambda _: None, lambda _done, _total: None)
    digests = set()
    for data in (tmp_path / "data", tmp_path / "data.zip"):
        dataset, table = open_for_training(data, lambda _: None)
        split = split_samples(dataset, table, 42, 0.3)
        assert (len(split.train), len(split.val)) == (5, 2)
        digests.add((split.digest, combined_digest(sample.digest() for sample in split.train)))
    assert len(digests) == 1


def half_paired(folder: Path) -> Path:
    """Two images with masks, one without, and a mask without an image."""
    for kind, names in (("images", "abc"), ("masks", "abd")):
        (folder / kind).mkdir(parents=True)
        for seed, name in enumerate(names):
            image, labels = fluorescence_field(seed, height=64, width=64, n_nuclei=4)
            tifffile.imwrite(folder / kind / f"{name}.tif", image if kind == "images" else labels.astype(np.uint16))
    return folder


def test_data_on_which_a_training_would_stop_are_not_packed_unless_they_are_accepted(
    tmp_path: Path, run_main: RunMain
) -> None:
    data, file = half_paired(tmp_path / "data"), tmp_path / "data.zip"
    code, printed, err = run_main(pack_main, data, file)
    assert (code, printed) == (2, "")
    assert "images without an annotation: 1 of 3 (images/c.tif); annotations without an image: 1 (masks/d.tif)" in err
    assert "error: " in err
    assert "annotation without image (masks/d.tif)" in err
    assert "--accept-oddities" in err
    assert not list(tmp_path.glob("*.zip*"))
    code, printed, err = run_main(pack_main, data, file, "--accept-oddities")
    assert code == 0, err
    assert "accepted: annotation without image (masks/d.tif)" in err
    assert "left out: 1 image without masks" in printed


def test_each_of_several_data_sets_is_checked(tmp_path: Path) -> None:
    good = half_paired(tmp_path / "good")
    (good / "masks/d.tif").unlink()
    (good / "splits.csv").write_text("image_id,split,modality\na,train,x\nb,val,x\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"odd: annotation without image \(masks/d.tif\)"):
        pack([good, half_paired(tmp_path / "odd")], tmp_path / "two.zip", nothing, nothing)


def test_binary_masks_are_not_packed(tmp_path: Path) -> None:
    data = half_paired(tmp_path / "data")
    for path in (data / "masks").iterdir():
        tifffile.imwrite(path, (tifffile.imread(path) > 0).astype(np.uint8))
    with pytest.raises(DatasetError, match="its mask contains one nucleus in 3 pieces"):
        pack([data], tmp_path / "data.zip", nothing, nothing)
