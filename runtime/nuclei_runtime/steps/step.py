"""How a model card names a step, and what a step declares about itself: its functions and its arguments.

To add a step, write one module with a `PreprocessingStep` or an `InstanceMethod` and add one row to
`nuclei_runtime.steps.preprocess.STEPS` or `nuclei_runtime.steps.instances.METHODS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class PreprocessingStep:
    """A step from an image to the network's input.

    Attributes
    ----------
    apply : callable
        ``apply(image, **kwargs)`` takes the whole image, (H, W) or (H, W, 3), and returns float32.
    arguments : mapping of str to Argument
    fit : callable, optional
        ``fit(pixels, **kwargs)`` returns a function that does to a region, pixel by pixel, what `apply` does to the
        whole image. A network that takes any size sees an image in tiles: steps before it need this function.
    check : callable, optional
        ``check(kwargs)`` returns what is wrong with arguments that are valid one by one, or None.
    output_size : callable, optional
        ``output_size(kwargs)`` returns the height and width of the result, if the step sets them.
    """

    apply: Callable[..., NDArray[np.float32]]
    arguments: Arguments
    fit: Callable[..., Callable[[NDArray[Any]], NDArray[np.float32]]] | None = None
    check: Callable[[Mapping[str, Any]], str | None] | None = None
    output_size: Callable[[Mapping[str, Any]], tuple[int, int]] | None = None


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
