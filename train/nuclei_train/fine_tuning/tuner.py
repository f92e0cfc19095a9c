"""Fits a network again and again from the same weights, and scores it as the runtime would run it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
from numpy.typing import NDArray

from nuclei_runtime.metrics import match
from nuclei_runtime.model.card import ModelCard
from nuclei_train.data.samples import Sample
from nuclei_train.data.truth import naming
from nuclei_train.evaluation.keras_network import find_nuclei, keras_network
from nuclei_train.evaluation.scores import AT_50
from nuclei_train.fine_tuning.held_out import Score
from nuclei_train.fitting.determinism import make_deterministic
from nuclei_train.fitting.stopping import EndIfDiverged, StopBetweenBatches
from nuclei_train.recipes.fine_tuning import FineTuning
from nuclei_train.recipes.native import keep_maps
from nuclei_train.recipes.native_material import LabelledImages


class Tuner:
    """The network of a fine-tuning. It is built and compiled once; each fit begins with the same weights.

    Parameters
    ----------
    recipe : FineTuning
    weights : sequence of ndarray
        Of the start.

    Attributes
    ----------
    model : keras.Model
        The network that is fitted.
    inference : keras.Model
        That which is scored: with the weights after the last epoch, or of the start.
    """

    def __init__(self, recipe: FineTuning, weights: Sequence[NDArray[Any]]) -> None:
        make_deterministic(recipe.seed)
        self._recipe, self._weights = recipe, weights
        self.model = recipe.build()
        self.model.optimizer.build(self.model.trainable_variables)
        self._fresh = [keras.ops.convert_to_numpy(variable) for variable in self.model.optimizer.variables]
        self.inference = recipe.build_inference()
        self.reset()

    def reset(self) -> None:
        """Return to the weights of the start."""
        keras.utils.set_random_seed(self._recipe.seed)
        self.model.set_weights(self._weights)
        keep_maps(self._weights, self.inference)
        for variable, value in zip(self.model.optimizer.variables, self._fresh, strict=True):
            variable.assign(value)

    def fit(
        self,
        batches: Any,
        epochs: int,
        stop_requested: Callable[[], bool],
        after_epoch: Callable[[float], None] = lambda _loss: None,
    ) -> None:
        """Fit from the start for some epochs of the recipe's schedule; `after_epoch` gets the loss of each.

        What is scored after each epoch, and kept after the last, are the means of the fitted weights and the start's.

        Raises
        ------
        DivergedError
            The loss is no longer a number.
        """

        def on_epoch_end(_epoch: int, logs: dict[str, float]) -> None:
            keep_maps(self._means(), self.inference)
            after_epoch(float(logs["loss"]))

        self.reset()
        self.model.fit(
            batches,
            steps_per_epoch=self._recipe.steps_per_epoch,
            epochs=epochs,
            shuffle=False,  # the batches are already shuffled
            verbose=1 if sys.stdout.isatty() else 2,
            callbacks=[
                EndIfDiverged(self._recipe.learning_rate),
                StopBetweenBatches(stop_requested),
                keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end),
            ],
        )
        self.model.set_weights(self._means())

    def _means(self) -> list[NDArray[Any]]:
        share = 1 - self._recipe.start_share
        return [old + share * (new - old) for old, new in zip(self._weights, self.model.get_weights(), strict=True)]

    def score(self, samples: Sequence[Sample], images: LabelledImages, card: ModelCard) -> list[Score]:
        """Score the current weights on images, as `nuclei-infer` would show them to a network with this card.

        Raises
        ------
        DatasetError
            An image cannot be segmented; the message names it.
        """
        network, scores = keras_network(self.inference, card), []
        for sample, truth in zip(samples, images.labels, strict=True):
            with naming(sample):
                matching = match(truth, find_nuclei(sample.read_image(), network))
            ap = matching.ap()
            scores.append(Score(matching.n_true, matching.n_predicted, float(ap[AT_50]), float(ap.mean())))
        return scores
