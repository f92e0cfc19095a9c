"""The run folder that nuclei-train leaves, as far as an export reads it.

The training's run.json says in its field ``export`` what there is and under which names, so that the names of files
and arrays are decided in one place, the training:

checkpoint      name of the Keras file to convert
card            the part of the model card that the training knows, in the card's vocabulary
quantisation    null, or: file (name of an .npz), the names of its arrays: crops, images (list), labels (list), and,
                unless they are the validation images, what the images are: scored_on
caveats         may be missing: sentences for whoever exports the run, such as that its model is not recommended
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from nuclei_export.errors import RunFolderError
from nuclei_export.quantisation_data import QuantisationData

RUN_FILE = "run.json"


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes
    ----------
    folder : Path
    checkpoint : Path
    card : dict
    quantisation : dict or None
        See the module.
    caveats : tuple of str
    """

    folder: Path
    checkpoint: Path
    card: dict[str, Any]
    quantisation: dict[str, Any] | None
    caveats: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """The file that describes the run."""
        return self.folder / RUN_FILE

    def read_quantisation_data(self) -> QuantisationData:
        """Read what an int8 export is measured on.

        Raises
        ------
        RunFolderError
            The run has no such data, or they cannot be read.
        """
        if self.quantisation is None:
            raise RunFolderError(
                f"{self.folder}: contains no images to measure int8 on; export a run of the recipe native, or in "
                "another precision"
            )
        try:
            path = _file_in(self.folder, self.quantisation["file"])
            with np.load(path, allow_pickle=False) as arrays:
                images, labels = (
                    tuple(arrays[one] for one in self.quantisation[kind]) for kind in ("images", "labels")
                )
                scored_on = str(self.quantisation.get("scored_on", "the validation images"))
                return QuantisationData(arrays[self.quantisation["crops"]], images, labels, scored_on)
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise RunFolderError(
                f"{self.folder}: the images to measure int8 on cannot be read ({error}); write them again with "
                "nuclei-train --resume"
            ) from error


def read_finished_run(folder: Path) -> FinishedRun:
    """Read what an export needs to know about a finished run.

    Raises
    ------
    RunFolderError
        run.json is missing or cannot be read, the run is not finished, or it does not say what an export needs.
    """
    path = folder / RUN_FILE
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"{path}: missing; give a run folder written by nuclei-train") from None
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path}: cannot be read ({error}); give a run folder written by nuclei-train") from error
    status = run.get("status") if isinstance(run, dict) else None
    if status != "complete":
        raise RunFolderError(
            f"{folder}: the training is not complete (status {status!r}); finish it with nuclei-train --resume"
        )
    try:
        described = run["export"]
        return FinishedRun(
            folder,
            _file_in(folder, described["checkpoint"]),
            {**described["card"], "provenance": dict(described["card"]["provenance"])},
            described["quantisation"],
            tuple(str(sentence) for sentence in described.get("caveats", ())),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(
            f"{path}: lacks what the model card needs ({error!r}); write it again with nuclei-train --resume"
        ) from error


def _file_in(folder: Path, name: str) -> Path:
    """Return a file in the folder, or raise a ValueError: a name must not lead anywhere else."""
    if Path(name).name != name:
        raise ValueError(f"found {name!r}, expected the name of a file in the folder")
    return folder / name
