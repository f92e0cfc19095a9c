"""Guessing how an image was taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_train.data.finding import open_data
from nuclei_train.data.modality import guess_modality, modality_group
from nuclei_train.data.split_table import read_split_table


def tissue() -> np.ndarray:
    from skimage import data

    return np.asarray(data.immunohistochemistry())


@pytest.mark.parametrize("depth", ["uint8", "12 in uint16", "float32"])
@pytest.mark.parametrize("channels", ["grey", "RGB", "RGBA"])
def test_the_guess_does_not_hang_on_depth_or_channels(depth: str, channels: str) -> None:
    grey = fluorescence_field(0)[0]
    for picture, expected in ((grey, "fluorescence"), (255 - grey, "brightfield")):
        image = {
            "uint8": picture,
            "12 in uint16": picture.astype(np.uint16) * 16,
            "float32": picture / np.float32(255),
        }[depth]
        if channels != "grey":
            alpha = [np.full_like(image, image.max())] if channels == "RGBA" else []
            image = np.dstack([image] * 3 + alpha)
        assert guess_modality(image) == expected


def test_stained_tissue_is_histology_and_its_grey_picture_is_not() -> None:
    assert guess_modality(tissue()) == "histology"
    assert guess_modality(tissue().mean(axis=-1).astype(np.uint8)) == "brightfield"


def test_coloured_fluorescence_is_fluorescence() -> None:
    grey = fluorescence_field(0)[0]
    assert guess_modality(np.dstack([np.zeros_like(grey), np.zeros_like(grey), grey])) == "fluorescence"


def test_one_nucleus_in_a_dark_field_is_seen() -> None:
    image = np.random.default_rng(0).integers(10, 14, (256, 256)).astype(np.uint8)
    image[100:115, 100:115] = 120
    assert guess_modality(image) == "fluorescence"


@pytest.mark.parametrize("value", [0, 255])
def test_an_image_without_contrast_gets_a_guess(value: int) -> None:
    assert guess_modality(np.full((8, 8), value, np.uint8)) == "fluorescence"


def test_a_listed_modality_has_the_group_of_its_guess() -> None:
    listed = ["fluorescence", "brightfield_grey", "histology_pink_HE"]
    assert [modality_group(name) for name in listed] == ["fluorescence", "brightfield", "histology"]


@pytest.mark.real_data
def test_the_guess_agrees_with_the_table_on_real_images(real_data: Path) -> None:
    table = read_split_table(real_data)
    assert table is not None
    (train,) = open_data(real_data / "stage1_train.zip")
    seen = set()
    for sample in train.samples[::6]:
        listed = modality_group(table.modality[sample.image_id])
        assert guess_modality(sample.read_image()) == listed, sample.image_id
        seen.add(listed)
    assert seen == {"fluorescence", "brightfield", "histology"}
