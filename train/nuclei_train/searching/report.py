"""The table and the figure of a search."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from nuclei_train.searching.space import Range, Space

TRIALS_TABLE, SEARCH_FIGURE = "trials.csv", "search.png"

COLUMNS = 3


@dataclass(frozen=True)
class SearchedTrial:
    """A trial that is done.

    Attributes
    ----------
    number : int
        From 1.
    score : float or None
        On the validation images; None if the trial was ended early.
    losses : dict of int to float
        Validation loss by epoch.
    minutes : float
        That its epochs took.
    values : dict of str to float
        Its settings.
    """

    number: int
    score: float | None
    losses: Mapping[int, float]
    minutes: float
    values: Mapping[str, float]


def write_trials(folder: Path, trials: Sequence[SearchedTrial], metric: str) -> None:
    """Write one row per trial."""
    names = list(trials[0].values) if trials else []
    with (folder / TRIALS_TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["trial", "status", metric, "lowest_val_loss", "epochs", "minutes", *names])
        for one in trials:
            status, score = ("ended early", "") if one.score is None else ("complete", f"{one.score:.6g}")
            lowest = f"{min(one.losses.values()):.6g}" if one.losses else ""
            row = [one.number, status, score, lowest, len(one.losses), f"{one.minutes:.1f}"]
            writer.writerow([*row, *(f"{one.values[name]:.6g}" for name in names)])


def draw_trials(folder: Path, trials: Sequence[SearchedTrial], space: Space) -> None:
    """Draw the scores of the trials, their losses by epoch, and the scores against each setting."""
    n_rows = 1 + -(-len(space.ranges) // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 3.2 * n_rows), layout="constrained")
    grid = figure.add_gridspec(n_rows, COLUMNS)
    _draw_scores(figure.add_subplot(grid[0, 0]), trials, space)
    _draw_losses(figure.add_subplot(grid[0, 1:]), trials)
    for index, (name, one) in enumerate(space.ranges.items()):
        row, column = divmod(index, COLUMNS)
        _draw_setting(figure.add_subplot(grid[1 + row, column]), trials, name, one, space.metric)
    figure.savefig(folder / SEARCH_FIGURE, dpi=110)


def _draw_scores(axes: Axes, trials: Sequence[SearchedTrial], space: Space) -> None:
    done = [one for one in trials if one.score is not None]
    scores = [one.score for one in done if one.score is not None]
    axes.plot([one.number for one in done], scores, "o", color="C0")
    if scores:
        best = (np.minimum if space.is_loss else np.maximum).accumulate(scores)
        axes.step([one.number for one in done], best, where="post", color="C0", alpha=0.5, label="best so far")
        own = trials[0]
        if own.score is not None:  # it may have diverged
            axes.axhline(own.score, color="grey", linestyle=":", label=f"trial {own.number}: the recipe's own")
        axes.legend(fontsize=8)
    axes.set(title=f"{space.metric} on the validation images", xlabel="trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_losses(axes: Axes, trials: Sequence[SearchedTrial]) -> None:
    for one in trials:
        ended = one.score is None
        axes.plot(
            list(one.losses), list(one.losses.values()), color="grey" if ended else "C0", alpha=0.4 if ended else 0.8
        )
    for colour, label in (("C0", "complete"), ("grey", "ended early")):
        axes.plot([], [], color=colour, label=label)
    axes.set(title="Validation loss", xlabel="epoch")
    _make_logarithmic(axes, "y", (1.0, 2.0, 5.0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)


def _draw_setting(axes: Axes, trials: Sequence[SearchedTrial], name: str, one: Range, metric: str) -> None:
    """Draw the scores against a setting; trials that were ended early are ticks at the lower edge."""
    done = [(trial.values[name], trial.score) for trial in trials if trial.score is not None]
    ended = [trial.values[name] for trial in trials if trial.score is None]
    axes.plot([value for value, _ in done], [score for _, score in done], "o", color="C0")
    axes.plot(ended, [0.02] * len(ended), "|", color="grey", transform=axes.get_xaxis_transform())
    axes.set(xlabel=name, ylabel=metric)
    if one.is_log:
        _make_logarithmic(axes, "x", (1.0, 3.0) if one.high < 100 * one.low else (1.0,))


def _make_logarithmic(axes: Axes, which: str, multiples: tuple[float, ...]) -> None:
    """Make an axis logarithmic, labelled at these multiples of the powers of ten."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=multiples))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
