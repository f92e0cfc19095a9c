"""The recipe `native`: a small U-Net at native scale that learns to separate touching nuclei."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nuclei_runtime.arrays import Maps, from_uint8
from nuclei_runtime.steps.preprocess import CHANNELS
from nuclei_runtime.steps.step import MAPS
from nuclei_runtime.steps.tiling import Tiling, run_tiled
from nuclei_train.data.split import without_modalities
from nuclei_train.networks.architectures import ARCHITECTURES, Architecture
from nuclei_train.networks.losses import loss_of
from nuclei_train.recipes.dtype_policy import training_policy
from nuclei_train.recipes.flag_fit import evidence_as_it_is, fit_flags
from nuclei_train.recipes.model_description import LIMITATIONS_OF_ALL, describe_training, smallest_area_px
from nuclei_train.recipes.native_material import NativeMaterial, load_labelled
from nuclei_train.recipes.native_settings import NativeSettings
from nuclei_train.recipes.recipe import Sources, TrainedModel
from nuclei_train.recipes.score_fit import blurred, fit_score
from nuclei_train.recipes.search import MARKER_BORDERS, search_parameters
from nuclei_train.recipes.view_fit import fit_views

if TYPE_CHECKING:
    import keras

INFERENCE_CHECKPOINT = "inference.keras"
"""The best checkpoint in float32, reduced to the maps needed for instance segmentation."""

QUANTISATION_FILE = "quantisation.npz"
"""See `NativeMaterial.save_for_quantisation`."""


class Native(NativeSettings):
    """The recipe `native`: a `nuclei_train.recipes.recipe.Recipe`."""

    @property
    def patience(self) -> int:
        """The number of epochs: the learning rate's schedule always runs to its end."""
        return self.epochs

    @property
    def network(self) -> Architecture:
        """How the network is built, and what tiling needs to know about it."""
        return ARCHITECTURES[self.architecture]

    def choose(self, sources: Sources) -> Sources:
        """Return the images with truth, except those of modalities that are left out."""
        split = without_modalities(sources.split, sources.modality, self.leave_out)
        return replace(sources, split=split, test=())

    def load(self, sources: Sources, advance: Callable[[], None]) -> NativeMaterial:
        """Read all images with truth."""
        train, val = (
            load_labelled(samples, sources.modality, self.normalisation, advance, teacher)
            for samples, teacher in ((sources.split.train, sources.teacher), (sources.split.val, None))
        )
        return NativeMaterial(train, val, self)

    def build(self) -> keras.Model:
        """Build the network, in half precision if that is faster."""
        import keras

        from nuclei_train.batches.targets import TARGETS

        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy(training_policy())
        try:
            model = self.network.build(self.crop_px, self.crop_px, CHANNELS, filters=self.filters, maps=len(TARGETS))
        finally:
            keras.config.set_dtype_policy(policy)
        steps = self.epochs * self.steps_per_epoch
        warmup_steps = max(1, min(self.warmup_steps, steps // 10))
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0,
            max(1, steps - warmup_steps),
            alpha=0.002,
            warmup_target=self.learning_rate,
            warmup_steps=warmup_steps,
        )
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=self.weight_decay, clipnorm=self.gradient_norm)
        model.compile(optimizer=optimizer, loss=loss_of(self.loss))
        return model

    def build_inference(self) -> keras.Model:
        """Build the network for images of any size, in float32, with the maps that instance segmentation needs."""
        return self.network.build(None, None, CHANNELS, filters=self.filters, maps=len(MAPS), activation="sigmoid")

    def finish(self, best: keras.Model, material: NativeMaterial, run: Path) -> TrainedModel:
        """Choose the parameters of instance segmentation and of views on the validation images; describe the model."""
        network, val = self.network, material.val
        inference = self.build_inference()
        keep_maps(best.get_weights(), inference)
        inference.save(run / INFERENCE_CHECKPOINT)
        quantisation = material.save_for_quantisation(run / QUANTISATION_FILE)

        tiling = Tiling(self.tile_core_px, network.halo_px, network.multiple_of_px)
        maps = [predict_maps(inference, image, tiling) for image in val.images]
        # A border map that was not learned must not exclude any marker.
        borders = MARKER_BORDERS if self.loss.border else (1.0,)
        postprocessing, search = search_parameters(maps, val.labels, smallest_area_px(material.areas_px), borders)
        views = fit_views(maps, val.labels, postprocessing)
        training = describe_training(material.areas_px)
        known_px = training["training_nucleus_diameter_px"]
        copies = (predict_maps(inference, blurred(image, known_px), tiling) for image in val.images)
        seen, truths = chain(maps, copies), (*val.labels, *val.labels)
        score = None if views is None else fit_score(seen, truths, postprocessing, views)
        known = (predict_maps(inference, image, tiling) for image in material.train.images)
        flags = (
            None
            if views is None
            else fit_flags(
                *(
                    [
                        evidence_as_it_is(from_uint8(image), one, postprocessing, views, known_px)
                        for image, one in zip(images, all_maps, strict=True)
                    ]
                    for images, all_maps in ((material.train.images, known), (val.images, maps))
                )
            )
        )
        card = {
            **training,
            "input": {
                "name": "image",
                "height": None,
                "width": None,
                "channels": CHANNELS,
                "tiling": asdict(tiling),
            },
            "output": {"name": "maps", "maps": list(MAPS)},
            "preprocessing": [asdict(self.normalisation)],
            "postprocessing": asdict(postprocessing),
            **({} if views is None else {"views": asdict(views)}),
            **({} if score is None else {"score": asdict(score)}),
            **({} if flags is None else {"flags": asdict(flags)}),
            "tolerance": self.tolerance,
            "description": "Finds individual nuclei: a small U-Net at native scale predicts foreground, distance to "
            "the edge and touching borders; a marker-controlled watershed separates the nuclei.",
            "limitations": [
                "Nuclei much smaller or larger than those in the training images may be split, merged or lost: look at "
                "the outlines, and give the size of the nuclei if they are wrong (nuclei-infer --diameter).",
                *LIMITATIONS_OF_ALL,
            ],
        }
        scores = {"val": {metric: search[0][metric] for metric in ("mean AP", "AP@0.5")}}
        return TrainedModel(INFERENCE_CHECKPOINT, card, scores, search, quantisation)


def keep_maps(trained: Sequence[NDArray[Any]], inference: keras.Model) -> None:
    """Give an inference network the weights of a trained one, in the order of `keras.Model.get_weights`.

    Only the first maps of the head are kept: the offsets, the last two, only help training.
    """
    inference.set_weights(
        [weight[tuple(slice(n) for n in kept.shape)] for weight, kept in zip(trained, inference.weights, strict=True)]
    )


def predict_maps(network: keras.Model, image: NDArray[np.uint8], tiling: Tiling) -> Maps:
    """Return the maps (H, W, M) for a normalised image (H, W, 3) that `to_uint8` stored."""
    return run_tiled(lambda batch: np.asarray(network.predict_on_batch(batch)), from_uint8(image), tiling)
