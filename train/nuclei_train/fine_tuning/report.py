"""The report before and after: before_after.md, before_after.csv and curves.png in the run folder."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from nuclei_train.evaluation.comparison import Comparison
from nuclei_train.evaluation.scores import BOOTSTRAP_MIN_IMAGES
from nuclei_train.fine_tuning.held_out import HeldOut, Score
from nuclei_train.fine_tuning.outcome import Outcome

REPORT_FILE = "before_after.md"
TABLE_FILE = "before_after.csv"
CURVES_FILE = "curves.png"

COLUMNS = (
    "set",
    "image_id",
    "n_true",
    "n_found_before",
    "n_found_after",
    "ap_50_before",
    "ap_50_after",
    "mean_ap_before",
    "mean_ap_after",
)

_AFTER = (
    "*After* is the score of an image after the number of epochs that is best for the other half of the held-out "
    "images, so that the choice does not flatter it."
)


def write_report(folder: Path, outcome: Outcome) -> None:
    """Write the three files."""
    (folder / REPORT_FILE).write_text("\n".join(_lines(outcome)) + "\n", encoding="utf-8")
    with (folder / TABLE_FILE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, image_id, before, after in _images(outcome):
            counts = (before.n_true, before.n_found, after.n_found)
            aps = (before.ap_50, after.ap_50, before.mean_ap, after.mean_ap)
            writer.writerow([name, image_id, *counts, *(round(ap, 6) for ap in aps)])
    draw_curves(folder / CURVES_FILE, outcome.held_out, outcome.epochs)


def draw_curves(path: Path, held_out: HeldOut, kept: int) -> None:
    """Draw the mean AP of the held-out images before training and after each epoch, each image thin, the mean thick."""
    aps = held_out.mean_aps
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(aps, color="0.75", linewidth=0.8)
    axes.plot(aps.mean(axis=1), "o-", color="tab:blue", label="mean of the held-out images")
    axes.axvline(kept, color="grey", linestyle=":", label=f"kept: epoch {kept}")
    axes.set(title="held-out images", xlabel="epoch (0: before training)", ylabel="mean AP", ylim=(0, 1))
    axes.set_xticks(range(len(aps)))
    axes.legend()
    figure.savefig(path, dpi=120)


def _lines(outcome: Outcome) -> Iterator[str]:
    first, *others = outcome.sentences
    yield "# Before and after fine-tuning"
    yield ""
    yield f"**{first}**"
    yield ""
    yield " ".join(others)
    yield ""
    yield "## Scores"
    yield ""
    yield "| images | | before | after | difference | 95% interval | |"
    yield "|---|---|---|---|---|---|---|"
    yield _row("held out", outcome.own)
    if outcome.original is not None:
        yield _row("original data", outcome.original)
    yield ""
    yield _how(outcome)
    yield ""
    yield (
        "The interval is a bootstrap over the images' differences. It needs at least "
        f"{BOOTSTRAP_MIN_IMAGES} images, and takes them as independent: images of one microscope field, slide or "
        "patient are not, and make it too narrow."
    )
    yield ""
    yield f"## Mean AP of the held-out images by epoch, {outcome.epochs} kept"
    yield ""
    yield "| epoch | mean AP |"
    yield "|---|---|"
    for epoch, ap in enumerate(outcome.held_out.mean_aps.mean(axis=1)):
        yield f"| {epoch or '0, before training'} | {ap:.3f} |"
    yield ""
    yield "## Each image"
    yield ""
    yield "| set | image | nuclei | found before | found after | AP@0.5 before | after | mean AP before | after | |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name, image_id, before, after in _images(outcome):
        yield (
            f"| {name} | {image_id.replace('|', ' ')} | {before.n_true} | {before.n_found} | {after.n_found} "
            f"| {before.ap_50:.3f} | {after.ap_50:.3f} | {before.mean_ap:.3f} | {after.mean_ap:.3f} "
            f"| {after.mean_ap - before.mean_ap:+.3f} |"
        )


def _row(name: str, comparison: Comparison) -> str:
    interval = "-" if comparison.interval is None else "{:+.3f} to {:+.3f}".format(*comparison.interval)
    return (
        f"| {name} | {comparison.n_images} | {comparison.before:.3f} | {comparison.after:.3f} | "
        f"{comparison.difference:+.3f} | {interval} | {comparison.verdict} |"
    )


def _how(outcome: Outcome) -> str:
    scored = (
        "All scores are those of nuclei as `nuclei-infer` finds them, with the choice of views; *before* is "
        f"{outcome.start}."
    )
    if outcome.n_rounds == 1:
        return f"{scored} {_AFTER} The split table says which images are held out; they are never fitted."
    return (
        f"{scored} Each image was held out once: in {outcome.n_rounds} rounds, the network was fitted to the other "
        f"images and scored on these. {_AFTER} The final model is fitted to all images, and is "
        "therefore scored on none of them."
    )


def _images(outcome: Outcome) -> Iterator[tuple[str, str, Score, Score]]:
    yield from _set("held out", outcome.ids, outcome.held_out.before, outcome.held_out.after)
    yield from _set("original data", outcome.original_ids, outcome.original_before, outcome.original_after)


def _set(
    name: str, ids: Sequence[str], before: Sequence[Score], after: Sequence[Score]
) -> Iterator[tuple[str, str, Score, Score]]:
    for place in np.argsort(ids, kind="stable"):
        yield name, ids[place], before[place], after[place]
