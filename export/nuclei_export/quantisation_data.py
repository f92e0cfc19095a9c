"""What the quantisation of a network is measured on, from the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from nuclei_export.errors import RunFolderError
from nuclei_runtime.arrays import Labels

QUANTISATION_DATA = "quantisation.npz"
"""The file in the run folder."""


@dataclass(frozen=True)
class QuantisationData:
    """Images as the network gets them, 255 for 1.

    Attributes
    ----------
    crops : (N, H, W, 3) ndarray of uint8
        Of training images, to calibrate with.
    images : tuple of (H, W, 3) ndarray of uint8
        The validation images, to choose on.
    labels : tuple of (H, W) ndarray of int32
        Their truth.
    """

    crops: NDArray[np.uint8]
    images: Sequence[NDArray[np.uint8]]
    labels: Sequence[Labels]


def read_quantisation_data(run: Path) -> QuantisationData:
    """Read a run folder's.

    Raises
    ------
    RunFolderError
        The file is not there or cannot be read.
    """
    path = run / QUANTISATION_DATA
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = sorted(name.removeprefix("image_") for name in arrays.files if name.startswith("image_"))
            found: dict[str, Any] = {
                kind: tuple(arrays[f"{kind}_{name}"] for name in names) for kind in ("image", "labels")
            }
            return QuantisationData(arrays["crops"], found["image"], found["labels"])
    except FileNotFoundError:
        raise RunFolderError(
            f"{path}: is not there, and int8 is measured on it; the recipe native leaves one: finish the run anew with "
            "nuclei-train --resume"
        ) from None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise RunFolderError(f"{path}: cannot be read ({error}); finish the run anew with --resume") from error
