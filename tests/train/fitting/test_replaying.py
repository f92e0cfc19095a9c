"""Replayed data: no image of the user's own data is among them, and they are checked like these."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from nuclei_train import run_folder
from nuclei_train.errors import DatasetError, RunFolderError
from nuclei_train.fitting.preparing import TrainingConfig, prepare
from nuclei_train.recipes.fine_tuning import FineTuning
from tests.train.conftest import Listener


def write(folder: Path, *numbers: int, name: str = "{}", binary: bool = False) -> Path:
    """Write images, each with two nuclei of a place of its own."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        labels = np.zeros((32, 32), np.uint8)
        labels[2:8, number : number + 6] = 1
        labels[20:26, number : number + 6] = 1 if binary else 2
        tifffile.imwrite(folder / "images" / f"{name.format(number)}.tif", (labels > 0).astype(np.uint8) * 100)
        tifffile.imwrite(folder / "masks" / f"{name.format(number)}.tif", labels)
    return folder


def prepared(own: Path, replay: Path, run: Path) -> tuple[set[str], list[str]]:
    """Return the images that are replayed, and what was said."""
    listener = Listener()
    config = TrainingConfig(own, run, FineTuning(), resume=False, replay=replay)
    found = prepare(config, listener, "").sources.replay
    assert found is not None
    return {sample.image_id for sample in (*found.train, *found.val)}, listener.sentences


def test_own_images_are_not_replayed_whatever_their_names_and_splits(tmp_path: Path) -> None:
    own = write(tmp_path / "own", 1, 2, 3)
    (own / "splits.csv").write_text("image_id,split,modality\n1,train,\n2,val,\n3,test,\n")
    old = write(tmp_path / "old", 1, 2, 3, 4, 5, name="own_{}")
    (old / "splits.csv").write_text(
        "image_id,split,modality\n" + "".join(f"own_{n},{'val' if n in (1, 5) else 'train'},\n" for n in range(1, 6))
    )
    replayed, said = prepared(own, old, tmp_path / "run")
    assert replayed == {"own_4", "own_5"}
    assert f"old: 3 images not replayed because {own} contains the same: own_2, own_3, own_1" in said
    shutil.rmtree(tmp_path / "run")
    (old / "splits.csv").write_text("image_id,split,modality\nown_2,train,\nown_5,val,\n")
    with pytest.raises(DatasetError, match=r"every image to replay is also in .*own_2.*leave --replay out"):
        prepared(own, old, tmp_path / "run")


def test_replayed_data_are_checked_like_ones_own(tmp_path: Path) -> None:
    own = write(tmp_path / "own", 1, 2, 3)
    with pytest.raises(DatasetError, match="its mask contains one nucleus in 2 pieces"):
        prepared(own, write(tmp_path / "binary", 5, 6, 7, binary=True), tmp_path / "run")
    old = write(tmp_path / "old", 5, 6, 7)
    (old / "images/7.tif").unlink()
    with pytest.raises(DatasetError, match=r"old: annotation without image \(masks/7\.tif\)"):
        prepared(own, old, tmp_path / "run")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ("own/splits.csv", "data.modalities_sha256"),
        ("old/splits.csv", "replay.modalities_sha256"),
        ("old/masks/7.tif", "replay.images_sha256"),
    ],
)
def test_a_run_is_not_resumed_with_other_modalities_or_replayed_images(
    tmp_path: Path, changed: str, field: str
) -> None:
    """They decide which crops are drawn; a run of an earlier version, which does not mention them, is resumed."""
    for name, numbers in (("own", (1, 2, 3)), ("old", (5, 6, 7))):
        rows = [f"{number},{'val' if number in (3, 6) else 'train'},blue" for number in numbers]
        (write(tmp_path / name, *numbers) / "splits.csv").write_text("\n".join(["image_id,split,modality", *rows]))
    config = TrainingConfig(tmp_path / "own", tmp_path / "run", FineTuning(), resume=True, replay=tmp_path / "old")
    prepare(config, Listener(), "")
    prepare(config, Listener(), "")
    run = run_folder.read_run(config.run)
    path = tmp_path / changed
    if path.suffix == ".csv":
        path.write_text(path.read_text().replace("train,blue", "train,brown", 1))
    else:
        tifffile.imwrite(path, tifffile.imread(path) * 2)
    with pytest.raises(RunFolderError, match=rf"it differs from this command in {field} \("):
        prepare(config, Listener(), "")
    section, name = field.split(".")
    del run[section][name]
    run_folder.write_run(config.run, run)
    prepare(config, Listener(), "")
