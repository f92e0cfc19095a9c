"""The run folder: written by a training, read by a resumed training and by the export.

splits.csv              which images were fitted and which validated, if that was drawn at random
run.json                recipe, versions, digests, timings, scores, and what an export needs
best.keras              the checkpoint with the lowest validation loss
model_for_nuclei.h5     the same in the older format
inference.keras         the part of it to export (recipe native)
quantisation.npz        crops and validation images for an int8 export (recipe native)
history.csv             one row per epoch
curves.png              loss and accuracy
sanity_check.png        images and masks as the network receives them
predictions_SET.png     image, truth and prediction of random images of train, val and test (recipe baseline)
tensorboard/            logs
resume.npz              the complete state after the last epoch
"""

from __future__ import annotations

import csv
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nuclei_runtime.json_fields import flat
from nuclei_train.errors import RunFolderError

RUN_FILE = "run.json"
BEST_CHECKPOINT = "best.keras"
BEST_CHECKPOINT_H5 = "model_for_nuclei.h5"
HISTORY_FILE = "history.csv"
TENSORBOARD_FOLDER = "tensorboard"
STATE_FILE = "resume.npz"

_SHOWN_CHARACTERS = 24

IDENTITY = ("recipe", "backend", "data", "split", "data_digests", "start", "teacher", "replay")
"""The fields of run.json that define a run; a run with other values cannot be resumed. The last three are optional."""

_INCIDENTAL = {"split.source"}
"""Part of them that may differ: the same images on the same sides are the same split, however it was drawn."""

_ADDED = {"data.modalities_sha256", "replay.modalities_sha256", "replay.images_sha256"}
"""Part of them that runs of earlier versions lack; these are resumed without a comparison of it."""


def prepare(folder: Path, identity: dict[str, Any], defaults: dict[str, Any], *, resume: bool) -> None:
    """Make a run folder, or check that the run in it can be resumed.

    Parameters
    ----------
    folder : Path
    identity : dict
        The fields `IDENTITY` of the run that is asked for.
    defaults : dict
        Values for settings that a run of an earlier version does not mention.
    resume : bool
        Resume the run in the folder; a new folder begins a new run all the same.

    Raises
    ------
    RunFolderError
        The folder contains a run and `resume` is false, a run of another recipe or of other data, or something else.
    """
    recorded = recorded_run(folder)
    if not recorded:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunFolderError(f"{folder}: not empty and not a run folder; choose a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        return
    if not resume:
        raise RunFolderError(f"{folder}: already contains a run; add --resume to resume it, or choose a new folder")
    asked = json.loads(json.dumps(identity))
    known = _filled(recorded, json.loads(json.dumps(defaults)))
    there, here = (flat({key: run.get(key) for key in IDENTITY}) for run in (known, asked))
    differing = [
        difference(name, there.get(name), here.get(name))
        for name in {**there, **here}
        if there.get(name) != here.get(name) and name not in _INCIDENTAL and (name in there or name not in _ADDED)
    ]
    if differing:
        raise RunFolderError(
            f"{folder}: cannot resume this run, because it differs from this command in {', '.join(differing)}; "
            "use the data and the options that it was started with, or choose a new folder"
        )


def difference(name: str, recorded: Any, asked: Any) -> str:
    """Name a field in which a run and a command differ, with both values."""
    return f"{name} ({_shown(recorded)} in the run, {_shown(asked)} in the command)"


def _shown(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _filled(content: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Fill in the defaults of missing fields, at every level."""
    filled = {**defaults, **content}
    for key, default in defaults.items():
        if isinstance(default, dict) and isinstance(filled[key], dict):
            filled[key] = _filled(filled[key], default)
    return filled


def recorded_run(folder: Path) -> dict[str, Any]:
    """Read run.json if there is one; without it the folder contains no run, and the result is empty.

    Raises
    ------
    RunFolderError
        See `read_run`.
    """
    return read_run(folder) if (folder / RUN_FILE).is_file() else {}


def read_run(folder: Path) -> dict[str, Any]:
    """Read a run folder's run.json.

    Raises
    ------
    RunFolderError
        It is missing or cannot be read as a JSON object.
    """
    path = folder / RUN_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"{path}: missing; give a run folder written by nuclei-train") from None
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path}: cannot be read ({error}); give a run folder written by nuclei-train") from error
    if not isinstance(content, dict):
        raise RunFolderError(
            f"{path}: expected a JSON object, found something else; give a run folder written by nuclei-train"
        )
    return content


def write_run(folder: Path, content: dict[str, Any]) -> None:
    """Write run.json atomically."""
    temporary = folder / (RUN_FILE + ".part")
    temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(folder / RUN_FILE)


def discard_run(folder: Path) -> None:
    """Remove run.json: nothing of the run is kept, and the folder is new again."""
    (folder / RUN_FILE).unlink()


def write_history(folder: Path, history: list[dict[str, float]]) -> None:
    """Write history.csv, one row per epoch."""
    with (folder / HISTORY_FILE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages used in a training."""
    found = {"python": platform.python_version()}
    for package in ("nuclei-edge", "keras", "tensorflow", "jax", "numpy", "scipy", "scikit-image", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
