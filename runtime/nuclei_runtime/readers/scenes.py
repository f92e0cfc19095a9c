"""Chooses among the images of a file that holds several, and among the resolutions of a pyramid; never guesses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np

from nuclei_runtime.errors import ImageError, ImageShapeError
from nuclei_runtime.readers.axes import Stack
from nuclei_runtime.readers.channels import UndecidedError, told_apart
from nuclei_runtime.readers.plane import EACH_SCENE, Plane, Selection, raising
from nuclei_runtime.readers.stack_planes import find_planes
from nuclei_runtime.wording import listed

_MPP_TOLERANCE = 1.25
"""How much the pixels of a level may be coarser or finer than those asked for. Neighbouring levels differ by a factor
of 2 or more, and networks stand a nucleus that is a quarter larger or smaller."""


_OVERVIEWS = frozenset(("label", "label image", "macro", "macro image", "overview", "thumbnail"))
"""What Bio-Formats and the makers of scanners call pictures of a whole slide, in lower case. People call fields so too;
the cameras of scanners take pictures in colours."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One image of a file that holds several: a position, a well, a series.

    Attributes
    ----------
    name : str
        As the file calls it; may be empty.
    open : callable
        ``open()`` returns the image. Raises what `nuclei_runtime.readers.opening.read_image` raises.
    may_be_overview : bool
        Whether the format holds slides, and their labels and overviews as further images.
    """

    name: str
    open: Callable[[], Stack]
    may_be_overview: bool = False


Contents = Stack | Sequence[Scene]
"""What an opener finds in a file: one image, or several."""


def choose_planes(contents: Contents, selection: Selection) -> list[Plane]:
    """Return the selected planes, ordered by scene, then by time, then by Z.

    If each scene is asked for, one that cannot be read becomes a plane that raises the reason when it is read.

    Raises
    ------
    ImageError
        See `find_planes`. Also raised if nothing says which scene or level to read; the message names the choices.
    """
    if isinstance(contents, Stack):
        if selection.scene not in (None, EACH_SCENE, 0, "0"):
            raise ImageShapeError(f"the file has no scene {selection.scene}: it holds a single image")
        return _planes_of(contents, selection)
    if not contents:
        raise ImageShapeError("the file holds no image")
    overviews = [scene for scene in contents if _is_overview(scene)]
    scenes = [scene for scene in contents if scene not in overviews] or contents
    if selection.scene == EACH_SCENE and len(scenes) > 1:
        planes = [plane for i in range(len(scenes)) for plane in _readable_planes(scenes, i, selection)]
    else:
        index = _index(scenes, selection.scene)
        planes = _named(_planes_of(scenes[index].open(), selection), scenes, index)
    if len(scenes) == len(contents):
        return planes
    names = ", ".join(scene.name for scene in overviews)
    note = f"left out, because they seem to show a whole slide: {names} (if they do not, rename them)"
    return [replace(plane, notes=(*plane.notes, note)) for plane in planes]


def _is_overview(scene: Scene) -> bool:
    """Whether this is a picture of a whole slide: it is called so, in a format that holds slides, and has colours."""
    if not scene.may_be_overview or scene.name.casefold() not in _OVERVIEWS:
        return False
    try:
        stack = scene.open()
    except ImageError:  # reading it will say so
        return False
    lengths = dict(zip(stack.axes, stack.shape, strict=True))
    return np.dtype(stack.dtype) == np.uint8 and max(lengths.get("S", 1), lengths.get("C", 1)) in (3, 4)


def _planes_of(stack: Stack, selection: Selection) -> list[Plane]:
    """Return the planes of the selected level, each with its coarser levels."""
    level, *coarser = _levels(stack, selection)
    stated = replace(selection, pixel_size_um=None)  # what is asked for is the size at the selected level
    # A pyramid may halve Z too: its levels then have other planes.
    smaller = [find_planes(one, stated) for one in coarser if _planes_in(one) == _planes_in(level)]
    in_hyperstack = sum(n > 1 for axis, n in _planes_in(level) if axis != "S") > 1
    downsample = _downsample(level, stack, "Y"), _downsample(level, stack, "X")
    return [
        replace(
            plane,
            in_hyperstack=in_hyperstack,
            downsample=downsample,
            coarser=tuple(planes[i] for planes in smaller),
        )
        for i, plane in enumerate(find_planes(level, selection))
    ]


def _downsample(level: Stack, finest: Stack, axis: str) -> float:
    """Return how many pixels of the finest level a pixel of another one stands for."""
    n, n_finest = (one.shape[one.axes.index(axis)] for one in (level, finest))
    whole = max(1, round(n_finest / n))
    # Most pyramids divide by a whole number, and leave out or fill up what remains.
    return float(whole) if n in (n_finest // whole, -(-n_finest // whole)) else n_finest / n


def _planes_in(level: Stack) -> list[tuple[str, int]]:
    """Return the axes of a level but Y and X, with their lengths."""
    return [(axis, n) for axis, n in zip(level.axes, level.shape, strict=True) if axis not in "YX"]


def _readable_planes(scenes: Sequence[Scene], index: int, selection: Selection) -> list[Plane]:
    try:
        planes = _planes_of(scenes[index].open(), selection)
    except ImageError as error:
        planes = [Plane(None, None, (1, 1), np.uint8, None, raising(error), True)]
    return _named(planes, scenes, index)


def _named(planes: list[Plane], scenes: Sequence[Scene], index: int) -> list[Plane]:
    if len(scenes) == 1:
        return [replace(plane, scene_label=scenes[0].name or None) for plane in planes]
    label = told_apart([scene.name for scene in scenes])[index]
    return [replace(plane, scene=index, scene_label=label) for plane in planes]


def _index(scenes: Sequence[Scene], asked: str | int | None) -> int:
    """Return the index of the scene with a name or index; a name takes precedence, even one that is a number."""
    if asked is None or asked == EACH_SCENE:
        if len(scenes) == 1:
            return 0
        raise UndecidedError(
            f"{len(scenes)} images",
            f"choose with --scene {EACH_SCENE} (all of them) or --scene and a name or index: {_listed(scenes)}",
        )
    if isinstance(asked, str):
        for folded in (str, str.casefold):
            matches = [i for i, scene in enumerate(scenes) if folded(scene.name) == folded(asked)]
            if len(matches) == 1:
                return matches[0]
            if matches:
                raise ImageShapeError(f"{len(matches)} scenes are called {asked}; choose by index: {_listed(scenes)}")
    if isinstance(asked, int) or (asked.isascii() and asked.isdigit() and len(asked) < 10):
        index = int(asked)
        if index < len(scenes):
            return index
    raise ImageShapeError(f"the file has no scene {asked}; its scenes: {_listed(scenes)}")


def _listed(scenes: Sequence[Scene]) -> str:
    return listed([f"{i} {scene.name}".strip() for i, scene in enumerate(scenes)])


def _levels(stack: Stack, selection: Selection) -> Sequence[Stack]:
    """Return the stack at the resolution that is asked for, without question the finest, and at all coarser ones."""
    levels = (stack, *stack.coarser)
    if selection.level is not None:
        if selection.level >= len(levels):
            _refuse_level(f"the file has no level {selection.level}", levels)
        return levels[selection.level :]
    if selection.mpp is None:
        return levels
    if any(level.pixel_size_um is None for level in levels):
        raise ImageShapeError("the file does not state its pixel size, which --mpp needs; leave it out, or use --level")
    off = [abs(math.log(_mpp(level) / selection.mpp)) for level in levels]
    nearest = off.index(min(off))
    if off[nearest] > math.log(_MPP_TOLERANCE):
        _refuse_level(f"the file has no level with pixels of about {selection.mpp:g} um", levels)
    return levels[nearest:]


def _mpp(level: Stack) -> float:
    """Return the side in micrometres of a square with the area of a pixel."""
    return math.sqrt(math.prod(level.pixel_size_um or (math.nan, math.nan)))


def _refuse_level(found: str, levels: Sequence[Stack]) -> NoReturn:
    listed = []
    for i, level in enumerate(levels):
        height, width = (level.shape[level.axes.index(axis)] for axis in "YX")
        size = "" if level.pixel_size_um is None else f" at {_mpp(level):.4g} um"
        listed.append(f"{i} ({height} x {width}{size})")
    raise ImageShapeError(f"{found}; its levels: {', '.join(listed)}")
