"""What is wrong between fields of a model card, each of which is valid by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nuclei_runtime.json_fields import shown
from nuclei_runtime.steps.instances import METHODS
from nuclei_runtime.steps.preprocess import STEPS
from nuclei_runtime.steps.step import MAPS

if TYPE_CHECKING:
    from nuclei_runtime.model.card import ModelCard


def conflicts_of_input(card: ModelCard) -> Iterator[str]:
    """Yield the conflicts between the input and the preprocessing."""
    specs = [STEPS[step.id] for step in card.preprocessing]
    tiling = card.input.tiling
    size = (card.input.height, card.input.width)
    if tiling is not None:
        for step, spec in zip(card.preprocessing, specs, strict=True):
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
    elif (given := specs[-1].output_size(card.preprocessing[-1].kwargs)) != size:
        yield (
            f"preprocessing: {card.preprocessing[-1].id} gives {given[0]} x {given[1]}, "
            f"the input takes {size[0]} x {size[1]}"
        )
    for index, (step, spec) in enumerate(zip(card.preprocessing, specs, strict=True)):
        if spec.check is not None and (problem := spec.check(step.kwargs)) is not None:
            yield f"preprocessing[{index}].kwargs: {problem}"


def conflicts_of_output(card: ModelCard) -> Iterator[str]:
    """Yield the conflicts between the output and what is made of it."""
    needed = METHODS[card.postprocessing.id].maps
    if card.output.maps[: len(needed)] != needed or card.output.maps != MAPS[: len(card.output.maps)]:
        found = shown(", ".join(card.output.maps)) if card.output.maps else "none"
        yield (
            f"output.maps: expected the first of {', '.join(MAPS)} and at least {', '.join(needed)}, which "
            f"{card.postprocessing.id} needs; found {found}"
        )
    if card.views is not None and (card.input.tiling is None or "distance" not in needed):
        yield "views: need a tiling, and a postprocessing that uses the map distance"
    if card.score is not None and card.views is None:
        yield "score: needs views, which say what is expected of an image"
