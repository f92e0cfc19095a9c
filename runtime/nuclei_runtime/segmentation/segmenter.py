"""Image in, labelled nuclei out: the call that an instrument embeds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from nuclei_runtime.arrays import Image, Labels, Maps, check_image
from nuclei_runtime.errors import ImageValueError, ModelError
from nuclei_runtime.model.card import ModelCard
from nuclei_runtime.model.session import CPU_PROVIDER, load_session
from nuclei_runtime.readers.plane import plane_of
from nuclei_runtime.segmentation.blocks import segment_plane
from nuclei_runtime.steps.instances import find_instances
from nuclei_runtime.steps.preprocess import preprocess
from nuclei_runtime.steps.resize import resize
from nuclei_runtime.steps.scale import Scale, scale_for
from nuclei_runtime.steps.step import Step
from nuclei_runtime.steps.tiling import NetworkFunction, Tiling, run_tiled
from nuclei_runtime.steps.tta import MAGNIFICATION, average_scales

DEFAULT_BATCH_SIZE = 4
"""Images that go through the network at once. On a CPU a larger batch gains nothing and takes memory in proportion."""


@dataclass(frozen=True, eq=False)  # arrays have no single truth value to compare by
class Segmentation:
    """The nuclei of one image.

    Attributes
    ----------
    labels : (H, W) ndarray of int32
        0 is background, nuclei are 1..N, each one 4-connected piece. Read-only.
    """

    labels: Labels

    @property
    def count(self) -> int:
        """How many nuclei there are."""
        return int(self.labels.max())


class Segmenter:
    """A loaded model that segments images. Its methods may be called from several threads at once.

    Parameters
    ----------
    model : path, optional
        An ONNX file that `nuclei-export` wrote; without it the bundled model.
    sha256 : str, optional
        The SHA-256 that the model file must have, in hexadecimal; see docs/embedding.md on pinning.
    provider : str
        ONNX Runtime's execution provider. It is the one obtained, or an error is raised.
    threads : int, optional
        Threads for one call; without it what the container or the machine grants.
    batch_size : int
        Images that go through a network of fixed size at once; one of any size takes a tile at a time.
    tta : bool
        Test-time augmentation: on the whole more accurate, at five times the network's cost; see
        `nuclei_runtime.steps.tta`.
    diameter_px : float, optional
        Median diameter of the nuclei in the images, 4 to 400 pixels: the network is shown them about as large as those
        that it learned from; see `nuclei_runtime.steps.scale`. Without it, as the images have them.

    Raises
    ------
    ModelError, RuntimeEnvironmentError
        See `nuclei_runtime.model.session.load_session`; or test-time augmentation, or a diameter, of a model that takes
        images of one size.

    Examples
    --------
    >>> import numpy as np
    >>> from nuclei_runtime import Segmenter
    >>> segmenter = Segmenter()
    >>> segmenter.segment(np.zeros((64, 64), np.uint8)).count
    0
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        sha256: str | None = None,
        provider: str = CPU_PROVIDER,
        threads: int | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        tta: bool = False,
        diameter_px: float | None = None,
    ) -> None:
        if batch_size < 1 or (threads is not None and threads < 1):
            raise ValueError(f"batch_size and threads must be 1 or more, found {batch_size} and {threads}")
        self._session = load_session(model, sha256=sha256, provider=provider, threads=threads)
        if (tta or diameter_px is not None) and self.card.input.tiling is None:
            raise ModelError(
                f"{self.card.name} takes images of {self.card.input.height} x {self.card.input.width} pixels only, "
                "test-time augmentation and a diameter show it the image enlarged or reduced; leave them out, or take "
                "a model of any size"
            )
        known_px = self.card.training_nucleus_diameter_px
        self._scale = Scale() if diameter_px is None else scale_for(diameter_px, known_px)
        self._batch_size = batch_size
        self._tta = tta

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        return self._session.card

    @property
    def model_sha256(self) -> str:
        """The SHA-256 of the model file, in hexadecimal."""
        return self._session.sha256

    @property
    def provider(self) -> str:
        """The execution provider that runs the network."""
        return self._session.provider

    @property
    def threads(self) -> int:
        """Threads that one call uses."""
        return self._session.threads

    @property
    def batch_size(self) -> int:
        """Images that go through the network at once."""
        return self._batch_size

    @property
    def tta(self) -> bool:
        """Whether the network's answers are averaged over two scales."""
        return self._tta

    @property
    def scale(self) -> Scale:
        """How the network is shown an image, without what test-time augmentation adds."""
        return self._scale

    @property
    def magnification(self) -> float:
        """How much larger than the image is, along each side, what the network sees of it at most."""
        return self._scale.factor * (MAGNIFICATION if self._tta else 1)

    @property
    def tiling(self) -> Tiling | None:
        """How images are cut, in their own pixels; None for a network of fixed size."""
        tiling = self.card.input.tiling
        return None if tiling is None else self._scale.tiling(tiling)

    @property
    def postprocessing(self) -> Step:
        """How nuclei are found in the maps, in pixels of the image."""
        return self._scale.method(self.card.postprocessing)

    @property
    def run(self) -> NetworkFunction:
        """The network, as `nuclei_runtime.steps.tiling.NetworkFunction` says."""
        return self._scale.run(average_scales(self._session.run) if self._tta else self._session.run)

    def segment(self, image: Image) -> Segmentation:
        """Find the nuclei of one image.

        Parameters
        ----------
        image : (H, W), (H, W, 3) or (H, W, 4) ndarray
            Grey, RGB or RGBA, rows first, of any integer, float or bool type and any range of finite values.

        Raises
        ------
        ImageShapeError, ImageValueError
            The array is not one finite image.
        """
        return self.segment_batch([image])[0]

    def segment_batch(self, images: Sequence[Image]) -> list[Segmentation]:
        """Find the nuclei of several images, which may differ in size and type; the results come in their order.

        Raises
        ------
        ImageShapeError, ImageValueError
            One of the arrays is not one finite image.
        """
        if self.tiling is None:
            return [self.find_instances(maps) for maps in self.predict(images)]
        return [self._segment_in_blocks(image) for image in images]

    def predict(self, images: Iterable[Image]) -> Iterator[Maps]:
        """Yield each image's maps, (H, W, M) float32 in [0, 1] at the image's own size, in order.

        The first map is the probability of nucleus; the model's card names the others.
        """
        run_all = self._run_resized if self.tiling is None else self._run_tiled
        for maps in run_all(iter(images)):
            if not np.isfinite(maps).all():  # every comparison with NaN is false: no nucleus, in silence
                raise ImageValueError("the model gives no finite probability for it; export the model anew")
            yield maps

    def find_instances(self, maps: Maps) -> Segmentation:
        """Label the nuclei that an image's maps show with the method in the model's card."""
        labels = find_instances(maps, self.postprocessing)
        labels.flags.writeable = False
        return Segmentation(labels)

    def _segment_in_blocks(self, image: Image) -> Segmentation:
        """Segment an image just as a file of it would be."""
        check_image(image)
        labels = np.zeros(image.shape[:2], np.int32)
        for block in segment_plane(plane_of(image), self, max_memory=sys.maxsize):
            labels[block.rows, block.columns] += block.labels
        labels.flags.writeable = False
        return Segmentation(labels)

    def _run_resized(self, images: Iterator[Image]) -> Iterator[Maps]:
        """Run a network of fixed size over images, a batch at a time."""
        while batch := list(islice(images, self._batch_size)):
            inputs = np.stack([preprocess(image, self.card.preprocessing) for image in batch])
            for image, maps in zip(batch, self.run(inputs), strict=True):
                height, width = image.shape[:2]
                # Bilinear: a value between two others stays between them, so no clipping is needed.
                yield resize(maps, height=height, width=width)

    def _run_tiled(self, images: Iterator[Image]) -> Iterator[Maps]:
        """Run a network of any size over images, a tile at a time."""
        tiling = self.tiling
        assert tiling is not None
        for image in images:
            yield run_tiled(self.run, preprocess(image, self.card.preprocessing), tiling)
