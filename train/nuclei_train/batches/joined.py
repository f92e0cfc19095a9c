"""Several streams of batches as one: each batch holds one of each."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from nuclei_train.batches.crops import WORKERS


class JoinedBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """The batches of several endless streams, joined.

    Parameters
    ----------
    streams : sequence of keras.utils.PyDataset
        Each gives pairs of arrays.
    """

    def __init__(self, streams: Sequence[keras.utils.PyDataset]) -> None:
        super().__init__(workers=WORKERS)
        self._streams = streams

    @property
    def num_batches(self) -> None:
        """None, because the stream is endless."""
        return None

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        inputs, targets = zip(*(stream[index] for stream in self._streams), strict=True)
        return np.concatenate(inputs), np.concatenate(targets)
