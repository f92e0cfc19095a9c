"""Whether ONNX Runtime computes the same as Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.model.session import Session
from nuclei_runtime.steps.preprocess import preprocess

BATCH_SIZES = (1, 2, 5, 8)
SIZES_PX = ((64, 192), (208, 128), (256, 256), (48, 352))
"""Heights and widths for a network that takes any size, one per batch size."""

SEED = 42


@dataclass(frozen=True)
class Comparison:
    """One batch, computed by both.

    Attributes
    ----------
    batch : str
        What the batch contained.
    shape : tuple of int
    difference : float
        Largest absolute difference in probability; infinite if either is NaN.
    spread : float
        Standard deviation of Keras's probabilities: if it is near 0, the comparison means little.
    """

    batch: str
    shape: tuple[int, ...]
    difference: float
    spread: float


def compare(model: Any, session: Session) -> list[Comparison]:
    """Compare both on batches of several sizes: preprocessed synthetic fields, and noise."""
    spec = session.card.input
    rng = np.random.default_rng(SEED)
    comparisons = []
    for size, any_size_px in zip(BATCH_SIZES, SIZES_PX, strict=True):
        height, width = (spec.height, spec.width) if spec.height and spec.width else any_size_px
        fields = [fluorescence_field(SEED + index, height=height, width=width)[0] for index in range(size)]
        batches: dict[str, NDArray[np.float32]] = {
            "synthetic fields": np.stack([preprocess(field, session.card.preprocessing) for field in fields]),
            "noise": rng.random((size, height, width, spec.channels), dtype=np.float32),
        }
        for name, batch in batches.items():
            expected = model.predict(batch, batch_size=size, verbose=0)
            # A NaN would pass any comparison with the tolerance, and would be lost in a maximum.
            difference = float(np.nan_to_num(np.abs(session.run(batch) - expected), nan=np.inf).max())
            comparisons.append(Comparison(name, batch.shape, difference, float(expected.std())))
    return comparisons
