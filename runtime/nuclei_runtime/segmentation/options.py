"""The options that a segmenter is made from, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nuclei_runtime.model.bundled import BUNDLED_MODELS
from nuclei_runtime.model.session import CPU_PROVIDER
from nuclei_runtime.steps.sieve import Sieve, parse_area
from nuclei_runtime.steps.stains import AS_IS, STAINS
from nuclei_runtime.steps.view import View


@dataclass(frozen=True)
class SegmenterOptions:
    """Which model segments images, where it runs, and how it is shown them.

    Attributes
    ----------
    model : Path, optional
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
        Test-time augmentation; see `nuclei_runtime.steps.tta`.
    diameter_px : float, optional
        Median diameter of the nuclei in the images, in pixels, which fixes the scale; see
        `nuclei_runtime.steps.scale`.
    stain : str, optional
        Which stain of colour images the network is shown: ``rgb`` for their own colours, or a key of
        `nuclei_runtime.steps.stains.STAINS`.
    view : View, optional
        How the network is shown every image: `View()` is as they are. Without it, what neither `diameter_px` nor
        `stain` fixes is chosen for each image, if the model's card says how; see `nuclei_runtime.steps.view`.
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
    ValueError
        An option is out of range, or `model` and a `precision` exclude each other.
    """

    model: Path | None = None
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
        if self.precision not in BUNDLED_MODELS:
            raise ValueError(f"precision must be one of {', '.join(BUNDLED_MODELS)}, found {self.precision!r}")
        if self.model is not None and self.precision != "fp32":
            raise ValueError(
                f"precision={self.precision!r} selects a bundled model, and {self.model} has its own precision; "
                "give one of the two"
            )
        threads: object = self.threads  # a program's settings file may give it as 1.5 or "4"
        if threads is not None and (not isinstance(threads, int | np.integer) or threads < 1):
            raise ValueError(f"threads must be a whole number, 1 or more, found {threads!r}")
        diameter_px: object = self.diameter_px
        if diameter_px is not None and not isinstance(diameter_px, int | float | np.number):
            raise ValueError(f"diameter_px must be a number of pixels, found {diameter_px!r}")
        if self.stain is not None and self.stain not in (AS_IS, *STAINS):
            raise ValueError(f"stain must be one of {', '.join((AS_IS, *STAINS))}, found {self.stain!r}")
        view: object = self.view
        if view is not None and not isinstance(view, View):
            raise ValueError(f"view must be a View, such as View() for images as they are, found {view!r}")
        for name in ("tta", "exclude_border", "tissue_mask"):
            flag: object = getattr(self, name)
            if not isinstance(flag, bool | np.bool_):  # "no" would mean yes
                raise ValueError(f"{name} must be True or False, found {flag!r}")
        for name in ("min_area", "max_area"):
            area: object = getattr(self, name)
            if area is not None and not isinstance(area, str):
                raise ValueError(f"{name} must be an area with its unit, such as '50px' or '30um2', found {area!r}")
        min_score: object = self.min_score
        if min_score is not None and (
            isinstance(min_score, bool) or not isinstance(min_score, int | float | np.number)
        ):
            raise ValueError(f"min_score must be a number from 0 to 1, found {min_score!r}")
        min_quality: object = self.min_quality
        if min_quality is not None and not (isinstance(min_quality, int | float | np.number) and 0 <= min_quality <= 1):
            raise ValueError(f"min_quality must be a number from 0 to 1, found {min_quality!r}")
        if self.view is not None and (self.diameter_px is not None or self.stain is not None):
            raise ValueError("a view fixes the scale and the stain; give either it, or diameter_px and stain")
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
        return BUNDLED_MODELS[self.precision] if self.model is None else self.model
