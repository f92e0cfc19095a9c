"""The options that a segmenter is made from, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nuclei_runtime.model.bundled import BUNDLED_MODELS
from nuclei_runtime.model.session import CPU_PROVIDER


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
        Median diameter of the nuclei in the images, in pixels; see `nuclei_runtime.steps.scale`. Without it, the
        network sees the images at their own scale.

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

    @property
    def model_path(self) -> Path:
        """The model file: the one that is named, or the bundled one of this precision."""
        return BUNDLED_MODELS[self.precision] if self.model is None else self.model
