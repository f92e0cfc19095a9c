"""Score a classical pipeline on the same sets, with the same matching, as nuclei-evaluate scores a model.

    python -m benchmarks.classical_accuracy DATA[:SPLIT]...

The pipeline is the one whose speed is compared: `benchmarks/peers/otsu_watershed.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from PIL import Image

from benchmarks.peers.harness import grey_of
from benchmarks.peers.otsu_watershed import segment
from benchmarks.sets import open_sets
from nuclei_runtime.metrics import match, mean_image_ap, pooled_ap


def main(names: Sequence[str]) -> None:
    """Print a Markdown table with one row per set and one per modality."""
    print("| set | images | mean AP | AP@0.5, mean over images | AP@0.5, pooled |")
    print("|---|---|---|---|---|")
    pairs = [(found, table) for sets, table in map(open_sets, names) for found in sets]
    for found, table in pairs:
        rows: dict[str, list[Any]] = {}
        for sample in found.samples:
            image = sample.read_image()
            matching = match(found.read_truth(sample, image), segment(grey_of(Image.fromarray(image))))
            modality = table.modality.get(sample.image_id, "unknown") if table else "unknown"
            for key in (found.name, f"{found.name}, {modality}"):
                rows.setdefault(key, []).append(matching)
        for key, matchings in rows.items():
            per_image = mean_image_ap(matchings)
            scores = (per_image.mean(), per_image[0], pooled_ap(matchings)[0])
            print(f"| {key} | {len(matchings)} | " + " | ".join(f"{score:.3f}" for score in scores) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", nargs="+", metavar="DATA[:SPLIT]")
    main(parser.parse_args().data)
