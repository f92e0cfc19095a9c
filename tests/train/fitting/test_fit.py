"""A training within this process, of the baseline's network on small images: what stops it, and what it refuses."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nuclei_train.data.pack import pack
from nuclei_train.errors import DatasetError, DivergedError, RunFolderError
from nuclei_train.fitting.fit import TrainingConfig, TrainingResult, train
from nuclei_train.fitting.stopping import EndIfDiverged
from nuclei_train.recipes.baseline import Baseline
from nuclei_train.recipes.recipe import Recipe
from nuclei_train.run_folder import read_run
from tests.contents import png_bytes
from tests.train.conftest import Listener

pytestmark = pytest.mark.usefixtures("eager")

SMALL = replace(Baseline(), size_px=32, batch_size=8, epochs=4, patience=2)
TWO_EPOCHS = replace(SMALL, epochs=2)
SEEDS = range(16)

MakeZip = Callable[..., Path]


def run(
    data: Path, folder: Path, *, recipe: Recipe = TWO_EPOCHS, resume: bool = False
) -> tuple[TrainingResult, Listener]:
    listener = Listener()
    return train(TrainingConfig(data, folder, recipe, resume), listener), listener


def write_table(folder: Path, split: Callable[[int], str]) -> None:
    rows = [f"field_{seed:03d},fluorescence,{split(seed)}" for seed in SEEDS]
    (folder / "splits.csv").write_text("\n".join(["image_id,modality,split", *rows]) + "\n", encoding="utf-8")


def by_number(seed: int) -> str:
    return "val" if seed < 2 else "test" if seed < 4 else "stardist" if seed < 6 else "train"


@pytest.fixture(scope="module")
def small_data(tmp_path_factory: pytest.TempPathFactory, training_data: Path) -> Path:
    """A folder with the first 16 images of the training zip and a table of their splits."""
    folder = tmp_path_factory.mktemp("small")
    with (
        zipfile.ZipFile(training_data / "stage1_train.zip") as source,
        zipfile.ZipFile(folder / "stage1_train.zip", "w") as target,
    ):
        for name in source.namelist():
            if int(name.partition("/")[0].removeprefix("field_")) in SEEDS:
                target.writestr(name, source.read(name))
    write_table(folder, by_number)
    return folder


@pytest.fixture(scope="module")
def small_run(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Listener]:
    """A finished run of two epochs. Do not change it."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, run(small_data, folder)[1]


def test_the_table_decides_and_nothing_is_warned_of(small_data: Path, small_run: tuple[Path, Listener]) -> None:
    folder, listener = small_run
    zip_file = small_data / "stage1_train.zip"
    assert listener.sentences == [f"{zip_file}: 10 images to fit, 2 to validate, 4 left out (splits.csv)"]
    assert listener.total == listener.loaded == 12
    content = read_run(folder)
    assert "start" not in content
    assert content["parameters"] == 1_941_105
    assert content["kflop_per_pixel"] == 92.5
    assert content["precision"] == "float32"
    assert {"source": "splits.csv", "train": 10, "val": 2}.items() <= content["split"].items()
    assert not (folder / "predictions_test.png").exists()  # there is no stage1_test


def test_after_a_resume_a_worse_epoch_counts_and_does_not_become_the_best(
    small_data: Path, small_run: tuple[Path, Listener], tmp_path: Path
) -> None:
    """One of four epochs is done, its best value cannot be reached again, and one epoch without gain already counts."""
    folder = tmp_path / "run"
    shutil.copytree(small_run[0], folder)
    content = read_run(folder)
    content["recipe"]["epochs"] = SMALL.epochs
    (folder / "run.json").write_text(json.dumps(content), encoding="utf-8")
    with np.load(folder / "resume.npz") as state:
        arrays = dict(state)
    progress = json.loads(arrays["progress"].tobytes())
    progress.update(epochs_done=1, history=progress["history"][:1], best_val_loss=1e-9, epochs_without_gain=1)
    arrays["progress"] = np.frombuffer(json.dumps(progress).encode(), np.uint8)
    np.savez(folder / "resume.npz", **arrays)
    best = (folder / "best.keras").read_bytes()

    result, listener = run(small_data, folder, recipe=SMALL, resume=True)
    assert "resuming after epoch 1" in listener.sentences
    assert result.epochs == 2  # patience is 2
    assert (folder / "best.keras").read_bytes() == best


def test_a_run_killed_in_its_first_epoch_begins_again(
    small_data: Path, small_run: tuple[Path, Listener], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    content = read_run(small_run[0])
    (folder / "run.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "best.keras").write_bytes(b"half a checkpoint")
    _, listener = run(small_data, folder, resume=True)
    assert not [sentence for sentence in listener.sentences if "resuming" in sentence]
    assert read_run(folder)["scores"] == content["scores"]


def test_resume_leaves_a_finished_run_as_it_is(
    small_data: Path, small_run: tuple[Path, Listener], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(small_run[0], folder)
    result, _ = run(small_data, folder, resume=True)
    assert result.epochs == 2
    for name in ("best.keras", "resume.npz", "history.csv", "curves.png"):
        assert (folder / name).read_bytes() == (small_run[0] / name).read_bytes(), name
    assert len(list((folder / "tensorboard").rglob("events*"))) == 2
    left, right = read_run(folder), read_run(small_run[0])
    assert left.pop("seconds")["epochs"] == right.pop("seconds")["epochs"]
    assert left == right


def test_another_split_is_not_resumed(small_data: Path, small_run: tuple[Path, Listener], tmp_path: Path) -> None:
    shutil.copy(small_data / "stage1_train.zip", tmp_path)
    write_table(tmp_path, lambda seed: by_number((seed + 1) % len(SEEDS)))
    before = (small_run[0] / "run.json").read_bytes()
    with pytest.raises(RunFolderError, match=r"differs from this command in .*split\.digest .* data_digests\.train"):
        run(tmp_path, small_run[0], resume=True)
    assert (small_run[0] / "run.json").read_bytes() == before


def test_a_finished_run_without_a_complete_checkpoint_is_refused_with_a_message(
    small_data: Path, small_run: tuple[Path, Listener], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(small_run[0], folder)
    (folder / "best.keras").unlink()
    with pytest.raises(RunFolderError, match=r"best\.keras: missing"):
        run(small_data, folder, resume=True)
    (folder / "best.keras").write_bytes((small_run[0] / "best.keras").read_bytes()[:-1000])
    with pytest.raises(RunFolderError, match=r"best\.keras: cannot be read"):
        run(small_data, folder, resume=True)


def test_a_pack_resumes_a_run_that_an_earlier_version_made_of_its_data(
    small_data: Path, small_run: tuple[Path, Listener], tmp_path: Path
) -> None:
    """The run does not mention a setting that the earlier version did not have; its default is used."""
    pack([small_data], tmp_path / "pack.zip", lambda *_: None, lambda *_: None)
    folder = tmp_path / "run"
    shutil.copytree(small_run[0], folder)
    content = read_run(folder)
    del content["recipe"]["tolerance"]
    (folder / "run.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"differs .* in recipe\.tolerance \(0\.0001 in the run, 0\.1 in "):
        run(tmp_path / "pack.zip", folder, recipe=replace(TWO_EPOCHS, tolerance=0.1), resume=True)
    _, listener = run(tmp_path / "pack.zip", folder, resume=True)
    assert listener.sentences[0].endswith("pack.zip: 10 images to fit, 2 to validate, 4 left out (splits.csv)")
    left, right = read_run(folder), read_run(small_run[0])
    assert left.pop("seconds")["epochs"] == right.pop("seconds")["epochs"]
    assert left == right


def write_pictures(folder: Path, pictures: dict[str, bytes]) -> None:
    for name, content in pictures.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def good_pictures(n: int) -> dict[str, bytes]:
    image, mask = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    image[10:20, 10:20], mask[10:20, 10:20] = 200, 255
    names = [f"picture_{index}" for index in range(n)]
    return {f"{name}/images/{name}.png": png_bytes(image) for name in names} | {
        f"{name}/masks/one.png": png_bytes(mask) for name in names
    }


@pytest.mark.parametrize(
    ("broken", "content", "reason"),
    [
        ("images/picture_3.png", b"", "picture_3: .*empty"),
        ("images/picture_3.png", b"\x89PNG\r\n\x1a\nno more", "picture_3: "),
        (
            "masks/one.png",
            png_bytes(np.zeros((40, 41), np.uint8)),
            r"picture_3: the image is 40 x 40 pixels and its masks are 40 x 41; fix it",
        ),
        ("masks/two.png", png_bytes(np.zeros((40, 41), np.uint8)), r"picture_3: mask two.png is \(40, 41\)"),
    ],
    ids=["empty image", "truncated image", "masks of another size", "masks of two sizes"],
)
def test_an_image_that_cannot_be_used_is_named_and_can_be_fixed(
    tmp_path: Path, broken: str, content: bytes, reason: str
) -> None:
    data, folder = tmp_path / "stage1_train", tmp_path / "run"
    write_pictures(data, good_pictures(6) | {f"picture_3/{broken}": content})
    with pytest.raises(DatasetError, match=reason):
        run(data, folder)
    assert list(folder.iterdir()) == []  # no run was begun: the same command works once the data are fixed


def test_misread_masks_stop_a_training_unless_they_are_accepted(tmp_path: Path) -> None:
    """A palette that was saved as grey: the white background is a nucleus, and the scores would look perfect."""
    for n in range(4):
        for kind, value in (("images", 0), ("masks", 255)):
            array = np.full((40, 48), value, np.uint8)
            array[5:15, 5 + n : 20] = 90
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "data" / kind / f"{n}.png")
    with pytest.raises(DatasetError, match=r"nucleus that covers most of the image, 4 in 4 images .*--accept-oddities"):
        run(tmp_path / "data", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    listener = Listener()
    config = TrainingConfig(tmp_path / "data", tmp_path / "run", replace(SMALL, epochs=1), False, accept_oddities=True)
    assert train(config, listener).epochs == 1
    assert any(one.startswith("accepted: nucleus that covers most of the image") for one in listener.sentences)
    resumed, _ = run(tmp_path / "data", tmp_path / "run", recipe=replace(SMALL, epochs=1), resume=True)
    assert resumed.epochs == 1


def test_masks_without_a_nucleus_are_refused_before_anything_is_fitted(tmp_path: Path) -> None:
    data, folder = tmp_path / "stage1_train", tmp_path / "run"
    empty = {name: png_bytes(np.zeros((40, 40), np.uint8)) for name in good_pictures(6) if "/masks/" in name}
    write_pictures(data, good_pictures(6) | empty)
    with pytest.raises(DatasetError, match="the masks of all 5 images to fit contain no nucleus"):
        run(data, folder)
    assert list(folder.iterdir()) == []


def test_a_training_whose_loss_is_no_number_ends_at_once(small_data: Path, tmp_path: Path) -> None:
    """It would go on for all epochs, keep weights that are no numbers, and call itself complete."""
    with pytest.raises(DivergedError, match=r"training loss is (nan|inf).*--learning-rate below 1e\+20"):
        run(small_data, tmp_path / "run", recipe=replace(TWO_EPOCHS, learning_rate=1e20))
    assert read_run(tmp_path / "run")["status"] == "running"
    assert not (tmp_path / "run/best.keras").exists()


@pytest.mark.parametrize(("loss", "ends"), [(float("nan"), True), (float("inf"), True), (1e9, False)])
def test_a_validation_loss_that_is_no_number_is_not_kept(loss: float, ends: bool) -> None:
    callback = EndIfDiverged(1e-3)
    with pytest.raises(DivergedError, match="validation loss") if ends else nullcontext():
        callback.on_epoch_end(0, {"loss": 1.0, "val_loss": loss})
