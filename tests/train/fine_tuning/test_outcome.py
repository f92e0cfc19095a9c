"""What a fine-tuning says of itself: better, worse, nothing to show, too few images, and what was forgotten."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from nuclei_train.fine_tuning.held_out import HeldOut, Score
from nuclei_train.fine_tuning.outcome import Outcome
from nuclei_train.fine_tuning.report import write_report


def scores(aps: list[float]) -> tuple[Score, ...]:
    return tuple(Score(20, 19, min(1.0, ap + 0.2), ap) for ap in aps)


def outcome(
    before: list[float], after: list[float], original: tuple[list[float], list[float]] | None = None
) -> Outcome:
    places = tuple(range(len(before)))
    held_out = HeldOut(places, (scores(before), scores(after)))
    ids = tuple(f"image_{place}" for place in places)
    if original is None:
        return Outcome("the bundled model", ids, held_out, 4)
    names = tuple(f"old_{place}" for place in range(len(original[0])))
    return Outcome("the bundled model", ids, held_out, 4, names, scores(original[0]), scores(original[1]))


def spread(mean: float, n: int) -> list[float]:
    return np.linspace(mean - 0.1, mean + 0.1, n).tolist()


def test_a_clear_gain_is_better_and_recommended() -> None:
    found = outcome(spread(0.3, 20), spread(0.5, 20))
    assert found.is_recommended
    assert found.epochs == 1
    assert found.sentences[0].startswith("Better:")
    assert (
        "Mean AP of 20 held-out images: 0.300 before, 0.500 after, difference +0.200 (95% interval +0.200 to"
        in (found.sentences[1])
    )
    assert "unknown: --replay names them" in found.sentences[2]
    assert found.limitation.startswith("Fine-tuned from the bundled model. Better:")


def test_a_loss_keeps_the_weights_and_says_so() -> None:
    found = outcome(spread(0.5, 20), spread(0.4, 20))
    assert not found.is_recommended
    assert found.epochs == 0
    assert found.sentences[0].startswith("Not better: no fitting gave")
    assert "Do not use it instead" in found.sentences[0]
    assert found.limitation == "Fine-tuning did not help: the weights are those of the bundled model."
    assert found.own.difference == 0


def test_a_gain_on_the_mean_that_the_other_images_do_not_confirm_keeps_the_weights() -> None:
    """One image gains much and chooses the epoch; the other half of the images would not, and lose by it."""
    before, after = [0.5] * 10, [0.48] * 9 + [0.9]
    found = outcome(before, after)
    assert found.held_out.best_epoch == 1
    assert not found.is_recommended
    assert found.epochs == 0
    assert found.sentences[0].startswith("Not better: a number of epochs that was best for one half")
    assert "This run keeps the weights of the bundled model" in found.sentences[0]


def test_noise_shows_no_difference() -> None:
    rng = np.random.default_rng(1)
    before = spread(0.5, 12)
    found = outcome(before, (np.array(before) + 0.004 + rng.normal(0, 0.05, 12)).tolist())
    assert found.epochs == 1
    assert found.sentences[0].startswith("No difference can be shown: keep the bundled model")
    assert not found.is_recommended


def test_few_images_are_no_evidence() -> None:
    assert outcome([0.1], [0.9]).sentences[0].startswith("Too few images to tell: 1 held-out image is no evidence")
    found = outcome(spread(0.3, 5), spread(0.6, 5))
    assert found.sentences[0].startswith(
        "Too few images to tell: 5 held-out images are no evidence; expected at least 8"
    )
    assert "interval" not in found.sentences[1]
    assert not found.is_recommended


def test_what_was_forgotten_is_said() -> None:
    kept = outcome(spread(0.3, 20), spread(0.5, 20), (spread(0.62, 10), spread(0.615, 10)))
    assert "10 images of the original data, kept: 0.620 before, 0.615 after, difference -0.005" in kept.sentences[2]
    lost = outcome(spread(0.3, 20), spread(0.5, 20), (spread(0.62, 10), spread(0.5, 10)))
    assert "of the original data, forgotten: 0.620 before, 0.500 after, difference -0.120" in lost.sentences[2]
    assert kept.caveats == ()
    assert lost.caveats == lost.sentences


def test_the_report_has_a_row_for_each_image(tmp_path: Path) -> None:
    found = outcome(spread(0.3, 9), spread(0.5, 9), (spread(0.62, 10), spread(0.5, 10)))
    write_report(tmp_path, found)
    text = (tmp_path / "before_after.md").read_text(encoding="utf-8")
    assert "**Better: the held-out images are segmented better than before.**" in text
    assert "| held out | 9 | 0.300 | 0.500 | +0.200 | +0.200 to +0.200 | better |" in text
    assert "| original data | 10 | 0.620 | 0.500 | -0.120 | -0.120 to -0.120 | worse |" in text
    assert "in 4 rounds" in text
    with (tmp_path / "before_after.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["image_id"] for row in rows if row["set"] == "held out"] == sorted(found.ids)
    assert len(rows) == 19
    assert float(rows[0]["mean_ap_after"]) == 0.4
    assert (tmp_path / "curves.png").stat().st_size > 1000
