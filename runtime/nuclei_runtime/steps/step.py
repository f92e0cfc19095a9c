"""What a model card says of a step, and what a step says of the arguments that it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Labels
from nuclei_runtime.json_fields import Fields

MAPS = ("foreground", "distance", "border")
"""What the channels of a network's output may be, each in [0, 1]: the probability of nucleus; the distance to the
nucleus's own edge as a share of its largest; the probability that a nucleus touches another there."""

MAX_SIDE_PX = 4096
MAX_AREA_PX = 1_000_000
"""What a card may ask for, so that no card asks for more than a machine has. Both are far beyond any use."""


@dataclass(frozen=True)
class Step:
    """One step of pre- or postprocessing as a model card spells it: a function's name and its keyword arguments."""

    id: str
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Argument:
    """One keyword argument of a step.

    Attributes
    ----------
    take : callable
        ``take(fields, name)``: the value out of a card's ``kwargs``, whose problems it notes.
    is_area : bool
        Whether the value is an area in pixels of the image that the network is shown: it scales with that image.
    """

    take: Callable[[Fields, str], float]
    is_area: bool = False


Arguments = Mapping[str, Argument]
"""The arguments of a step by name, in the order of documentation."""


def number(low: float, high: float) -> Argument:
    """Return an argument that is a number in a range, both ends included."""
    return Argument(lambda fields, name: fields.number(name, low, high))


def side() -> Argument:
    """Return an argument that is a height or a width in pixels, from 1 to `MAX_SIDE_PX`."""
    return Argument(lambda fields, name: fields.count(name, MAX_SIDE_PX))


def area() -> Argument:
    """Return an argument that is an area in pixels, from 1 to `MAX_AREA_PX`."""
    return Argument(lambda fields, name: fields.count(name, MAX_AREA_PX), is_area=True)


def scale_areas(step: Step, arguments: Arguments, factor: float) -> Step:
    """Return a step with its areas in pixels of an image of which the network sees `factor` times the size."""
    areas = {name: step.kwargs[name] for name, argument in arguments.items() if argument.is_area}
    scaled = {name: max(1, round(value / factor**2)) for name, value in areas.items()}
    return Step(step.id, {**step.kwargs, **scaled})


@dataclass(frozen=True)
class Pixels:
    """The values of an image, which a step may go through region by region before it is applied.

    Attributes
    ----------
    shape : tuple of int
        The image's; what follows height and width are channels.
    regions : callable
        ``regions()`` yields (values, row, column): regions that together are the image, with where each begins.
    """

    shape: tuple[int, ...]
    regions: Callable[[], Iterator[tuple[NDArray[Any], int, int]]]


@dataclass(frozen=True)
class PreprocessingStep:
    """A step between an image and the network's input.

    Attributes
    ----------
    apply : callable
        ``apply(image, **kwargs)``: from the whole image, (H, W) or (H, W, 3), to float32.
    arguments : mapping of str to Argument
    fit : callable, optional
        ``fit(pixels, **kwargs)``: a function that does to a region what `apply` does to the whole image, pixel by
        pixel. Without it the step has no place before a network that takes any size, which sees an image in tiles.
    check : callable, optional
        ``check(kwargs)``: what is wrong with arguments that are each valid, or None.
    output_size : callable, optional
        ``output_size(kwargs)``: the height and width that the step gives; without it the image's own.
    """

    apply: Callable[..., NDArray[np.float32]]
    arguments: Arguments
    fit: Callable[..., Callable[[NDArray[Any]], NDArray[np.float32]]] | None = None
    check: Callable[[Mapping[str, Any]], str | None] | None = None
    output_size: Callable[[Mapping[str, Any]], tuple[int, int]] | None = None


@dataclass(frozen=True)
class InstanceMethod:
    """A way to find nuclei.

    Attributes
    ----------
    find : callable
        ``find(maps, window, **kwargs)``: from (H, W, M) maps and a window to labels.
    maps : tuple of str
        What the network must give, in order: the first ones of `MAPS`.
    arguments : mapping of str to Argument
    """

    find: Callable[..., Labels]
    maps: tuple[str, ...]
    arguments: Arguments
