"""Label images that a program or a person made, saved as those of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from nuclei_runtime import ImageShapeError, ImageValueError, Selection, open_planes, read_image, save_labels
from nuclei_runtime.checks.synthetic import fluorescence_field

_, FIELD = fluorescence_field(3, height=120, width=160, n_nuclei=12)


@pytest.mark.parametrize(("highest", "dtype"), [(65_535, np.uint16), (65_536, np.uint32), (2**31 - 1, np.uint32)])
def test_every_number_is_kept(tmp_path: Path, highest: int, dtype: type) -> None:
    labels = np.where(FIELD == 3, highest, FIELD.astype(np.int64))
    save_labels(tmp_path / "labels.tif", labels, (0.5, 0.25))
    assert read_image(tmp_path / "labels.tif").dtype == dtype
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "labels.tif"), labels)
    with open_planes(tmp_path / "labels.tif", Selection()) as (plane,):
        assert plane.pixel_size_um == pytest.approx((0.5, 0.25))


def test_a_large_label_image_is_tiled(tmp_path: Path) -> None:
    labels = np.zeros((40, 4500), np.uint8)
    labels[10:20, 4490:] = 9
    save_labels(tmp_path / "labels.tif", labels)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "labels.tif"), labels)


def test_a_label_image_replaces_an_earlier_one_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "labels.tif"
    save_labels(path, FIELD)
    save_labels(path, FIELD * 2)
    assert tifffile.imread(path).max() == 2 * FIELD.max()
    for wrong, error in ((FIELD / 2.0, ImageValueError), (-FIELD, ImageValueError), (FIELD[0], ImageShapeError)):
        with pytest.raises(error):
            save_labels(path, wrong)
    with pytest.raises(OSError, match="missing"):
        save_labels(tmp_path / "missing" / "labels.tif", FIELD)
    assert [file.name for file in tmp_path.iterdir()] == ["labels.tif"]
    assert tifffile.imread(path).max() == 2 * FIELD.max()
