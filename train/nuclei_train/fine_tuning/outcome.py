"""What came of a fine-tuning, in numbers and in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from nuclei_runtime.wording import counted
from nuclei_train.evaluation.comparison import Comparison, Verdict, compare
from nuclei_train.evaluation.scores import BOOTSTRAP_MIN_IMAGES
from nuclei_train.fine_tuning.held_out import HeldOut, Score

FORGIVEN_LOSS = 0.01
"""How much mean AP on the original data may fall without a warning: retraining with another seed moves it as much."""


@dataclass(frozen=True)
class Outcome:
    """What came of a fine-tuning.

    Attributes
    ----------
    start : str
        The name of the weights that it began with.
    ids : tuple of str
        Of the held-out images.
    held_out : HeldOut
    n_rounds : int
        1 if a split table says which images are held out.
    original_ids : tuple of str
        Of images of the start's own training data; empty if there are none.
    original_before, original_after : tuple of Score
        Of these images, with the start's and with the final weights.
    """

    start: str
    ids: tuple[str, ...]
    held_out: HeldOut
    n_rounds: int
    original_ids: tuple[str, ...] = ()
    original_before: tuple[Score, ...] = ()
    original_after: tuple[Score, ...] = ()

    @cached_property
    def own(self) -> Comparison:
        """Mean AP of the held-out images."""
        return _compare(self.held_out.before, self.held_out.after)

    @cached_property
    def original(self) -> Comparison | None:
        """Mean AP of the original images, if there are any."""
        return _compare(self.original_before, self.original_after) if self.original_ids else None

    @property
    def epochs(self) -> int:
        """How many epochs the final model is fitted; 0 if it keeps the weights of the start."""
        return 0 if self.own.verdict is Verdict.WORSE else self.held_out.best_epoch

    @property
    def is_recommended(self) -> bool:
        """Whether it can be shown that the model is better than the start."""
        return self.epochs > 0 and self.own.verdict is Verdict.BETTER

    @property
    def verdict(self) -> str:
        """The first sentence of the report."""
        if self.held_out.best_epoch > 0 and self.epochs == 0:
            return (
                f"Not better: a number of epochs that was best for one half of the held-out images made the other half "
                f"worse. This run keeps the weights of {self.start}. Do not use it instead; annotate more images, or "
                "other ones."
            )
        if self.epochs == 0:
            return (
                f"Not better: no fitting gave the held-out images a higher mean AP than {self.start}, whose weights "
                "this run keeps unchanged. Do not use it instead; annotate more images, or other ones."
            )
        verdict = self.own.verdict
        if verdict is Verdict.BETTER:
            return "Better: the held-out images are segmented better than before."
        if verdict is Verdict.SAME:
            return (
                f"No difference can be shown: keep {self.start}, or annotate more images until the interval excludes 0."
            )
        few = counted(self.own.n_images, "held-out image")
        return (
            f"Too few images to tell: {few} {'is' if self.own.n_images == 1 else 'are'} no evidence; expected at least "
            f"{BOOTSTRAP_MIN_IMAGES}. Look at the overlays of new images before you trust this model more than "
            f"{self.start}."
        )

    @property
    def sentences(self) -> tuple[str, ...]:
        """The outcome in a few sentences, for the terminal and the report."""
        lines = [
            self.verdict,
            f"Mean AP of {counted(self.own.n_images, 'held-out image')}: {describe(self.own)}.",
        ]
        if self.original is not None:
            kept = "forgotten" if self.has_forgotten else "kept"
            shown = describe(self.original)
            lines.append(
                f"Mean AP of {counted(self.original.n_images, 'image')} of the original data, {kept}: {shown}."
            )
        elif self.epochs:
            lines.append("What it forgot of the original data is unknown: --replay names them, if you have them.")
        return tuple(lines)

    @property
    def has_forgotten(self) -> bool:
        """Whether the original data are known to be segmented worse than before."""
        return self.original is not None and -self.original.difference > FORGIVEN_LOSS

    @property
    def caveats(self) -> tuple[str, ...]:
        """What whoever exports the model should hear; nothing if it is better and has forgotten nothing."""
        return self.sentences if not self.is_recommended or self.has_forgotten else ()

    @property
    def limitation(self) -> str:
        """The sentence for the model card."""
        if self.epochs == 0:
            return f"Fine-tuning did not help: the weights are those of {self.start}."
        return (
            f"Fine-tuned from {self.start}. {' '.join(self.sentences)} The watershed, the choice of views and the "
            f"probabilities of nuclei are those that were fitted for {self.start}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``fine_tuning`` in run.json."""
        return {
            "recommended": self.is_recommended,
            "epochs": self.epochs,
            "rounds": self.n_rounds,
            "verdict": self.verdict,
            "held_out": {**asdict(self.own), "verdict": str(self.own.verdict)},
            "original": None if self.original is None else asdict(self.original),
        }


def describe(comparison: Comparison) -> str:
    """Return before, after and their difference in words."""
    shown = f"{comparison.before:.3f} before, {comparison.after:.3f} after, difference {comparison.difference:+.3f}"
    if comparison.interval is None:
        return shown
    low, high = comparison.interval
    return f"{shown} (95% interval {low:+.3f} to {high:+.3f})"


def _compare(before: tuple[Score, ...], after: tuple[Score, ...]) -> Comparison:
    return compare([score.mean_ap for score in before], [score.mean_ap for score in after])
