"""The scores of held-out images after each epoch, and what they say: how many epochs to fit, and whether it helps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nuclei_train.errors import RunFolderError


@dataclass(frozen=True)
class Score:
    """One image's score against its truth.

    Attributes
    ----------
    n_true, n_found : int
        Numbers of nuclei.
    ap_50, mean_ap : float
        AP at IoU 0.5, and AP averaged over the thresholds, 0 to 1.
    """

    n_true: int
    n_found: int
    ap_50: float
    mean_ap: float


@dataclass(frozen=True)
class RoundScores:
    """What one round of fitting gave.

    Attributes
    ----------
    scores : tuple of tuple of Score
        For each epoch, and before the first one, the score of each held-out image.
    losses : tuple of float
        The mean training loss of each epoch.
    seconds : float
    """

    scores: tuple[tuple[Score, ...], ...]
    losses: tuple[float, ...]
    seconds: float

    def write(self, path: Path) -> None:
        """Write the scores, so that an interrupted run need not compute them again."""
        rows = [[astuple(score) for score in epoch] for epoch in self.scores]
        temporary = path.with_name(path.name + ".part")
        document = {"scores": rows, "losses": self.losses, "seconds": round(self.seconds, 1)}
        temporary.write_text(json.dumps(document), encoding="utf-8")
        temporary.replace(path)


def read_round(path: Path) -> RoundScores:
    """Read what `RoundScores.write` wrote.

    Raises
    ------
    RunFolderError
        The file is damaged.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        scores = tuple(tuple(Score(*score) for score in epoch) for epoch in document["scores"])
        return RoundScores(scores, tuple(document["losses"]), float(document["seconds"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{path}: cannot be read ({error}); delete it, and this round is fitted again") from error


@dataclass(frozen=True)
class HeldOut:
    """The scores of all held-out images.

    Attributes
    ----------
    places : tuple of int
        The images, by their place in `nuclei_train.recipes.fine_tuning.FineTuningMaterial.images`.
    scores : tuple of tuple of Score
        For each epoch, and before the first one, the score of each image.
    """

    places: tuple[int, ...]
    scores: tuple[tuple[Score, ...], ...]

    @property
    def mean_aps(self) -> NDArray[np.float64]:
        """Mean AP of each epoch and image, (E + 1, N)."""
        return np.array([[score.mean_ap for score in epoch] for epoch in self.scores])

    @property
    def best_epoch(self) -> int:
        """The number of epochs that is best for these images; 0 if no fitting is better than any."""
        return best_epoch(self.mean_aps)

    @property
    def before(self) -> tuple[Score, ...]:
        """The images' scores before training."""
        return self.scores[0]

    @property
    def after(self) -> tuple[Score, ...]:
        """The images' scores after it, each after the number of epochs that is best for the *other half* of them.

        A number of epochs chosen on an image flatters the score of that image: the largest of several numbers that
        differ by chance alone is more than the first of them. Choosing on all images but one is not fair either: of
        epochs that are nearly equal, it gives each image the one that is bad for it. Simulated with 20 images and three
        epochs without any gain, 14 to 20% of the runs then looked worse than before, and with halves 4 to 6%. The
        halves are not mixed: neighbours in the order of the images often show the same field.
        """
        aps = self.mean_aps
        n_images = aps.shape[1]
        if n_images == 1:
            return self.scores[self.best_epoch]
        halves = np.array_split(np.arange(n_images), 2)
        chosen = np.empty(n_images, int)
        for half, other in (halves, halves[::-1]):
            chosen[half] = best_epoch(aps[:, other])
        return tuple(self.scores[epoch][image] for image, epoch in enumerate(chosen))


def join_rounds(held_out: Sequence[Sequence[int]], rounds: Sequence[RoundScores]) -> HeldOut:
    """Join the scores of all rounds, in the order of the images."""
    places = [place for part in held_out for place in part]
    order = np.argsort(places)
    joined = [
        [score for part in epoch for score in part] for epoch in zip(*(one.scores for one in rounds), strict=True)
    ]
    return HeldOut(
        tuple(places[index] for index in order), tuple(tuple(epoch[index] for index in order) for epoch in joined)
    )


def best_epoch(mean_aps: NDArray[np.float64]) -> int:
    """Return the row with the highest mean; of equally good ones, the first."""
    return int(np.argmax(mean_aps.mean(axis=1)))
