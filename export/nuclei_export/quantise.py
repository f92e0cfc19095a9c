"""A graph in fp32 -> the graph in int8, except for the convolutions that measurably need fp32."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_export.equalise import equalise
from nuclei_export.errors import ParityError
from nuclei_export.lint import flops_of_convolutions
from nuclei_export.quantisation_data import QuantisationData
from nuclei_export.quantiser import Quantiser
from nuclei_export.sub_pixel import replace_transposed
from nuclei_runtime.arrays import Labels, from_uint8
from nuclei_runtime.metrics import match, mean_image_ap, pooled_ap
from nuclei_runtime.model.card import ModelCard
from nuclei_runtime.model.session import Session
from nuclei_runtime.steps.instances import find_instances
from nuclei_runtime.steps.tiling import run_tiled

MAX_AP_LOSS = 0.004
"""The loss allowed in AP on the validation images, averaged over the IoU thresholds, both as mean over images and
pooled. At a single threshold AP fluctuates by more than that even if almost nothing differs, and the parameters of the
watershed are optimal for fp32 on the same images. If losing a single match costs more, that much is allowed: see
`_largest_losses`."""

SENSITIVITY_CROPS = 32
TIMED_RUNS = 9
TIMED_PX = 512


@dataclass(frozen=True)
class Trial:
    """A model in which some convolutions remain in fp32.

    Attributes
    ----------
    left_out : tuple of str
        Their names.
    ap : (2, T) ndarray of float
        On the images to choose on, at each of `nuclei_runtime.metrics.IOU_THRESHOLDS`: mean over images, then pooled.
    """

    left_out: tuple[str, ...]
    ap: NDArray[np.float64]


@dataclass(frozen=True)
class Quantisation:
    """The result of quantising a graph.

    Attributes
    ----------
    proto : onnx.ModelProto
        Without the metadata.
    sensitivity : tuple of (str, float, float)
        Each convolution, the mean absolute error in the maps if only it is in int8, and its share of the compute; in
        the order in which they are left in fp32: most error for the least compute first.
    fp32 : Trial
    trials : tuple of Trial
        In order; the last one is the model.
    scored_on : str
        What the images to choose on are.
    limits : (2,) ndarray of float
        The loss allowed in AP, averaged over the thresholds: mean over images, then pooled.
    speed : float
        Speed relative to fp32, on the machine of the export.
    """

    proto: Any
    sensitivity: tuple[tuple[str, float, float], ...]
    fp32: Trial
    trials: tuple[Trial, ...]
    scored_on: str
    limits: NDArray[np.float64]
    speed: float

    @property
    def ap_lost(self) -> NDArray[np.float64]:
        """AP of fp32 minus AP of the model, (2, T) as `Trial.ap`."""
        return self.fp32.ap - self.trials[-1].ap

    def __str__(self) -> str:
        left_out = self.trials[-1].left_out
        return (
            f"loses at most {float(self.ap_lost.mean(axis=1).max()):.4f} in AP, averaged over IoU thresholds, on "
            f"{self.scored_on}; {self.speed:.1f} times as fast as fp32 on one batch; besides the last one, "
            f"{len(left_out)} of {len(self.sensitivity)} convolutions remain in fp32"
        )


def quantise(proto: Any, card: ModelCard, data: QuantisationData, *, reduce_range: bool) -> Quantisation:
    """Quantise a graph: activations to uint8, weights to int8 per channel, in QDQ format.

    Channels are equalised (`nuclei_export.equalise`). Ranges are the smallest and largest values for the crops. Then
    convolutions are returned to fp32, the most sensitive relative to their compute first, until neither AP is more than
    `MAX_AP_LOSS` below that of fp32 or, with few nuclei in the images to choose on, more than one nucleus costs.

    Parameters
    ----------
    proto : onnx.ModelProto
        With its card embedded.
    card : ModelCard
        Of a network that takes any size.
    data : QuantisationData
    reduce_range : bool
        7-bit weights, for processors without VNNI on which other software than this runtime runs the model: there, sums
        of products can overflow.

    Raises
    ------
    ParityError
        The loss is larger even with half of the compute in fp32.
    """
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        prepared = equalise(replace_transposed(proto), from_uint8(data.crops))
        quantiser = Quantiser(prepared, data.crops, Path(folder), reduce_range=reduce_range)
        reference = quantiser.session(quantiser.proto)
        sensitivity = _sensitivity(quantiser, reference, data.crops[:SENSITIVITY_CROPS])
        fp32 = Trial(tuple(name for name, _, _ in sensitivity), _score(reference, card, data))
        trials: list[Trial] = []
        limits = _largest_losses(data.labels)
        share = 0.0
        for n_left_out in range(len(sensitivity)):
            left_out = tuple(name for name, _, _ in sensitivity[:n_left_out])
            quantised = quantiser.quantise([name for name, _, _ in sensitivity[n_left_out:]])
            session = quantiser.session(quantised)
            trials.append(Trial(left_out, _score(session, card, data)))
            if (_losses(fp32, trials[-1]) <= limits).all():
                speed = _speed(reference, session, data.crops)
                return Quantisation(quantised, tuple(sensitivity), fp32, tuple(trials), data.scored_on, limits, speed)
            share += sensitivity[n_left_out][2]
            if share > 0.5:
                break
    losses = ", ".join(f"{float(_losses(fp32, trial).max()):.4f}" for trial in trials)
    n_nuclei = sum(map(_n_nuclei, data.labels))
    raise ParityError(
        f"int8 loses more than {limits.max():.3f} in AP on the {n_nuclei} nuclei of {data.scored_on}, however "
        f"many of the most sensitive convolutions remain in fp32 (largest losses: {losses}); export in fp32, or use "
        "more images for validation; nothing was written"
    )


def _losses(fp32: Trial, trial: Trial) -> NDArray[np.float64]:
    """Return the losses in AP, averaged over the thresholds: mean over images and pooled, (2,)."""
    return np.asarray((fp32.ap - trial.ap).mean(axis=1))


def _largest_losses(labels: Sequence[Labels]) -> NDArray[np.float64]:
    """Return the allowed losses in AP, mean over images and pooled, (2,): at least the cost of one nucleus.

    If all of n nuclei match and one of them then no longer does, TP / (TP + FP + FN) falls from 1 to
    (n - 1) / (n + 1), that is by 2 / (n + 1). The mean over N images falls by an N-th of this, here of its average over
    the images with nuclei: the others have no match to lose.
    """
    n_nuclei = np.array([_n_nuclei(one) for one in labels])
    if not n_nuclei.any():
        return np.full(2, MAX_AP_LOSS)
    of_one_nucleus = [np.mean(2 / (n_nuclei[n_nuclei > 0] + 1)) / len(n_nuclei), 2 / (n_nuclei.sum() + 1)]
    return np.maximum(MAX_AP_LOSS, of_one_nucleus)


def _n_nuclei(labels: Labels) -> int:
    return np.unique(labels[labels > 0]).size


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the quantiser's advice to pre-process the graph, which this graph does not need."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _sensitivity(quantiser: Quantiser, reference: Session, crops: NDArray[np.uint8]) -> list[tuple[str, float, float]]:
    images = from_uint8(crops)
    expected = _in_batches(reference.run, images)
    flops = flops_of_convolutions(quantiser.proto)
    total = sum(flops.values())
    found = []
    for name in quantiser.convolutions:
        maps = _in_batches(quantiser.session(quantiser.quantise([name])).run, images)
        found.append((name, float(np.abs(maps - expected).mean()), flops[name] / total))
    return sorted(found, key=lambda row: row[1] / row[2], reverse=True)


def _in_batches(
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]], images: NDArray[np.float32]
) -> NDArray[np.float32]:
    return np.concatenate([run(images[first : first + 8]) for first in range(0, len(images), 8)])


def _score(session: Session, card: ModelCard, data: QuantisationData) -> NDArray[np.float64]:
    assert card.input.tiling is not None
    matchings = []
    for image, labels in zip(data.images, data.labels, strict=True):
        maps = run_tiled(session.run, from_uint8(image), card.input.tiling)
        matchings.append(match(labels, find_instances(maps, card.postprocessing)))
    return np.stack([mean_image_ap(matchings), pooled_ap(matchings)])


def _speed(fp32: Session, int8: Session, crops: NDArray[np.uint8]) -> float:
    """Return how many times as fast as fp32 int8 is: both run in turn on a tile assembled from crops."""
    side = -(-TIMED_PX // crops.shape[1])
    some = np.take(crops, np.arange(side * side), axis=0, mode="wrap")
    tile = np.concatenate([np.concatenate(list(row), axis=1) for row in some.reshape(side, side, *crops.shape[1:])])
    image = from_uint8(tile[np.newaxis, :TIMED_PX, :TIMED_PX])
    seconds: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(TIMED_RUNS):
        for index, session in enumerate((fp32, int8)):
            start = time.perf_counter()
            session.run(image)
            seconds[index].append(time.perf_counter() - start)
    return median(seconds[0]) / median(seconds[1])
