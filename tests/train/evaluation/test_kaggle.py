"""Kaggle's run lengths: a case made by hand, round trips, and malformed files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from nuclei_train.errors import DatasetError
from nuclei_train.evaluation.kaggle import decode_labels, read_masks, rle_decode, write_submission


def encode(mask: np.ndarray, folder: Path) -> str:
    """Return the run lengths of a mask, as in a submission."""
    write_submission(folder / "submission.csv", [("image", mask.astype(np.int32))])
    (row,) = read_masks(folder / "submission.csv")["image"]
    return row.text


def test_runs_go_down_the_columns_from_1(tmp_path: Path) -> None:
    mask = np.array(
        [
            [0, 1, 0],
            [1, 1, 0],
            [1, 0, 0],
            [0, 0, 1],
        ],
        dtype=bool,
    )
    # Pixels 2 and 3 in the first column, 5 and 6 in the second, 12 at the end of the third.
    assert encode(mask, tmp_path) == "2 2 5 2 12 1"
    np.testing.assert_array_equal(rle_decode("2 2 5 2 12 1", 4, 3), mask)


def test_a_run_continues_from_one_column_to_the_next(tmp_path: Path) -> None:
    mask = np.array([[0, 1], [1, 0]], dtype=bool)
    assert encode(mask, tmp_path) == "2 2"


@pytest.mark.parametrize("seed", range(20))
def test_round_trip(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in rng.integers(1, 40, 2))
    mask = rng.random((height, width)) < rng.choice([0.0, 0.05, 0.5, 0.95, 1.0])
    decoded = rle_decode(encode(mask, tmp_path), height, width)
    assert decoded.dtype == bool
    np.testing.assert_array_equal(decoded, mask)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1 2 3", "pairs of start and length, found 3 numbers"),
        ("1 two", "whole numbers from 1, found 'two'"),
        ("1 2.5", "found '2.5'"),
        ("-1 2", "found '-1'"),
        ("1_0 2", "found '1_0'"),
        ("9" * 5000 + " 1", "found '9"),
        ("0 2", "run 0 2 is outside"),
        ("1 0", "run 1 0 is outside"),
        ("12 2", "run 12 2 is outside the image's pixels 1 to 12"),
        ("1 3 3 2", "run 3 2 does not follow the one that ends at pixel 3"),
        ("5 2 1 2", "run 1 2 does not follow"),
    ],
)
def test_malformed_runs_are_named_with_image_and_line(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(f"ImageId,EncodedPixels\ngood,1 2\nbad,1 2\nbad,{text}\n", encoding="utf-8")
    masks = read_masks(path)
    assert decode_labels("good", masks["good"], 4, 3).sum() == 2
    with pytest.raises(DatasetError) as caught:
        decode_labels("bad", masks["bad"], 4, 3)
    assert str(caught.value).startswith("bad: EncodedPixels in line 4: ")
    assert complaint in str(caught.value)


def test_submission_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    noise = np.where(rng.random((300, 400)) < 0.5, 1, 0).astype(np.int32)  # one field of more than 131,072 characters
    some = np.zeros((5, 6), np.int32)
    some[0:2, 0:2], some[2:5, 3:6], some[4, 0] = 1, 2, 3
    empty = np.zeros((3, 3), np.int32)
    path = tmp_path / "submission.csv"
    write_submission(path, iter([("some", some), ("empty", empty), ("noise", noise)]))

    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[:5] == ["ImageId,EncodedPixels", "some,1 2 6 2", "some,18 3 23 3 28 3", "some,5 1", "empty,"]
    limit = csv.field_size_limit()
    masks = read_masks(path)
    assert csv.field_size_limit() == limit
    assert {image_id: len(rows) for image_id, rows in masks.items()} == {"some": 3, "empty": 1, "noise": 1}
    np.testing.assert_array_equal(decode_labels("some", masks["some"], 5, 6), some)
    np.testing.assert_array_equal(decode_labels("empty", masks["empty"], 3, 3), empty)
    np.testing.assert_array_equal(decode_labels("noise", masks["noise"], 300, 400), noise)


def test_a_pixel_that_two_masks_claim_goes_to_the_first(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text("ImageId,EncodedPixels\na,1 3\na,3 2\na,1 2\n", encoding="utf-8")
    labels = decode_labels("a", read_masks(path)["a"], 6, 1)
    assert labels.ravel().tolist() == [1, 1, 1, 2, 0, 0]  # the third mask has no pixel left


def test_further_columns_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "solution.csv"
    path.write_text("EncodedPixels,Height,ImageId\n1 2,4,a\n", encoding="utf-8-sig")
    assert [mask.text for mask in read_masks(path)["a"]] == ["1 2"]


def test_what_kaggle_ignores_has_no_truth(tmp_path: Path) -> None:
    path = tmp_path / "solution.csv"
    path.write_text("ImageId,EncodedPixels,Usage\na,1 2,Private\nb,1 1,Ignored\n", encoding="utf-8")
    assert {name: len(masks) for name, masks in read_masks(path).items()} == {"a": 1, "b": 0}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "found the columns none"),
        (b"id,rle\na,1 2\n", "found the columns id, rle, expected ImageId and EncodedPixels"),
        (b"ImageId,EncodedPixels\na,1 2\nb\n", "line 3, image 'b': found 1 fields, expected 2"),
        (b"ImageId,EncodedPixels\na,1 2,3\n", "line 2, image 'a': found 3 fields, expected 2"),
        (b"\xff\xfe\x00", "cannot be read as CSV"),
    ],
)
def test_file_in_another_form(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "truth.csv"
    path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        read_masks(path)
    assert str(path) in str(caught.value)
    assert complaint in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nothing\.csv: cannot be read"):
        read_masks(tmp_path / "nothing.csv")
