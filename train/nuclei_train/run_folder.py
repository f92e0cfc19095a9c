"""The run folder: what a training leaves, and what export and a resumed training read.

images.csv              which images were fitted and which validated, where that was drawn at random
run.json                recipe, versions, digests, timings, scores, and the model card's part that training knows
best.keras              the checkpoint of the best validation loss
model_for_nuclei.h5     the same, in the older format
inference.keras         the part of it that is exported (recipe native)
quantisation.npz        crops and validation images, from which an int8 export learns (recipe native)
history.csv             one row an epoch
curves.png              loss and accuracy
sanity_check.png        images and masks as the network gets them
predictions_SET.png     image, truth and prediction of random samples of train, val and test (recipe baseline)
tensorboard/            logs
resume.npz              the whole state after the last epoch
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

IDENTITY = ("recipe", "backend", "data", "split", "data_digests", "start", "teacher")
"""The fields of run.json that must be the same for a run to go on; the last two are there where it had one."""


def prepare(folder: Path, identity: dict[str, Any], defaults: dict[str, Any], *, resume: bool) -> bool:
    """Make or check a run folder; return whether there is a state to go on from.

    Parameters
    ----------
    folder : Path
    identity : dict
        The fields `IDENTITY` of the run that is asked for.
    defaults : dict
        What stands for a choice that a run of an earlier version does not mention.
    resume : bool
        Go on with what is there. On a new folder it is an ordinary run.

    Raises
    ------
    RunFolderError
        The folder holds something and `resume` is false, or it holds a run of another recipe or of other data.
    """
    started = read_run(folder) if (folder / RUN_FILE).is_file() else None
    if started is None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunFolderError(f"{folder}: not empty and not a run; name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        return False
    if not resume:
        raise RunFolderError(f"{folder}: already holds a run; add --resume to go on with it, or name a new folder")
    asked = json.loads(json.dumps(identity))
    known = _filled(started, json.loads(json.dumps(defaults)))
    there, here = (flat({key: run.get(key) for key in IDENTITY}) for run in (known, asked))
    differing = [
        f"{name} ({_shown(there.get(name))} there, {_shown(here.get(name))} here)"
        for name in {**there, **here}
        if there.get(name) != here.get(name)
    ]
    if differing:
        raise RunFolderError(
            f"{folder}: its run differs from this command in {', '.join(differing)} and cannot go on with it; "
            "give the recipe, the data and the options that it was started with, or name a new folder"
        )
    return (folder / STATE_FILE).is_file()


def _shown(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _filled(content: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Add the defaults of the fields that are missing, at every level."""
    filled = {**defaults, **content}
    for key, default in defaults.items():
        if isinstance(default, dict) and isinstance(filled[key], dict):
            filled[key] = _filled(filled[key], default)
    return filled


def read_run(folder: Path) -> dict[str, Any]:
    """Read a run folder's run.json.

    Raises
    ------
    RunFolderError
        It is missing or is not JSON.
    """
    path = folder / RUN_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path}: cannot be read ({error}); name a folder that nuclei-train made") from error
    if not isinstance(content, dict):
        raise RunFolderError(f"{path}: expected an object, found something else; name a folder that nuclei-train made")
    return content


def write_run(folder: Path, content: dict[str, Any]) -> None:
    """Write run.json in one step."""
    temporary = folder / (RUN_FILE + ".part")
    temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(folder / RUN_FILE)


def write_history(folder: Path, history: list[dict[str, float]]) -> None:
    """Write history.csv, one row an epoch."""
    with (folder / HISTORY_FILE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def versions() -> dict[str, str]:
    """Return the versions of Python and of what takes part in a training."""
    found = {"python": platform.python_version()}
    for package in ("nuclei-edge", "keras", "tensorflow", "jax", "numpy", "scipy", "scikit-image", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
