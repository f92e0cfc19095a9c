"""Image in, labelled nuclei out: the call that instruments embed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import DTypeLike

from nuclei_runtime.arguments import check_argument, is_dtype, is_shape
from nuclei_runtime.arrays import Image, Maps, check_image, check_images, check_maps, check_pixel_size
from nuclei_runtime.errors import ImageValueError, ModelError
from nuclei_runtime.faults import allocating_for
from nuclei_runtime.model.card import ModelCard
from nuclei_runtime.model.session import CPU_PROVIDER
from nuclei_runtime.readers.plane import plane_of
from nuclei_runtime.segmentation.blocks import label_maps, segment_plane
from nuclei_runtime.segmentation.cancelling import CancelFlag
from nuclei_runtime.segmentation.network import Network, load_network
from nuclei_runtime.segmentation.options import SegmenterOptions
from nuclei_runtime.segmentation.plane_maps import image_maps
from nuclei_runtime.segmentation.result import Segmentation, joined
from nuclei_runtime.steps.sieve import Sifting
from nuclei_runtime.steps.view import View


class Segmenter:
    """A loaded model that segments images. Its methods may be called from several threads at once.

    It can be pickled: the receiving process loads the model again from the same options, and refuses any other file.
    Used in a ``with`` statement, it is closed at the end.

    Parameters
    ----------
    model : path, optional
        An ONNX file that `nuclei-export` wrote. Without it, the bundled model.
    precision : str
        Which of the bundled models: ``fp32`` or ``int8``. Not together with `model`.
    sha256 : str, optional
        The SHA-256 that the model file must have, in hexadecimal; see docs/embedding.md on pinning.
    provider : str
        ONNX Runtime's execution provider. Either this provider is obtained or an error is raised.
    threads : int, optional
        Threads for one call. Without it, as many as the container or the machine grants.
    tta : bool
        Test-time augmentation: mostly more accurate, up to five times slower; see `nuclei_runtime.steps.tta`.
    diameter_px : float, optional
        Median diameter of the nuclei, 4 to 400 pixels, which fixes the scale; see `nuclei_runtime.steps.scale`.
    stain : str, optional
        Which stain of colour images is shown: a key of `nuclei_runtime.steps.stains.STAINS`, or ``rgb`` for none.
    view : View, optional
        How the network is shown every image: `View()` is as they are. Not together with `diameter_px` or `stain`.
        Without it, what these two leave open is chosen for each image; see `nuclei_runtime.steps.view_choice`.
    exclude_border : bool
        Leave out nuclei with a pixel on the edge of the image.
    min_area, max_area : str, optional
        Leave out nuclei that are smaller, or larger: an area such as ``50px`` or ``30um2``.
    min_score : float, optional
        Leave out nuclei with a smaller score, 0 to 1; see `nuclei_runtime.steps.score`.
    tissue_mask : bool
        Whether the glass of large stained slides is skipped; see `nuclei_runtime.segmentation.glass`.
    min_quality : float, optional
        Flag images of which a lower AP@0.5 is expected, 0 to 1; see `nuclei_runtime.steps.flags`.

    Raises
    ------
    ModelError, RuntimeEnvironmentError, ArgumentError
        See `nuclei_runtime.segmentation.network.load_network`; or an option is out of range.

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
        precision: str = "fp32",
        sha256: str | None = None,
        provider: str = CPU_PROVIDER,
        threads: int | None = None,
        tta: bool = False,
        diameter_px: float | None = None,
        stain: str | None = None,
        view: View | None = None,
        exclude_border: bool = False,
        min_area: str | None = None,
        max_area: str | None = None,
        min_score: float | None = None,
        tissue_mask: bool = True,
        min_quality: float | None = None,
    ) -> None:
        given = model, precision, sha256, provider, threads, tta, diameter_px, stain, view
        options = SegmenterOptions(*given, exclude_border, min_area, max_area, min_score, tissue_mask, min_quality)
        self._network: Network | None = load_network(options)
        # The program may work in another folder by the time it pickles this.
        self._options = options if model is None else replace(options, model=Path(model).absolute())

    @classmethod
    def from_options(cls, options: SegmenterOptions) -> Segmenter:
        """Make a segmenter from its options as one value."""
        check_argument(isinstance(options, SegmenterOptions), "options", "SegmenterOptions", options)
        return cls(**{field.name: getattr(options, field.name) for field in fields(options)})

    def __reduce__(self) -> tuple[Callable[[SegmenterOptions], Segmenter], tuple[SegmenterOptions]]:
        """Pickle the options, with the file's absolute path and digest: another process loads the same model."""
        return type(self).from_options, (replace(self._options, sha256=self.model_sha256),)

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Release the model and its memory.

        Calls that are running in other threads are completed, and the last of them releases the model.
        """
        self._network = None

    @property
    def options(self) -> SegmenterOptions:
        """The options that this segmenter was made from, with the absolute path of the model."""
        return self._options

    @property
    def network(self) -> Network:
        """The loaded model and how it is shown images, for `nuclei_runtime.segment_plane`.

        Raises
        ------
        ModelError
            The segmenter is closed.
        """
        if self._network is None:
            raise ModelError("the segmenter is closed; create a new one")
        return self._network

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        return self.network.card

    @property
    def model_sha256(self) -> str:
        """The SHA-256 of the model file, in hexadecimal."""
        return self.network.session.sha256

    @property
    def provider(self) -> str:
        """The execution provider that runs the network."""
        return self.network.session.provider

    @property
    def threads(self) -> int:
        """Threads that one call uses."""
        return self.network.session.threads

    def warm_up(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Segment a blank image, so that the first real one of this size and type takes no longer than later ones.

        Parameters
        ----------
        shape : tuple of int
            (H, W), (H, W, 3) or (H, W, 4).
        dtype : dtype

        Raises
        ------
        ImageShapeError, ImageValueError, ArgumentError
            An array of this shape and type is not an image; or this is no shape, or no type.
        ImageTooLargeError
            There is not enough memory.
        """
        check_argument(is_shape(shape), "shape", "(H, W), (H, W, 3) or (H, W, 4) in pixels", shape)
        check_argument(is_dtype(dtype), "dtype", "a type of NumPy, such as np.uint16", dtype)
        with allocating_for(shape):
            blank = np.zeros(shape, dtype)
        self.segment(blank)

    def segment(
        self,
        image: Image,
        *,
        pixel_size_um: tuple[float, float] | None = None,
        cancel: CancelFlag | None = None,
    ) -> Segmentation:
        """Find the nuclei of one image.

        Parameters
        ----------
        image : (H, W), (H, W, 3) or (H, W, 4) ndarray
            Grey, RGB or RGBA, rows first, of any integer, float or bool type and any range of finite values.
        pixel_size_um : (float, float), optional
            Height and width of a pixel, which areas in micrometres in the options need.
        cancel : CancelFlag, optional
            Anything with an `is_set` method, such as a `threading.Event`. Another thread may set it to end this call
            before the next tile.

        Raises
        ------
        ImageShapeError, ImageValueError, ArgumentError
            The array is not one finite image; the options need the size of a pixel; this is no such size, or no flag.
        ImageTooLargeError
            There is not enough memory.
        SegmentationCancelledError
            The flag was set.
        """
        network = self.network
        check_image(image)
        check_pixel_size(pixel_size_um)
        plane = replace(plane_of(image), pixel_size_um=pixel_size_um)
        blocks = segment_plane(plane, network, max_memory=sys.maxsize, cancel=cancel)
        return joined(blocks, image.shape[:2], network.view)

    def segment_batch(self, images: Sequence[Image]) -> list[Segmentation]:
        """Find the nuclei of several images, which may differ in size and type. The results are in the same order.

        Raises
        ------
        ImageError, ArgumentError
            See `segment`; or this is one image, or none.
        """
        check_images(images)
        return [self.segment(image) for image in images]

    def predict(self, images: Iterable[Image], *, view: View | None = None) -> Iterator[Maps]:
        """Yield each image's maps, (H, W, M) float32 in [0, 1] at the image's own size, in order.

        The first map is the probability of a nucleus; the model's card names the others.

        Parameters
        ----------
        images : iterable of ndarray
            As for `segment`.
        view : View, optional
            How the network is shown the images, such as the `Segmentation.view` that `segment` chose. Nothing is
            chosen here: without it, it is what the options of this segmenter fix, otherwise the images as they are.

        Raises
        ------
        ImageShapeError, ImageValueError, ArgumentError
            One of the arrays is not one finite image; or this is one image, or none; or it is no view.
        ImageTooLargeError
            There is not enough memory.
        """
        check_images(images)
        for image in images:
            check_image(image)
            with allocating_for(image.shape):
                maps = image_maps(image, self._in_view(view))
            yield maps

    def find_instances(
        self, maps: Maps, *, view: View | None = None, pixel_size_um: tuple[float, float] | None = None
    ) -> Segmentation:
        """Label the nuclei in an image's maps with the method in the model's card.

        The labels are the same as those that `segment` gives for the image in this view. They have no scores, which
        depend on more than the maps.

        Parameters
        ----------
        maps : (H, W, M) ndarray of float32 in [0, 1]
            All the maps of one image, as `predict` yields them.
        view : View, optional
            The one that was given to `predict`.
        pixel_size_um : (float, float), optional
            As for `segment`.

        Raises
        ------
        ImageShapeError, ImageValueError
            The array is not that, or the options of this segmenter ask for a minimum score.
        ImageTooLargeError
            There is not enough memory.
        """
        network = self._in_view(view)
        if network.sieve.min_score is not None:
            raise ImageValueError("nuclei found in maps have no scores to leave them out by; call `segment`")
        check_maps(maps, len(network.card.output.maps))
        check_pixel_size(pixel_size_um)
        with allocating_for(maps.shape):
            labels, _, n_left_out = Sifting(network.sieve, maps.shape, pixel_size_um).sift(label_maps(maps, network))
        return Segmentation(labels, view=network.view, n_left_out=n_left_out)

    def _in_view(self, view: View | None) -> Network:
        check_argument(view is None or isinstance(view, View), "view", "a View, such as `Segmentation.view`", view)
        return self.network if view is None else replace(self.network, view=view)
