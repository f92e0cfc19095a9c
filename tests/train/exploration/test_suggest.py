"""nuclei-explore --suggest as a user runs it: on folders of images without annotations."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.cli.infer import main as infer
from nuclei_runtime.readers.opening import open_planes, read_image
from nuclei_runtime.readers.plane import Selection
from nuclei_train.cli.explore import main
from nuclei_train.data.finding import open_data

Run = Callable[..., tuple[int, str, str]]


def field(seed: int, size: int = 96, n_nuclei: int = 8) -> np.ndarray:
    return fluorescence_field(seed, height=size, width=size, n_nuclei=n_nuclei)[0]


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "suggestions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six ordinary fields, two of a kind that differs, one without anything, a stack, and two files to leave out."""
    folder = tmp_path_factory.mktemp("pool") / "images"
    (folder / "day 2").mkdir(parents=True)
    for seed in range(6):
        Image.fromarray(field(seed)).save(folder / f"field_{seed}.png")
    for seed in (6, 7):
        grey = ndimage.zoom(field(seed).astype(float), 2, order=1)
        picture = 230 - np.stack([grey * 0.4, grey * 0.9, grey * 0.3], axis=-1)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / "day 2" / f"field_{seed}.png")
    Image.fromarray(np.full((96, 96), 7, np.uint8)).save(folder / "closed.png")
    stack = np.stack([field(8), field(9)]).astype(np.uint16) * 16
    metadata = {"axes": "TYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(folder / "series.ome.tif", stack, metadata=metadata)
    (folder / "damaged.tif").write_bytes(b"II*\0 no more")
    Image.fromarray(field(1)[:20, :20]).save(folder / "tiny.png")
    return folder


@pytest.fixture(scope="module")
def suggested(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is suggested among these images. Do not change it."""
    from nuclei_runtime.runs.config import RunConfig
    from nuclei_train.exploration.suggest import suggest

    out = tmp_path_factory.mktemp("suggested") / "out"
    found = suggest(RunConfig((str(images),), out), out, 20, None, lambda _done, _total: None)
    assert found.n_candidates == 10
    assert found.empty == ["closed.png"]
    assert sorted(found.failed) == ["damaged.tif", "tiny.png"]
    assert "20 x 20 pixels are too few to compare" in found.failed["tiny.png"]
    return out


def test_every_image_is_ranked_with_its_reason_and_copied(images: Path, suggested: Path) -> None:
    found = rows(suggested)
    assert [row["rank"] for row in found] == [str(rank) for rank in range(1, 11)]
    for row in found:
        assert "of its nuclei are expected to be right; " in row["why"]
        assert (suggested / row["copy"]).is_file()
    by_image = {row["image"]: row["copy"] for row in found}
    assert by_image["day 2/field_6.png"] == "images/day 2_field_6.png"
    copy = suggested / by_image["field_3.png"]
    assert copy.read_bytes() == (images / "field_3.png").read_bytes()


def test_a_plane_of_a_stack_becomes_an_image_of_its_own_with_its_pixel_size(images: Path, suggested: Path) -> None:
    (copy,) = [row["copy"] for row in rows(suggested) if row["image"] == "series.ome.tif_t001"]
    np.testing.assert_array_equal(read_image(suggested / copy), tifffile.imread(images / "series.ome.tif")[1])
    with open_planes(suggested / copy, Selection()) as planes:
        assert planes[0].pixel_size_um == pytest.approx((0.5, 0.5))


def test_what_is_corrected_afterwards_is_a_data_set_to_train_on(suggested: Path) -> None:
    (dataset,) = open_data(suggested)
    assert len(dataset.samples) == 10
    assert not dataset.unpaired
    assert all(sample.read_labels().max() > 0 for sample in dataset.samples if "field" in sample.image_id)
    assert "10 of them are as nuclei-infer wrote them" in dataset.notes[0]
    for folder in ("labels", "geojson", "roi", "overlays"):
        assert len(list((suggested / "results" / folder).iterdir())) == 10


def test_the_same_is_suggested_again_and_what_is_annotated_is_not(
    images: Path, suggested: Path, tmp_path: Path, run_main: Run
) -> None:
    code, out, err = run_main(main, images, tmp_path / "out", "--suggest", 3)
    assert code == 1  # two files could not be read
    assert "left out: damaged.tif: " in err
    assert "nothing stands out in 1 image: closed.png" in err
    assert f"next: correct the nuclei in {tmp_path / 'out/results'}" in out
    first = [row["image"] for row in rows(tmp_path / "out")]
    assert first == [row["image"] for row in rows(suggested)[:3]]  # the same again
    code, out, _ = run_main(main, images, tmp_path / "more", "--suggest", 2, "--annotated", tmp_path / "out")
    assert not {row["image"] for row in rows(tmp_path / "more")} & set(first)
    code, _, err = run_main(main, tmp_path / "out/images", tmp_path / "none", "--suggest", 2, "--annotated", suggested)
    assert code == 2
    assert "all images that could be suggested are the same as annotated ones" in err


def test_a_model_that_expects_nothing_is_replaced_by_representatives(
    images: Path, tiny_model: Path, tmp_path: Path, run_main: Run
) -> None:
    code, out, _ = run_main(main, images, tmp_path / "out", "--suggest", 2, "--model", tiny_model)
    assert code == 1
    assert "--start RUN, the run folder of the model" in out
    assert all(row["expected_ap"] == "" and "look" in row["why"] for row in rows(tmp_path / "out"))


def test_channels_are_chosen_as_in_nuclei_infer(tmp_path: Path, run_main: Run) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    channels = np.stack([field(1), field(2)])
    tifffile.imwrite(folder / "two.ome.tif", channels, metadata={"axes": "CYX", "Channel": {"Name": ["GFP", "DAPI"]}})
    code, _, err = run_main(main, folder, tmp_path / "none", "--suggest", 1)
    assert code == 2
    assert "none of the images can be annotated; two.ome.tif: " in err
    assert "--channel" in err
    code, _, err = run_main(main, folder, tmp_path / "out", "--suggest", 1, "--channel", "DAPI")
    assert code == 0, err
    np.testing.assert_array_equal(read_image(tmp_path / "out/images/two.ome.tif"), channels[1])


def test_nothing_is_overwritten_and_options_without_suggest_are_refused(
    images: Path, suggested: Path, tmp_path: Path, run_main: Run
) -> None:
    code, _, err = run_main(main, images, suggested, "--suggest", 2)
    assert code == 2
    assert "not empty; choose a new folder for the suggestions" in err
    code, _, err = run_main(main, images, tmp_path / "out", "--channel", "1")
    assert code == 2
    assert "need --suggest" in " ".join(err.replace("│", " ").split())


def test_an_image_that_is_too_large_to_annotate_is_named(tmp_path: Path, run_main: Run) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    tifffile.imwrite(folder / "slide.tif", np.zeros((8, 5000), np.uint8))
    Image.fromarray(field(1)).save(folder / "a.png")
    code, _, err = run_main(main, folder, tmp_path / "out", "--suggest", 1)
    assert code == 1
    assert "left out: slide.tif: 8 x 5000 pixels are too many to annotate" in err


def test_images_that_are_annotated_in_their_folder_and_their_masks_are_no_candidates(
    tmp_path: Path, run_main: Run
) -> None:
    folder = tmp_path / "data"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for seed in range(3):
        image, labels = fluorescence_field(seed, height=96, width=96, n_nuclei=8)
        Image.fromarray(image).save(folder / f"images/{seed}.png")
        if seed < 2:
            Image.fromarray(labels.astype(np.uint8)).save(folder / f"masks/{seed}.png")
    assert run_main(infer, folder / "images", "--out", folder / "results")[0] == 0
    code, out, err = run_main(main, folder, tmp_path / "out", "--suggest", 5)
    assert code == 0, err
    assert [row["image"] for row in rows(tmp_path / "out")] == ["images/2.png"]
    assert "1 of 1 image suggested" in out
    Image.fromarray(labels.astype(np.uint8)).save(folder / "masks/2.png")
    code, _, err = run_main(main, folder, tmp_path / "none", "--suggest", 5)
    assert code == 2
    assert "all images are annotated already" in err
