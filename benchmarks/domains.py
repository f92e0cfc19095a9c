"""Score a model on the images of several laboratories, and draw its worst image of each as outlines.

    python -m benchmarks.domains DATA[:SPLIT]... [--model MODEL.onnx] [--drawing FILE.png]

One row per set is printed in Markdown: mean AP and AP@0.5, averaged over images, of the model and of the model with
--tta. The drawing contains only outlines, none of the images, so it may be published where the images may not.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.sets import images_of, title_of
from nuclei_runtime import Segmenter
from nuclei_runtime.arrays import Labels
from nuclei_runtime.metrics import iou_matrix, match
from nuclei_runtime.steps.outlines import trace_outlines
from nuclei_train.evaluation.pictures import DPI, MATCH_IOU, MATCHED, UNMATCHED

SHOWN_PX = 256
"""Side of the part of an image that is drawn."""

Worst = tuple[float, str, Labels, Labels]
"""AP@0.5, what it is, the true and the found labels of the part to draw."""


def score(name: str, segmenters: dict[str, Segmenter]) -> Worst | None:
    """Print one row, and return the worst image."""
    title = title_of(name)
    scores: dict[str, list[tuple[float, float]]] = {option: [] for option in segmenters}
    worst: Worst | None = None
    for image_id, image, truth in images_of(name):
        for option, segmenter in segmenters.items():
            found = segmenter.segment(image).labels
            ap = match(truth, found).ap()
            scores[option].append((float(ap.mean()), float(ap[0])))
            if not segmenter.options.tta and (worst is None or ap[0] < worst[0]):
                part = densest_part(truth)
                worst = float(ap[0]), f"{title}, {image_id}", truth[part], found[part]
    cells = [f"{number:.3f}" for rows in scores.values() for number in np.mean(rows, axis=0)]
    print(f"| {title} | {len(scores[''])} | {' | '.join(cells)} |", flush=True)
    return worst


def densest_part(truth: Labels) -> tuple[slice, slice]:
    """Return the square of an image in which most nuclei begin."""
    if not truth.any():
        return slice(0, SHOWN_PX), slice(0, SHOWN_PX)
    rows, columns = np.array([(outline[0, 0], outline[0, 1]) for outline in trace_outlines(truth)]).T
    counts = {
        (top, left): np.count_nonzero(
            (rows >= top) & (rows < top + SHOWN_PX) & (columns >= left) & (columns < left + SHOWN_PX)
        )
        for top in range(0, max(truth.shape[0] - SHOWN_PX, 0) + 1, SHOWN_PX // 4)
        for left in range(0, max(truth.shape[1] - SHOWN_PX, 0) + 1, SHOWN_PX // 4)
    }
    top, left = max(counts, key=counts.__getitem__)
    return slice(top, top + SHOWN_PX), slice(left, left + SHOWN_PX)


def draw(path: Path, cases: list[Worst]) -> None:
    """Draw the outlines of true and of found nuclei, side by side."""
    figure = Figure(figsize=(6, 3.2 * len(cases)), layout="constrained")
    grid = figure.subplots(len(cases), 2, squeeze=False)
    for (ap, name, truth, found), (left, right) in zip(cases, grid, strict=True):
        truth, found = (
            np.unique(one, return_inverse=True)[1].reshape(one.shape).astype(np.int32) for one in (truth, found)
        )
        matches = iou_matrix(truth, found) > MATCH_IOU
        draw_outlines(left, truth, np.asarray(matches.any(axis=1)), f"{name}: truth")
        draw_outlines(right, found, np.asarray(matches.any(axis=0)), f"found; AP@0.5 of the image {ap:.2f}")
    figure.savefig(path, dpi=DPI)


def draw_outlines(axes: Axes, labels: Labels, matched: NDArray[np.bool_], title: str) -> None:
    """Draw the outlines of one side; those without a match on the other side stand out."""
    outlines = [outline[:, ::-1] for outline in trace_outlines(labels)]
    colours = [MATCHED if one else UNMATCHED for one in matched]
    axes.add_collection(PolyCollection(outlines, facecolors="none", edgecolors=colours, linewidths=0.8))
    axes.set(
        xlim=(-0.5, labels.shape[1] - 0.5), ylim=(labels.shape[0] - 0.5, -0.5), aspect="equal", xticks=[], yticks=[]
    )
    axes.set_title(title, fontsize=7)


def main() -> None:
    """Print the table, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="DATA[:SPLIT]")
    parser.add_argument("--model", help="default: the bundled model")
    parser.add_argument("--drawing", type=Path)
    arguments = parser.parse_args()
    segmenters = {name: Segmenter(arguments.model, tta=name != "") for name in ("", "--tta")}
    print("| set | images | mean AP | AP@0.5 | --tta: mean AP | AP@0.5 |\n|---|---|---|---|---|---|")
    cases = [score(data, segmenters) for data in arguments.data]
    if arguments.drawing is not None:
        draw(arguments.drawing, [case for case in cases if case is not None])


if __name__ == "__main__":
    main()
