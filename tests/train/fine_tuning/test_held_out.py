"""How many epochs the held-out images choose, and that the choice does not flatter their scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nuclei_train.errors import RunFolderError
from nuclei_train.evaluation.comparison import Verdict, compare
from nuclei_train.fine_tuning.held_out import HeldOut, RoundScores, Score, join_rounds, read_round


def score(mean_ap: float) -> Score:
    return Score(10, 9, 0.8, mean_ap)


def held_out(aps: list[list[float]]) -> HeldOut:
    return HeldOut(tuple(range(len(aps[0]))), tuple(tuple(score(ap) for ap in epoch) for epoch in aps))


def test_the_epoch_with_the_highest_mean_is_best_and_of_equals_the_first() -> None:
    assert held_out([[0.5, 0.5], [0.6, 0.8], [0.7, 0.7], [0.6, 0.7]]).best_epoch == 1
    assert held_out([[0.5, 0.5], [0.4, 0.6]]).best_epoch == 0


def test_the_epoch_of_an_image_is_chosen_on_the_other_half() -> None:
    found = held_out([[0.1, 0.1, 0.1, 0.1], [0.5, 0.5, 0.2, 0.3], [0.4, 0.6, 0.9, 0.3]])
    assert found.best_epoch == 2
    assert [one.mean_ap for one in found.after] == [0.4, 0.6, 0.2, 0.3]  # of two equal epochs the first
    assert [one.mean_ap for one in found.before] == [0.1, 0.1, 0.1, 0.1]


def test_one_image_has_no_others() -> None:
    assert [one.mean_ap for one in held_out([[0.1], [0.5], [0.4]]).after] == [0.5]


def test_chance_alone_does_not_look_like_a_gain() -> None:
    """Where all epochs differ by noise, the largest mean is more than the first, but what `after` reports is not."""
    rng = np.random.default_rng(0)
    naive, reported = [], []
    for _ in range(200):
        aps = rng.normal(0.5, 0.1, (5, 12))
        found = held_out(aps.tolist())
        naive.append(aps.mean(axis=1).max() - aps[0].mean())
        reported.append(np.mean([one.mean_ap for one in found.after]) - aps[0].mean())
    assert np.mean(naive) > 0.02
    assert abs(np.mean(reported)) < 0.005


def test_chance_alone_does_not_look_like_a_loss() -> None:
    """Without any gain, a fair interval excludes 0 on this side in 2.5% of the runs, and a bootstrap in a few more.

    With a choice on all images but one, these were a fifth.
    """
    rng = np.random.default_rng(0)
    worse = 0
    for _ in range(200):
        gains = np.vstack([np.zeros(20), rng.normal(0, 0.03, (3, 20))])
        found = held_out((0.5 + gains).tolist())
        after = [one.mean_ap for one in found.after]
        worse += compare([0.5] * 20, after).verdict is Verdict.WORSE
    assert worse <= 20


def test_rounds_are_joined_in_the_order_of_the_images() -> None:
    rounds = [
        RoundScores(((score(0.1), score(0.2)), (score(0.3), score(0.4))), (1.0,), 1.0),
        RoundScores(((score(0.5),), (score(0.6),)), (1.0,), 1.0),
    ]
    joined = join_rounds([(2, 0), (1,)], rounds)
    assert joined.places == (0, 1, 2)
    assert joined.mean_aps.tolist() == [[0.2, 0.5, 0.1], [0.4, 0.6, 0.3]]


def test_a_round_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = RoundScores(((score(0.25),), (score(0.5),)), (0.75,), 3.0)
    written.write(tmp_path / "1.json")
    assert read_round(tmp_path / "1.json") == written
    assert [path.name for path in tmp_path.iterdir()] == ["1.json"]
    (tmp_path / "1.json").write_text('{"scores": [[[1', encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"1\.json: cannot be read .*; delete it, and this round is fitted again"):
        read_round(tmp_path / "1.json")
