"""What is wrong between fields of a model card, each of which is valid by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nuclei_runtime.json_fields import shown
from nuclei_runtime.steps.instances import METHODS
from nuclei_runtime.steps.preprocess import STEPS
from nuclei_runtime.steps.step import MAPS, Step
from nuclei_runtime.steps.tiling import Tiling


def conflicts_of_input(
    tiling: Tiling | None, size: tuple[int | None, int | None], preprocessing: Sequence[Step]
) -> Iterator[str]:
    """Yield the conflicts between the input and the preprocessing."""
    specs = [STEPS[step.id] for step in preprocessing]
    if tiling is not None:
        for step, spec in zip(preprocessing, specs, strict=True):
            if spec.fit is None:
                yield f"preprocessing: {step.id} cannot be used with a network that takes any size"
        if tiling.core_px % tiling.multiple_of_px or tiling.halo_px % tiling.multiple_of_px:
            yield (
                f"input.tiling: core_px and halo_px must be multiples of multiple_of_px, {tiling.multiple_of_px}; "
                f"found {tiling.core_px} and {tiling.halo_px}"
            )
    elif not specs or specs[-1].output_size is None:
        sizing = " or ".join(name for name, spec in STEPS.items() if spec.output_size is not None)
        yield f"preprocessing: the last step must be {sizing}, because the input has a fixed size"
    elif (given := specs[-1].output_size(preprocessing[-1].kwargs)) != size:
        yield (
            f"preprocessing: {preprocessing[-1].id} gives {given[0]} x {given[1]}, "
            f"the input takes {size[0]} x {size[1]}"
        )
    for index, (step, spec) in enumerate(zip(preprocessing, specs, strict=True)):
        if spec.check is not None and (problem := spec.check(step.kwargs)) is not None:
            yield f"preprocessing[{index}].kwargs: {problem}"


def conflicts_of_output(
    maps: tuple[str, ...],
    postprocessing: Step,
    tiling: Tiling | None,
    *,
    has_views: bool,
    has_score: bool,
    has_flags: bool,
) -> Iterator[str]:
    """Yield the conflicts between the output and what is made of it."""
    needed = METHODS[postprocessing.id].maps
    if maps[: len(needed)] != needed or maps != MAPS[: len(maps)]:
        found = shown(", ".join(maps)) if maps else "none"
        yield (
            f"output.maps: expected the first of {', '.join(MAPS)} and at least {', '.join(needed)}, which "
            f"{postprocessing.id} needs; found {found}"
        )
    if has_views and (tiling is None or "distance" not in needed):
        yield "views: need a tiling, and a postprocessing that uses the map distance"
    if has_score and not has_views:
        yield "score: needs views, which say what is expected of an image"
    if has_flags and not has_views:
        yield "flags: need views, with which the network looks at an image"
