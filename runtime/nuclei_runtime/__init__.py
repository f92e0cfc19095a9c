"""Nuclei in microscopy images, counted and outlined with ONNX Runtime.

    from nuclei_runtime import Segmenter

    result = Segmenter().segment(image)   # (H, W), (H, W, 3) or (H, W, 4) array
    result.labels                         # (H, W) int32, 0 background, 1..N nuclei
    result.count

Names are imported on first use, so that `import nuclei_runtime` itself costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuclei_runtime.errors import NucleiError
    from nuclei_runtime.model.card import ModelCard
    from nuclei_runtime.readers.opening import read_image
    from nuclei_runtime.segmentation.segmenter import Segmentation, Segmenter

__all__ = ["ModelCard", "NucleiError", "Segmentation", "Segmenter", "read_image"]

_HOMES = {
    "ModelCard": "model.card",
    "NucleiError": "errors",
    "Segmentation": "segmentation.segmenter",
    "Segmenter": "segmentation.segmenter",
    "read_image": "readers.opening",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nuclei_runtime' has no attribute {name!r}")
    return getattr(import_module(f"nuclei_runtime.{_HOMES[name]}"), name)
