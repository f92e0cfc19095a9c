"""Oddities that stop a training before it starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from nuclei_runtime import Segmenter
from nuclei_train.data.finding import open_data
from nuclei_train.data.oddities import KINDS, KNOWN_DIAMETER_PX, STOPPING, much_larger
from nuclei_train.data.stopping import MAX_FOLDERS, check_oddities, stopping_oddities
from nuclei_train.errors import DatasetError

NUCLEI = np.zeros((60, 80), np.uint8)
NUCLEI[5:15, 5:20] = 1
NUCLEI[30:40, 50:60] = 2


def write(folder: Path, **labels: np.ndarray) -> Path:
    for name, mask in labels.items():
        for kind, array in (("images", np.zeros_like(NUCLEI)), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / kind / f"{name}.tif", array)
    return folder


def found(data: Path) -> list[str]:
    (dataset,) = open_data(data)
    seen: list[int] = []
    stopping = stopping_oddities(dataset, dataset.samples, lambda: seen.append(1))
    assert len(seen) == len(dataset.samples)
    return stopping


def test_the_known_diameter_is_that_of_the_bundled_model() -> None:
    assert Segmenter().card.training_nucleus_diameter_px == KNOWN_DIAMETER_PX
    assert set(STOPPING) <= set(KINDS)


def test_ordinary_masks_stop_nothing(tmp_path: Path) -> None:
    assert found(write(tmp_path, a=NUCLEI, b=NUCLEI)) == []


def test_a_background_that_is_a_nucleus_stops_the_training(tmp_path: Path) -> None:
    data = write(tmp_path, a=255 - NUCLEI, b=255 - NUCLEI, c=NUCLEI)
    (sentence,) = found(data)
    kind = "nucleus that covers most of the image, 2 in 2 images"
    assert (
        sentence
        == f"{kind} (a: mask a.tif, nucleus 255: 95% of the image; b: mask b.tif, nucleus 255: 95% of the image)"
    )
    (dataset,) = open_data(data)
    said: list[str] = []
    with pytest.raises(DatasetError, match=r": nucleus that covers .*, or .* with --accept-oddities$"):
        check_oddities(dataset, dataset.samples, lambda: None, said.append, accept=False)
    check_oddities(dataset, dataset.samples, lambda: None, said.append, accept=True)
    assert said == [f"accepted: {sentence}"]


def test_nuclei_at_another_magnification_stop_the_training(tmp_path: Path) -> None:
    large = np.zeros((200, 200), np.uint8)
    large[10:100, 10:90] = 1
    large[110:199, 10:99] = 2
    data = write(tmp_path, a=large)
    tifffile.imwrite(data / "images" / "a.tif", np.zeros_like(large))
    (sentence,) = found(data)
    assert sentence.startswith("nuclei much larger than the model knows (median 7,560 px, 24 times that of the bundled")
    assert much_larger([6_000, 6_000, 90_000]) is None
    assert much_larger([]) is None


def test_an_annotation_without_image_stops_the_training(tmp_path: Path) -> None:
    data = write(tmp_path, a=NUCLEI)
    tifffile.imwrite(data / "masks" / "other.tif", NUCLEI)
    assert found(data) == ["annotation without image (masks/other.tif)"]


def test_of_masks_of_single_nuclei_a_part_is_inspected(tmp_path: Path) -> None:
    """But never fewer than the first: the masks of a data set are all made in one way."""
    for n in range(MAX_FOLDERS + 5):
        for kind, array in (("images", np.zeros_like(NUCLEI)), ("masks", np.full_like(NUCLEI, 255))):
            (tmp_path / f"i{n:02}" / kind).mkdir(parents=True)
            tifffile.imwrite(tmp_path / f"i{n:02}" / kind / f"i{n:02}.tif", array)
    (sentence,) = found(tmp_path)
    assert sentence.startswith("nucleus that covers most of the image, 28 in 28 images (i00: mask i00.tif: 100% of")
