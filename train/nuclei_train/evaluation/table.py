"""The two text tables that nuclei-evaluate prints, at most 100 characters wide with the names in DSB2018."""

from __future__ import annotations

from collections.abc import Sequence

from nuclei_train.evaluation.report import EvaluationReport
from nuclei_train.evaluation.scores import SetScores

LEGEND = """\
pooled: matches summed over all images; mean: mean over images; 95%: bootstrap interval of mean AP
mean AP: mean over IoU 0.5 to 0.95; count error and bias: nuclei per image, absolute and with sign"""

MAY_BE_FITTED = """\
There is no split table, or it does not separate the training images: some of them may be in
{names}. The scores there may be too good."""


def format_tables(report: EvaluationReport) -> str:
    """Return the scores as text: nuclei, then pixels; one row per set, each followed by one row per modality."""
    nuclei = [
        ["", "", "nuclei", "", "AP@0.5", "", "F1@0.5", "mean AP", "", "count", ""],
        ["set", "images", "true", "found", "pooled", "mean", "pooled", "mean", "95%", "error", "bias"],
    ]
    pixels = [["set", "images", "loss", "accuracy", "Dice", "IoU"]]
    for found in report.sets:
        if found.scores is None:
            n_predicted = sum(image.n_predicted for image in found.images)
            nuclei.append([found.name, str(len(found.images)), "-", str(n_predicted), *["-"] * 7])
            continue
        # A single modality would only repeat the row of its set.
        parts = found.modalities if len(found.modalities) > 1 else {}
        for name, scores in (
            (found.name, found.scores),
            *((f"  {name}", part) for name, part in parts.items()),
        ):
            nuclei.append(_nuclei_row(name, scores))
            measures = (scores.loss, scores.accuracy, scores.dice, scores.iou)
            pixels.append([name, str(scores.n_images), *(f"{value:.3f}" for value in measures)])
    text = f"Nuclei\n{_align(nuclei)}\n{LEGEND}\n\nPixels (mean over images)\n{_align(pixels)}"
    names = ", ".join(found.name for found in report.sets if found.may_be_fitted and found.scores is not None)
    return f"{text}\n\n{MAY_BE_FITTED.format(names=names)}" if names else text


def _nuclei_row(name: str, scores: SetScores) -> list[str]:
    interval = scores.mean_ap_interval
    relative = scores.count_error_relative
    return [
        name,
        str(scores.n_images),
        str(scores.n_true),
        str(scores.n_predicted),
        f"{scores.ap_50_pooled:.3f}",
        f"{scores.ap_50_mean_over_images:.3f}",
        f"{scores.f1_50_pooled:.3f}",
        f"{scores.mean_ap:.3f}",
        "-" if interval is None else f"{interval[0]:.2f}-{interval[1]:.2f}",
        f"{scores.count_error:.1f}" + ("" if relative is None else f" {relative:.0%}"),
        f"{scores.count_bias:+.1f}",
    ]


def _align(rows: Sequence[Sequence[str]]) -> str:
    """Join cells into columns: names aligned left, numbers right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append(" ".join([row[0].ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)
