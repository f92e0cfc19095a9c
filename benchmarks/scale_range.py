"""Score the bundled model with the contrast that bioimage.io can describe, on validation images.

    python -m benchmarks.scale_range [DATA] [--model MODEL.onnx]

DATA is what nuclei-evaluate takes, with a split `val`. These ways from an image to nuclei are compared: that of
nuclei-infer; the same without the choice of views; with percentiles of the whole image in place of the card's
contrast; and that of a package that `nuclei-export --bioimageio` writes, where bioimageio.core also mirrors the image
at its edges. All end with the card's watershed. A second table has the areas of the same synthetic nuclei in fields of
several sizes, as `benchmarks/contrast.py` draws them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import contrast
from benchmarks.sets import open_sets
from nuclei_export.bioimageio.contrast import LOWER_PERCENT, UPPER_PERCENT, scale_range
from nuclei_runtime import Segmenter
from nuclei_runtime.metrics import match, mean_image_ap, pooled_ap
from nuclei_runtime.model.card import ModelCard
from nuclei_runtime.steps.preprocess import as_input, colours_of, preprocess
from nuclei_runtime.steps.tiling import run_tiled

Segment = Callable[[Any], Any]
"""Takes an image and returns labels."""

PERCENTS = ((1.0, 99.8), (LOWER_PERCENT, UPPER_PERCENT), (1.0, 99.5), (0.0, 100.0), (5.0, 99.8), (25.0, 99.8))
"""What was tried."""


def main(data: Path | None, model: Path | None) -> None:
    """Print a Markdown table with one row per way and modality, and one with a row per synthetic field."""
    segmenter = Segmenter(model)
    card, session = segmenter.card, segmenter.network.session
    tiling = card.input.tiling
    if tiling is None:
        raise SystemExit(f"{card.name} takes images of one size only")

    def as_it_is(prepared: NDArray[np.float32]) -> Any:
        return segmenter.find_instances(run_tiled(session.run, prepared, tiling)).labels

    def with_percentiles(percents: tuple[float, float], image: Any) -> Any:
        return as_it_is(as_input(scale_range(colours_of(image), *percents)))

    def packaged(image: Any) -> Any:
        """Mirror the image at all edges before anything else, as bioimageio.core does; at two up to a multiple."""
        halo, multiple = tiling.halo_px, tiling.multiple_of_px
        pixels = np.atleast_3d(colours_of(image))
        height, width = pixels.shape[:2]
        around = ((halo, halo - height % -multiple), (halo, halo - width % -multiple), (0, 0))
        mirrored = np.pad(pixels, around, "symmetric")
        prepared = np.broadcast_to(scale_range(mirrored), (*mirrored.shape[:2], 3))
        maps = run_tiled(session.run, prepared, tiling)
        return segmenter.find_instances(maps[halo:, halo:][:height, :width]).labels

    ways: dict[str, Segment] = {
        "nuclei-infer": lambda image: segmenter.segment(image).labels,
        "no choice of views": lambda image: as_it_is(preprocess(image, card.preprocessing)),
    }
    for percents in PERCENTS:
        ways["percentiles {:g} and {:g}".format(*percents)] = partial(with_percentiles, percents)
    ways["the package"] = packaged
    if data is not None:
        _score(data, card, ways)
    _areas({name: ways[name] for name in ("no choice of views", "the package")})


def _score(data: Path, card: ModelCard, ways: Mapping[str, Segment]) -> None:
    (found,), table = open_sets(f"{data}:val")
    rows: dict[tuple[str, str], list[Any]] = {}
    for sample in found.samples:
        image = sample.read_image()
        truth = found.read_truth(sample, image)
        modality = table.modality.get(sample.image_id, "unknown") if table else "unknown"
        for name, segment in ways.items():
            matching = match(truth, segment(image))
            for part in ("all", modality):
                rows.setdefault((part, name), []).append(matching)
    print(f"{card.name} {card.version}\n\n| images | way | n | mean AP | AP@0.5, mean over images | AP@0.5, pooled |")
    print("|---|---|---|---|---|---|")
    for (part, name), matchings in sorted(rows.items(), key=lambda row: row[0][0]):
        ap = mean_image_ap(matchings)
        scores = (ap.mean(), ap[0], pooled_ap(matchings)[0])
        print(f"| {part} | {name} | {len(matchings)} | " + " | ".join(f"{score:.3f}" for score in scores) + " |")


def _areas(ways: Mapping[str, Segment]) -> None:
    print(
        "\n| field | nuclei | " + " | ".join(f"{name}: found, median area" for name in ways) + " | true median area |"
    )
    print("|---|---|" + "---|" * (len(ways) + 1))
    for what, truth, image in contrast.cases():
        cells = []
        for labels in (*(segment(image) for segment in ways.values()), truth):
            areas = np.bincount(labels.ravel())[1:]
            cells.append(f"{areas.size}, {np.median(areas) if areas.size else 0:.0f}")
        print(f"| {what} | {truth.max()} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path, metavar="DATA", nargs="?")
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    main(arguments.data, arguments.model)
