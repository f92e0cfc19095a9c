"""What a run is made with, written once beside its results."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.results.layout import RECORDS_FOLDER
from nuclei_runtime.segmentation.segmenter import Segmenter

_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "numpy", "scipy", "scikit-image", "tifffile", "pillow")
_DEFAULT_PRECISION = "fp32"
"""Of a model whose card does not say it."""


def describe_method(segmenter: Segmenter, selection: Selection) -> dict[str, Any]:
    """Return all that decides on the bits of the results besides the images.

    Threads, shares and memory do not: the results are the same with any.
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
        "scale": str(segmenter.network.scale),
        "test_time_augmentation": segmenter.network.tta,
        "selection": asdict(selection),
        "preprocessing": [asdict(step) for step in card.preprocessing],
        "postprocessing": asdict(segmenter.network.postprocessing),
    }


def run_key(method: dict[str, Any]) -> str:
    """Return the SHA-256 of what `describe_method` gave: results that bear another one were made otherwise."""
    return hashlib.sha256(json.dumps(method, sort_keys=True).encode()).hexdigest()


def provenance_json(method: dict[str, Any], n_threads: int) -> str:
    """Return ``provenance.json``: the method, its key, and the machine, which has no part in the key.

    The digests of the images, and of what became of them, stand in the records.
    """
    document = {
        "method": method,
        "run_key": run_key(method),
        "images": f"{RECORDS_FOLDER}/*.json: a record an image file, with the SHA-256 of the file and of its results",
        "machine": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "processor": platform.machine(),
            "threads": n_threads,
            "packages": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
        },
    }
    return json.dumps(document, indent=1) + "\n"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
