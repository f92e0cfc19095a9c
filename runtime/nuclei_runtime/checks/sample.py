"""A model's sample: one raw image with the maps and the labels that the model must give for it.

The sample lies next to the model, as ``nuclei.sample.npz`` next to ``nuclei.onnx``. Replaying it on the machine that
is to run the model shows at once whether a build, a driver or a processor computes something else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np

from nuclei_runtime.arguments import check_argument, is_path
from nuclei_runtime.arrays import Image, Labels, Maps
from nuclei_runtime.errors import ArgumentError, ModelFormatError, ModelNotFoundError
from nuclei_runtime.faults import is_of_machine, machine_error
from nuclei_runtime.segmentation.blocks import label_maps
from nuclei_runtime.segmentation.segmenter import Segmenter

MAX_SAMPLE_BYTES = 1 << 28
"""Limit for all arrays of a sample together, unpacked: a hundred times the largest sample of this project."""


@dataclass(frozen=True)
class ReplaySample:
    """What a model computed when it was exported.

    Attributes
    ----------
    image : (H, W), (H, W, 3) or (H, W, 4) ndarray
        The values that the file stores.
    maps : (H, W, M) ndarray of float32
        The output of `Segmenter.predict`: the network's maps at the image's own size.
    labels : (H, W) ndarray of int32
        The nuclei in `maps`, 0 background, 1..N.
    """

    image: Image
    maps: Maps
    labels: Labels


@dataclass(frozen=True)
class Replay:
    """How a replay compares with its sample.

    Attributes
    ----------
    difference : float
        Largest absolute difference in probability; infinite if either is NaN.
    tolerance : float
        What the model card allows.
    labels_equal : bool
        Whether the sample's maps give the sample's labels. These maps are used instead of the replayed ones, in which
        a pixel near the threshold may cross it within the tolerance.
    """

    difference: float
    tolerance: float
    labels_equal: bool

    @property
    def ok(self) -> bool:
        """Whether this machine computes the same as the model did when it was exported."""
        return self.difference <= self.tolerance and self.labels_equal


def sample_path(model: str | os.PathLike[str]) -> Path:
    """Return the path of a model's sample.

    Raises
    ------
    ArgumentError
        This is no path of a model.
    """
    check_argument(is_path(model) and Path(model).name != "", "model", "the path of an ONNX file", model)
    return Path(model).with_suffix(".sample.npz")


def write_sample(path: str | os.PathLike[str], sample: ReplaySample) -> None:
    """Write a sample.

    Parameters
    ----------
    path : path
        See `sample_path`.
    """
    np.savez_compressed(path, image=sample.image, maps=sample.maps, labels=sample.labels)


def read_sample(path: str | os.PathLike[str]) -> ReplaySample:
    """Read a sample.

    Raises
    ------
    ModelNotFoundError
        There is no such file.
    ModelFormatError
        The file is damaged, unpacks to more than `MAX_SAMPLE_BYTES`, or does not contain the arrays of a sample.
    RuntimeEnvironmentError
        The machine is at fault: for example, the process may open no more files.
    """
    try:
        with ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > MAX_SAMPLE_BYTES:
            raise ModelFormatError(
                f"{path}: unpacks to {size} bytes, expected at most {MAX_SAMPLE_BYTES}; "
                "copy the sample that belongs to the model, or export the model again"
            )
        with np.load(path, allow_pickle=False) as arrays:
            sample = ReplaySample(arrays["image"], arrays["maps"], arrays["labels"])
    except FileNotFoundError:
        raise ModelNotFoundError(
            f"{path}: this model has no sample; copy its sample next to it, or export the model again"
        ) from None
    except ModelFormatError:
        raise
    except OSError as error:
        if is_of_machine(error):
            raise machine_error(error, f"{path}: cannot be read") from error
        raise _damaged(path, error) from error
    except (ValueError, KeyError, TypeError, EOFError, MemoryError, BadZipFile) as error:
        raise _damaged(path, error) from error
    shapes = {sample.image.shape[:2], sample.maps.shape[:2], sample.labels.shape}
    if len(shapes) > 1:
        raise ModelFormatError(
            f"{path}: expected arrays of one height and width, found {shapes}; export the model again"
        )
    return sample


def _damaged(path: str | os.PathLike[str], error: Exception) -> ModelFormatError:
    return ModelFormatError(f"{path}: the sample cannot be read: {error}; copy it again, or export the model again")


def replay_sample(segmenter: Segmenter, path: str | os.PathLike[str]) -> Replay:
    """Run a model on its sample and compare the results.

    Parameters
    ----------
    segmenter : Segmenter
        One without test-time augmentation, diameter, stain and view: the sample shows what the model gives without
        them.
    path : path
        See `sample_path`.

    Raises
    ------
    ArgumentError
        This is no segmenter or no path, or the segmenter has one of these.
    ModelNotFoundError, ModelFormatError
        See `read_sample`; or the sample belongs to another model.
    """
    check_argument(isinstance(segmenter, Segmenter), "segmenter", "a Segmenter", segmenter)
    check_argument(is_path(path), "path", "the path that sample_path(model) gives", path)
    if segmenter.options.tta or segmenter.options.changes_view:
        raise ArgumentError("a sample is replayed without tta, diameter_px, stain and view; leave them out")
    sample = read_sample(path)
    (maps,) = segmenter.predict([sample.image])
    if maps.shape != sample.maps.shape:
        raise ModelFormatError(
            f"{path}: the sample's maps are {sample.maps.shape}, the model gives {maps.shape}; "
            "copy the sample that belongs to the model, or export the model again"
        )
    labels = label_maps(sample.maps, segmenter.network)  # whatever their values: the difference tells
    return Replay(
        difference=float(np.nan_to_num(np.abs(maps - sample.maps), nan=np.inf).max()),
        tolerance=segmenter.card.tolerance,
        labels_equal=np.array_equal(labels, sample.labels),
    )
