"""How a model card names a step, and what a step declares about itself: its functions and its arguments.

To add a step, write one module with a `PreprocessingStep` or an `InstanceMethod` and add one row to
`nuclei_runtime.steps.preprocess.STEPS` or `nuclei_runtime.steps.instances.METHODS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels
from nuclei_runtime.json_fields import Fields

MAPS = ("foreground", "distance", "border")
"""The possible channels of a network's output, each in [0, 1]: the probability of a nucleus; the distance to the edge
of the nucleus, relative to its largest value in that nucleus; the probability that two nuclei touch there."""

MAX_SIDE_PX = 4096
MAX_AREA_PX = 1_000_000
"""Upper bounds, so that no card can ask for more than a machine has. Both are far beyond any practical use."""


@dataclass(frozen=True)
class Step:
    """One step of pre- or postprocessing as in a model card: the name of a function and its keyword arguments."""

    id: str
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Argument:
    """One keyword argument of a step.

    Attributes
    ----------
    take : callable
        ``take(fields, name)`` returns the value from the ``kwargs`` of a card and notes its problems.
    is_area : bool
        Whether the value is an area in pixels of the image that the network sees, and so changes with the scale.
    """

    take: Callable[[Fields, str], float]
    is_area: bool = False


Arguments = Mapping[str, Argument]
"""The arguments of a step by name, in the order in which docs/card.md lists them."""


def number(low: float, high: float) -> Argument:
    """Return an argument that is a number in a range, inclusive at both ends."""
    return Argument(lambda fields, name: fields.number(name, low, high))


def side() -> Argument:
    """Return an argument that is a height or a width in pixels, from 1 to `MAX_SIDE_PX`."""
    return Argument(lambda fields, name: fields.count(name, MAX_SIDE_PX))


def area() -> Argument:
    """Return an argument that is an area in pixels, from 1 to `MAX_AREA_PX`."""
    return Argument(lambda fields, name: fields.count(name, MAX_AREA_PX), is_area=True)


def scale_areas(step: Step, arguments: Arguments, factor: float) -> Step:
    """Return a step with its areas in pixels of the image, which the network sees enlarged by a factor."""
    areas = {name: step.kwargs[name] for name, argument in arguments.items() if argument.is_area}
    scaled = {name: max(1, round(value / factor**2)) for name, value in areas.items()}
    return Step(step.id, {**step.kwargs, **scaled})


STRIP_PX = 256
"""Height of the strips in which an image in memory is read: what a step makes of a strip takes more memory than it."""


@dataclass(frozen=True)
class Pixels:
    """The values of an image, which a step may read region by region before it is applied.

    Attributes
    ----------
    shape : tuple of int
        Shape of the image; the axes after height and width are channels.
    regions : callable
        ``regions()`` yields (values, row, column): regions that together make up the image, with their origins. A step
        may ask for them more than once.
    """

    shape: tuple[int, ...]
    regions: Callable[[], Iterator[tuple[NDArray[Any], int, int]]]

    @classmethod
    def of(cls, image: NDArray[Any]) -> Self:
        """Return the values of an image in memory."""
        starts = range(0, image.shape[0], STRIP_PX)
        return cls(image.shape, lambda: ((image[row : row + STRIP_PX], row, 0) for row in starts))


@dataclass(frozen=True)
class PreprocessingStep:
    """A step from an image to the network's input. It has a `fit` or an `apply`.

    Attributes
    ----------
    arguments : mapping of str to Argument
    fit : callable, optional
        ``fit(pixels, **kwargs)`` looks at the whole image, (H, W) or (H, W, 3), and returns a function that is then
        applied to it, or to its regions one by one: it returns float32, pixel by pixel. A network that takes any size
        sees an image in tiles: steps before it need this function.
    apply : callable, optional
        ``apply(image, **kwargs)`` takes the whole image and returns float32.
    check : callable, optional
        ``check(kwargs)`` returns what is wrong with arguments that are valid one by one, or None.
    output_size : callable, optional
        ``output_size(kwargs)`` returns the height and width of the result, if the step sets them.
    """

    arguments: Arguments
    fit: Callable[..., Callable[[NDArray[Any]], NDArray[np.float32]]] | None = None
    apply: Callable[..., NDArray[np.float32]] | None = None
    check: Callable[[Mapping[str, Any]], str | None] | None = None
    output_size: Callable[[Mapping[str, Any]], tuple[int, int]] | None = None

    def of(self, pixels: Pixels, kwargs: Mapping[str, Any]) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
        """Return the function that does this step to an image."""
        if self.fit is not None:
            return self.fit(pixels, **kwargs)
        assert self.apply is not None  # it has one of the two
        return partial(self.apply, **kwargs)


@dataclass(frozen=True)
class InstanceMethod:
    """A method of finding nuclei in maps.

    Attributes
    ----------
    find : callable
        ``find(maps, window, **kwargs)`` takes (H, W, M) maps and a window, and returns labels.
    maps : tuple of str
        The maps that it needs, in order: the first ones of `MAPS`.
    arguments : mapping of str to Argument
    """

    find: Callable[..., Labels]
    maps: tuple[str, ...]
    arguments: Arguments
