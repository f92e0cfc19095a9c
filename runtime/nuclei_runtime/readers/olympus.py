"""Reads OIB and OIF files of Olympus, in which each plane is a TIFF. Needs the extra `olympus`.

An OIF is a text of settings beside a folder with the planes; an OIB holds the same files as streams. The package
oiffile reads the settings and the streams. The names of the planes say where they belong: ``s_C001Z002T003.tif``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import nan, prod
from pathlib import Path
from typing import Any, BinaryIO, cast

from nuclei_runtime.arrays import Image
from nuclei_runtime.errors import ImageReadError, ImageShapeError
from nuclei_runtime.readers.axes import Stack
from nuclei_runtime.readers.compound_file import check_chains
from nuclei_runtime.readers.native_path import native_path
from nuclei_runtime.readers.pixel_size import in_micrometres
from nuclei_runtime.readers.tiff.contents import open_tiff

_PLANE = re.compile(r"s_((?:[A-Z]\d+)+)\.tif", re.IGNORECASE)
"""The names of reference images, such as ``s_C001-R001.tif``, and of thumbnails are others."""
_INDEX = re.compile(r"([A-Z])(\d+)")
_LETTERS = re.compile(r"[A-Z]+")
_DECIMAL_COMMA = re.compile(r"0,(\d+)(?:\.0)?")
"""FluoView writes 0.207 as ``0,207.0`` where the system uses a decimal comma."""

_WAVELENGTH = "L"
_MAX_SETTINGS_BYTES = 1 << 24

_Opener = Callable[[], BinaryIO]
"""Opens one of the files of which an OIF or OIB consists."""


def open_oif(source: BinaryIO | Path, resources: ExitStack) -> Stack:
    """Return the image of an OIF.

    Raises
    ------
    ImageReadError, ImageShapeError
        See `nuclei_runtime.readers.opening.read_image`.
    """
    import oiffile

    path = native_path(source, resources, ".oif")
    if path.stat().st_size > _MAX_SETTINGS_BYTES:
        raise ImageReadError("the OIF is larger than any settings file; it may be damaged")
    settings = oiffile.SettingsFile(path)
    folder = path.with_name(f"{path.name}.files")
    if not folder.is_dir():
        raise ImageReadError(
            f"the planes of the OIF are in the folder {folder.name} beside it, which is missing; copy both"
        )
    return _stack("OIF", settings, [(part.name, partial(_opened, part)) for part in sorted(folder.iterdir())])


def open_oib(source: BinaryIO | Path, resources: ExitStack) -> Stack:
    """Return the image of an OIB.

    Raises
    ------
    ImageReadError, ImageShapeError
        See `nuclei_runtime.readers.opening.read_image`.
    """
    import oiffile

    check_chains(cast(BinaryIO, source))
    document: Any = resources.enter_context(oiffile.CompoundFile(native_path(source, resources, ".oib")))
    streams = {str(name).rpartition("/")[2]: name for name in document.files()}

    def stream(name: str) -> BinaryIO:
        return cast(BinaryIO, document.open_file(streams[name]))

    names = oiffile.SettingsFile(stream("OibInfo.txt"))["OibSaveInfo"]
    files = [
        (re.split(r"[/\\]", str(name))[-1], partial(stream, key))
        for key, name in names.items()
        if key.startswith("Stream")
    ]
    return _stack("OIB", oiffile.SettingsFile(stream(names["MainFileName"])), files)


def _opened(path: Path) -> BinaryIO:
    return path.open("rb")


@dataclass(frozen=True)
class _Planes:
    """Where the planes are.

    Attributes
    ----------
    numbers : dict of str to list of int
        The numbers of the planes, ascending, for each letter in their names.
    openers : dict of tuple of int to callable
        What opens a plane, by its numbers in the order of the letters.
    """

    numbers: dict[str, list[int]]
    openers: dict[tuple[int, ...], _Opener]

    def length(self, axis: str) -> int:
        return len(self.numbers.get(axis, (1,)))

    def at(self, index: Mapping[str, int]) -> _Opener:
        """Return what opens the plane at these positions, counted from 0."""
        return self.openers[tuple(numbers[index.get(axis, 0)] for axis, numbers in self.numbers.items())]


def _stack(form: str, settings: Mapping[str, Any], files: Sequence[tuple[str, _Opener]]) -> Stack:
    planes = _planes(form, files)
    _check_axes(form, settings, planes)
    sweeps = planes.length(_WAVELENGTH) > 1
    if sweeps and planes.length("C") > 1:
        raise ImageShapeError(f"the {form} sweeps wavelengths in several channels; export those to segment")
    lead = ("T", "Z", _WAVELENGTH if sweeps else "C")
    first = _pixels(form, planes.at({}))

    def read(index: tuple[int, ...], rows: slice, columns: slice) -> Image:
        image = _pixels(form, planes.at(dict(zip(lead, index, strict=True))))
        if (image.shape, image.dtype) != (first.shape, first.dtype):
            raise ImageReadError(
                f"the {form} is damaged: one plane has shape {first.shape} and type {first.dtype}, another has "
                f"{image.shape} and {image.dtype}"
            )
        return image[rows, columns]

    reference = settings.get("Reference Image Parameter", {})
    sides = ("Height", "Width")
    return Stack(
        axes="TZCYX",
        shape=(*(planes.length(axis) for axis in lead), *first.shape),
        dtype=first.dtype,
        channels=() if sweeps else _channel_names(settings, planes.numbers.get("C", [1])),
        pixel_size_um=in_micrometres(
            [_number(reference.get(f"{side}ConvertValue")) for side in sides],
            [str(reference.get(f"{side}Unit")) for side in sides],
        ),
        read=read,
        reads_blocks=False,
    )


def _planes(form: str, files: Sequence[tuple[str, _Opener]]) -> _Planes:
    """Find the planes by their names.

    Raises
    ------
    ImageReadError
        There are none, some are missing, or their names contradict each other.
    """
    found: dict[tuple[int, ...], _Opener] = {}
    kinds = set()
    for name, opener in files:
        if (match := _PLANE.fullmatch(name)) is None:
            continue
        place = _INDEX.findall(match[1].upper())
        key = tuple(int(number) for _, number in place)
        kinds.add("".join(letter for letter, _ in place))
        if key in found or len(kinds) > 1 or any(len(set(kind)) < len(kind) for kind in kinds):
            raise ImageReadError(f"the {form} is damaged: the name {name} contradicts that of another plane, or itself")
        found[key] = opener
    if not found:
        raise ImageReadError(f"the {form} holds no planes (s_C001.tif and the like); it may be incomplete")
    numbers = {letter: sorted({key[i] for key in found}) for i, letter in enumerate(kinds.pop())}
    if prod(map(len, numbers.values())) != len(found):
        raise ImageReadError(f"the {form} is incomplete: it has {len(found)} planes, with gaps between them")
    return _Planes(numbers, found)


def _check_axes(form: str, settings: Mapping[str, Any], planes: _Planes) -> None:
    """Compare the axes that the settings state with the planes that there are.

    Raises
    ------
    ImageReadError, ImageShapeError
        They differ, the image is no image in X and Y, or an axis is not understood.
    """
    order = str(settings.get("Axis Parameter Common", {}).get("AxisOrder", ""))
    claimed = {
        str(section["AxisCode"]): int(section.get("MaxSize", 0))
        for name, section in settings.items()
        if name.startswith("Axis ") and "AxisCode" in section
    }
    if not _LETTERS.fullmatch(order):
        raise ImageReadError(f"the settings of the {form} do not state the order of its axes; it may be damaged")
    if not order.startswith("XY"):
        raise ImageShapeError(
            f"the {form} is a scan with axes {order}, not an image in X and Y, so it shows no outlines of nuclei"
        )
    for axis in dict.fromkeys((*order[2:], *planes.numbers)):
        expected = max(1, claimed.get(axis, 1)) if axis in order else 1
        if (found := planes.length(axis)) != expected:
            raise ImageReadError(
                f"the {form} claims a length of {expected} along {axis}, but its planes have {found}; it may be "
                "incomplete, or the scan was stopped: export it as OME-TIFF"
            )
        if expected > 1 and axis not in ("T", "Z", "C", _WAVELENGTH):
            raise ImageShapeError(f"the {form} has an axis {axis} that is not understood; export it as OME-TIFF")


def _pixels(form: str, opener: _Opener) -> Image:
    """Read one plane."""
    with ExitStack() as resources:
        stack = open_tiff(resources.enter_context(opener()), resources)
        if not isinstance(stack, Stack) or prod(stack.shape) != prod(
            stack.shape[stack.axes.index(axis)] for axis in "YX"
        ):
            raise ImageReadError(f"a plane of the {form} is not one grey image; it may be damaged")
        height, width = (stack.shape[stack.axes.index(axis)] for axis in "YX")
        index = tuple(0 for axis in stack.axes if axis not in "YXS")
        return stack.read(index, slice(0, height), slice(0, width)).reshape(height, width)


def _channel_names(settings: Mapping[str, Any], numbers: Sequence[int]) -> tuple[str, ...]:
    """Return the dyes of the channels, or what else FluoView calls them; nothing where it says two things.

    The settings describe the channels twice: by number, and as the controls of the microscope, where some are off.
    """
    own = [settings.get(f"Channel {number} Parameters", {}) for number in numbers]
    controls = [
        section
        for name, section in settings.items()
        if name.startswith("GUI Channel ") and section.get("CH Activate") not in (0, "0")
    ]
    for key in ("DyeName", "CH Name"):
        names, others = ([str(section.get(key) or "") for section in sections] for sections in (own, controls))
        is_named = all(name not in ("", "None") for name in names) and len(set(names)) == len(names)
        if is_named and (names == others or not controls):
            return tuple(names)
    return ()


def _number(value: object) -> float:
    """Return a number of the settings; NaN if it is none."""
    text = str(value)
    if match := _DECIMAL_COMMA.fullmatch(text):
        text = f"0.{match[1]}"
    try:
        return float(text)
    except ValueError:
        return nan
