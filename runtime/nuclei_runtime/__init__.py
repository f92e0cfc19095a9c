"""Count, outline and measure nuclei in microscopy images with ONNX Runtime.

    from nuclei_runtime import Segmenter

    result = Segmenter().segment(image)   # (H, W), (H, W, 3) or (H, W, 4) array
    result.labels                         # (H, W) int32, 0 background, 1..N nuclei
    result.count

Names are imported on first use, so that `import nuclei_runtime` itself costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuclei_runtime.checks.sample import Replay, replay_sample, sample_path
    from nuclei_runtime.errors import (
        ArgumentError,
        CardError,
        ImageError,
        ImageReadError,
        ImageShapeError,
        ImageTooLargeError,
        ImageValueError,
        MissingExtraError,
        ModelDigestError,
        ModelError,
        ModelFormatError,
        ModelNotFoundError,
        NucleiError,
        ProviderError,
        RuntimeEnvironmentError,
        SegmentationCancelledError,
    )
    from nuclei_runtime.model.bundled import BUNDLED_MODELS
    from nuclei_runtime.model.card import ModelCard
    from nuclei_runtime.readers.opening import open_planes, read_image
    from nuclei_runtime.readers.plane import Plane, Selection, plane_of
    from nuclei_runtime.segmentation.blocks import Block, segment_plane
    from nuclei_runtime.segmentation.options import SegmenterOptions
    from nuclei_runtime.segmentation.result import Segmentation
    from nuclei_runtime.segmentation.segmenter import Segmenter
    from nuclei_runtime.steps.columns import Column, describe_column
    from nuclei_runtime.steps.contrast import Contrast
    from nuclei_runtime.steps.evidence import Evidence
    from nuclei_runtime.steps.flags import Flag, complete_flags
    from nuclei_runtime.steps.label_changes import LabelChanges, compare_labels
    from nuclei_runtime.steps.scale import Scale
    from nuclei_runtime.steps.view import View
    from nuclei_runtime.writers.label_tiff import save_labels

    __version__: str

__all__ = [
    "BUNDLED_MODELS",
    "ArgumentError",
    "Block",
    "CardError",
    "Column",
    "Contrast",
    "Evidence",
    "Flag",
    "ImageError",
    "ImageReadError",
    "ImageShapeError",
    "ImageTooLargeError",
    "ImageValueError",
    "LabelChanges",
    "MissingExtraError",
    "ModelCard",
    "ModelDigestError",
    "ModelError",
    "ModelFormatError",
    "ModelNotFoundError",
    "NucleiError",
    "Plane",
    "ProviderError",
    "Replay",
    "RuntimeEnvironmentError",
    "Scale",
    "Segmentation",
    "SegmentationCancelledError",
    "Segmenter",
    "SegmenterOptions",
    "Selection",
    "View",
    "__version__",
    "compare_labels",
    "complete_flags",
    "describe_column",
    "open_planes",
    "plane_of",
    "read_image",
    "replay_sample",
    "sample_path",
    "save_labels",
    "segment_plane",
]

_MODULES = {
    "BUNDLED_MODELS": "model.bundled",
    "Block": "segmentation.blocks",
    "Column": "steps.columns",
    "Contrast": "steps.contrast",
    "Evidence": "steps.evidence",
    "Flag": "steps.flags",
    "LabelChanges": "steps.label_changes",
    "ModelCard": "model.card",
    "Plane": "readers.plane",
    "Replay": "checks.sample",
    "Scale": "steps.scale",
    "Segmentation": "segmentation.result",
    "Segmenter": "segmentation.segmenter",
    "SegmenterOptions": "segmentation.options",
    "Selection": "readers.plane",
    "View": "steps.view",
    "compare_labels": "steps.label_changes",
    "complete_flags": "steps.flags",
    "describe_column": "steps.columns",
    "open_planes": "readers.opening",
    "plane_of": "readers.plane",
    "read_image": "readers.opening",
    "replay_sample": "checks.sample",
    "sample_path": "checks.sample",
    "save_labels": "writers.label_tiff",
    "segment_plane": "segmentation.blocks",
}
"""The module of each name, except for the errors, which are all in `nuclei_runtime.errors`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nuclei_runtime' has no attribute {name!r}")
    if name == "__version__":
        from importlib.metadata import version

        return version("nuclei-edge")
    return getattr(import_module(f"nuclei_runtime.{_MODULES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
