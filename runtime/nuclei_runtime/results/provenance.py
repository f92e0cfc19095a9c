"""How the results were made: ``provenance.json``."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Collection, Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nuclei_runtime.json_fields import flat
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.results.layout import PROVENANCE_FILE, RECORDS_FOLDER
from nuclei_runtime.segmentation.segmenter import Segmenter
from nuclei_runtime.steps.sieve import Sieve
from nuclei_runtime.writers.outputs import OutputOptions

_PACKAGES = (
    *("onnxruntime", "onnxruntime-gpu", "numpy", "scipy", "scikit-image", "tifffile", "pillow"),
    *("roifile", "zarr", "numcodecs", "pyarrow", "xlsxwriter"),
)
_EARLIER_METHODS = "earlier_methods"
_DEFAULT_PRECISION = "fp32"
"""Of a model whose card does not state it."""

_IMPLIED = "model.provenance."
"""Where another model comes from differs whenever its digest does."""

_MAX_SHOWN, _MAX_VALUES = 5, 8
"""How many settings a sentence names, of which the first say enough, and how many values of a setting."""


def describe_method(segmenter: Segmenter, selection: Selection, outputs: OutputOptions) -> dict[str, Any]:
    """Return everything that the bits of the results depend on, apart from the images.

    They do not depend on threads, shards or memory.
    """
    card = segmenter.card
    return {
        "nuclei_edge": version("nuclei-edge"),
        "model": {
            "name": card.name,
            "version": card.version,
            "sha256": segmenter.model_sha256,
            "precision": card.provenance.get("precision", _DEFAULT_PRECISION),
            "provenance": card.provenance,
        },
        "provider": segmenter.provider,
        "scale": str(segmenter.network.view.scale),
        "stain": segmenter.network.view.stain,
        "other_views": [str(view) for view in segmenter.network.others],
        "test_time_augmentation": segmenter.network.view.tta,
        "tissue_mask": segmenter.network.skips_glass,
        "selection": asdict(selection),
        "preprocessing": [asdict(step) for step in card.preprocessing],
        "postprocessing": asdict(segmenter.network.postprocessing),
        "left_out": asdict(segmenter.network.sieve),
        "outputs": outputs.describe(),
    }


def describe_given(
    sieve: Sieve, selection: Selection, outputs: OutputOptions, before: Path | None = None
) -> dict[str, Any]:
    """Return the same for nuclei that a person gave.

    Parameters
    ----------
    sieve : Sieve
    selection : Selection
    outputs : OutputOptions
    before : Path, optional
        The results folder whose labels were corrected.
    """
    found = {} if before is None else read_provenance(before / PROVENANCE_FILE)
    return {
        "nuclei_edge": version("nuclei-edge"),
        "labels": "given as label images or outlines; no model found them in this run",
        "corrected_from": {"run_key": found["run_key"], "model": found["method"].get("model")} if found else None,
        "selection": asdict(selection),
        "left_out": asdict(sieve),
        "outputs": outputs.describe(),
    }


def run_key(method: dict[str, Any]) -> str:
    """Return the SHA-256 of what `describe_method` returned: results with another run key were made differently."""
    return hashlib.sha256(json.dumps(method, sort_keys=True).encode()).hexdigest()


def provenance_json(
    method: dict[str, Any],
    tables: dict[str, Any],
    n_threads: int,
    earlier_methods: dict[str, Any],
    images_folder: str,
) -> str:
    """Return ``provenance.json``: the method, its run key, and the machine, which the run key ignores.

    The digests of the images and of their results are in the records.

    Parameters
    ----------
    method : dict
        See `describe_method`.
    tables : dict
        `nuclei_runtime.results.table_formats.TableOptions.describe`; the run key ignores it.
    n_threads : int
    earlier_methods : dict
        Methods of results that earlier runs may have left in the folder, by run key; see `methods_in`.
    images_folder : str
        The folder that the names of the images are relative to, itself relative to the results folder if possible.
    """
    system = platform.uname()
    document: dict[str, Any] = {
        "method": method,
        "run_key": run_key(method),
        "images": f"{RECORDS_FOLDER}/*.json: one per image file, with the SHA-256 of the file and of its results",
        "tables": tables,
        "machine": {
            "python": platform.python_version(),
            # platform.platform() would start `uname -p`, a second process, in the middle of a run.
            "system": f"{system.system} {system.release}",
            "processor": system.machine,
            "images_folder": images_folder,
            "threads": n_threads,
            "packages": packages(),
        },
    }
    others = {key: earlier for key, earlier in earlier_methods.items() if key != document["run_key"]}
    return _with_earlier_methods(document, others)


def packages() -> dict[str, str]:
    """Return the versions of the packages that make the results."""
    return {name: found for name in _PACKAGES if (found := _version(name)) is not None}


def read_provenance(path: Path) -> dict[str, Any]:
    """Return a ``provenance.json`` as `provenance_json` writes it; nothing if the file is missing or damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8", errors="replace"))
        parts = document["method"], document.get(_EARLIER_METHODS, {})
        is_whole = all(isinstance(part, dict) for part in parts) and isinstance(document["run_key"], str)
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return {}
    return document if is_whole else {}


def methods_in(provenance: dict[str, Any]) -> dict[str, Any]:
    """Return the methods that `read_provenance` found, by run key: of the last run and of earlier ones."""
    if not provenance:
        return {}
    return {**provenance.get(_EARLIER_METHODS, {}), provenance["run_key"]: provenance["method"]}


def changes_since(provenance: dict[str, Any], method: dict[str, Any]) -> str | None:
    """Return in one sentence what a run does differently from the run that wrote what `read_provenance` found.

    None if they do the same, or if nothing was found.
    """
    if not provenance:
        return None
    changes = [one for one in differing_settings(provenance["method"], method) if not one.startswith(_IMPLIED)]
    if not changes:
        return None
    n_more = len(changes) - _MAX_SHOWN
    more = f"; and {n_more} more, see {PROVENANCE_FILE}" if n_more > 0 else ""
    return f"note: this run differs from the earlier one in the results folder: {'; '.join(changes[:_MAX_SHOWN])}{more}"


def differing_settings(earlier: Any, now: Any) -> Iterator[str]:
    """Yield a clause for each setting in which two methods differ, in the order of the later one."""
    was, is_now = (flat(one, whole_lists=True) for one in (earlier, json.loads(json.dumps(now))))
    for name in is_now | was:
        if was.get(name) != is_now.get(name):
            yield f"{name} was {_shown(was.get(name))} and is {_shown(is_now.get(name))}"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none" if len(value) <= _MAX_VALUES else f"{len(value)} values"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def without_unused_methods(text: str, run_keys: Collection[str]) -> str:
    """Return a ``provenance.json`` without earlier methods that have no results left in the folder."""
    document = json.loads(text)
    earlier = document.pop(_EARLIER_METHODS, {})
    if earlier.keys() <= set(run_keys):
        return text
    return _with_earlier_methods(document, {key: method for key, method in earlier.items() if key in run_keys})


def _with_earlier_methods(document: dict[str, Any], earlier_methods: dict[str, Any]) -> str:
    if earlier_methods:
        document[_EARLIER_METHODS] = earlier_methods
    return json.dumps(document, indent=1) + "\n"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
