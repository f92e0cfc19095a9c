"""How good the scores of nuclei are: their calibration and how well they tell right from wrong, set by set.

    python -m benchmarks.reliability DATA[:SPLIT]... [--model MODEL.onnx] [--precision int8] [--drawing FILE.svg]

Each set is a row in Markdown: nuclei found, the share that is right, the mean score, the expected calibration error and
the area under the ROC curve; the last row is all nuclei together. The drawing has a reliability plot for each set: for
each of the bins, the share that is right against the mean score.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.plots import draw_svg
from benchmarks.sets import images_of, title_of
from nuclei_runtime import Segmenter
from nuclei_runtime.steps.score import Scores
from nuclei_train.recipes.score_fit import are_right

N_BINS = 15
"""Bins with equally many nuclei, as is usual for the expected calibration error (Naeini et al. 2015: equal mass)."""

Outcome = tuple[str, Scores, NDArray[np.bool_]]
"""A set's name, the scores of its nuclei, and whether they are right."""


def outcome_of(name: str, segmenter: Segmenter) -> Outcome:
    """Segment a set and compare with its truth."""
    scores, right = [np.zeros(0)], [np.zeros(0, bool)]
    for _, image, truth in images_of(name):
        found = segmenter.segment(image)
        if found.scores is None:
            sys.exit("the model's card has no score; fit it with benchmarks.fit_card")
        scores.append(found.scores)
        right.append(are_right(truth, found.labels))
    return title_of(name), np.concatenate(scores), np.concatenate(right)


def bins_of(scores: Scores, right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the number of nuclei, the mean score and the share that is right of each bin, (bins, 3)."""
    parts = np.array_split(np.argsort(scores, kind="stable"), N_BINS)
    return np.array([(len(part), scores[part].mean(), right[part].mean()) for part in parts if len(part)])


def calibration_error(scores: Scores, right: NDArray[np.bool_]) -> float:
    """Return the mean over the bins of the difference between score and share, weighted by the number of nuclei."""
    number, score, share = bins_of(scores, right).T
    return float((number * np.abs(score - share)).sum() / number.sum())


def area_under_roc(scores: Scores, right: NDArray[np.bool_]) -> float:
    """Return the probability that a nucleus that is right has a higher score than one that is wrong; NaN without both.

    It is computed from the ranks (Mann and Whitney), in which equal scores share their mean rank.
    """
    from scipy.stats import rankdata

    n_right = int(np.count_nonzero(right))
    n_wrong = right.size - n_right
    if not n_right or not n_wrong:
        return float("nan")
    return float((rankdata(scores)[right].sum() - n_right * (n_right + 1) / 2) / (n_right * n_wrong))


def draw(path: Path, outcomes: list[Outcome]) -> None:
    """Draw a reliability plot for each set."""
    draw_svg()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.4 * len(outcomes), 2.9), layout="constrained")
    grid: Any = figure.subplots(1, len(outcomes), sharey=True, squeeze=False)[0]
    for axes, (name, scores, right) in zip(grid, outcomes, strict=True):
        _, score, share = bins_of(scores, right).T
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        axes.plot(score, share, "o-", color="tab:blue", markersize=4)
        axes.set(title=name, xlim=(0, 1), ylim=(0, 1), xlabel="mean score", aspect="equal")
        axes.title.set_fontsize("medium")
    grid[0].set_ylabel("share that is right")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Score the sets that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="DATA[:SPLIT]")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--drawing", type=Path)
    arguments = parser.parse_args()
    segmenter = Segmenter(arguments.model, precision=arguments.precision)
    print("| set | nuclei found | right | mean score | calibration error | area under ROC |\n|---|---|---|---|---|---|")
    outcomes = []
    for name in arguments.data:
        outcomes.append(outcome_of(name, segmenter))
        _print_row(outcomes[-1])
    if len(outcomes) > 1:
        _, scores, right = zip(*outcomes, strict=True)
        _print_row(("together", np.concatenate(scores), np.concatenate(right)))
    if arguments.drawing:
        draw(arguments.drawing, outcomes)


def _print_row(outcome: Outcome) -> None:
    name, scores, right = outcome
    numbers = right.mean(), scores.mean(), calibration_error(scores, right), area_under_roc(scores, right)
    print(f"| {name} | {len(scores)} | {' | '.join(f'{number:.3f}' for number in numbers)} |", flush=True)


if __name__ == "__main__":
    main()
