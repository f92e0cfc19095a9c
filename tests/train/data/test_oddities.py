"""Every kind of oddity, in files that have it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from nuclei_train.data.finding import open_data
from nuclei_train.data.oddities import Inspection, inspect_sample
from tests.contents import png_bytes

BLACK = np.zeros((20, 30), np.uint8)


def square(row: int, column: int, size: int = 5) -> np.ndarray:
    mask = BLACK.copy()
    mask[row : row + size, column : column + size] = 255
    return mask


def inspect(
    folder: Path, masks: dict[str, np.ndarray | bytes], image: np.ndarray | bytes = BLACK, *, expect_truth: bool = True
) -> Inspection:
    for name, content in {"images/a.png": image, **{f"masks/{name}": mask for name, mask in masks.items()}}.items():
        file = folder / "a" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else png_bytes(content))
    return inspect_sample(open_data(folder)[0].samples[0], expect_truth=expect_truth)


def found(inspection: Inspection) -> list[tuple[str, str]]:
    return [(oddity.kind, oddity.detail) for oddity in inspection.oddities]


def test_nothing_is_odd_about_a_good_sample(tmp_path: Path) -> None:
    inspection = inspect(tmp_path, {"m1.png": square(0, 0), "m2.png": square(10, 10, size=4)})
    assert found(inspection) == []
    assert inspection.areas_px == (25, 16)
    assert inspection.foreground_px == 41


def test_a_mask_of_another_size_is_named_and_not_counted(tmp_path: Path) -> None:
    inspection = inspect(tmp_path, {"m1.png": square(0, 0), "m2.png": np.full((30, 20), 255, np.uint8)})
    assert found(inspection) == [("mask of another size", "mask m2.png: 30 x 20, expected 20 x 30")]
    assert inspection.areas_px == (25,)


def test_an_empty_mask_is_named_and_not_counted(tmp_path: Path) -> None:
    inspection = inspect(tmp_path, {"m1.png": square(0, 0), "m2.png": BLACK})
    assert found(inspection) == [("empty mask", "mask m2.png")]
    assert inspection.areas_px == (25,)


def test_overlapping_masks_are_measured(tmp_path: Path) -> None:
    inspection = inspect(tmp_path, {"m1.png": square(0, 0), "m2.png": square(3, 3), "m3.png": square(4, 4)})
    # m1 and m2 share 4 px, m2 and m3 16, m1 and m3 1, which is one of the 4 and of the 16
    assert found(inspection) == [("overlapping masks", "19 px in two or more masks")]
    assert inspection.areas_px == (25, 25, 25)
    assert inspection.foreground_px == 25 + 25 + 25 - 4 - 16


def test_an_image_without_masks_is_odd_where_others_have_some(tmp_path: Path) -> None:
    inspection = inspect(tmp_path, {})
    assert [kind for kind, _ in found(inspection)] == ["image without masks"]
    assert inspection.areas_px is None
    assert found(inspect(tmp_path, {}, expect_truth=False)) == []


def test_a_mask_in_pieces_is_named_with_their_areas(tmp_path: Path) -> None:
    corner = square(0, 0) | square(5, 5, size=3)  # they touch at a corner only
    inspection = inspect(tmp_path, {"m1.png": corner, "m2.png": square(12, 20)})
    assert found(inspection) == [("mask in several pieces", "mask m1.png: 2 pieces of 25, 9 px")]
    assert inspection.areas_px == (34, 25)


@pytest.mark.parametrize(("last", "kind", "detail"), [(255, "constant", "255 everywhere"), (0, "varying", "0 to 255")])
def test_an_alpha_channel_is_described(tmp_path: Path, last: int, kind: str, detail: str) -> None:
    rgba = np.dstack([BLACK, BLACK, BLACK, np.full_like(BLACK, 255)])
    rgba[-1, -1, 3] = last
    inspection = inspect(tmp_path, {"m1.png": square(0, 0)}, rgba)
    assert found(inspection) == [(f"{kind} alpha channel", detail)]


@pytest.mark.parametrize("content", [b"", b"no image", png_bytes(BLACK)[:60]])
def test_an_unreadable_image_is_named_and_its_masks_still_count(tmp_path: Path, content: bytes) -> None:
    inspection = inspect(tmp_path, {"m1.png": square(0, 0)}, content)
    ((kind, detail),) = found(inspection)
    assert kind == "unreadable file"
    assert detail.startswith("image a.png: ")
    assert inspection.image is None
    assert inspection.areas_px == (25,)


def test_an_unreadable_mask_is_named_and_the_others_count(tmp_path: Path) -> None:
    coloured = np.dstack([square(0, 0), square(1, 1), BLACK])
    inspection = inspect(tmp_path, {"m1.png": b"no image", "m2.png": square(0, 0), "m3.png": coloured})
    assert [kind for kind, _ in found(inspection)] == ["unreadable file"] * 2
    assert found(inspection)[0][1].startswith("mask m1.png: ")
    assert found(inspection)[1][1].startswith("mask m3.png: is in colour")
    assert inspection.areas_px == (25,)


def test_data_without_readable_images_do_not_crash(tmp_path: Path) -> None:
    inspection = inspect(tmp_path, {"m1.png": b"no image"}, b"no image")
    assert [kind for kind, _ in found(inspection)] == ["unreadable file"] * 2
    assert inspection.areas_px == ()


def test_label_images_have_the_same_oddities(tmp_path: Path) -> None:
    labels = BLACK.astype(np.uint16)
    labels[0:5, 0:5] = 7
    labels[0:2, 20:22] = 900
    labels[10:12, 20:22] = 900
    for name, array in {"a": labels, "b": labels * 0, "c": labels[:10]}.items():
        for folder, content in (("images", BLACK), ("masks", array)):
            (tmp_path / folder).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / folder / f"{name}.tif", content)
    a, b, c = (inspect_sample(sample, expect_truth=True) for sample in open_data(tmp_path)[0].samples)
    assert found(a) == [("mask in several pieces", "mask a.tif, nucleus 900: 2 pieces of 4, 4 px")]
    assert a.areas_px == (25, 8)
    assert found(b) == [("empty mask", "mask b.tif")]
    assert found(c) == [("mask of another size", "mask c.tif: 10 x 30, expected 20 x 30")]
