"""The recipe `fine-tuning`: a trained network of the recipe `native` is adapted to a few images of one's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuclei_train.batches.augment import Augmentation
from nuclei_train.data.samples import Sample
from nuclei_train.recipes.native import Native
from nuclei_train.recipes.native_material import LabelledImages, NativeMaterial, load_labelled
from nuclei_train.recipes.recipe import Replay, Sources

CROSS_VALIDATION = "cross-validation"
"""The source of a split in which every image is fitted, and held out in turn."""


@dataclass(frozen=True)
class Round:
    """Which images are fitted and which are held out, by their place in `FineTuningMaterial.images`."""

    fitted: tuple[int, ...]
    held_out: tuple[int, ...]


@dataclass(frozen=True)
class FineTuningMaterial:
    """The images for `fine-tuning`: a `nuclei_train.recipes.recipe.Material`.

    Attributes
    ----------
    images : LabelledImages
        Those to fit, then those that a split table holds out.
    samples : tuple of Sample
        The same.
    n_to_fit : int
        How many of them are to be fitted.
    replayed, original : LabelledImages or None
        Images of the start's own training: to fit again, and to see what was forgotten.
    original_samples : tuple of Sample
    settings : FineTuning
    """

    images: LabelledImages
    samples: tuple[Sample, ...]
    n_to_fit: int
    replayed: LabelledImages | None
    original: LabelledImages | None
    original_samples: tuple[Sample, ...]
    settings: FineTuning

    @property
    def areas_px(self) -> NDArray[np.int64]:
        """Area of every nucleus in the images to fit, in pixels."""
        return np.concatenate([np.bincount(labels.ravel())[1:] for labels in self.images.labels[: self.n_to_fit]])

    @property
    def to_fit(self) -> tuple[int, ...]:
        """The places of the images to fit."""
        return tuple(range(self.n_to_fit))

    @property
    def rounds(self) -> tuple[Round, ...]:
        """The images held out in turn; one round if a split table says which are held out."""
        n_images = len(self.images.ids)
        if self.n_to_fit < n_images:
            return (Round(self.to_fit, tuple(range(self.n_to_fit, n_images))),)
        order = np.random.default_rng(self.settings.seed).permutation(n_images)
        parts = [sorted(part.tolist()) for part in np.array_split(order, min(self.settings.rounds, n_images))]
        return tuple(Round(tuple(i for i in self.to_fit if i not in part), tuple(part)) for part in parts)

    def batches(self, fitted: Sequence[int], skipped_epochs: int) -> Any:
        """Return the augmented crops of some images, each batch with its part of replayed crops."""
        settings = self.settings
        n_replayed = round(settings.batch_size * settings.replay_share) if self.replayed is not None else 0
        own = self._stream(self.images.select(fitted), settings.batch_size - n_replayed, skipped_epochs)
        if self.replayed is None:
            return own
        from nuclei_train.batches.joined import JoinedBatches

        return JoinedBatches([own, self._stream(self.replayed, n_replayed, skipped_epochs)])

    def draw(self, path: Path) -> None:
        """Draw the first crops and their maps."""
        self.as_native().draw(path)

    def save_for_quantisation(self, path: Path) -> dict[str, Any]:
        """See `NativeMaterial.save_for_quantisation`: the images to fit give the crops, and all are scored."""
        return {
            **self.as_native().save_for_quantisation(path),
            "scored_on": "the images that were fitted or held out",
        }

    def as_native(self) -> NativeMaterial:
        """Return the user's own images as the recipe `native` has them."""
        return NativeMaterial(self.images.select(self.to_fit), self.images, self.settings)

    def _stream(self, images: LabelledImages, batch_size: int, skipped_epochs: int) -> Any:
        settings = replace(self.settings, batch_size=batch_size)
        return NativeMaterial(images, images, settings).batches(0, skipped_epochs)


@dataclass(frozen=True)
class FineTuning(Native):
    """The recipe `fine-tuning`: a `nuclei_train.recipes.recipe.Recipe` with defaults for 5 to 50 images.

    Attributes
    ----------
    rounds : int
        In how many rounds the images are held out in turn, where no split table says which are.
    start_share : float
        The weights are the means of the fitted ones and those of the start, with this share of the start. Half of it
        keeps most of what was gained and loses little of what was known before (Wortsman et al. 2022,
        arXiv:2109.01903).
    replay_share : float
        The part of each batch that is cut from replayed images, if there are any.
    max_replayed, max_original : int
        How many images of the start's own training are fitted again, and how many show what was forgotten.
    """

    name: str = "fine-tuning"
    steps_per_epoch: int = 60
    epochs: int = 3
    learning_rate: float = 1e-3
    # Images of one's own look like one's own images: other stains and light are for those that nobody has seen.
    augmentation: Augmentation = field(default_factory=lambda: Augmentation().eased())
    rounds: int = 4
    start_share: float = 0.5
    replay_share: float = 0.5
    max_replayed: int = 128
    max_original: int = 40

    def choose(self, sources: Sources) -> Sources:
        """Return the images with truth, none of them held out for good unless the user says which."""
        chosen = super().choose(sources)
        split, replay = chosen.split, chosen.replay
        if split.source == "random":
            everything = sorted((*split.train, *split.val), key=lambda sample: sample.image_id)
            split = replace(split, train=tuple(everything), val=(), source=CROSS_VALIDATION)
        if replay is not None:
            replay = replace(
                replay,
                train=self._some(replay.train, replay, self.max_replayed),
                val=self._some(replay.val, replay, self.max_original),
            )
        return replace(chosen, split=split, replay=replay)

    def load(self, sources: Sources, advance: Callable[[], None]) -> FineTuningMaterial:  # type: ignore[override]
        """Read all images with truth."""

        def read(samples: Sequence[Sample], modality: Mapping[str, str]) -> LabelledImages:
            return load_labelled(samples, modality, self.normalisation, advance)

        split, replay = sources.split, sources.replay
        samples = (*split.train, *split.val)
        return FineTuningMaterial(
            read(samples, sources.modality),
            samples,
            len(split.train),
            read(replay.train, replay.modality) if replay is not None else None,
            read(replay.val, replay.modality) if replay is not None and replay.val else None,
            replay.val if replay is not None else (),
            self,
        )

    def _some(self, samples: Sequence[Sample], replay: Replay, n_most: int) -> tuple[Sample, ...]:
        """Return at most so many images, of each modality in proportion to the square root of its number."""
        modalities = [replay.modality.get(sample.image_id, "") for sample in samples]
        weights = {name: count**0.5 for name, count in Counter(modalities).items()}
        rng = np.random.default_rng(self.seed)
        kept: list[int] = []
        for name, weight in sorted(weights.items()):
            places = [index for index, modality in enumerate(modalities) if modality == name]
            n_kept = max(1, round(n_most * weight / sum(weights.values())))
            kept += rng.permutation(places)[:n_kept].tolist()
        return tuple(samples[index] for index in sorted(kept)) if len(samples) > n_most else tuple(samples)
