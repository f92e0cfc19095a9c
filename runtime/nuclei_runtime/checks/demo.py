"""A folder of images to try the commands on, generated locally: nothing is downloaded."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as PillowImage

from nuclei_runtime.arrays import Image
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import ResultsExistError

_FIELDS = (
    # name, seed, height, width, number of nuclei
    ("field_8bit.png", 1, 256, 256, 24),
    ("field_rgb.png", 2, 320, 320, 34),
    ("field_wide.png", 3, 180, 480, 28),
    ("field_12bit.tif", 4, 256, 320, 28),
    ("field_16bit.tif", 5, 512, 512, 90),
)


def write_demo(folder: str | os.PathLike[str]) -> list[Path]:
    """Write the demo images.

    ``images/`` contains a photograph of stained tissue (`skimage.data.immunohistochemistry`, which is part of
    scikit-image's wheel) and synthetic fluorescence fields of several sizes and bit depths. ``truth/`` contains the
    true label images of the fields.

    Parameters
    ----------
    folder : path
        Created if it does not exist. If it exists, it must be empty.

    Returns
    -------
    list of Path
        The images that were written.

    Raises
    ------
    ResultsExistError
        The folder is not empty, or it is a file.
    """
    from skimage.data import immunohistochemistry

    root = Path(folder)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ResultsExistError(f"{root}: not empty; choose a new or empty folder")
    images, truth = root / "images", root / "truth"
    images.mkdir(parents=True)
    truth.mkdir()
    _write(images / "immunohistochemistry.png", immunohistochemistry())
    for name, seed, height, width, n_nuclei in _FIELDS:
        field, labels = fluorescence_field(seed, height=height, width=width, n_nuclei=n_nuclei)
        _write(images / name, _as_named(name, field))
        _write((truth / name).with_suffix(".tif"), labels.astype(np.uint16))
    return sorted(images.iterdir())


def _as_named(name: str, field: Image) -> Image:
    if "rgb" in name:
        return np.dstack([field, field, field])
    if "12bit" in name:
        return field.astype(np.uint16) * 16
    if "16bit" in name:
        return field.astype(np.uint16) * 257
    return field


def _write(path: Path, image: Image) -> None:
    if path.suffix == ".png":
        PillowImage.fromarray(image).save(path)
    else:
        tifffile.imwrite(path, image, photometric="minisblack", metadata=None)
