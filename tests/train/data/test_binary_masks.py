"""Masks that do not separate nuclei are refused, by training and by evaluation."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_train.cli.evaluate import main as evaluate_main
from nuclei_train.cli.train import main as train_main
from nuclei_train.data.binary_masks import refuse_binary_masks
from nuclei_train.data.finding import open_data

RunMain = Callable[..., tuple[int, str, str]]


def write_data(path: Path, layout: str, mask_of: Callable[[int, NDArray[np.int32]], NDArray]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for seed in range(5):
            image, labels = fluorescence_field(seed, height=96, width=128, n_nuclei=8)
            for kind, array in (("images", image), ("masks", mask_of(seed, labels))):
                buffer = io.BytesIO()
                tifffile.imwrite(buffer, array)
                archive.writestr(layout.format(kind=kind, id=f"field_{seed}"), buffer.getvalue())
    return path


STARDIST, KAGGLE = "{kind}/{id}.tif", "{id}/{kind}/{id}.tif"


def as_labels(_: int, labels: NDArray[np.int32]) -> NDArray:
    return labels.astype(np.uint16)


def as_binary(_: int, labels: NDArray[np.int32]) -> NDArray:
    return np.where(labels > 0, 255, 0).astype(np.uint8)


def as_one_slip(seed: int, labels: NDArray[np.int32]) -> NDArray:
    return (as_binary if seed == 3 else as_labels)(seed, labels)


@pytest.mark.parametrize(("layout", "mask_of"), [(STARDIST, as_binary), (KAGGLE, as_binary), (KAGGLE, as_labels)])
def test_masks_that_tell_no_nucleus_from_another_are_refused(
    tmp_path: Path,
    run_main: RunMain,
    tiny_model: Path,
    layout: str,
    mask_of: Callable[[int, NDArray[np.int32]], NDArray],
) -> None:
    data = write_data(tmp_path / "own.zip", layout, mask_of)
    code, _, err = run_main(train_main, data, tmp_path / "run", "--epochs", 1)
    assert code == 2
    assert re.search(r"one nucleus in \d+ pieces, as do those of 5 of the 5 images checked", " ".join(err.split()))
    assert not (tmp_path / "run").exists()
    code, _, err = run_main(evaluate_main, data, "--model", tiny_model, "--out", tmp_path / "out")
    assert code == 2
    assert "one number per nucleus (images/ID with masks/ID)" in " ".join(err.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mask_of", [as_labels, as_one_slip])
def test_labels_are_not_even_where_one_image_is_odd(
    tmp_path: Path, mask_of: Callable[[int, NDArray[np.int32]], NDArray]
) -> None:
    (dataset,) = open_data(write_data(tmp_path / "own.zip", STARDIST, mask_of))
    refuse_binary_masks(dataset.samples)


def test_what_cannot_be_read_is_left_to_whoever_needs_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        for kind in ("images", "masks"):
            archive.writestr(f"{kind}/a.tif", b"no image")
    (dataset,) = open_data(tmp_path / "own.zip")
    refuse_binary_masks(dataset.samples)
    refuse_binary_masks(())
