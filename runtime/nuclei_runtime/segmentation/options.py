"""The options that a segmenter is made from, as one value."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nuclei_runtime.arguments import Valid, check_fields, is_flag, is_number, is_one_of, is_path, is_text, is_whole
from nuclei_runtime.errors import ArgumentError
from nuclei_runtime.model.bundled import BUNDLED_MODELS
from nuclei_runtime.model.session import CPU_PROVIDER
from nuclei_runtime.steps.scale import MAX_DIAMETER_PX, MIN_DIAMETER_PX
from nuclei_runtime.steps.sieve import Sieve, parse_area
from nuclei_runtime.steps.stains import STAIN_NAMES
from nuclei_runtime.steps.view import View

MAX_THREADS = 1024
"""More than a machine has processors. ONNX Runtime starts them all when a model is loaded."""

_AREA = is_text, "an area with its unit, such as '50px' or '30um2'"
_FLAG = is_flag, "True or False"  # "no" would mean yes
_SHARE = partial(is_number, low=0, high=1), "a number from 0 to 1"

_VALID: Valid = {
    "model": (is_path, "the path of an ONNX file"),
    "precision": (partial(is_one_of, tuple(BUNDLED_MODELS)), f"one of {', '.join(BUNDLED_MODELS)}"),
    "sha256": (is_text, "the SHA-256 of the model in hexadecimal"),
    "provider": (is_text, "the name of an execution provider"),
    "threads": (partial(is_whole, least=1, most=MAX_THREADS), f"a whole number, 1 to {MAX_THREADS}"),
    "tta": _FLAG,
    "diameter_px": (
        partial(is_number, low=MIN_DIAMETER_PX, high=MAX_DIAMETER_PX),
        f"{MIN_DIAMETER_PX:g} to {MAX_DIAMETER_PX:g} pixels",
    ),
    "stain": (partial(is_one_of, STAIN_NAMES), f"one of {', '.join(STAIN_NAMES)}"),
    "view": (lambda found: isinstance(found, View), "a View, such as View() for images as they are"),
    "exclude_border": _FLAG,
    "min_area": _AREA,
    "max_area": _AREA,
    "min_score": _SHARE,
    "tissue_mask": _FLAG,
    "min_quality": _SHARE,
}


@dataclass(frozen=True)
class SegmenterOptions:
    """Which model segments images, where it runs, and how it is shown them.

    Attributes
    ----------
    model : path, optional
        An ONNX file that `nuclei-export` wrote. Without it, the bundled model.
    precision : str
        Which of the bundled models: a key of `BUNDLED_MODELS`, ``fp32`` or ``int8``.
    sha256 : str, optional
        The SHA-256 that the model file must have, in hexadecimal.
    provider : str
        ONNX Runtime's execution provider.
    threads : int, optional
        Threads for one call. Without it, as many as the container or the machine grants.
    tta : bool
        Test-time augmentation; see `nuclei_runtime.steps.tta`. If the view is chosen for each image, those whose
        nuclei look large are not averaged; see `nuclei_runtime.steps.view_choice.choose`.
    diameter_px : float, optional
        Median diameter of the nuclei in the images, in pixels, which fixes the scale; see
        `nuclei_runtime.steps.scale`.
    stain : str, optional
        Which stain of colour images the network is shown: ``rgb`` for their own colours, or a key of
        `nuclei_runtime.steps.stains.STAINS`.
    view : View, optional
        How the network is shown every image: `View()` is as they are. Without it, what neither `diameter_px` nor
        `stain` fixes is chosen for each image, if the model's card says how; see `nuclei_runtime.steps.view_choice`.
    exclude_border : bool
        Leave out nuclei with a pixel on the edge of the image.
    min_area, max_area : str, optional
        Leave out nuclei that are smaller, or larger: an area such as ``50px`` or ``30um2``.
    min_score : float, optional
        Leave out nuclei with a smaller score, 0 to 1; see `nuclei_runtime.steps.score`.
    tissue_mask : bool
        Whether the glass of large stained slides is skipped; see `nuclei_runtime.segmentation.glass`.
    min_quality : float, optional
        Flag images whose expected AP@0.5 is lower, 0 to 1. Without it, the model's card says what is ordinary; see
        `nuclei_runtime.steps.flags`.

    Raises
    ------
    ArgumentError
        An option is out of range, or `model` and a `precision` exclude each other.
    """

    model: str | os.PathLike[str] | None = None
    precision: str = "fp32"
    sha256: str | None = None
    provider: str = CPU_PROVIDER
    threads: int | None = None
    tta: bool = False
    diameter_px: float | None = None
    stain: str | None = None
    view: View | None = None
    exclude_border: bool = False
    min_area: str | None = None
    max_area: str | None = None
    min_score: float | None = None
    tissue_mask: bool = True
    min_quality: float | None = None

    def __post_init__(self) -> None:
        check_fields(self, _VALID)
        if self.model is not None and self.precision != "fp32":
            raise ArgumentError(
                f"precision={self.precision!r} selects a bundled model, and {self.model} has its own precision; "
                "give one of the two"
            )
        if self.view is not None and (self.diameter_px is not None or self.stain is not None):
            raise ArgumentError("a view fixes the scale and the stain; give either it, or diameter_px and stain")
        _ = self.sieve

    @property
    def sieve(self) -> Sieve:
        """Which nuclei are kept."""
        low, high = (None if area is None else parse_area(area) for area in (self.min_area, self.max_area))
        return Sieve(self.exclude_border, low, high, self.min_score)

    @property
    def changes_view(self) -> bool:
        """Whether images are to be shown in another way than as they are, whatever the model's card says."""
        return self.diameter_px is not None or self.stain is not None or self.view not in (None, View())

    @property
    def model_path(self) -> Path:
        """The model file: the one that is named, or the bundled one of this precision."""
        return BUNDLED_MODELS[self.precision] if self.model is None else Path(self.model)
