"""The planes of an image layer: what of a stack is segmented, as the user chose it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nuclei_napari.errors import LayerError
from nuclei_runtime import Plane

_COLUMN_OF_AXIS = {"t": "time", "time": "time", "z": "z"}
"""The columns of ``nuclei.csv`` for the axes that it knows; any other axis gives a column with its own name."""


@dataclass(frozen=True)
class Choice:
    """What of a layer is segmented.

    Attributes
    ----------
    kind : str
        ``shown``: the plane that the sliders show; ``each``: every plane along one axis; ``max``: the maximum along it.
    axis : int, optional
        Of the layer's data.
    title : str
        For the user.
    """

    kind: Literal["shown", "each", "max"]
    axis: int | None
    title: str

    def __str__(self) -> str:
        return self.title


@dataclass(frozen=True, eq=False)
class LayerPlane:
    """One plane of a layer.

    Attributes
    ----------
    plane : Plane
    index : tuple of int
        Where its labels are in the labels of the layer, without rows and columns; empty for a layer that is no stack.
    where : dict
        Its index, from 0, along each axis of a stack, by the name of the column.
    """

    plane: Plane
    index: tuple[int, ...]
    where: dict[str, int]

    @property
    def suffix(self) -> str:
        """What tells the files of the planes of one layer apart, such as ``_t003_z001``."""
        return "".join(f"_{column[:1] if column == 'time' else column}{at:03d}" for column, at in self.where.items())


def choices_for(layer: Any) -> list[Choice]:
    """Return what can be segmented of an image layer; the first is the default."""
    axes = range(_n_stacked(layer))
    if not axes:
        return [Choice("shown", None, "the image")]
    return [
        Choice("shown", None, "the plane that is shown"),
        *(Choice("each", axis, f"each plane along {_axis_name(layer, axis)}") for axis in axes),
        *(Choice("max", axis, f"maximum along {_axis_name(layer, axis)}") for axis in axes),
    ]


def planes_of(layer: Any, choice: Choice, shown: Sequence[int]) -> tuple[LayerPlane, ...]:
    """Return the planes to segment, not yet read. Rows and columns are the last two axes of the layer.

    Parameters
    ----------
    layer : napari.layers.Image
    choice : Choice
        One of `choices_for`.
    shown : sequence of int
        The index that the viewer shows, for each axis of the layer.

    Raises
    ------
    LayerError
        The viewer shows no plane of the layer.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    n_stacked = _n_stacked(layer)
    at = list(shown[:n_stacked])
    outside = [axis for axis in range(n_stacked) if axis != choice.axis and not 0 <= at[axis] < data.shape[axis]]
    if outside:
        name = _axis_name(layer, outside[0])
        raise LayerError(f"{layer.name}: the viewer shows none of its planes; move the slider {name} to one of them")
    planes = []
    for place in range(data.shape[choice.axis]) if choice.kind == "each" and choice.axis is not None else (None,):
        where = {axis: at[axis] for axis in range(n_stacked)}
        index = [0] * n_stacked
        if choice.axis is not None and place is not None:
            where[choice.axis] = index[choice.axis] = place
        source: tuple[int | slice, ...] = tuple(where.values())
        if choice.kind == "max":
            source = tuple(slice(None) if axis == choice.axis else place for axis, place in where.items())
            where.pop(choice.axis if choice.axis is not None else -1)
        named = {_column_name(layer, axis): value for axis, value in where.items()}
        planes.append(LayerPlane(_plane(layer, data, source), tuple(index), named))
    return tuple(planes)


def labels_shape(layer: Any, choice: Choice) -> tuple[int, ...]:
    """Return the shape of the labels: that of the layer, with one plane along all axes but that of `each`."""
    data = layer.data[0] if layer.multiscale else layer.data
    n_stacked = _n_stacked(layer)
    stacked = (data.shape[axis] if choice.kind == "each" and axis == choice.axis else 1 for axis in range(n_stacked))
    return (*stacked, *data.shape[n_stacked : n_stacked + 2])


def labels_place(layer: Any, choice: Choice, shown: Sequence[int]) -> dict[str, Any]:
    """Return the arguments that put a labels layer onto the image layer."""
    n_stacked = _n_stacked(layer)
    start = [0 if choice.kind == "each" and axis == choice.axis else shown[axis] for axis in range(n_stacked)]
    origin, corner = (np.asarray(layer.data_to_world(place)) for place in ((0,) * layer.ndim, (*start, 0, 0)))
    shift = np.linalg.solve(layer.affine.linear_matrix, corner - origin)
    same = {name: getattr(layer, name) for name in ("scale", "rotate", "shear", "affine", "units", "axis_labels")}
    return {**same, "translate": np.asarray(layer.translate) + shift}


def pixel_size_um(scale: Sequence[float], units: Sequence[Any]) -> tuple[float, float] | None:
    """Return the height and width of a pixel in micrometres, if the units of the layer are lengths.

    A scale whose unit is the pixel, napari's default, may mean anything.

    Parameters
    ----------
    scale : sequence of float
    units : sequence of pint.Unit
        Of the same axes; rows and columns come last.
    """
    try:
        height, width = (
            float((abs(size) * unit).to("micrometer").magnitude)
            for size, unit in zip(scale[-2:], units[-2:], strict=True)
        )
    except TypeError:  # pint's DimensionalityError
        return None
    return (height, width) if height > 0 and width > 0 else None


def _n_stacked(layer: Any) -> int:
    return int(layer.ndim) - 2


def _axis_name(layer: Any, axis: int) -> str:
    return f"axis {axis} ({layer.axis_labels[axis]})" if _is_named(layer, axis) else f"axis {axis}"


def _is_named(layer: Any, axis: int) -> bool:
    return any(letter.isalpha() for letter in layer.axis_labels[axis])


def _column_name(layer: Any, axis: int) -> str:
    if not _is_named(layer, axis):
        return f"axis{axis}_"
    name = re.sub(r"\W+", "", layer.axis_labels[axis]).lower()
    return _COLUMN_OF_AXIS.get(name, name)


def _plane(layer: Any, data: Any, source: tuple[int | slice, ...]) -> Plane:
    axis = next((axis for axis, part in enumerate(source) if isinstance(part, slice)), None)

    def read(rows: slice, columns: slice) -> NDArray[Any]:
        region = np.asarray(data[(*source, rows, columns)])
        return region if axis is None else np.asarray(region.max(axis=0))

    shape = tuple(data.shape[len(source) :])
    return Plane(None, None, shape, np.dtype(data.dtype), pixel_size_um(layer.scale, layer.units), read, True)
