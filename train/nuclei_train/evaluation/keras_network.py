"""A Keras model run by the runtime as if it were an exported one, so that what is scored is what will ship."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime import segment_plane
from nuclei_runtime.arrays import Image, Labels
from nuclei_runtime.model.card import ModelCard
from nuclei_runtime.model.session import Session
from nuclei_runtime.readers.plane import plane_of
from nuclei_runtime.resources import cpu_count
from nuclei_runtime.segmentation.network import Network
from nuclei_runtime.steps.view import AS_IT_IS, other_views

if TYPE_CHECKING:
    import keras


class _KerasInference:
    """Has the one method of ONNX Runtime's session that a network needs."""

    def __init__(self, model: keras.Model) -> None:
        self._model, self._lock = model, Lock()

    def run(self, _outputs: Sequence[str], feeds: Mapping[str, NDArray[np.float32]]) -> list[NDArray[Any]]:
        (batch,) = feeds.values()
        with self._lock:  # Keras does not say that a model may be called from several threads
            return [np.asarray(self._model.predict_on_batch(batch))]


def keras_network(model: keras.Model, card: ModelCard) -> Network:
    """Return a network that runs a Keras model, with the views that its card allows.

    The model's weights may change between two images.
    """
    session = Session(card, "Keras", cpu_count(), "", _KerasInference(model))
    return Network(session, AS_IT_IS, () if card.views is None else other_views())


def find_nuclei(image: Image, network: Network) -> Labels:
    """Return the nuclei that `nuclei_runtime.Segmenter.segment` finds with the same model, (H, W) int32.

    Raises
    ------
    ImageError
        See `nuclei_runtime.Segmenter.segment`.
    """
    labels = np.zeros(image.shape[:2], np.int32)
    for block in segment_plane(plane_of(image), network, max_memory=sys.maxsize):
        labels[block.rows, block.columns] += block.labels
    return labels
