"""Opens a results folder of `nuclei-infer` in napari: each image, its labels, and the features of the nuclei."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray

from nuclei_napari.corrections import ORIGIN, Origin
from nuclei_napari.errors import FolderError
from nuclei_napari.layer_planes import LayerPlane
from nuclei_napari.segmenting import with_index
from nuclei_runtime import NucleiError, Selection, open_planes, plane_of

LayerData = tuple[Any, dict[str, Any], str]
"""Data, arguments and type of a layer, as napari's readers return them."""

IMAGES_TABLE, NUCLEI_TABLE, PROVENANCE = "images.csv", "nuclei.csv", "provenance.json"
MAX_AT_ONCE = 20
"""Each image becomes two layers: more than a person can look through in the list of layers."""
_WHERE = ("image", "scene", "time", "z")


@dataclass(frozen=True)
class ResultPlane:
    """One plane of a results folder: a row of ``images.csv``.

    Attributes
    ----------
    folder : Path
    row : dict
    """

    folder: Path
    row: dict[str, str]

    @property
    def name(self) -> str:
        """The name of its label image, without folder and suffix."""
        return self.row["labels"].removeprefix("labels/").rsplit(".", 1)[0]


def get_reader(path: str | Sequence[str]) -> Callable[[str], list[LayerData]] | None:
    """Return the reader for a results folder or its ``images.csv``; None for anything else. napari calls this."""
    if not isinstance(path, str) or not _is_results(_folder_of(path)):
        return None
    return read_results


def read_results(path: str) -> list[LayerData]:
    """Return the layers of all images in a results folder; only those of the first are visible.

    Raises
    ------
    FolderError
        This is not a results folder, none of its images was segmented, or there are more than `MAX_AT_ONCE`.
    """
    folder = _folder_of(path)
    planes = list_planes(folder)
    if len(planes) > MAX_AT_ONCE:
        raise FolderError(
            f"{folder}: holds the results of {len(planes)} images, and at most {MAX_AT_ONCE} are opened together; "
            'open one at a time in the widget "Segment nuclei", under "Earlier results"'
        )
    return [
        (data, {**arguments, "visible": plane is planes[0]}, kind)
        for plane in planes
        for data, arguments, kind in open_plane(plane)
    ]


def list_planes(folder: Path) -> list[ResultPlane]:
    """Return the planes that were segmented, in the order of ``images.csv``.

    Raises
    ------
    FolderError
        This is not a results folder, or none of its images was segmented.
    """
    if not _is_results(folder):
        raise FolderError(
            f"{folder}: not a results folder of nuclei-infer; expected {IMAGES_TABLE} and {PROVENANCE} in it"
        )
    rows = _read_table(folder / IMAGES_TABLE, all_text=True).fillna("").to_dict("records")
    planes = [ResultPlane(folder, row) for row in rows if row.get("labels")]
    if not planes:
        raise FolderError(
            f"{folder}: none of its images has a label image; the column reason of {IMAGES_TABLE} names those that "
            "failed; if none did, run nuclei-infer again with --resume and a --save that has labels"
        )
    return planes


def open_plane(result: ResultPlane) -> list[LayerData]:
    """Return the image and the labels of one plane, or only the labels if the image is not found.

    The labels have the rows of ``nuclei.csv`` as features, and can be corrected and saved if the image is there.

    Raises
    ------
    FolderError
        The label image is missing or damaged.
    """
    path = result.folder / result.row["labels"]
    try:
        labels = tifffile.imread(path).astype(np.int32)
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise FolderError(f"{path}: cannot be read: {error}; segment the image again, with --resume") from error
    placed = _placed(result)
    arguments: dict[str, Any] = {"name": f"{result.name} nuclei", "features": _features(result), **placed}
    image = _read_image(result, labels.shape)
    if image is None:
        return [(labels, arguments, "labels")]
    plane = replace(plane_of(image), pixel_size_um=placed.get("scale"))
    arguments["metadata"] = {ORIGIN: Origin(result.name, (LayerPlane(plane, (), {}),), labels.copy())}
    shown = {"name": result.name, "rgb": image.ndim == 3, **placed}
    return [(image, shown, "image"), (labels, arguments, "labels")]


def _folder_of(path: str) -> Path:
    return Path(path).parent if Path(path).name == IMAGES_TABLE else Path(path)


def _is_results(folder: Path) -> bool:
    return all((folder / name).is_file() for name in (IMAGES_TABLE, PROVENANCE))


def _read_table(path: Path, *, all_text: bool = False) -> pd.DataFrame:
    """Read a table in either style: with commas, or with semicolons and decimal commas."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            comma = not file.readline().startswith("image;")
        return pd.read_csv(
            path,
            sep="," if comma else ";",
            decimal="." if comma else ",",
            encoding="utf-8-sig",
            dtype=str if all_text else dict.fromkeys(_WHERE, str),
            keep_default_na=False,  # an image may be called NA
            na_values=[""],
        )
    except (OSError, ValueError) as error:
        raise FolderError(f"{path}: cannot be read: {error}") from error


def _placed(result: ResultPlane) -> dict[str, Any]:
    """Return the scale of the layers, if the size of a pixel is known."""
    sizes = [result.row.get(column, "").replace(",", ".") for column in ("pixel_height_um", "pixel_width_um")]
    return {"scale": tuple(map(float, sizes)), "units": ("um", "um")} if all(sizes) else {}


def _features(result: ResultPlane) -> pd.DataFrame:
    try:
        table = _read_table(result.folder / NUCLEI_TABLE)
    except FolderError:  # a run may have been asked for no table
        return pd.DataFrame()
    of_plane = np.ones(len(table), bool)
    for column in _WHERE:
        if column in table:
            of_plane &= (table[column].fillna("") == result.row.get(column, "")).to_numpy()
    return with_index(table[of_plane].reset_index(drop=True))


def _read_image(result: ResultPlane, shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Read the plane that was segmented; None if it is no longer where it was, or is another one now."""
    try:
        provenance = json.loads((result.folder / PROVENANCE).read_text(encoding="utf-8"))
        images = result.folder / provenance["machine"]["images_folder"]
        known = {field.name for field in fields(Selection)}
        asked = {name: value for name, value in provenance["method"]["selection"].items() if name in known}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    name = result.row["image"]
    path = next((images / one for one in (name, name.removeprefix("'")) if (images / one).exists()), None)
    if path is None:
        return None
    try:
        with open_planes(path, Selection(**asked)) as planes:
            for plane in planes:
                is_it = all(
                    _is_cell_of(result.row.get(column, ""), value)
                    for column, value in (("scene", plane.scene_label), ("time", plane.time), ("z", plane.z))
                )
                if is_it and plane.shape[:2] == shape:
                    return plane.read(slice(0, plane.shape[0]), slice(0, plane.shape[1]))
    except NucleiError:
        return None
    return None


def _is_cell_of(cell: str, value: str | int | None) -> bool:
    """Whether the cell of a table stands for a value. Text that looks like a formula has an apostrophe there."""
    return cell in (("",) if value is None else (str(value), f"'{value}"))
