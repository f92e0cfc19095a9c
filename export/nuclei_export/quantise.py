"""A graph in fp32 -> the same in int8, but for what int8 would hurt: found by measurement."""

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
from nuclei_export.quantiser import Quantiser, as_input
from nuclei_export.sub_pixel import replace_transposed
from nuclei_runtime.arrays import Labels
from nuclei_runtime.metrics import match, mean_image_ap, pooled_ap
from nuclei_runtime.model.card import ModelCard
from nuclei_runtime.model.session import Session
from nuclei_runtime.steps.instances import find_instances
from nuclei_runtime.steps.tiling import run_tiled

MAX_AP_LOSS = 0.004
"""What AP, averaged over the IoU thresholds, may lose on the validation images, mean over images and pooled: at a
single threshold it goes up and down by more than that where hardly anything differs, and the parameters of the
watershed were chosen as the best for fp32 on the very same images. Where a single nucleus that matches no more costs
more, so much may be lost: see `_largest_losses`."""

SENSITIVITY_CROPS = 32
TIMED_RUNS = 9
TIMED_PX = 512


@dataclass(frozen=True)
class Trial:
    """A model with some convolutions left in fp32.

    Attributes
    ----------
    left_out : tuple of str
        Their names.
    ap : (2, T) ndarray of float
        On the validation images, at each of `nuclei_runtime.metrics.IOU_THRESHOLDS`: mean over images, then pooled.
    """

    left_out: tuple[str, ...]
    ap: NDArray[np.float64]


@dataclass(frozen=True)
class Quantisation:
    """How a graph became int8.

    Attributes
    ----------
    proto : onnx.ModelProto
        Without the metadata.
    sensitivity : tuple of (str, float, float)
        Each convolution; the mean absolute error that it alone in int8 makes in the maps; its share of the compute.
        In the order in which they are left in fp32: the most error for the least compute first.
    fp32 : Trial
    trials : tuple of Trial
        In their order; the last one is the model.
    limits : (2,) ndarray of float
        The most that AP, averaged over the thresholds, was allowed to lose, mean over images, then pooled.
    speed : float
        How many times as fast as fp32, on the machine of the export.
    """

    proto: Any
    sensitivity: tuple[tuple[str, float, float], ...]
    fp32: Trial
    trials: tuple[Trial, ...]
    limits: NDArray[np.float64]
    speed: float

    @property
    def ap_lost(self) -> NDArray[np.float64]:
        """AP of fp32 less that of the model, (2, T) as `Trial.ap`."""
        return self.fp32.ap - self.trials[-1].ap

    def __str__(self) -> str:
        left_out = self.trials[-1].left_out
        return (
            f"at most {float(self.ap_lost.mean(axis=1).max()):.4f} of AP, averaged over IoU thresholds, lost on the "
            f"validation images, {self.speed:.1f} times as fast as fp32 on one batch; beside the last, {len(left_out)} "
            f"of {len(self.sensitivity)} convolutions left in fp32"
        )


def quantise(proto: Any, card: ModelCard, data: QuantisationData, *, reduce_range: bool) -> Quantisation:
    """Quantise a graph: activations to uint8, weights to int8 by channel (ONNX's QuantizeLinear around the operators).

    Channels are equalised (`nuclei_export.equalise`). Ranges are the smallest and largest values that the crops give.
    Then convolutions are left in fp32, the most sensitive for their compute first, until neither AP is more than
    `MAX_AP_LOSS` lower than that of fp32, or than one nucleus makes where the validation images show few.

    Parameters
    ----------
    proto : onnx.ModelProto
        With its card embedded.
    card : ModelCard
        Of a network that takes any size.
    data : QuantisationData
    reduce_range : bool
        Weights of 7 bits, for processors without VNNI on which something else than this runtime runs the model: there
        sums of products can overflow.

    Raises
    ------
    ParityError
        Even with half of the compute in fp32 the loss is larger.
    """
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        prepared = equalise(replace_transposed(proto), as_input(data.crops))
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
                return Quantisation(
                    quantised, tuple(sensitivity), fp32, tuple(trials), limits, _speed(reference, session, data.crops)
                )
            share += sensitivity[n_left_out][2]
            if share > 0.5:
                break
    losses = ", ".join(f"{float(_losses(fp32, trial).max()):.4f}" for trial in trials)
    n_nuclei = sum(map(_n_nuclei, data.labels))
    raise ParityError(
        f"int8 loses more than {limits.max():.3f} of AP on the {n_nuclei} nuclei of the validation images, however "
        f"many of the most sensitive convolutions stay in fp32 (largest losses: {losses}); export in fp32, or let "
        "more images validate; nothing was written"
    )


def _losses(fp32: Trial, trial: Trial) -> NDArray[np.float64]:
    """Return what AP, averaged over the thresholds, loses, mean over images and pooled, (2,)."""
    return np.asarray((fp32.ap - trial.ap).mean(axis=1))


def _largest_losses(labels: Sequence[Labels]) -> NDArray[np.float64]:
    """Return what AP may lose, mean over images and pooled, (2,): never less than what one nucleus makes.

    Where all of n nuclei match and one then matches no more, TP / (TP + FP + FN) falls from 1 to (n - 1) / (n + 1), by
    2 / (n + 1). The mean over N images falls by the N-th part of it, here that of an image like the average.
    """
    n_nuclei = np.array([_n_nuclei(one) for one in labels])
    of_one_nucleus = [np.mean(2 / (n_nuclei + 1)) / len(n_nuclei), 2 / (n_nuclei.sum() + 1)]
    return np.maximum(MAX_AP_LOSS, of_one_nucleus)


def _n_nuclei(labels: Labels) -> int:
    return np.unique(labels[labels > 0]).size


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's advice to pre-process the graph, which this one does not need, off the user's terminal."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _sensitivity(quantiser: Quantiser, reference: Session, crops: NDArray[np.uint8]) -> list[tuple[str, float, float]]:
    images = as_input(crops)
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
        maps = run_tiled(session.run, as_input(image), card.input.tiling)
        matchings.append(match(labels, find_instances(maps, card.postprocessing)))
    return np.stack([mean_image_ap(matchings), pooled_ap(matchings)])


def _speed(fp32: Session, int8: Session, crops: NDArray[np.uint8]) -> float:
    """Run both in turn on a tile put together from crops."""
    side = -(-TIMED_PX // crops.shape[1])
    some = np.take(crops, np.arange(side * side), axis=0, mode="wrap")
    tile = np.concatenate([np.concatenate(list(row), axis=1) for row in some.reshape(side, side, *crops.shape[1:])])
    image = as_input(tile[np.newaxis, :TIMED_PX, :TIMED_PX])
    seconds: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(TIMED_RUNS):
        for index, session in enumerate((fp32, int8)):
            start = time.perf_counter()
            session.run(image)
            seconds[index].append(time.perf_counter() - start)
    return median(seconds[0]) / median(seconds[1])
