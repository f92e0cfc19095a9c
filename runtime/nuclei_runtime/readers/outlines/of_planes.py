"""Which outlines of a file were drawn on which plane of an image."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

from nuclei_runtime.errors import ImageValueError
from nuclei_runtime.readers.outlines.drawing import Outline, Outlines
from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.wording import counted

_ONE_FILE_EACH = "save the outlines of each plane in a file of its own, named as in the results folder"


def outlines_of_plane(
    outlines: Outlines, plane: Plane, planes: Sequence[Plane] | None = None
) -> tuple[Outlines, tuple[str, ...]]:
    """Return the outlines that were drawn on one plane of an image, and those that belong to no plane.

    Parameters
    ----------
    outlines : Outlines
        Of the whole file.
    plane : Plane
    planes : sequence of Plane, optional
        All of the image, if the file is for all of them. Otherwise, it is for this one.

    Returns
    -------
    outlines : Outlines
    remarks : tuple of str
        What the user should know.

    Raises
    ------
    ImageValueError
        It is unknown to which plane an outline belongs, or the image has no such plane.
    """
    if planes is not None and len(planes) > 1:
        outlines = replace(outlines, outlines=tuple(_placed(outline, plane) for outline in outlines.outlines))
    _check(outlines.outlines, planes or (plane,), is_of_all=planes is not None)
    own = [outline for outline in outlines.outlines if _is_on(outline, plane)]
    remarks = list(_of_no_dimension(own, plane))
    if planes is None and len(own) < outlines.n_outlines:
        remarks.append(
            f"left out {counted(outlines.n_outlines - len(own), 'outline')} of the file of this plane: drawn on others"
        )
    everywhere = [outline for outline in own if (outline.time, outline.z, outline.place) == (None, None, None)]
    if planes is not None and len(planes) > 1 and everywhere:
        remarks.append(f"{counted(len(everywhere), 'outline')} drawn on no plane in particular: counted on each")
    return replace(outlines, outlines=tuple(own)), tuple(remarks)


def _placed(outline: Outline, plane: Plane) -> Outline:
    """Take the place that a name tells, unless it may count over the channels or the other dimension of the image."""
    if outline.place_in_name is None:
        return outline
    if plane.in_hyperstack:
        raise ImageValueError(
            f"only the name of the outline {outline.name} tells where it was drawn, as a place in a stack, and the "
            f"image has several dimensions; {_ONE_FILE_EACH}"
        )
    return replace(outline, place=outline.place_in_name)


def _is_on(outline: Outline, plane: Plane) -> bool:
    """Whether an outline was drawn on a plane, as far as both are known."""
    own = [index for index in (plane.time, plane.z) if index is not None]
    if outline.place is not None:
        return not own or outline.place in own
    return all(None in both or both[0] == both[1] for both in ((plane.time, outline.time), (plane.z, outline.z)))


def _check(outlines: Sequence[Outline], planes: Sequence[Plane], *, is_of_all: bool) -> None:
    """Refuse outlines that may belong to several planes, or to none."""
    n_scenes = len({plane.scene for plane in planes})
    if n_scenes > 1 and outlines:
        raise ImageValueError(
            f"outlines do not say on which of the {n_scenes} scenes of the image they were drawn; {_ONE_FILE_EACH}"
        )
    times, depths = ({getattr(plane, axis) for plane in planes} - {None} for axis in ("time", "z"))
    placed = [outline for outline in outlines if outline.place is not None]
    if placed and times and depths:
        raise ImageValueError(
            f"{_place_of(placed[0])}, and the image has both times and depths; in Fiji, make the stack a hyperstack "
            f"(Image > Hyperstacks) and update the ROIs there, or {_ONE_FILE_EACH}"
        )
    if not is_of_all:
        return
    lost = [
        outline
        for outline in outlines
        if not (_is_in(outline.time, times) and _is_in(outline.z, depths) and _is_in(outline.place, times | depths))
    ]
    if lost:
        raise ImageValueError(
            f"{len(lost)} of {counted(len(outlines), 'outline')} drawn on planes that the image does not have: "
            f"{_place_of(lost[0])}; were they drawn on another image?"
        )


def _is_in(index: int | None, known: Set[int]) -> bool:
    return index is None or not known or index in known


def _place_of(outline: Outline) -> str:
    """Say where an outline was drawn; Fiji and QuPath show the first plane as 1."""
    named = (("time", outline.time), ("Z", outline.z), ("position", outline.place))
    shown = [f"{name} {index + 1}" for name, index in named if index is not None]
    return f"the outline {outline.name or 'without a name'} was drawn on {' and '.join(shown)} of a stack"


def _of_no_dimension(outlines: Sequence[Outline], plane: Plane) -> Sequence[str]:
    """Say that outlines come from several planes of a dimension that the plane lacks, such as those of a projection."""
    of_both = plane.time is None and plane.z is None
    found: list[tuple[str, bool, set[int | None]]] = [
        ("times", plane.time is None, {outline.time for outline in outlines}),
        ("depths", plane.z is None, {outline.z for outline in outlines}),
        ("places of a stack", of_both, {outline.place for outline in outlines}),
    ]
    counts = [(name, len(indices - {None})) for name, lacks, indices in found if lacks]
    return [f"outlines of {n} {name} count on this one plane" for name, n in counts if n > 1]
