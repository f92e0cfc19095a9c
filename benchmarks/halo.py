"""What a smaller halo changes: maps and nuclei of images cut into tiles, compared with images in one piece.

    python -m benchmarks.halo DATA[:SPLIT]... [--core 64] [--halo 48 --halo 64]

Each image is shown in the view that is chosen for it. Small
cores put many cuts into an image, and so make what a halo misses as visible as it can be.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import typer

from benchmarks.sets import images_of, title_of
from nuclei_runtime import Segmenter
from nuclei_runtime.arrays import Image, Maps
from nuclei_runtime.model.bundled import BUNDLED_MODELS
from nuclei_runtime.readers.plane import plane_of
from nuclei_runtime.segmentation.blocks import label_maps
from nuclei_runtime.segmentation.network import Network
from nuclei_runtime.segmentation.plane_input import input_in
from nuclei_runtime.segmentation.plane_maps import PlaneMaps
from nuclei_runtime.segmentation.plane_tiles import Cut, OwnTiles
from nuclei_runtime.steps.tiling import Tiling, computed_px

HALOS_PX = (48, 64, 80, 96)


@dataclass(frozen=True)
class Found:
    """What one halo changed in one image.

    Attributes
    ----------
    largest : float
        Largest difference of a map from the map of the whole image.
    n_over : int
        Pixels with a difference above the tolerance of the model's card.
    same_labels : bool
    """

    largest: float
    n_over: int
    same_labels: bool


def maps_with(image: Image, network: Network, tiling: Tiling) -> Maps:
    """Return all maps of an image that is cut as `tiling` says, in pixels of the image."""
    read = input_in(plane_of(image), network.card.preprocessing, network.view.stain).read
    height, width = image.shape[:2]
    shape = height, width
    n_maps = len(network.card.output.maps)
    with PlaneMaps(Cut(shape, tiling), OwnTiles(read, network, shape), n_maps, memory_bytes=sys.maxsize) as maps:
        return maps.read(slice(0, height), slice(0, width))


def compare(segmenter: Segmenter, image: Image, halos_px: Sequence[int], core_px: int) -> dict[int, Found]:
    """Return what each halo changes in an image, without those that leave it in one piece."""
    network = replace(segmenter.network, view=segmenter.segment(image).view, others=())
    scale, card_tiling = network.view.scale, network.card.input.tiling
    if card_tiling is None:
        raise SystemExit(f"{network.card.name} takes images of one size only")
    shape = image.shape[:2]
    multiple = scale.tiling(card_tiling).multiple_of_px
    uncut = Tiling(-(-max(shape) // multiple) * multiple, 0, multiple)
    whole = maps_with(image, network, uncut)
    labels = label_maps(whole, network)
    found = {}
    for halo_px in halos_px:
        tiling = scale.tiling(replace(card_tiling, core_px=core_px, halo_px=halo_px))
        if computed_px(shape, tiling) <= computed_px(shape, uncut):
            continue
        maps = maps_with(image, network, tiling)
        difference = np.abs(maps - whole).max(axis=-1)
        found[halo_px] = Found(
            float(difference.max()),
            int(np.count_nonzero(difference > network.card.tolerance)),
            np.array_equal(label_maps(maps, network), labels),
        )
    return found


def main(
    data: Annotated[list[str], typer.Argument(metavar="DATA[:SPLIT]...")],
    core: Annotated[int, typer.Option()] = 64,
    halo: Annotated[list[int] | None, typer.Option()] = None,
) -> None:
    """Print a Markdown table with a row per set, model and halo."""
    print(
        "| images | model | halo, px | images cut | largest difference of a map | pixels above the tolerance | ", end=""
    )
    print("images with other labels |\n|" + "---|" * 7)
    for one in data:
        images = [image for _, image, _ in images_of(one)]
        for precision in BUNDLED_MODELS:
            segmenter = Segmenter(precision=precision)
            rows: dict[int, list[Found]] = defaultdict(list)
            for image in images:
                for halo_px, found in compare(segmenter, image, halo or HALOS_PX, core).items():
                    rows[halo_px].append(found)
            for halo_px, all_found in sorted(rows.items()):
                cells = (
                    title_of(one),
                    precision,
                    halo_px,
                    f"{len(all_found)} of {len(images)}",
                    f"{max(found.largest for found in all_found):.2g}",
                    sum(found.n_over for found in all_found),
                    sum(not found.same_labels for found in all_found),
                )
                print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    typer.run(main)
