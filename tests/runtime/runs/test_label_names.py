"""Label files find their images by name, and never another image."""

from __future__ import annotations

from pathlib import Path

import pytest

from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.runs.label_names import images_of_labels
from nuclei_runtime.runs.names import stems_of


def found(images: list[str], files: list[str]) -> dict[str, tuple[str, str]]:
    stems = stems_of(images)
    matches = images_of_labels(files, [ImageFile(Path(name), name, stems[name]) for name in images])
    return {file: (image.name, suffix) for file, (image, suffix) in matches.items()}


@pytest.mark.parametrize("ending", ["tif", "png", "geojson", "zip"])
def test_the_name_of_an_image_goes_before_that_of_a_frame(ending: str) -> None:
    images = ["a.tif", "a_t003.tif"]
    assert found(images, [f"a.{ending}", f"a_t003.{ending}"]) == {
        f"a.{ending}": ("a.tif", ""),
        f"a_t003.{ending}": ("a_t003.tif", ""),
    }
    assert found(images, [f"a_t002.{ending}"]) == {f"a_t002.{ending}": ("a.tif", "_t002")}


def test_labels_copied_from_results_belong_to_what_they_were_written_for() -> None:
    files = ["a_t002.tif", "a_t003.tif", "a_t003.tif.tif"]
    assert found(["a.tif", "a_t003.tif"], files) == {
        "a_t002.tif": ("a.tif", "_t002"),
        "a_t003.tif": ("a.tif", "_t003"),
        "a_t003.tif.tif": ("a_t003.tif", ""),
    }


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (["a.png", "a.tif"], {"a.tif": ("a.tif", "")}),
        (["a.tif", "a.tif.png"], {"a.tif": ("a.tif", "")}),
        (["x/a.tif", "y/b.tif"], {"a.tif": ("x/a.tif", "")}),
        (["x/a.tif", "y/a.tif"], {}),
        (["x/a.tif", "a.tif"], {"a.tif": ("a.tif", "")}),
        (["a.czi"], {"a.tif": ("a.czi", "")}),
        (["a.czi", "a.nd2"], {}),
        (["sub\\a.png", "a.png"], {"a.tif": ("a.png", "")}),
    ],
    ids=str,
)
def test_a_label_file_belongs_to_the_only_image_of_its_name(
    images: list[str], expected: dict[str, tuple[str, str]]
) -> None:
    assert found(images, ["a.tif"]) == expected


def test_labels_lie_in_the_subfolder_of_their_image_before_any_other() -> None:
    images = ["x/a.tif", "y/a.tif", "z/a_t001.tif"]
    assert found(images, ["y/a.tif", "z/a_t001.tif"]) == {
        "y/a.tif": ("y/a.tif", ""),
        "z/a_t001.tif": ("z/a_t001.tif", ""),
    }
